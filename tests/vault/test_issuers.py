"""What issuers say of themselves: kept sealed, for a day, for one vault."""

from datetime import timedelta

import pytest

from authsome.vault import issuers

ISSUER = "https://issuer.example"
DOCUMENT = '{"issuer": "https://issuer.example", "token_endpoint": "https://issuer.example/token"}'


def put(store, now, document=DOCUMENT):
    with store.database.transaction() as transaction:
        issuers.put(transaction, store.sealer, ISSUER, document, now=now)


def get(store, now, issuer=ISSUER):
    with store.database.read() as reader:
        return issuers.get(reader, store.sealer, issuer, now=now)


def test_it_is_kept_for_a_day(store, now):
    """Not longer, and not before it was said: a clock that was set back makes nothing last."""
    assert get(store, now) is None
    put(store, now)
    assert get(store, now) == DOCUMENT
    assert get(store, now + issuers.LIFETIME - timedelta(seconds=1)) == DOCUMENT
    assert get(store, now + issuers.LIFETIME) is None
    assert get(store, now - timedelta(seconds=1)) is None
    assert get(store, now, "https://other.example") is None
    put(store, now + issuers.LIFETIME, "{}")
    assert get(store, now + issuers.LIFETIME) == "{}"


def test_it_can_be_forgotten(store, now):
    put(store, now)
    with store.database.transaction() as transaction:
        issuers.delete(transaction, store.vault_id, ISSUER)
    assert get(store, now) is None


@pytest.mark.parametrize(
    "change", ["issuer = 'https://other.example'", "fetched_at = fetched_at + 1", "sealed = x'00'"]
)
def test_what_was_changed_is_not_believed(store, now, change):  # SEC-113
    """It says where refresh tokens go, so nobody may change it, move it to another issuer, or make it younger."""
    put(store, now)
    with store.database.transaction() as transaction:
        transaction.execute(f"UPDATE issuers SET {change}")
    assert get(store, now + timedelta(seconds=1)) is None
    assert get(store, now + timedelta(seconds=1), "https://other.example") is None
