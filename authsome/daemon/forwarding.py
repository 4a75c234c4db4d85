"""The reverse proxy that ends TLS for a shared daemon: which connections come from it, and for whom.

Rules:
1. Without one the daemon listens on this machine's loopback alone, and nothing that a request says of its way is
   believed.
2. With one (AUTHSOME_TRUSTED_PROXY) the daemon may listen elsewhere, too. It takes connections from there and from this
   machine, and no others, for those would be in clear; and from there only for the public URL, for a token that was
   meant for somebody's loopback is worth nothing here.
3. Of what is forwarded X-Forwarded-For is believed, from its end on, as far as the proxies go: the address of whoever
   asks, which waits are counted by. Hosts and schemes are not: they are configured.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from authsome.errors import UsageError
from authsome.home import Settings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

VARIABLE: Final = "AUTHSOME_TRUSTED_PROXY"
_MOST_HOPS: Final = 32


class Forwarding:
    """The proxies that are trusted; without any, nobody is."""

    def __init__(self, networks: Sequence[_Network] = ()) -> None:
        self._networks = tuple(networks)

    def trusts(self, address: str) -> bool:
        """Whether a connection from this address is a trusted proxy's."""
        found = _parsed(address)
        return found is not None and any(found in network for network in self._networks)

    def admits(self, theirs: str, ours: str) -> bool:
        """Whether a connection between these addresses is from this machine, or from a trusted proxy."""
        return is_local(theirs, ours) or self.trusts(theirs)

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The address of whoever asks.

        Args:
            peer: the other end of the connection.
            forwarded: the values of X-Forwarded-For.
        """
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for value in forwarded for hop in value.split(",")][-_MOST_HOPS:]
        client = peer
        for hop in reversed(hops):
            found = _parsed(hop)
            if found is None:  # nobody whom a trusted proxy has seen
                break
            client = str(found)
            if not self.trusts(client):
                break
        return client


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's loopback."""
    found = _parsed(address)
    return found is not None and found.is_loopback


def is_local(theirs: str, ours: str) -> bool:
    """Whether the other end of a connection is on this machine."""
    their_address, our_address = _parsed(theirs), _parsed(ours)
    return their_address is not None and (their_address.is_loopback or their_address == our_address)


def checked(settings: Settings) -> Forwarding:
    """The proxies of these settings, once it is sure that nothing of theirs goes over a network in clear.

    Raises:
        UsageError: the daemon would be reached in clear, or a setting cannot be meant.
    """
    forwarding = Forwarding(tuple(_networks(settings.trusted_proxy or "")))
    base = urlsplit(settings.base_url) if settings.base_url else None
    if base is not None and base.path:
        raise UsageError("AUTHSOME_SERVER_BASE_URL has a path", hint="give the daemon a host name of its own")
    if base is not None and base.scheme == "http" and not _is_loopback_name(base.hostname or ""):
        raise UsageError(
            f"AUTHSOME_SERVER_BASE_URL is plain http to another machine ({base.hostname})", hint="use an https:// URL"
        )
    if _is_loopback_name(settings.host):
        return forwarding
    if settings.trusted_proxy is None:
        raise UsageError(
            f"AUTHSOME_HOST is {settings.host}, where requests would come over the network in clear",
            hint=f"put a proxy before it that ends TLS, and name it: {VARIABLE}=ADDRESS",
        )
    if base is None or base.scheme != "https":
        raise UsageError(
            f"AUTHSOME_HOST is {settings.host}, and no https:// URL leads there",
            hint="AUTHSOME_SERVER_BASE_URL is the URL that the proxy before it serves",
        )
    return forwarding


def _networks(text: str) -> Iterable[_Network]:
    for word in text.replace(",", " ").split():
        try:
            network = ipaddress.ip_network(word)
        except ValueError:
            raise UsageError(
                f"{VARIABLE} is {text!r}", hint="addresses or networks, such as 10.0.0.5 or 10.0.0.0/24, by commas"
            ) from None
        if network.prefixlen == 0:
            raise UsageError(f"{VARIABLE} trusts everybody", hint="name the proxy's address")
        yield network


def _parsed(address: str) -> _Address | None:
    """An address in its one form: IPv4 within IPv6 is IPv4, and a zone says nothing."""
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_loopback_name(host: str) -> bool:
    found = _parsed(host)
    return found.is_loopback if found is not None else host == "localhost" or host.endswith(".localhost")
