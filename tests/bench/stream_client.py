"""The client of the proxy's measurements: times server-sent events, or swallows a download.

It is run by itself (direct) and behind `authsome run`; which one it is, its environment says. Its standard library is
all it needs.

    stream_client.py events URL N   N streams on one connection after a first one; prints JSON
    stream_client.py together URL N N streams at once, each to its end; prints how many events came
    stream_client.py download URL   says `ready` when a small request has gone through, waits for a line, downloads
"""

import base64
import json
import os
import socket
import ssl
import sys
import time
from typing import IO
from urllib.parse import unquote, urlsplit


def trust() -> ssl.SSLContext:
    """The roots that the environment names; a bundle of the system's takes 20 ms to read."""
    return ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


def connect(url: str, context: ssl.SSLContext | None = None) -> tuple[IO[bytes], socket.socket]:
    """TLS to the URL's host, through the proxy if the environment names one."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
    address = (proxy.hostname, proxy.port or 0) if proxy.hostname else ("127.0.0.1", port)
    plain = socket.create_connection(address)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if proxy.hostname:
        pair = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
        credential = base64.b64encode(pair).decode()
        place = f"{host}:{port}"
        head = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nProxy-Authorization: Basic {credential}\r\n\r\n"
        plain.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += plain.recv(1)
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise ConnectionError(answer.decode())
    secure = (context or trust()).wrap_socket(plain, server_hostname=host)
    return secure.makefile("rb"), secure


def get(connection: socket.socket, url: str) -> None:
    """Send a request."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())


def head_length(reader: IO[bytes]) -> int | None:
    """Read an answer's head; the length it announces, None when it is chunked."""
    status = reader.readline()
    if b" 200 " not in status:
        raise ConnectionError(status.decode())
    length = None
    while (line := reader.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


def chunks(reader: IO[bytes], late: list[float] | None = None) -> list[float]:
    """When each chunk of a body came; `late` takes how many milliseconds after it was sent, of all but the first."""
    times = []
    while size := int(reader.readline(), 16):
        data = reader.read(size + 2)
        now = time.monotonic()  # the server's clock, too
        times.append(time.perf_counter())
        if late is not None and len(times) > 1:
            late.append((now - json.loads(data.partition(b"data: ")[2])["at"]) * 1000)
    reader.readline()
    return times


def events(url: str, count: int) -> None:
    """Milliseconds to the first event: with a new connection, then on one that is open."""
    began = time.perf_counter()
    reader, connection = connect(url)
    get(connection, url)
    head_length(reader)
    new = (chunks(reader)[0] - began) * 1000
    opened, lasted, late = [], [], []
    for _ in range(count):
        began = time.perf_counter()
        get(connection, url)
        head_length(reader)
        times = chunks(reader, late)
        opened.append((times[0] - began) * 1000)
        lasted.append((times[-1] - began) * 1000)
    print(json.dumps({"new": new, "opened": opened, "lasted": lasted, "late": late}))


def together(url: str, count: int) -> None:
    """Read streams that run at the same time."""
    pairs = [connect(url) for _ in range(count)]
    for _, connection in pairs:
        get(connection, url)
    for reader, _ in pairs:
        head_length(reader)
    print(sum(len(chunks(reader)) for reader, _ in pairs), flush=True)
    sys.stdin.readline()


def download(url: str) -> None:
    """Read a large body and keep nothing of it."""
    reader, connection = connect(url)
    get(connection, url.partition("?")[0] + "?bytes=1000")
    reader.read(head_length(reader) or 0)
    print("ready", flush=True)
    sys.stdin.readline()
    get(connection, url)
    missing = head_length(reader) or 0
    began = time.perf_counter()
    while missing:
        missing -= len(reader.read(min(missing, 1 << 18)))
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[1] == "events":
        events(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "together":
        together(sys.argv[2], int(sys.argv[3]))
    else:
        download(sys.argv[2])
