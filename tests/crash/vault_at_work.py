"""A daemon's vault at work, as a process to be killed: `python vault_at_work.py HOME THREADS TURNS`.

It starts as the daemon does, then stores connections; what it says on stdout has happened: `put NAME` once the
transaction that stored NAME, and its audit entry, has returned; `failed NAME CODE MESSAGE` when it was refused.
"""

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome.errors import AuthsomeError
from authsome.home import settings_from
from authsome.models.audit import Entry, Event
from authsome.models.connection import Kind
from authsome.secret import Secret
from authsome.vault import audit, chain, connections, principals, vaults
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock


def now() -> datetime:
    return datetime.now(UTC)


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())  # one write: lines of threads never mix


def main(home: str, threads: int, turns: int) -> None:
    settings = settings_from({"AUTHSOME_HOME": home})
    database = Database.open(HomeLock.acquire(settings.home), clock=now)
    sealers = vaults.unlock(database, settings, clock=now)
    chain.begin(database, settings.home, sealers, now=now())
    say("unlocked")
    with database.transaction() as transaction:
        owner = principals.owner(transaction) or principals.create_owner(transaction, sealers, now=now())
    say("owned")
    sealer = sealers.for_vault(owner.vault_id)

    def work(thread: int) -> None:
        for turn in range(turns):
            name = f"{os.getpid()}-{thread}-{turn}"
            try:
                with database.transaction(durable=turn % 2 == 0) as transaction:
                    connections.put(
                        transaction,
                        sealer,
                        provider="github",
                        name=name,
                        kind=Kind.API_KEY,
                        secrets={"api_key": Secret(f"key of {name}"), "other": Secret("x" * 500)},
                        now=now(),
                    )
                    audit.append(transaction, Entry(event=Event.LOGIN, at=now(), provider="github", connection=name))
            except AuthsomeError as error:
                say("failed", name, error.code, error.message)
                with database.read() as reader:
                    stored = connections.list_all(reader, owner.vault_id)
                    for connection in stored:
                        connections.secrets(reader, sealer, connection)
                say("read", len(stored))
            else:
                say("put", name)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads - 1)]
    for worker in workers:
        worker.start()
    work(threads - 1)
    for worker in workers:
        worker.join()
    chain.close(database, now=now())
    database.close()
    say("closed")


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except AuthsomeError as error:
        say("refused", error.code, error.message, "|", error.hint)
        sys.exit(1)
