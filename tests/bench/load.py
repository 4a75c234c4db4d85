"""The client of the resolve measurements, a process of its own: signs first, then sends, and reports.

Rule: nothing is signed while the clock runs, so that what is measured is the daemon and not its client. A proof is
good for less than a minute; so a block of them is signed just before it is sent.

Standard input brings one JSON object (`Job`) and then, for each block, a line that starts it; standard output gets
`ready` and the block's figures in turn.
"""

import base64
import hashlib
import json
import selectors
import socket
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to send, and as whom."""

    url: str
    target: str
    body: str
    seed: str
    """The identity's private key, hexadecimal."""
    did: str
    handle: str
    audience: str
    type: str
    """`typ` of the proof's header."""
    connections: int
    requests: int
    """In a block, over all connections."""
    blocks: int = 1

    def to_json(self) -> str:
        """For `from_json`, in the other process."""
        return json.dumps(asdict(self))


def signed_requests(job: Job) -> list[bytes]:
    """A block of whole requests, each with a proof of its own."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(job.seed))
    body = job.body.encode()
    header = _encode(json.dumps({"alg": "EdDSA", "typ": job.type}, separators=(",", ":")).encode())
    now = int(time.time())
    claims = {
        "iss": job.did,
        "sub": job.handle,
        "aud": job.audience,
        "iat": now,
        "exp": now + 60,
        "htm": "POST",
        "htu": job.target,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    requests = []
    for _ in range(job.requests):
        payload = json.dumps({**claims, "jti": str(uuid.uuid4())}, separators=(",", ":"))
        signed = f"{header}.{_encode(payload.encode())}"
        token = f"{signed}.{_encode(key.sign(signed.encode()))}"
        head = (
            f"POST {job.target} HTTP/1.1\r\nHost: {urlsplit(job.url).netloc}\r\nAuthorization: PoP {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


class _Line:
    """One kept-alive connection with at most one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what came; whether the answer is complete."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the daemon closed the connection")
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        lowered = head.lower()
        at = lowered.index(b"content-length:") + 15
        if len(body) < int(lowered[at:].split(b"\r\n", 1)[0]):
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(self.received.decode(errors="replace"))
        self.received = b""
        return True


def send_all(lines: list[_Line], requests: list[bytes]) -> list[float]:
    """Send them all, each connection its next as soon as it has an answer; seconds that each took."""
    took: list[float] = []
    waiting = iter(requests)
    with selectors.DefaultSelector() as selector:
        for line, request in zip(lines, waiting, strict=False):
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.send(request)
        while len(took) < len(requests):
            for key, _ in selector.select():
                line = key.data
                if line.receive():
                    took.append(time.perf_counter() - line.sent_at)
                    if (following := next(waiting, None)) is not None:
                        line.send(following)
    return took


def main() -> None:
    """Do the job that standard input tells."""
    job = Job(**json.loads(sys.stdin.readline()))
    parts = urlsplit(job.url)
    lines = [_Line((parts.hostname or "", parts.port or 80)) for _ in range(job.connections)]
    for _ in range(job.blocks):
        requests = signed_requests(job)
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        took = sorted(send_all(lines, requests))
        seconds = time.perf_counter() - started
        figures = {"seconds": seconds, "median": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}
        print(json.dumps(figures), flush=True)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
