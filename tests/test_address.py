"""The address guard."""

import ipaddress
import socket
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.address import Address, AddressPolicy, Reach, check_literal, parse_literal, reach, resolve
from authsome.errors import AddressRefused, EndpointUnreachable

PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")
PRIVATE = (
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "203.0.113.9",
    "fd12:3456::1",
    "fc00::1",
    "2001:db8::1",
    "2001::1",
)
LOOPBACK = ("127.0.0.1", "127.255.255.254", "::1")
FORBIDDEN = (
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "4000::1",
    "100::1",
    "::127.0.0.2",
    "::93.184.215.14",
    "2002:7f00:1::1",
    "2002:5db8:d70e::1",
    "64:ff9b:1::1",
)
BY_REACH = {
    **dict.fromkeys(PUBLIC, Reach.PUBLIC),
    **dict.fromkeys(PRIVATE, Reach.PRIVATE),
    **dict.fromkeys(LOOPBACK, Reach.LOOPBACK),
    **dict.fromkeys(FORBIDDEN, Reach.FORBIDDEN),
}


def policy(*, answers=(), hosts_file=None, tmp_path=None, **changes):
    """A policy whose name service answers every name with `answers`, and whose hosts file is not this machine's."""
    if tmp_path is not None:
        path = tmp_path / "hosts"
        path.write_text(hosts_file or "")
        changes["hosts_file"] = path

    def look_up(host):
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, f"no {host}")
        return answers

    return AddressPolicy(look_up=look_up, **changes)


@pytest.mark.parametrize(("text", "expected"), BY_REACH.items())
def test_reach(text, expected):
    """Each kind of address is known for what it is."""
    assert reach(ipaddress.ip_address(text)) is expected


@given(st.sampled_from([text for text in BY_REACH if ":" not in text]))
def test_wrapped_addresses_are_as_far_as_what_they_wrap(text):
    """An IPv4 address inside an IPv6 one (mapped, NAT64) is judged as itself."""  # SEC-103
    number = int(ipaddress.IPv4Address(text))
    for each in (0xFFFF << 32 | number, 0x64FF9B << 96 | number):
        assert reach(ipaddress.IPv6Address(each)) is BY_REACH[text]


@given(st.ip_addresses(v=4))
def test_what_python_calls_private_is_never_public(address):
    """The standard library's opinion is an independent counterpart: where it sees no global address, neither do we."""
    if not address.is_global:
        assert reach(address) is not Reach.PUBLIC


@given(st.ip_addresses(v=6))
def test_what_python_calls_private_is_never_public_in_ipv6(address):
    if not address.is_global:
        assert reach(address) is not Reach.PUBLIC


@pytest.mark.parametrize(
    "host",
    [
        # SEC-103: every spelling of an address that the resolver would take, but one
        "2130706433",
        "0x7f000001",
        "0x7F.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "256.1.1.1",
        "127.0.0.0x1",
        "a.0x",
        "1",
        "a.1",
        "[::1]",
        ":::1",
        "::1%lo",
        "fe80::1%eth0",
        "1:2",
        # what is no host at all
        "",
        ".",
        "a..b",
        ".a",
        "example.com.",
        "exa mple.com",
        "example.com:443",
        "user@example.com",
        "exam\tple.com",
        "example.com\0.evil",
        "例え.jp",
        "\uff11\uff12\uff17.0.0.1",
        "a_b.example.com",
        "a" * 64 + ".com",
    ],
)
def test_other_spellings_are_refused(host):
    """A host is a plain name, a dotted quad or an IPv6 address; it is never repaired."""
    with pytest.raises(AddressRefused):
        resolve(host, 443, policy(answers=PUBLIC, allow_private=True))


@pytest.mark.parametrize("host", BY_REACH)
def test_literals(host):
    """An address is judged without asking anybody, and dialled as it was judged."""  # SEC-103
    permitted = {
        "nothing": {Reach.PUBLIC},
        "allow_private": {Reach.PUBLIC, Reach.PRIVATE, Reach.LOOPBACK},
        "allow_intranet": {Reach.PUBLIC, Reach.PRIVATE},
    }
    for name, reaches in permitted.items():
        rules = policy() if name == "nothing" else policy(**{name: True})
        if BY_REACH[host] in reaches:
            assert resolve(host, 443, rules) == (Address(host, 443),)
        else:
            with pytest.raises(AddressRefused):
                resolve(host, 443, rules)


