"""API keys: a wrong one is told from a right one before anything is stored."""

import pytest

from authsome.models.api_key import ApiKey
from authsome.models.section import Section
from authsome.secret import Secret


def api_key(**data: object) -> ApiKey:
    return ApiKey.from_json(Section(data, source="acme.json", path="api_key"))


SK = {"key_pattern": "^sk-[a-z]{4}$", "key_pattern_hint": "it begins with sk-"}


@pytest.mark.parametrize(
    ("data", "given", "problem"),
    [
        ({}, {"api_key": "anything"}, None),
        ({}, {}, "API key is missing"),
        ({}, {"api_key": ""}, "API key is missing"),
        (SK, {"api_key": "sk-abcd"}, None),
        (SK, {"api_key": "pk-abcd"}, "that does not look like an API key: it begins with sk-"),
        (SK, {"api_key": "sk-abcd\n"}, "that does not look like an API key: it begins with sk-"),
        (SK, {"api_key": "sk-" + "a" * 100_000}, "that does not look like an API key: it begins with sk-"),
        ({"key_pattern": "^x"}, {"api_key": "y"}, "that does not look like an API key"),
        ({"label": "token"} | SK, {"api_key": "y"}, "that does not look like a token: it begins with sk-"),
        ({}, {"api_key": "ghp_AuthsomePlaceholder0000"}, "that is the placeholder that"),
        ({}, {"api_key": "0" * 32}, "that is the placeholder that"),
        (
            {"fields": [{"name": "a", "label": "A"}, {"name": "b", "label": "B"}]},
            {"a": "1"},
            "B is missing",
        ),
    ],
)
def test_problem(data: dict[str, object], given: dict[str, str], problem: str | None):
    """The first thing that is wrong, in words, never with the key."""
    found = api_key(**data).problem({name: Secret(value) for name, value in given.items()})
    assert (found is None) if problem is None else problem in (found or "")
    assert not any(value in (found or "") for value in given.values() if len(value) > 3)


def test_names():
    """`token` stands for the only field, and for none of several."""
    assert api_key().names == {"api_key", "token"}
    several = api_key(fields=[{"name": "a", "label": "A"}, {"name": "b", "label": "B"}])
    assert several.names == {"a", "b"}
    assert several.field("token") is None
    assert several.field("b") == several.fields[1]
