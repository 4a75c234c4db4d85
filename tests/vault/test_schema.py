"""The schema: a released migration is never edited."""

import hashlib

import pytest

from authsome.vault import schema

RELEASED = {
    "foundation": "31e934ad4d873b4e",
    "refreshes": "053c95df54ff11b2",
    "registrations": "fab4eda698fe84bb",
    "principals": "536ec316c6b1d130",
    "dashboard": "8d2861e0a771cae5",
    "spools": "a360f5f324923577",
    "servers": "05760f9034c73b23",
    "runs in runs": "385a35d002f940c6",
    "audit_chain": "cae4967000f15ff2",
    "usage": "d1084c6072037a44",
    "rekey": "896ae005dab82939",
    "use of runs": "d88ea5bd6f34b522",
    "commands of runs": "67bbf498e74d0087",
    "open spools": "b5a57ab0c38ad079",
}
"""SHA-256 of each migration's statements, their white space and comments aside."""


def fingerprint(migration: schema.Migration) -> str:
    return hashlib.sha256(";".join(" ".join(each.split()) for each in migration.statements).encode()).hexdigest()[:16]


@pytest.mark.parametrize("migration", schema.MIGRATIONS, ids=lambda migration: migration.name)
def test_released_migrations_stay_as_they_are(migration):  # SEC-124
    assert RELEASED[migration.name] == fingerprint(migration)


def test_migrations_are_appended():
    assert [migration.name for migration in schema.MIGRATIONS][: len(RELEASED)] == list(RELEASED)
