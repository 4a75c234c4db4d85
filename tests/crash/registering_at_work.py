"""Definitions registered, replaced and removed by a process to be killed: `python registering_at_work.py HOME`.

What it says on stdout has happened: `registered NAME HOST` and `removed NAME` once the call has returned.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome.broker.catalog import Catalog, bundled_directory
from authsome.broker.context import Context
from authsome.broker.providers import Providers
from authsome.home import settings_from
from authsome.message import HttpRequest, HttpResponse
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import identities, principals
from authsome.vault.database import Database
from authsome.vault.lock import HomeLock
from authsome.vault.vaults import Sealers


def now() -> datetime:
    return datetime.now(UTC)


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


def send(_request: HttpRequest, _allow_private: bool) -> HttpResponse:  # noqa: FBT001  # the shape of the way out
    raise AssertionError("nothing is sent")


def main(home: str) -> None:
    settings = settings_from({"AUTHSOME_HOME": home})
    database = Database.open(HomeLock.acquire(settings.home), clock=now)
    sealers = Sealers(database, Secret(bytes(32)))
    with database.transaction() as tx:
        principals.create_owner(tx, sealers, now=now())
        identities.add(tx, handle="owner", did="did:key:zOwner", now=now())
        identities.claim(tx, handle="owner", principal_id=(principals.owner(tx) or sys.exit(1)).id)
        identity, principal = identities.caller(tx, "owner") or sys.exit(1)
    caller = Caller(identity=identity, principal=principal or sys.exit(1))
    catalog = Catalog(bundled=bundled_directory(), custom=settings.home.providers)
    context = Context(database=database, sealers=sealers, catalog=catalog, clock=now, send=send)
    providers = Providers(context, settings.home)

    def register(name: str, host: str) -> None:
        written = {"schema_version": 1, "name": name, "api_url": host, "auth_type": "api_key", "api_key": {}}
        providers.register(caller, json.dumps(written).encode(), force=True)
        say("registered", name, host)

    say("ready")
    register("acme", "one.acme.test")
    register("other", "one.other.test")
    register("acme", "two.acme.test")
    providers.remove(caller, "other", forget=False)
    say("removed", "other")
    database.close()
    say("closed")


if __name__ == "__main__":
    main(sys.argv[1])
