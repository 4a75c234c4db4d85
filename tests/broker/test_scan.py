"""A scan learns how keys look, and which of its own it has found; the question is on record."""

import json
from dataclasses import replace
from datetime import timedelta

from authsome.broker.scan import Candidate, KeyForm
from authsome.models import fingerprint
from authsome.models.audit import Event
from authsome.secret import Secret
from authsome.vault import principals
from broker.conftest import START, House

KEY = bytes(range(32))
OPENAI = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"


def likeness(value: str) -> str:
    return fingerprint.of(KEY, Secret(value))


def forms(house: House) -> dict[tuple[str, str], KeyForm]:
    return {(each.provider.name, each.field): each for each in house.broker.scan.forms()}


def test_how_keys_look(house: House):
    """Every provider's fields, with their variables and placeholders, bundled or not; a broken one is left out."""
    house.define({"name": "broken"})
    house.oauth("acme", "https://acme.example.localhost/token")
    known = forms(house)
    openai = known["openai", "api_key"]
    assert openai.pattern == "^sk-[A-Za-z0-9_-]{20,}$"
    assert set(openai.placeholders) >= {"OPENAI_API_KEY"}
    assert openai.is_importable
    assert set(known["github", "api_key"].placeholders) >= {"GITHUB_TOKEN", "GH_TOKEN"}
    assert not known["twilio", "account_sid"].is_secret
    assert known["twilio", "auth_token"].is_secret
    assert not any(name in {"broken", "acme"} for name, _ in known)


def test_a_token_is_got_by_logging_in(house: House):
    """A provider without keys is known by the variables of its token, which cannot be imported."""
    definition = {
        "schema_version": 1,
        "name": "acme",
        "api_url": "api.acme.test",
        "oauth": {"authorization_url": "https://acme.test/a", "token_url": "https://acme.test/t"},
        "export": {"env": {"ACME_TOKEN": "{access_token}"}},
    }
    house.define(definition)
    form = forms(house)["acme", "access_token"]
    assert (form.is_importable, list(form.placeholders)) == (False, ["ACME_TOKEN"])


def test_what_is_stored_is_told_by_name(house: House):
    """The connections that hold the value, and the others of its provider; no others."""
    house.key("openai", OPENAI)
    house.key("openai", OPENAI + "2", name="work")
    house.connect("github", lifetime=timedelta(hours=1))
    asked = [Candidate("openai", likeness(value)) for value in (OPENAI, OPENAI + "2", OPENAI + "3")]
    asked += [Candidate("github", likeness("old-access")), Candidate("anthropic", likeness(OPENAI))]
    found = house.broker.scan.compare(house.owner, KEY, asked)
    assert [(each.same, each.others) for each in found] == [
        (("default",), ("work",)),
        (("work",), ("default",)),
        ((), ("default", "work")),
        (("default",), ()),
        ((), ()),
    ]


def test_every_question_is_on_record(house: House):
    """One entry for each provider that is asked about, with numbers and no names of values."""
    house.key("openai", OPENAI)
    asked = [
        Candidate("openai", likeness(OPENAI)),
        Candidate("openai", likeness("x")),
        Candidate("acme", likeness("x")),
    ]
    house.broker.scan.compare(house.owner, KEY, asked)
    entries = [(each.entry.provider, each.entry.detail) for each in house.events(Event.SCAN)]
    assert entries == [("acme", "1 compared, 0 the same"), ("openai", "2 compared, 1 the same")]


def test_nobody_learns_of_another_vault(house: House):
    """Only the caller's own connections are compared with."""
    house.key("openai", OPENAI)
    with house.context.database.transaction() as tx:
        another = principals.create_owner(tx, house.context.sealers, now=START, name="another")
    stranger = replace(house.owner, principal=another)
    (found,) = house.broker.scan.compare(stranger, KEY, [Candidate("openai", likeness(OPENAI))])
    assert (found.same, found.others) == ((), ())


def test_a_damaged_secret_is_like_nothing(house: House):
    """One connection that cannot be opened does not hide the others."""
    house.key("openai", OPENAI)
    house.key("openai", OPENAI + "2", name="work")
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE secrets SET sealed = x'00' WHERE connection = 'work'")
    (found,) = house.broker.scan.compare(house.owner, KEY, [Candidate("openai", likeness(OPENAI))])
    assert (found.same, found.others) == (("default",), ("work",))
    assert "sk-proj" not in json.dumps([each.entry.detail for each in house.events()])
