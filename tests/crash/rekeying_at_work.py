"""A vault whose keys change all the time, as processes to be killed: `python rekeying_at_work.py HOME`.

Each line on standard input is the name of a file; for each a copy of this process is forked, which is cheaper than to
start one, and its number is written to standard output. What a copy says goes to that file, a line at a time; each line
has happened:

    found NAME=NUMBER…   what was stored, after the vault was unlocked as a daemon does
    put NAME=NUMBER      a connection was stored anew, with a key that says so
    moved SOURCE         the master key is a new one, in that source
    renewed              everything is sealed with a new key
    failed MESSAGE       anything that must not be

The keyring is a file, and the passphrase is known; nothing else differs from a daemon.
"""

import json
import os
import random
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import keyring
from keyring.backend import KeyringBackend

from authsome.errors import VaultLocked
from authsome.home import settings_from, write_private
from authsome.models.audit import Entry, Event
from authsome.models.connection import Kind
from authsome.secret import Secret
from authsome.vault import audit, connections, principals, rekeying, vaults
from authsome.vault.database import Database
from authsome.vault.key_sources.source import Source
from authsome.vault.lock import HomeLock
from authsome.vault.rekeying import Target

PASSPHRASE = Secret("correct horse battery staple")
TARGETS = (
    Target(source=Source.FILE),
    Target(source=Source.KEYRING),
    Target(source=Source.PASSPHRASE, passphrase=PASSPHRASE),
    Target(source=Source.FILE),
)
CONNECTIONS = 30


class Filed(KeyringBackend):
    """A keyring that outlives its process, and keeps or loses each entry whole."""

    priority = 5  # type: ignore[assignment]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _kept(self) -> dict[str, str]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self._kept().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        write_private(self._path, json.dumps({**self._kept(), f"{service} {username}": password}).encode())

    def delete_password(self, service: str, username: str) -> None:
        kept = self._kept()
        del kept[f"{service} {username}"]
        write_private(self._path, json.dumps(kept).encode())


def now() -> datetime:
    return datetime.now(UTC)


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())  # one write: lines of threads never mix


def unlock(database: Database, home: Path) -> vaults.Sealers:
    settings = settings_from({"AUTHSOME_HOME": str(home)})
    try:
        return vaults.unlock(database, settings, clock=now)
    except VaultLocked:
        return vaults.unlock(database, settings, clock=now, passphrase=PASSPHRASE)


def work(home: Path) -> None:
    settings = settings_from({"AUTHSOME_HOME": str(home)})
    database = Database.open(HomeLock.acquire(settings.home), clock=now)
    if damage := database.check():
        say("failed", *damage)
    keyring.set_keyring(Filed(settings.home.root / "keyring.json"))
    sealers = unlock(database, home)
    with database.transaction() as tx:
        owner = principals.owner(tx) or principals.create_owner(tx, sealers, now=now())
    with database.read() as reader:
        stored = {
            each.name: int(connections.secrets(reader, sealers.for_vault(owner.vault_id), each)["api_key"].reveal())
            for each in connections.list_all(reader, owner.vault_id)
        }
        unfinished = rekeying.unfinished(reader)
    say("found", *(f"{name}={number}" for name, number in stored.items()))
    following = max(stored.values(), default=0) + 1
    threading.Thread(target=write, args=(database, sealers, owner.vault_id, following), daemon=True).start()
    for vault_id in unfinished:
        rekeying.finish_vault(database, sealers, vault_id, tell=lambda _done, _damaged: None)
    choice = random.Random(os.getpid())  # which way it goes
    while True:
        target = choice.choice(TARGETS)
        record = rekeying.change_master_key(
            database, sealers, settings.home, target, now=now(), note=lambda tx, _: audit.append(tx, entry())
        )
        say("moved", record.source)
        rekeying.renew_vault(database, sealers, owner.vault_id, now=now(), tell=lambda _done, _damaged: None)
        say("renewed")


def entry() -> Entry:
    return Entry(event=Event.REKEY, at=now())


def write(database: Database, sealers: vaults.Sealers, vault_id: str, number: int) -> None:
    try:
        while True:
            name = f"n{number % CONNECTIONS}"
            with database.transaction() as tx:
                connections.put(
                    tx,
                    sealers.for_vault(vault_id),
                    provider="acme",
                    name=name,
                    kind=Kind.API_KEY,
                    secrets={"api_key": Secret(str(number))},
                    now=now(),
                )
            say("put", f"{name}={number}")
            number += 1
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not be
        say("failed", repr(error))


def main(home: Path) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            descriptor = os.open(line.strip(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            try:
                work(home)
            except BaseException as error:  # noqa: BLE001  # as above
                say("failed", repr(error))
            os._exit(0)
        say(pid)
        os.waitpid(pid, 0)
        say("ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
