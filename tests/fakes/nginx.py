"""nginx with TLS 1.3: the server that benchmarks measure against, and the proxy before a shared daemon."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
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
    # As APIs answer: with a head that is another one each time.
    location = /json {
      default_type application/json;
      add_header Cache-Control 'private, max-age=0';
      add_header Vary 'Accept, Authorization, Accept-Encoding';
      add_header Strict-Transport-Security 'max-age=31536000; includeSubDomains';
      add_header X-Content-Type-Options nosniff;
      add_header X-RateLimit-Limit 5000;
      add_header X-RateLimit-Remaining $$connection_requests;
      add_header X-Request-Id $$request_id;
      return 200 '$json';
    }
  }
}
""")
_FORWARDING: Final = Template("""\
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log $directory/error.log;
events { worker_connections 512; }
http {
  log_format credential '$$http_authorization';
  access_log off;
  client_body_temp_path $directory/body;
  proxy_temp_path $directory/proxy;
  fastcgi_temp_path $directory/fastcgi;
  uwsgi_temp_path $directory/uwsgi;
  scgi_temp_path $directory/scgi;
  ssl_certificate $certificate;
  ssl_certificate_key $key;
  ssl_protocols TLSv1.3;
  server {
    listen $address:443 ssl default_server;
    return 421;
  }
  server {
    listen $address:443 ssl;
    server_name $name;
    location / {
      proxy_pass http://$upstream;
      proxy_http_version 1.1;
      proxy_set_header Host $$host;
      proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
      proxy_read_timeout 60s;
      proxy_buffering off;
    }
  }
  server {
    listen $address:443 ssl;
    server_name $apis;
    access_log $directory/credentials.log credential;
    location / { return 200 'ok'; }
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
    files = files or directory / "files"
    files.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = _CONFIGURATION.substitute(
        directory=directory, port=port, certificate=leaf.certificate, key=leaf.key, files=files, json=JSON
    )
    with _running(directory, configuration, ("127.0.0.1", port)):
        yield port


@contextmanager
def forward(
    directory: Path, leaf: Leaf, *, address: str, name: str, upstream: str, apis: Sequence[str]
) -> Iterator[Path]:
    """Run nginx before a daemon until the block ends; yields a file with a line for each credential an API got.

    Args:
        directory: where its configuration, log and temporary files go.
        leaf: its certificate, for all names.
        address: where it listens, at port 443.
        name: the daemon's public name.
        upstream: where the daemon listens: an address and a port.
        apis: names that it answers for itself, as an API would.
    """
    directory.mkdir(parents=True, exist_ok=True)
    configuration = _FORWARDING.substitute(
        directory=directory,
        certificate=leaf.certificate,
        key=leaf.key,
        address=address,
        name=name,
        upstream=upstream,
        apis=" ".join(apis),
    )
    with _running(directory, configuration, (address, 443)):
        yield directory / "credentials.log"


@contextmanager
def _running(directory: Path, configuration: str, place: tuple[str, int]) -> Iterator[None]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "nginx is not installed"
    path = directory / "nginx.conf"
    path.write_text(configuration)
    command = [program, "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(path)]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(place, process)
            yield
        finally:
            process.terminate()


def _wait_for(place: tuple[str, int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(place) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("nginx did not start")
