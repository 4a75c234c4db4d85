"""Fills a vault with much of everything besides connections and a log, each with the longest name that it may have."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from authsome.home import make_private_directory, write_private
from authsome.identity import did
from authsome.models.limits import Limits
from authsome.models.principal import Claim, Invitation, Principal, Role
from authsome.models.run import LONGEST_COMMAND, Run
from authsome.models.visit import Browser, DashboardSession, Way
from authsome.secret import Secret
from authsome.vault import claims, dashboard_sessions, identities, invitations, principals, runs
from authsome.vault.database import Database, Transaction
from authsome.vault.vaults import Sealers

LONG = 64  # characters of a name, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How much there is of each."""

    identities: int
    principals: int
    claims: int
    invitations: int
    runs: int
    sessions: int
    definitions: int


def handle(number: int) -> str:
    """The handle of one of the owner's identities."""
    return f"agent-{number:04}-".ljust(LONG - 1, "x")


def asking(number: int) -> str:
    """The handle of one that waits to be claimed, and the token of its question."""
    return f"waits-{number:04}-".ljust(LONG - 1, "z")


def name(number: int) -> str:
    """The name of one of the definitions."""
    return f"own-{number:04}-".ljust(LONG, "w")


def fill(database: Database, sealers: Sealers, owner: Principal, crowd: Crowd, *, now: datetime) -> None:
    """Store them all, the owner's and other people's; every second principal is a program's, without an address."""
    with database.transaction() as tx:
        for number in range(crowd.identities):
            _identity(tx, handle(number), owner, number, now)
        for number in range(crowd.principals):
            who = principals.create(
                tx, sealers, now=now, name=f"{number:04} ".ljust(LONG, "W"), role=Role.USER,
                email=f"{number:04}".ljust(LONG, "p") + "@" + "e" * 150 + ".example.org" if number % 2 else None,
            )  # fmt: skip
            _identity(tx, f"other-{number:04}-".ljust(LONG - 1, "y"), who, number, now)
        for number in range(crowd.claims):
            waiting = asking(number)
            identities.add(tx, handle=waiting, did=_did(waiting), now=now)
            claim = Claim(handle=waiting, did=_did(waiting), created_at=now, expires_at=now + timedelta(days=1))
            claims.put(tx, claim, Secret(waiting))
        for number in range(crowd.invitations):
            invitation = Invitation(
                id=f"invitation_{number:012}", email=f"{number:04}".ljust(LONG, "q") + "@example.org", role=Role.USER,
                invited_by=owner.id, created_at=now, expires_at=now + timedelta(days=7),
            )  # fmt: skip
            invitations.put(tx, invitation, Secret(invitation.id))
        for run in _runs(crowd, owner, now):
            runs.create(tx, run)
        for number in range(crowd.sessions):
            session = DashboardSession(
                id=f"{number:016}", principal_id=owner.id, identity=handle(number % crowd.identities), way=Way.LINK,
                browser=Browser(name="Chrome on ChromeOS", address="2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
                created_at=now, seen_at=now, expires_at=now + timedelta(hours=12),
            )  # fmt: skip
            dashboard_sessions.create(tx, session, Secret(session.id))


def define(directory: Path, crowd: Crowd) -> None:
    """Put definitions where a user's own lie, each with many hosts."""
    make_private_directory(directory)
    for number in range(crowd.definitions):
        definition = {
            "schema_version": 1,
            "name": name(number),
            "display_name": f"Own {number:04} ".ljust(200, "W"),
            "description": "<w>" * 200,
            "api_url": [f"a{place}.{number:04}.{'h' * 60}.{'h' * 60}.example" for place in range(200)],
            "api_key": {},
        }
        write_private(directory / f"{name(number)}.json", json.dumps(definition).encode())


def _identity(tx: Transaction, of: str, owner: Principal, number: int, now: datetime) -> None:
    """An identity; every third is limited as much as it may be, every seventh revoked."""
    identities.add(tx, handle=of, did=_did(of), now=now)
    identities.claim(tx, handle=of, principal_id=owner.id)
    identities.note_use(tx, of, now=now - timedelta(minutes=number))
    if number % 3 == 2:
        patterns = tuple(f"p{place:02}".ljust(LONG, "*") + "/" + "*" * LONG for place in range(64))
        limits = Limits(connections=patterns, methods=frozenset({"GET", "HEAD"}), expires_at=now + timedelta(days=1))
        identities.limit(tx, handle=of, limits=limits)
    if number % 7 == 6:
        identities.revoke(tx, handle=of, now=now)


def _runs(crowd: Crowd, owner: Principal, now: datetime) -> Iterator[Run]:
    """Live runs, each narrowed to many connections."""
    chosen = [f"p{place:03}-".ljust(LONG, "v") for place in range(200)]
    for number in range(crowd.runs):
        yield Run(
            id=f"{number:016x}", secret_hash=bytes(32), vault_id=owner.vault_id,
            identity=handle(number % crowd.identities), pinned=dict.fromkeys(chosen, "n" * LONG),
            only=frozenset(chosen), created_at=now - timedelta(seconds=number),
            expires_at=now + timedelta(days=1), ended_at=None, inside=None, command='"' * LONGEST_COMMAND,
        )  # fmt: skip


def _did(of: str) -> str:
    """A did:key that no private key is known of."""
    return did.did_from_public_key(hashlib.sha256(of.encode()).digest()[:31] + b"\0")
