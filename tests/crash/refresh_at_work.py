"""A daemon's broker at work on refreshes, as processes to be killed: `python refresh_at_work.py`.

Each line on standard input is an order (JSON); for each a copy of this process is forked, which is cheaper than to
start one, and its number is written to standard output. What a copy says goes to the file that its order names, a line
at a time; each line has happened:

    state REVISION REFRESHES STATUS     what it found: the connection, and how many refreshes are on record
    used REVISION                       a token of that revision was handed out
    lost MESSAGE                        the provider no longer accepts the login
    failed CODE MESSAGE                 anything else
"""

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome import clock, transport
from authsome.address import AddressPolicy
from authsome.broker.broker import Broker
from authsome.broker.catalog import Catalog, bundled_directory
from authsome.broker.context import Context
from authsome.broker.credentials import Claimant, Question, Target
from authsome.errors import AuthsomeError, LoginRequired
from authsome.home import Home
from authsome.message import HttpRequest, HttpResponse
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import clients, connections, identities, principals
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealers

HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a copy is to do."""

    home: str
    key: str
    output: str
    login: dict[str, str] | None = None
    """Tokens to begin with, as a login would store them."""
    alone: bool = True
    """Whether it holds the home's lock, as the one daemon does; else it shares the database."""
    at: float = 0.0
    """When to begin (`time.monotonic`)."""
    threads: int = 1
    resolves: int | None = None
    """How many each thread does; without it they go on, an hour later each time, so that each one refreshes."""


@dataclass
class Running:
    """The clock of a copy, which an order may have run ahead."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return clock.now() + self.ahead


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())  # one write: lines of threads never mix


def send(request: HttpRequest, allow_private: bool) -> HttpResponse:  # noqa: FBT001  # the shape of `Send`
    return transport.send(request, policy=AddressPolicy(allow_private=allow_private), trust=transport.Trust())


def work(order: Order) -> None:
    home, now = Home(Path(order.home)), Running()
    database = (
        Database.open(HomeLock.acquire(home), clock=now) if order.alone else Database(home.database, writable=True)
    )
    if damage := database.check():
        say("failed", "damage", *damage)
        return
    context = Context(
        database=database,
        sealers=Sealers(database, Secret(bytes.fromhex(order.key))),
        catalog=Catalog(bundled=bundled_directory(), custom=home.providers),
        clock=now,
        send=send,
    )
    broker = Broker(context, home, base_url="http://127.0.0.1:7998")
    if order.alone:
        broker.refresher.recover()
    owner = owner_of(context)
    if order.login is not None:
        store(context, owner, order.login)
    with database.read() as reader:
        (found,) = connections.list_all(reader, owner.vault_id)
        (count,) = reader.execute("SELECT count(*) FROM audit WHERE event = 'refresh'").fetchone()
    say("state", found.revision, count, found.status)
    time.sleep(max(0.0, order.at - time.monotonic()))
    threads = [threading.Thread(target=resolve, args=(order, broker, owner, now)) for _ in range(order.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def owner_of(context: Context) -> Caller:
    with context.database.transaction() as tx:
        if identities.by_handle(tx, "owner") is None:
            owner = principals.create_owner(tx, context.sealers, now=clock.now())
            identities.add(tx, handle="owner", did="did:key:zOwner", now=clock.now())
            identities.claim(tx, handle="owner", principal_id=owner.id)
        found = identities.caller(tx, "owner")
    assert found is not None
    identity, principal = found
    assert principal is not None
    return Caller(identity=identity, principal=principal)


def store(context: Context, owner: Caller, tokens: dict[str, str]) -> None:
    sealer = context.sealers.for_vault(owner.vault_id)
    with context.database.transaction() as tx:
        clients.put(tx, sealer, provider="acme", client_id="public", client_secret=None, now=clock.now())
        connections.put(
            tx,
            sealer,
            provider="acme",
            name="default",
            kind=Kind.OAUTH2,
            secrets={name: Secret(tokens[name]) for name in (ACCESS_TOKEN, REFRESH_TOKEN)},
            expires_at=context.clock(),
            now=context.clock() - HOUR,
        )


def resolve(order: Order, broker: Broker, owner: Caller, now: Running) -> None:
    target = Target(method="GET", host="acme.example.localhost", port=443, path="/")
    left = order.resolves
    while left is None or left > 0:
        try:
            found = broker.credentials.resolve(
                Question(admit=lambda _: Claimant(caller=owner), target=target, rejected=False)
            )
        except LoginRequired as error:
            say("lost", error.message)
            return
        except AuthsomeError as error:
            say("failed", error.code, error.message)
            return
        say("used", found.connection.revision)
        if left is None:
            now.ahead += HOUR
        else:
            left -= 1


def main() -> None:
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if not pid:
            descriptor = os.open(order.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            work(order)
            os._exit(0)
        say(pid)
        while True:  # those that have ended are not left as zombies
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    break
            except ChildProcessError:
                break


if __name__ == "__main__":
    main()
