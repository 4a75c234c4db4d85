"""A daemon is reached over a network through a proxy that ends TLS, or not at all; and believes that proxy alone."""

import pytest

from authsome.daemon.authentication import Audiences
from authsome.daemon.forwarding import Forwarding, checked
from authsome.errors import UsageError
from authsome.home import settings_from

BASE = "https://vault.example.test"


def settings(**given):
    return settings_from({"HOME": "/home/ada", **{f"AUTHSOME_{name}": value for name, value in given.items()}})


def forwarding(text):
    return checked(settings(TRUSTED_PROXY=text))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"HOST": "127.0.0.1"},
        {"HOST": "::1"},
        {"HOST": "localhost"},
        {"HOST": "127.8.8.8", "SERVER_BASE_URL": BASE},
        {"SERVER_BASE_URL": "http://localhost:1234"},
        {"SERVER_BASE_URL": "http://127.0.0.1:1234"},
        {"SERVER_BASE_URL": "http://authsome.localhost"},
        {"SERVER_BASE_URL": BASE, "TRUSTED_PROXY": "127.0.0.1"},
        {"HOST": "10.0.0.2", "SERVER_BASE_URL": BASE, "TRUSTED_PROXY": "10.0.0.5, fd00::/64"},
        {"HOST": "0.0.0.0", "SERVER_BASE_URL": BASE, "TRUSTED_PROXY": "10.0.0.0/24"},
    ],
    ids=str,
)
def test_places_to_listen(given):
    """On this machine always; elsewhere when a proxy is named, and the https URL that it serves. # SEC-205"""
    checked(settings(**given))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"HOST": "0.0.0.0"}, "AUTHSOME_HOST"),
        ({"HOST": "::"}, "AUTHSOME_HOST"),
        ({"HOST": "10.0.0.2"}, "AUTHSOME_HOST"),
        ({"HOST": "vault.example.test"}, "AUTHSOME_HOST"),
        ({"HOST": "10.0.0.2", "SERVER_BASE_URL": BASE}, "AUTHSOME_HOST"),
        ({"HOST": "10.0.0.2", "TRUSTED_PROXY": "10.0.0.5"}, "AUTHSOME_HOST"),
        ({"HOST": "10.0.0.2", "SERVER_BASE_URL": "http://localhost", "TRUSTED_PROXY": "10.0.0.5"}, "AUTHSOME_HOST"),
        ({"SERVER_BASE_URL": "http://vault.example.test"}, "AUTHSOME_SERVER_BASE_URL"),
        ({"SERVER_BASE_URL": "http://10.0.0.2:7998"}, "AUTHSOME_SERVER_BASE_URL"),
        ({"SERVER_BASE_URL": BASE + "/authsome"}, "AUTHSOME_SERVER_BASE_URL"),
        ({"TRUSTED_PROXY": "proxy.example.test"}, "AUTHSOME_TRUSTED_PROXY"),
        ({"TRUSTED_PROXY": "10.0.0.5/24"}, "AUTHSOME_TRUSTED_PROXY"),
        ({"TRUSTED_PROXY": "0.0.0.0/0"}, "AUTHSOME_TRUSTED_PROXY"),
        ({"TRUSTED_PROXY": "10.0.0.5 ::/0"}, "AUTHSOME_TRUSTED_PROXY"),
    ],
    ids=str,
)
def test_what_would_be_in_clear(given, named):
    """A listener that others reach without TLS, a public URL without it, and a proxy that is everybody. # SEC-205"""
    with pytest.raises(UsageError, match=named) as refused:
        checked(settings(**given))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ("", "127.0.0.1", ["6.6.6.6"], "127.0.0.1"),
        ("10.0.0.5", "127.0.0.1", ["6.6.6.6"], "127.0.0.1"),
        ("10.0.0.5", "10.0.0.6", ["6.6.6.6"], "10.0.0.6"),
        ("10.0.0.5", "10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.5", "::ffff:10.0.0.5", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.5", "10.0.0.5", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.5", "10.0.0.5", ["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
        ("10.0.0.0/24", "10.0.0.5", ["6.6.6.6, 192.0.2.1, 10.0.0.9"], "192.0.2.1"),
        ("10.0.0.0/24", "10.0.0.5", ["10.0.0.7, 10.0.0.9"], "10.0.0.7"),
        ("10.0.0.5", "10.0.0.5", ["192.0.2.1, <script>"], "10.0.0.5"),
        ("10.0.0.0/24", "10.0.0.5", ["x, 10.0.0.9"], "10.0.0.9"),
        ("10.0.0.5", "10.0.0.5", ["2001:db8::0001"], "2001:db8::1"),
        ("fd00::/64", "fd00::5", ["192.0.2.1"], "192.0.2.1"),
    ],
)
def test_whose_address_is_believed(trusted, peer, forwarded, client):
    """What a proxy that is trusted has seen itself, and nothing that was said to it. # SEC-204"""
    assert forwarding(trusted).client(peer, forwarded) == client


