"""git's smart http on loopback with TLS: `git http-backend` behind Python's CGI-like glue, asking for Basic."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fakes.authority import Leaf


@dataclass(slots=True, kw_only=True)
class GitServer:
    """A running server of the bare repositories below `root`."""

    root: Path
    username: str
    password: str
    port: int = 0
    authorizations: list[str | None] = field(default_factory=list)


def _handler(server: GitServer) -> type[http.server.BaseHTTPRequestHandler]:
    wanted = "Basic " + base64.b64encode(f"{server.username}:{server.password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            self._serve(body)

        def _serve(self, body: bytes) -> None:
            given = self.headers.get("Authorization")
            server.authorizations.append(given)
            if given != wanted:
                self._respond(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            path, _, query = self.path.partition("?")
            environ = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": server.username,
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_CONFIG_NOSYSTEM": "1",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environ, capture_output=True, check=False, timeout=60
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = [line.split(": ", 1) for line in head.decode().split("\r\n") if line]
            status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
            self._respond(status, [(name, value) for name, value in fields if name != "Status"], content)

        def _respond(self, status: int, fields: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            for name, value in fields:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


@contextmanager
def serve(root: Path, leaf: Leaf, *, username: str, password: str) -> Iterator[GitServer]:
    """Run the server on a free port of 127.0.0.1 until the block ends."""
    server = GitServer(root=root, username=username, password=password)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listener:
        listener.socket = leaf.context().wrap_socket(listener.socket, server_side=True)
        server.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
