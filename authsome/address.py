"""The address guard: which addresses a host name may lead us to.

Rule 1: what was checked is what is dialled. Callers connect to the addresses returned here, never to the name again, so
a name that changes its mind between check and use (DNS rebinding) gains nothing.

Rule 2: an address has one spelling, the dotted quad or the IPv6 literal. Decimal, hexadecimal, octal and short forms,
which the resolver would take, are refused.

Rule 3: this machine and the networks around it are reached only when the definition says so, or when root wrote that
very name into the hosts file. Cloud metadata, link-local and multicast addresses are never reached.

Rule 4: one address that must not be dialled refuses the name, whatever others it has.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from authsome.errors import AddressRefused, EndpointUnreachable
from authsome.models.route import canonical_host

HOSTS_FILE: Final = Path("/etc/hosts")
LOOKUP_TIMEOUT: Final = timedelta(seconds=30)  # as long as a whole exchange may take
_HOSTS_FILE_LIMIT: Final = 4 * 1024 * 1024  # ad-blocking hosts files have 2 MiB

_NUMBER_LABEL: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")  # a host that ends so is an address (WHATWG URL §3.5)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


LookUp = Callable[[str], Iterable[str]]
"""A name service: the addresses of a name; raises OSError when it has none."""


def ask_system(host: str) -> tuple[str, ...]:
    """The system's name service."""
    records = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(record[4][0]).partition("%")[0] for record in records))


