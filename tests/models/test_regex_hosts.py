"""A `regex:` of upstream's comes to exactly the hosts that it matches, or to nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.models import url
from authsome.models.regex_hosts import expand

TABLE = [
    (r"regex:api\.acme\.com", ("api.acme.com",)),
    (r"REGEX: ^API\.acme\.com$", ("api.acme.com",)),
    (r"regex:^(api\.acme\.com|acme\.io|x\.acme\.com)", ("api.acme.com", "acme.io", "x.acme.com")),
    (r"regex:^api\.acme\.com$|^acme\.io$", ("api.acme.com", "acme.io")),
    (r"regex:^(?:www\.)?acme\.com$", ("www.acme.com", "acme.com")),
    (r"regex:(eu|us)-?api\.acme\.com", ("eu-api.acme.com", "euapi.acme.com", "us-api.acme.com", "usapi.acme.com")),
    (r"regex:.*\.acme\.com", ("*.acme.com",)),
    (r"regex:.+\.acme\.com$", ("*.acme.com",)),
    (r"regex:^(.*\.)?acme\.com$", ("acme.com", "*.acme.com")),
    (r"regex:(|.*\.)acme\.com", ("acme.com", "*.acme.com")),
    (r"regex:^((?:.+\.)?acme\.com|acme\.io)$", ("acme.com", "*.acme.com", "acme.io")),
]


@pytest.mark.parametrize(("entry", "hosts"), TABLE)
def test_expanded(entry: str, hosts: tuple[str, ...]):
    """Each entry is a place that a definition may name."""
    assert expand(entry) == hosts
    for host in hosts:
        url.host_pattern(host, allow_private=False)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        ".*",
        ".*acme.*",  # acme.attacker.example
        r".*acme\.com$",  # evilacme.com
        r"api.acme\.com",  # apixacme.com
        r"(.*\.)?acme\.(com|.*)",
        r"acme\.com.*",
        r"api(.*\.)?acme\.com",
        r"[^.]+\.acme\.com",
        r"\w+\.acme\.com",
        r"(a+)+\.com",
        r"(a\.com)+",
        r"a{2}\.com",
        r"a??\.com",
        r"(?i)acme\.com",
        "(" * 450 + r"acme\.com" + ")" * 50,
        r"(?!x)acme\.com",
        r"(acme\.com",
        r"acme\.com)",
        r"acme\.com$x",
        r"(acme\.com$|x)",
        r"acme",
        r"acme\.com/v1",
        r"\.acme\.com",
        r"acme\.com|",
        "(a|b)" * 6 + r"\.com",  # more entries than anybody means
        "a" * 600 + r"\.com",
        r"müller\.com",
    ],
)
def test_not_expanded(expression: str):
    """What is not plainly a list of hosts is left for the reader of definitions to refuse."""
    # SEC-110
    assert expand(f"regex:{expression}") is None


LABELS = st.sampled_from(
    ["api", "acme", "com", "io", "evil", "eu-api", "euapi", "us-api", "www", "x", "evilacme", "a-b"]
)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(HOSTS, st.sampled_from(TABLE))
def test_no_host_is_gained_or_lost(host: str, row: tuple[str, tuple[str, ...]]):
    """The expansion names a host if and only if upstream's expression matches it."""
    entry, hosts = row
    matched = re.fullmatch(entry.partition(":")[2].strip(), host, re.IGNORECASE) is not None
    patterns = [url.host_pattern(each, allow_private=False) for each in hosts]
    assert any(pattern.matches_address(host, 443) for pattern in patterns) == matched
