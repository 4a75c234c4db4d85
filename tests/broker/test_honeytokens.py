"""A decoy has the form of its provider's keys, and nothing by which it could be told from one."""

import pytest

from authsome.errors import ConnectionExists, ProviderNotFound, RequestInvalid
from authsome.models.connection import ACCESS_TOKEN, Kind
from authsome.models.notice import Occasion
from authsome.vault import connections


def secrets_of(house, connection):
    with house.context.database.read() as reader:
        sealer = house.context.sealers.for_vault(connection.vault_id)
        return {name: value.reveal() for name, value in connections.secrets(reader, sealer, connection).items()}


def test_decoys_of_every_bundled_provider(house):
    """Each fits its field, none is a placeholder, no two are alike."""
    seen, planted = set(), 0
    for name in house.context.catalog.names():
        provider = house.context.catalog.get(name)
        try:
            connection = house.broker.honeytokens.plant(house.owner, name, "bait")
        except RequestInvalid:  # a value that only a login has
            continue
        planted += 1
        assert connection.is_honeytoken
        assert not connection.has_refresh_token
        found = secrets_of(house, connection)
        assert found.keys() == (
            {ACCESS_TOKEN} if connection.kind is Kind.OAUTH2 else {field.name for field in provider.api_key.fields}
        )
        for field, value in found.items():
            assert value not in seen, (name, field)
            assert "authsome" not in value.lower()
            seen.add(value)
        if connection.kind is Kind.API_KEY:
            assert all(field.fits(found[field.name]) for field in provider.api_key.fields), name
    assert planted > 80


def test_one_that_is_there_is_not_replaced(house):
    house.key("openai", "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k")
    with pytest.raises(ConnectionExists):
        house.broker.honeytokens.plant(house.owner, "openai", "default")
    assert not house.stored("openai").is_honeytoken


@pytest.mark.parametrize(
    ("provider", "name", "error"),
    [("nobody", "x", ProviderNotFound), ("openai", "a b", RequestInvalid), ("openai", "../x", RequestInvalid)],
)
def test_what_cannot_be_planted(house, provider, name, error):
    with pytest.raises(error):
        house.broker.honeytokens.plant(house.owner, provider, name)


def test_looking_at_a_real_one_is_no_alarm(house):
    house.key("openai", "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k")
    house.broker.honeytokens.look_at(house.owner, house.stored("openai"))
    assert [each for each in house.notices if each.occasion is Occasion.HONEYTOKEN] == []


def test_planting_one_asks_nobody(house):
    """No provider hears of a decoy before somebody uses it."""
    house.broker.honeytokens.plant(house.owner, "github", "bait")
    assert house.sent == []
