"""What a TLS client offers is read from its first message, whole or in pieces, from the TLS library's own messages."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.proxy import hello


def client_hello(protocols: list[str], *, server_name: str | None = "api.example.com") -> bytes:
    """The first message of a client."""
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("protocols", [[], ["h2"], ["http/1.1"], ["h2", "http/1.1"], ["x" * 255, "h2"]])
@pytest.mark.parametrize("server_name", ["api.example.com", None])
def test_what_a_client_offers(protocols: list[str], server_name: str | None):
    """Its list, in its order, with or without a server name."""
    message = client_hello(protocols, server_name=server_name)
    found = hello.Hello(protocols=tuple(each.encode() for each in protocols), server_name=server_name)
    assert hello.read(message) == hello.read(message + b"more") == found


def test_a_part_is_not_taken_for_the_whole():
    """As long as bytes are missing, more are asked for."""
    message = client_hello(["h2", "http/1.1"])
    assert all(hello.read(message[:length]) is None for length in range(len(message)))


def test_a_message_in_several_records():
    """A handshake message may be cut into records (RFC 8446 §5.1)."""
    message = client_hello(["h2"])
    body = message[5:]
    cut = b"".join(message[:3] + len(part).to_bytes(2, "big") + part for part in (body[:7], body[7:100], body[100:]))
    assert hello.read(cut) == ((b"h2",), "api.example.com")
    assert hello.read(cut[:-1]) is None


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
)
def test_what_is_no_client_hello(data: bytes):
    """Clear text, an alert, another handshake message."""
    with pytest.raises(ValueError, match="not a"):
        hello.read(data)


HELLO = client_hello(["h2"])


@given(st.data())
def test_nothing_but_a_refusal_comes_of_noise(data: st.DataObject):
    """A message with any byte changed is read, or refused."""
    message = bytearray(HELLO)
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = hello.read(bytes(message))
    except ValueError:
        return
    assert found is None or all(isinstance(each, bytes) for each in found.protocols)
