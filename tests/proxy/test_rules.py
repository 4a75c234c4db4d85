"""The rule book, line by line."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.daemon.api import views
from authsome.errors import AuthenticationFailed, NotAllowed, RequestInvalid, RequestMisdirected
from authsome.models.route import HostPattern, Route, RouteTable
from authsome.proxy import rules
from authsome.proxy.rules import Lease, Opening, Target, Unmatched
from authsome.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = Lease(run="run-1", secret=Secret("daemons"), password=Secret("secret"), expires_at=NOW + timedelta(minutes=1))
RIGHT = "Basic " + base64.b64encode(b"run-1:secret").decode()
API = Route(provider="p", connection="c", pattern=HostPattern(host="api.example.com"))
WILD = Route(provider="p", connection="c", pattern=HostPattern(host="example.org", is_suffix=True, port=8443))
TABLE = RouteTable(routes=(API, WILD))


def basic(text: bytes) -> str:
    """A Basic header's value."""
    return "Basic " + base64.b64encode(text).decode()


@pytest.mark.parametrize("given_", [[RIGHT], [RIGHT.replace("Basic", "bAsIc")], [RIGHT.replace(" ", "   ")]])
def test_the_runs_credential_is_admitted(given_):
    """The scheme's case and the space after it do not matter (RFC 9110 §11.1)."""
    LEASE.admit(given_, NOW)


@pytest.mark.parametrize(
    "given_",
    [
        [],
        [""],
        [RIGHT, RIGHT],
        ["Bearer " + RIGHT.removeprefix("Basic ")],
        [basic(b"run-1:")],
        [basic(b"run-2:secret")],
        [basic(b"run-1:secret ")],
        [basic(b":")],
        [basic(b"run-1")],
        ["Basic run-1:secret"],
        ["Basic \u00e4"],
        [RIGHT + "="],
        [RIGHT[:-1]],
    ],
)
def test_nothing_else_is(given_):
    """Exactly one header with exactly that."""
    # SEC-149
    with pytest.raises(AuthenticationFailed):
        LEASE.admit(given_, NOW)


@given(st.lists(st.text(alphabet=st.characters(codec="latin-1")), max_size=3))
def test_no_text_raises_anything_else(given_):
    """Whatever is in the header, the answer is yes or no."""
    if given_ != [RIGHT]:
        with pytest.raises(AuthenticationFailed):
            LEASE.admit(given_, NOW)