class Reach(Enum):
    """How far away an address is."""

    PUBLIC = "a public address"
    PRIVATE = "an address on a private network"
    LOOPBACK = "this machine"
    FORBIDDEN = "an address that is never dialled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """What may be dialled."""

    allow_private: bool = False
    """Whether the host may lie on this machine or a private network (`allow_private_addresses`)."""
    allow_intranet: bool = False
    """Whether it may lie on a private network, though not on this machine (for what a child reaches by itself)."""
    own_ports: frozenset[int] = frozenset()
    """Ports on this machine where Authsome itself listens: nobody sends us to ourselves."""
    hosts_file: Path = HOSTS_FILE
    look_up: LookUp = ask_system


class Address(NamedTuple):
    """A checked address, to be dialled as it is: `socket.create_connection(address)` asks no name service."""

    ip: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return reach(ipaddress.ip_address(self.ip)) is Reach.LOOPBACK


# IANA special-purpose registries (RFC 6890), without what only documents or benchmarks use: that is simply not public.
_FORBIDDEN: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux takes 0.0.0.0 for loopback
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "100.100.100.200/32",  # Alibaba Cloud metadata, inside shared address space
        "192.0.0.0/24",  # protocol assignments; Oracle Cloud metadata at 192.0.0.192
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/128",
        "2002::/16",  # 6to4, deprecated (RFC 7526): an IPv4 address in disguise
        "fd00:ec2::/32",  # AWS metadata and its siblings
        "fd20:ce::254/128",  # Google Cloud metadata
        "fe80::/10",  # link-local
        "ff00::/8",  # multicast
    )
)
_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",  # RFC 1918
        "100.64.0.0/10",  # shared address space (RFC 6598): carriers, overlay networks
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",  # documentation (RFC 5737)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
        "fc00::/7",  # unique local (RFC 4193)
        "fec0::/10",  # site-local, deprecated (RFC 3879)
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",  # documentation (RFC 3849, RFC 9637)
    )
)
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given out
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


def reach(address: IpAddress) -> Reach:
    """How far away an address is; one that wraps an IPv4 address is as far as that."""
    inner = _embedded(address)
    if inner is not None:
        return reach(inner)
    if _within(address, _FORBIDDEN):
        return Reach.FORBIDDEN
    if _within(address, _LOOPBACK):
        return Reach.LOOPBACK
    if _within(address, _PRIVATE):
        return Reach.PRIVATE
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return Reach.FORBIDDEN
    return Reach.PUBLIC


def parse_literal(host: str) -> IpAddress | None:
    """The address that a host is when it is one, None when it is a name.

    Raises:
        AddressRefused: it could be read as either, or as an address in another spelling.
    """
    if ":" in host and "%" not in host:  # no zones: only link-local addresses have them
        try:
            return ipaddress.IPv6Address(host)
        except ValueError as error:
            raise AddressRefused("the host is not a valid IPv6 address", hint="check the URL") from error
    name = canonical_host(host)
    if name is None:
        raise AddressRefused("the host is not a valid name", hint="write it in lower-case ASCII, an IDN as xn--…")
    if not _NUMBER_LABEL.match(name.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(name)
    except ValueError as error:
        raise AddressRefused(f"{name}: an address is written as four decimal numbers", hint="check the URL") from error


def is_local_name(host: str) -> bool:
    """Whether this is `localhost` or a name below it, which are this machine without asking anybody (RFC 6761 §6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def resolve(host: str, port: int, policy: AddressPolicy, *, timeout: timedelta = LOOKUP_TIMEOUT) -> tuple[Address, ...]:
    """The addresses of a host that may be dialled, in the order to try them.

    Args:
        host: a name in ASCII, a dotted quad, or an IPv6 address without brackets.
        port: the port that will be dialled.
        policy: what may be dialled.
        timeout: how long the name service may take.

    Raises:
        AddressRefused: the host leads to an address that must not be dialled.
        EndpointUnreachable: the name does not resolve, or not in time.
    """
    host = host.lower()
    literal = parse_literal(host)
    listed = () if literal is not None else _listed(host, policy.hosts_file)
    if literal is not None:
        found: tuple[IpAddress, ...] = (literal,)
    elif is_local_name(host):
        found = (ipaddress.ip_address("127.0.0.1"),)
    else:
        found = listed or _look_up(host, policy.look_up, timeout)
    for each in found:
        _check(host, each, port, policy, is_listed=bool(listed))
    return tuple(Address(str(each), port) for each in found)


def check_literal(host: str, port: int, policy: AddressPolicy) -> None:
    """Check what can be checked of a host that somebody else, an outbound proxy, will look up.

    Raises:
        AddressRefused: it is an address, or a name of this machine, that must not be dialled.
    """
    if parse_literal(host.lower()) is not None or is_local_name(host.lower()):
        resolve(host, port, policy)


def _check(host: str, address: IpAddress, port: int, policy: AddressPolicy, *, is_listed: bool) -> None:
    distance = reach(address)
    if distance is Reach.FORBIDDEN:
        raise AddressRefused(f"{host} is {distance.value}", hint="no definition can allow it")
    if distance is Reach.LOOPBACK and port in policy.own_ports:
        raise AddressRefused(f"{host} is Authsome itself", hint="a provider has to lie elsewhere")
    if distance is Reach.PUBLIC or policy.allow_private or is_listed:
        return
    if distance is Reach.LOOPBACK or not policy.allow_intranet:
        raise AddressRefused(f"{host} is {distance.value}")


def _embedded(address: IpAddress) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped


def _within(address: IpAddress, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _look_up(host: str, look_up: LookUp, timeout: timedelta) -> tuple[IpAddress, ...]:
    """Ask the name service, in a thread: getaddrinfo knows no deadline, and a dead server can take it a minute."""
    answers: list[tuple[IpAddress, ...] | Exception] = []

    def ask() -> None:
        try:
            answers.append(tuple(ipaddress.ip_address(text) for text in look_up(host)))
        except (OSError, ValueError) as error:
            answers.append(error)

    thread = threading.Thread(target=ask, name=f"look up {host}", daemon=True)
    thread.start()
    thread.join(max(timeout.total_seconds(), 0))
    answer = answers[0] if answers else None
    if answer is None:
        raise EndpointUnreachable(f"{host}: the name service gave no answer in time")
    if isinstance(answer, Exception) or not answer:
        raise EndpointUnreachable(f"{host}: there is no such host, or no name service")
    return answer


def _listed(host: str, hosts_file: Path) -> tuple[IpAddress, ...]:
    """The addresses that the hosts file gives this very name; they go before the name service, as everywhere.

    Only root writes there, so it says what DNS may not. Lines that tell the machine its own names, as they stand on
    every system, give no such leave, and neither does a name without a dot.
    """
    if "." not in host or is_local_name(host):
        return ()
    own = {"localhost", "ip6-localhost", "ip6-loopback", socket.gethostname().lower()}
    try:
        with hosts_file.open("rb") as file:
            lines = file.read(_HOSTS_FILE_LIMIT).decode("ascii", "replace").splitlines()
    except OSError:
        return ()
    found: list[IpAddress] = []
    for line in lines:
        text, *names = line.partition("#")[0].lower().split() or [""]
        if host in names and own.isdisjoint(names):
            with suppress(ValueError):
                found.append(ipaddress.ip_address(text))
    return tuple(found)
