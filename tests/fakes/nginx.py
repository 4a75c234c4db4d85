"""nginx on loopback with TLS 1.3: the server that benchmarks measure against."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Final

from fakes.authority import Leaf
from fakes.ports import free_port

_CONFIGURATION: Final = Template("""\
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log $directory/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  default_type application/octet-stream;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  client_body_temp_path $directory/body;
  proxy_temp_path $directory/proxy;
  fastcgi_temp_path $directory/fastcgi;
  uwsgi_temp_path $directory/uwsgi;
  scgi_temp_path $directory/scgi;
  sendfile on;
  tcp_nodelay on;
  server {
    listen 127.0.0.1:$port ssl backlog=4096;
    ssl_certificate $certificate;
    ssl_certificate_key $key;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    root $files;
    location = /json { default_type application/json; return 200 '$json'; }
  }
}
""")
JSON: Final = '{"login": "octocat", "filler": "' + "x" * 990 + '"}'
"""What `/json` answers: one kilobyte."""


@contextmanager
def serve(directory: Path, leaf: Leaf, *, files: Path | None = None) -> Iterator[int]:
    """Run nginx until the block ends; yields its port.

    Args:
        directory: where its configuration, log and temporary files go.
        leaf: its certificate.
        files: what it serves beside `/json`; default: an empty directory.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "nginx is not installed"
    files = files or directory / "files"
    files.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.substitute(
            directory=directory, port=port, certificate=leaf.certificate, key=leaf.key, files=files, json=JSON
        )
    )
    command = [program, "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(configuration)]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("nginx did not start")