def test_a_run_ends_on_the_second():
    """Up to its expiry, and not at it; a run without one lasts."""
    LEASE.check_time(NOW + timedelta(seconds=59.9))
    with pytest.raises(NotAllowed):
        LEASE.check_time(NOW + timedelta(minutes=1))
    Lease(run="r", secret=Secret("s"), password=Secret("p"), expires_at=None).check_time(
        datetime.max.replace(tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("host", "port", "opening"),
    [
        ("api.example.com", 443, Opening.INTERCEPT),
        ("API.Example.COM", 443, Opening.INTERCEPT),
        ("api.example.com", 8443, Opening.TUNNEL),
        ("api.example.com.", 443, Opening.TUNNEL),
        ("xapi.example.com", 443, Opening.TUNNEL),
        ("api.example.com.evil.net", 443, Opening.TUNNEL),
        ("a.example.org", 8443, Opening.INTERCEPT),
        ("example.org", 8443, Opening.TUNNEL),
        ("evilexample.org", 8443, Opening.TUNNEL),
        ("::1", 443, Opening.TUNNEL),
    ],
)
def test_openings(host, port, opening):
    """Intercepted is what a route names, host and port; the rest is a tunnel, or denied."""
    # SEC-151
    target = rules.target_of(host, port)
    assert LEASE.opening(TABLE, TABLE, target) is opening
    strict = Lease(run="r", secret=Secret("s"), password=Secret("p"), expires_at=None, unmatched=Unmatched.DENY)
    if opening is Opening.TUNNEL:
        with pytest.raises(NotAllowed):
            strict.opening(TABLE, TABLE, target)
    else:
        assert strict.opening(TABLE, TABLE, target) is opening


@pytest.mark.parametrize(
    ("host", "server_name", "agrees"),
    [
        ("api.example.com", "api.example.com", True),
        ("api.example.com", "API.example.com", True),
        ("api.example.com", "api.example.com.", False),
        ("api.example.com", "evil.example.com", False),
        ("api.example.com", "example.com", False),
        ("api.example.com", None, False),
        ("api.example.com", "", False),
        ("192.0.2.1", None, True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "api.example.com", False),
        ("2001:db8::1", None, True),
    ],
)
def test_server_names(host, server_name, agrees):
    """The SNI is the CONNECT host; an address has none."""
    # SEC-151
    target = rules.target_of(host, 443)
    if agrees:
        rules.check_server_name(target, server_name)
    else:
        with pytest.raises(RequestMisdirected):
            rules.check_server_name(target, server_name)


@pytest.mark.parametrize(
    ("port", "authorities", "agrees"),
    [
        (443, ["api.example.com"], True),
        (443, ["api.example.com:443"], True),
        (443, ["API.EXAMPLE.COM"], True),
        (443, ["api.example.com", "api.example.com:443"], True),
        (443, [], False),
        (443, [""], False),
        (443, ["api.example.com:80"], False),
        (443, ["api.example.com:"], False),
        (443, ["api.example.com:0443"], True),
        (443, ["api.example.com:" + "0" * 5000 + "443"], False),
        (443, ["api.example.com", "evil.com"], False),
        (443, ["user@api.example.com"], False),
        (443, ["api.example.com, evil.com"], False),
        (443, ["api.example.com."], False),
        (443, [" api.example.com"], False),
        (443, ["api.example.com/x"], False),
        (8443, ["api.example.com"], False),
        (8443, ["api.example.com:8443"], True),
        (8443, ["api.example.com:\u0668443"], False),
    ],
)
def test_authorities(port, authorities, agrees):
    """Every word about the host is the CONNECT host and port."""
    # SEC-151
    target = rules.target_of("api.example.com", port)
    if agrees:
        rules.check_authorities(target, authorities)
    else:
        with pytest.raises(RequestMisdirected):
            rules.check_authorities(target, authorities)


def test_authorities_of_addresses():
    """An IPv6 literal stands in brackets in a Host header."""
    rules.check_authorities(Target(host="2001:db8::1", port=443), ["[2001:DB8::1]", "[2001:db8::1]:443"])
    with pytest.raises(RequestMisdirected):
        rules.check_authorities(Target(host="2001:db8::1", port=443), ["2001:db8::1"])


def test_targets_for_people():
    """The usual port is left out; an IPv6 literal gets its brackets."""
    assert Target(host="h", port=443).authority == "h"
    assert Target(host="h", port=80).authority == "h:80"
    assert Target(host="h", port=80).http_host == "h"
    assert Target(host="::2", port=8080).http_host == "[::2]:8080"


def test_routes_survive_their_json():
    """What the daemon and a worker write is what a worker reads."""
    assert rules.table_from_json(views.routes(TABLE)) == TABLE
    assert rules.table_from_json(rules.table_to_json(TABLE)) == TABLE


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [1],
        [{}],
        [{"host": "Api.Example.com", "port": 443, "provider": "p", "connection": "c"}],
        [{"host": "*.example.com", "port": 443, "provider": "p", "connection": "c"}],
        [{"host": "a.example.com", "port": "443", "provider": "p", "connection": "c"}],
        [{"host": "a.example.com", "port": 443, "provider": None, "connection": "c"}],
    ],
)
def test_routes_of_another_form_are_refused(data):
    """A route that cannot be read plainly is none."""
    with pytest.raises(RequestInvalid):
        rules.table_from_json(data)
