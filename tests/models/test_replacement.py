"""Where placeholders are replaced: everywhere, nowhere, or in the places that a definition names."""

import pytest

from authsome.errors import ProviderInvalid
from authsome.models.replacement import EVERYWHERE, NOWHERE, Replacement
from authsome.models.section import Section


def read(value: object) -> Replacement:
    """What a definition's field says."""
    return Replacement.from_json(Section({"replace": value}, source="acme.json"), "replace")


@pytest.mark.parametrize(
    ("value", "found", "written"),
    [
        (None, EVERYWHERE, None),
        ("on", EVERYWHERE, None),
        ("off", NOWHERE, "off"),
        (
            {"query": "token", "form": ["a", "b"], "header": "X-Auth", "path": "/tokens/"},
            Replacement(query=("token",), form=("a", "b"), header=("x-auth",), path=("/tokens/",)),
            {"header": ["x-auth"], "query": ["token"], "form": ["a", "b"], "path": ["/tokens/"]},
        ),
    ],
)
def test_what_a_definition_says(value: object, found: Replacement, written: object):
    """It is read, and written as it is read again."""
    assert read(value) == found
    assert found.to_json() == written
    assert read(found.to_json()) == found
    assert bool(found) is (value != "off")


@pytest.mark.parametrize(
    "value",
    [
        "maybe",
        True,
        {},
        {"query": []},
        {"json": "token"},
        {"header": "a b"},
        {"header": "Host"},
        {"header": "Content-Length"},
        {"path": "tokens/"},
        {"path": "/tokens"},
        {"path": "/t%6Fkens/"},
        {"path": "/{site}/"},
        {"query": ["token", "token"]},
        {"query": {"token": 1}},
    ],
)
def test_what_is_no_place_is_refused(value: object):
    """By the field's name."""
    with pytest.raises(ProviderInvalid, match=r"acme\.json: replace"):
        read(value)
