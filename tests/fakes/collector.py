"""An OpenTelemetry collector on loopback: takes logs by OTLP/HTTP in JSON, as the protocol has it and no other way.

What it takes is read by OpenTelemetry's own definitions (the package `opentelemetry-proto`), unknown fields refused.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

from google.protobuf.json_format import Parse, ParseError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord


@dataclass
class Collector:
    """What came, and what is answered."""

    url: str = ""
    records: list[LogRecord] = field(default_factory=list)
    resources: list[dict[str, str | int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """How many records each request had that was taken."""
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """What is answered in place of taking a request, as (status, headers, body), each once."""

    def attributes(self, event: str) -> list[dict[str, str | int]]:
        """The attributes of the records of an event."""
        found = [each for each in self.records if each.event_name == f"authsome.audit.{event}"]
        return [_values(each.attributes) for each in found]


def _values(attributes: Iterable[KeyValue]) -> dict[str, str | int]:
    return {
        pair.key: pair.value.int_value if pair.value.WhichOneof("value") == "int_value" else pair.value.string_value
        for pair in attributes
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: ClassVar[Collector]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.collector.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path != "/v1/logs":
            self._answer(404, {}, b"")
        elif self.headers["Content-Type"] != "application/json":
            self._answer(415, {}, b"")
        elif self.collector.answers:
            self._answer(*self.collector.answers.pop(0))
        elif re.search(rb'"(timeUnixNano|observedTimeUnixNano|intValue)":\d', body):
            self._answer(400, {}, b"numbers of 64 bits are strings in JSON")
        else:
            self._take(body)

    def _take(self, body: bytes) -> None:
        try:
            request = Parse(body, ExportLogsServiceRequest(), ignore_unknown_fields=False)
        except ParseError as error:
            self._answer(400, {}, json.dumps({"message": str(error)}).encode())
            return
        count = 0
        for resource in request.resource_logs:
            self.collector.resources.append(_values(resource.resource.attributes))
            for scope in resource.scope_logs:
                self.collector.records += scope.log_records
                count += len(scope.log_records)
        self.collector.sizes.append(count)
        self._answer(200, {"Content-Type": "application/json"}, b"{}")

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Collector]:
    """A collector for the length of a block."""
    collector = Collector()
    handler = type("Handler", (_Handler,), {"collector": collector})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