@pytest.mark.parametrize("address", [*PRIVATE, *LOOPBACK, *FORBIDDEN, "::ffff:127.0.0.1", "::ffff:169.254.169.254"])
def test_names_that_lead_inside(address, tmp_path):
    """A public name that resolves to an inner address is refused, also when it has an outer one to show."""  # SEC-103
    for answers in ((address,), (*PUBLIC, address), (address, *PUBLIC)):
        with pytest.raises(AddressRefused):
            resolve("rebind.example.com", 443, policy(answers=answers, tmp_path=tmp_path))


def test_public_names(tmp_path):
    """A name's addresses are returned in the name service's order, with the port; case does not matter."""
    expected = tuple(Address(text, 8443) for text in PUBLIC)
    assert resolve("API.Example.com", 8443, policy(answers=PUBLIC, tmp_path=tmp_path)) == expected


def test_rebinding_gains_nothing(tmp_path):
    """The name service is asked once: what it would say next is never heard."""  # SEC-103
    replies = [["93.184.215.14"], ["127.0.0.1"]]
    (tmp_path / "hosts").write_text("")
    rules = AddressPolicy(look_up=lambda _: replies.pop(0), hosts_file=tmp_path / "hosts")
    assert resolve("rebind.example.com", 443, rules) == (Address("93.184.215.14", 443),)
    assert replies == [["127.0.0.1"]]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "api.localhost", "a.b.localhost"])
def test_localhost_is_this_machine(host, tmp_path):
    """Names under `localhost` are loopback whatever any name service or file says, and need leave."""  # RFC 6761 §6.3
    liar = policy(answers=PUBLIC, tmp_path=tmp_path, hosts_file=f"93.184.215.14 {host}\n")
    with pytest.raises(AddressRefused):
        resolve(host, 443, liar)
    with pytest.raises(AddressRefused):
        resolve(host, 443, policy(answers=PUBLIC, allow_intranet=True))
    assert resolve(host, 443, policy(answers=PUBLIC, allow_private=True)) == (Address("127.0.0.1", 443),)


@pytest.mark.parametrize("host", ["localhost.example.com", "xlocalhost", "localhost.localdomain"])
def test_names_that_look_like_localhost(host, tmp_path):
    """Only whole labels count."""
    assert resolve(host, 443, policy(answers=PUBLIC, tmp_path=tmp_path))[0].ip == PUBLIC[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "a.localhost", "named.example.com"])
def test_nobody_sends_us_to_ourselves(host, tmp_path):
    """Whatever leave a definition has, our own ports on this machine are not dialled."""  # SEC-103
    rules = policy(
        answers=["127.0.0.1"],
        allow_private=True,
        own_ports=frozenset({7998}),
        tmp_path=tmp_path,
        hosts_file="127.0.0.1 named.example.com",
    )
    assert resolve(host, 7999, rules)
    with pytest.raises(AddressRefused, match="Authsome itself"):
        resolve(host, 7998, rules)


# ---- the hosts file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        "127.0.0.1 api.example.com",
        "127.0.0.1\tother.example.com  API.example.com # a comment",
        "# 10.0.0.1 api.example.com\n\n127.0.0.1 api.example.com\n",
        "nonsense api.example.com\n127.0.0.1 api.example.com",
        "127.0.0.1 localhost\n127.0.0.1 api.example.com",
    ],
)
def test_root_may_say_that_a_name_is_here(lines, tmp_path):
    """A name that the hosts file gives an inner address to is accepted there, and DNS is not asked."""
    rules = policy(answers=PUBLIC, tmp_path=tmp_path, hosts_file=lines)
    assert resolve("api.example.com", 443, rules) == (Address("127.0.0.1", 443),)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "# 127.0.0.1 api.example.com",
        "127.0.0.1 # api.example.com",
        "127.0.0.1 xapi.example.com api.example.com.evil.net",
        "10.0.0.1",
        "nonsense api.example.com",
        "127.0.0.1 localhost api.example.com",
        f"127.0.1.1 api.example.com {socket.gethostname()}",
    ],
)
def test_other_lines_give_no_leave(lines, tmp_path):
    """What a line does not say plainly, or says of the machine's own names, it does not say."""
    with pytest.raises(AddressRefused):
        resolve("api.example.com", 443, policy(answers=["127.0.0.1"], tmp_path=tmp_path, hosts_file=lines))


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "fe80::1"])
def test_even_root_cannot_name_metadata(address, tmp_path):
    """Addresses that are never dialled are never dialled."""
    with pytest.raises(AddressRefused):
        resolve("api.example.com", 443, policy(tmp_path=tmp_path, hosts_file=f"{address} api.example.com"))