def test_who_may_connect():
    """This machine and the proxy; with no proxy, this machine."""
    proxied = forwarding("10.0.0.5")
    assert proxied.admits("127.0.0.1", "127.0.0.1")
    assert proxied.admits("10.0.0.2", "10.0.0.2")
    assert proxied.admits("10.0.0.5", "10.0.0.2")
    assert not proxied.admits("10.0.0.6", "10.0.0.2")
    assert not proxied.admits("", "10.0.0.2")
    assert not Forwarding().admits("10.0.0.5", "10.0.0.2")


def test_forwarded_names_change_nothing(run_server):
    """Neither the origin nor the address of a request follows what it says of its way. # SEC-204"""
    served = run_server(base_url=BASE)
    lines = (
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "Forwarded: for=6.6.6.6;host=evil.example;proto=https",
        "X-Real-IP: 6.6.6.6",
    )
    assert served.exchange(served.head("GET", "/", *lines)).status == 200
    (request,) = served.requests
    assert (request.peer, request.received_over) == ("127.0.0.1", f"http://127.0.0.1:{served.port}")


def test_a_trusted_proxys_word(run_server):
    """It says for whom it asks, when it asks for the public URL. # SEC-204"""
    served = run_server(base_url=BASE, forwarding=forwarding("127.0.0.1"))
    for host, peer in (("vault.example.test", "192.0.2.1"), (served.host, "127.0.0.1")):
        data = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n".encode()
        assert served.exchange(data).status == 200
        assert served.requests[-1].peer == peer


@pytest.mark.parametrize("base_url", [None, "http://localhost:1234", BASE])
def test_https_from_now_on(run_server, base_url):
    """Every answer of a daemon with an https URL says so to browsers, refusals included; no other does. # SEC-205"""
    served = run_server(base_url=base_url)
    answers = [served.get(), served.exchange(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")]
    wanted = "max-age=31536000" if base_url == BASE else None
    assert [each.headers.get("strict-transport-security") for each in answers] == [wanted, wanted]


def test_a_wildcard_has_a_name_here(run_server):
    """What listens everywhere is called by loopback's name from here."""
    served = run_server(host="0.0.0.0")
    assert served.server.url == f"http://127.0.0.1:{served.port}"
    assert served.get().status == 200


def test_audiences_by_the_way_that_was_taken(served):
    """By the public URL a proof has to be meant for it; a loopback's name is every machine's. # SEC-14 # SEC-209"""
    served.get()
    (local,) = served.requests
    audiences = Audiences(frozenset({local.received_over, BASE}), BASE)
    assert audiences.of(local) == {local.received_over, BASE}
    public = type(local)(**{name: getattr(local, name) for name in local.__slots__} | {"received_over": BASE})
    assert audiences.of(public) == {BASE}
    assert Audiences(frozenset({local.received_over}), None).of(local) == {local.received_over}
