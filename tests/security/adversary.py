"""An attacker's tools: tokens of any shape, requests byte by byte, a stranger on somebody's port."""

import base64
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from authsome.home import decode_key
from authsome.identity import key, signing
from authsome.identity.key import IdentityKey
from fakes import wire
from fakes.patience import PATIENCE, wait
from fakes.patience import is_running as alive
from fakes.program import Program

HEADER = {"alg": "EdDSA", "typ": "pop+jwt"}
MISSING = ...  # prints alike in every process, where object() would not: xdist compares the names of tests
"""Stands for a claim that is left out."""


def now() -> datetime:
    """The time, as the daemon's clock has it too."""
    return datetime.now(UTC)


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(segment: str) -> bytes:
    """What `encode` was given."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def signed(header: object, claims: object, pair: IdentityKey) -> str:
    """A token of any header and claims (bytes, or a value for JSON), properly signed."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims))
    text = ".".join(encode(part) for part in parts)
    return f"{text}.{encode(pair.sign(text.encode()))}"


# ---- the wire ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came; status 0 when the connection just ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(self.json().get("code"))

    def json(self) -> dict[str, object]:
        """The body's object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


NO_ANSWER = Answer(0, {}, b"")


def exchange(port: int, data: bytes, *, timeout: float = PATIENCE) -> Answer:
    """Send bytes on a fresh connection and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        with suppress(ConnectionError):  # refused before all was sent
            connection.sendall(data)
        received = b""
        with suppress(ConnectionError):
            while more := connection.recv(65536):
                received += more
                answer = parse(received, with_body=not data.startswith(b"HEAD "))
                if answer is not None:
                    return answer
    return NO_ANSWER


def parse(received: bytes, *, with_body: bool = True) -> Answer | None:
    """The answer in these bytes, once it is whole."""
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers.get("content-length", "0")) if with_body else 0
    return Answer(int(first.split()[1]), headers, rest[:length]) if len(rest) >= length else None


def ask(
    port: int,
    method: str,
    target: str,
    *headers: tuple[str, str],
    body: bytes = b"",
    host: str | None = None,
    timeout: float = PATIENCE,
) -> Answer:
    """One well-formed request; `host` is what Host says."""
    lines = [("Host", f"127.0.0.1:{port}" if host is None else host), *headers]
    if body or method not in {"GET", "HEAD"}:
        lines.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    data = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
    return exchange(port, data, timeout=timeout)


# ---- identities --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An identity, and the daemon that it talks to."""

    port: int
    handle: str
    pair: IdentityKey

    @property
    def url(self) -> str:
        """The daemon's URL."""
        return f"http://127.0.0.1:{self.port}"

    def token(self, method: str, target: str, body: bytes = b"", **changes: object) -> str:
        """A good proof for one request, or one minted with other arguments."""
        facts = {"handle": self.handle, "audience": self.url, "method": method, "target": target, "body": body}
        return signing.mint(self.pair, **{"now": now(), **facts, **changes})  # type: ignore[arg-type]

    def claims(self, method: str, target: str, body: bytes = b"") -> dict[str, object]:
        """The claims of a good proof."""
        value = json.loads(decode(self.token(method, target, body).split(".")[1]))
        assert isinstance(value, dict)
        return value

    def forged(self, method: str, target: str, *, body: bytes = b"", header: object = HEADER, **changes: object) -> str:
        """A properly signed token with another header, or with claims changed or missing."""
        claims = {name.removesuffix("_"): value for name, value in changes.items()}
        merged = {**self.claims(method, target, body), **claims}
        return signed(header, {name: value for name, value in merged.items() if value is not MISSING}, self.pair)

    def ask(self, method: str, target: str, body: object = None, *, timeout: float = PATIENCE) -> Answer:
        """A request with a fresh proof."""
        data = b"" if body is None else json.dumps(body).encode()
        return self.send(self.token(method, target, data), method, target, data, timeout=timeout)

    def send(self, token: str, method: str, target: str, body: bytes = b"", *, timeout: float = PATIENCE) -> Answer:
        """A request with this token."""
        kind = (("Content-Type", "application/json"),) if body else ()
        proof = ("Authorization", f"PoP {token}")
        return ask(self.port, method, target, proof, *kind, body=body, timeout=timeout)

    def register(self, *, bootstrap: str | None = None) -> Answer:
        """Make this identity known."""
        body = {"handle": self.handle, "did": self.pair.did}
        return self.ask("POST", "/identities", body if bootstrap is None else {**body, "bootstrap": bootstrap})


def owner(program: Program) -> Caller:
    """The identity that the program made for the home's owner."""
    handle = json.loads((program.home / "config.json").read_text())["identity"]
    text = (program.home / "identities" / f"{handle}.key").read_text()
    return Caller(port=program.port, handle=handle, pair=key.from_seed(decode_key(text, what="the key")))


def newcomer(program: Program, handle: str) -> Caller:
    """An identity with a key of its own that nobody knows yet."""
    return Caller(port=program.port, handle=handle, pair=key.generate())


def claims_hash(body: bytes) -> str:
    """What `body_sha256` says of a body."""
    return hashlib.sha256(body).hexdigest()


# ---- other processes of this machine -----------------------------------------------------------------------


@dataclass(slots=True)
class Stranger:
    """Somebody else's program on a port, and all that was sent to it."""

    received: list[bytes] = field(default_factory=list)

    @property
    def tokens(self) -> list[bytes]:
        """The credentials among it."""
        return [data for data in self.received if b"authorization:" in data.lower()]


@contextmanager
def stranger(port: int) -> Iterator[Stranger]:
    """Listen where a daemon was, read what comes, answer nothing."""
    heard = Stranger()
    with wire.listen(lambda connection: heard.received.append(connection.socket.recv(65536)), port=port):
        yield heard


def kill(pid: int) -> None:
    """SIGKILL, and wait until the process is gone (as a zombie it is)."""
    os.kill(pid, 9)
    wait(lambda: not alive(pid), f"process {pid} to end")


def entries(directory: str) -> list[str]:
    """The names in a directory."""
    return os.listdir(directory)  # noqa: PTH208  # of /proc, where names come and go