def test_names_without_a_dot_get_no_leave(tmp_path):
    """Every machine and container writes its own name there."""
    rules = policy(answers=["127.0.0.1"], tmp_path=tmp_path, hosts_file="127.0.0.1 box")
    with pytest.raises(AddressRefused):
        resolve("box", 443, rules)


def test_no_hosts_file(tmp_path):
    """A missing hosts file says nothing."""
    rules = policy(answers=PUBLIC, hosts_file=None)
    rules = AddressPolicy(look_up=rules.look_up, hosts_file=tmp_path / "none")
    assert resolve("api.example.com", 443, rules)[0].ip == PUBLIC[0]


# ---- the name service --------------------------------------------------------------------------------------


def test_no_such_host(tmp_path):
    """A name that does not resolve is one line that names it."""
    with pytest.raises(EndpointUnreachable, match=r"gone\.example\.com: there is no such host") as caught:
        resolve("gone.example.com", 443, policy(tmp_path=tmp_path))
    assert not isinstance(caught.value, AddressRefused)


@pytest.mark.parametrize("answers", [["nonsense"], ["127.1"], [""]])
def test_nonsense_from_the_name_service(answers, tmp_path):
    """What is no address is no answer."""
    with pytest.raises(EndpointUnreachable):
        resolve("odd.example.com", 443, policy(answers=answers, tmp_path=tmp_path))


def test_a_name_service_that_hangs(tmp_path):
    """The look-up ends with its time, though the resolver goes on."""  # SEC-95
    over = threading.Event()

    def look_up(_host):
        over.wait()
        return PUBLIC

    (tmp_path / "hosts").write_text("")
    rules = AddressPolicy(look_up=look_up, hosts_file=tmp_path / "hosts")
    try:
        with pytest.raises(EndpointUnreachable, match="no answer in time"):
            resolve("slow.example.com", 443, rules, timeout=timedelta(milliseconds=20))
    finally:
        over.set()


def test_the_systems_name_service():
    """The real resolver is asked when no other is given: it knows this machine's name for itself."""
    with pytest.raises(AddressRefused):
        resolve("localhost", 443, AddressPolicy())
    assert Address("127.0.0.1", 1) in [Address(text, 1) for text in AddressPolicy().look_up("localhost")]


# ---- through an outbound proxy -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "::1", "a.localhost", "0x7f.1"])
def test_what_can_be_checked_without_looking_up(host):
    """A host that is an address or this machine is refused before a proxy is asked to go there."""  # SEC-103
    with pytest.raises(AddressRefused):
        check_literal(host, 443, AddressPolicy())


def test_names_are_the_proxys_to_look_up():
    """A name is not looked up: where there is a proxy there may be no name service."""
    asked = []
    check_literal("api.example.com", 443, AddressPolicy(look_up=lambda host: asked.append(host) or ()))
    assert asked == []


@given(st.text(max_size=40))
def test_any_text_is_judged(text):
    """Whatever stands where a host should, it is an address, a plain name, or refused."""
    try:
        found = parse_literal(text)
    except AddressRefused:
        return
    assert found is None or str(found) == text or ":" in text


def test_loopback_is_known_after_the_check():
    """A checked address tells whether it is this machine."""
    assert Address("127.0.0.1", 80).is_loopback
    assert Address("::1", 80).is_loopback
    assert not Address("10.0.0.1", 80).is_loopback
