"""The log as records of OpenTelemetry, sent to a collector: OTLP over HTTP, in JSON.

OTLP 1.x: one POST for each batch; an answer of 429, 502, 503 or 504, or none, is tried again, as long as `Retry-After`
says or longer each time; any other from 400 on is final; a collector may also take a batch in part, and says so.

Rule: a batch that was not taken ends the export, with what was sent before it named: nothing is left out in silence.
"""

import json
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from authsome import __version__, address, transport
from authsome.address import AddressPolicy
from authsome.cli.context import Context
from authsome.errors import AddressRefused, EndpointRefused, EndpointUnreachable, UsageError
from authsome.message import HttpRequest, HttpResponse, clean_line, json_object
from authsome.models.audit import Event
from authsome.outbound import outbound_from

if TYPE_CHECKING:
    from authsome.cli.log_export import Begun

BATCH: Final = 512
"""Records of one request, as the SDKs have it: a quarter of a megabyte."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt at a batch."""
_LONGEST_PAUSE: Final = 60.0
_LOGS: Final = "/v1/logs"
_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
"""The variable by which every exporter is told what a collector wants to see: `name=value,name=value`, escaped."""
_EXAMPLE: Final = "such as https://collector.example.com:4318"
_AGAIN: Final = frozenset({429, 502, 503, 504})
_INFO, _WARN, _ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")
_SEVERITIES: Final = {
    Event.DENIED: _WARN,
    Event.LOGIN_FAILED: _WARN,
    Event.REFRESH_FAILED: _WARN,
    Event.REVOKE_FAILED: _WARN,
    Event.HONEYTOKEN: _ERROR,
    Event.LOG_DAMAGED: _ERROR,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_ATTRIBUTES: Final = frozenset({"at", "event"})


class Collector:
    """Where records are sent."""

    def __init__(self, url: str, context: Context) -> None:
        """Take the collector's URL: of the collector as such, or of where it takes logs.

        Raises:
            UsageError: it is no http(s) URL, or the variable with the headers cannot be understood.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            is_whole = parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
        except ValueError:
            parts, is_whole = urllib.parse.urlsplit(""), False
        if parts.scheme not in {"http", "https"} or not is_whole or not parts.hostname:
            raise UsageError("--otlp takes the URL of a collector", hint=_EXAMPLE)
        if "@" in parts.netloc:
            raise UsageError("--otlp takes no user in a URL, where others can read it", hint=f"set {_HEADERS}")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise UsageError("the log goes to another machine by https only", hint=_EXAMPLE)
        self.url: str = url.rstrip("/") + _LOGS if parts.path in {"", "/"} else url
        self._context = context
        self._headers = _headers(context.environ.get(_HEADERS, ""))
        self._trust = transport.Trust(context.settings.ca_bundle)
        self._outbound = outbound_from(context.environ)

    def send(self, begun: "Begun", pages: Iterable[Sequence[Mapping[str, object]]]) -> int:
        """Send all entries, and the checkpoint that ends them; how many entries they were."""
        count = 0
        for page in pages:
            for first in range(0, len(page), BATCH):
                batch = page[first : first + BATCH]
                self._deliver(begun, [record(entry) for entry in batch], count)
                count += len(batch)
        if begun.checkpoint is not None:
            self._deliver(begun, [checkpoint_record(begun.checkpoint)], count)
        return count

    def _deliver(self, begun: "Begun", records: list[Mapping[str, object]], sent: int) -> None:
        body = json.dumps(envelope(begun.header, records), separators=(",", ":")).encode()
        request = HttpRequest(
            "POST", self.url, headers=(("Content-Type", "application/json"), *self._headers), body=body
        )
        for pause in (*PAUSES, None):
            trouble = "busy"
            try:
                response = self._attempt(request)
            except AddressRefused as error:  # which no waiting changes
                raise EndpointUnreachable(error.message, hint=error.hint) from error
            except EndpointUnreachable as error:
                trouble = "not to be reached"
                if pause is None:
                    raise EndpointUnreachable(error.message, hint=_hint(sent)) from error
            else:
                if response.status not in _AGAIN:
                    return _judge(response, sent)
                if pause is None:
                    raise _ended(f"the collector answers {response.status}", sent)
                pause = _asked_pause(response) or pause  # noqa: PLW2901  # the collector knows better
            self._context.output.progress(f"the collector is {trouble}; again in {pause:.0f} s")
            time.sleep(pause)
        raise AssertionError("the last attempt has returned or raised")

    def _attempt(self, request: HttpRequest) -> HttpResponse:
        return transport.send(
            request, policy=AddressPolicy(allow_private=True), trust=self._trust, outbound=self._outbound
        )


def envelope(header: Mapping[str, object], records: list[Mapping[str, object]]) -> Mapping[str, object]:
    """An ExportLogsServiceRequest: the records, and what they are records of."""
    resource = {
        "service.name": "authsome",
        "service.version": __version__,
        "authsome.store": header["store"],
        "authsome.audit.key": header["key"],
    }
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeLogs": [{"scope": {"name": "authsome.audit", "version": __version__}, "logRecords": records}],
            }
        ]
    }


def record(entry: Mapping[str, object]) -> Mapping[str, object]:
    """The LogRecord of an entry; its attributes hold all that its hash is taken over."""
    event = str(entry["event"])
    number, text = _SEVERITIES.get(Event(event), _INFO) if event in set(Event) else _INFO
    words = [event, *(str(entry[name]) for name in ("provider", "connection", "host", "detail") if name in entry)]
    members = {f"authsome.audit.{name}": value for name, value in entry.items() if name not in _NOT_ATTRIBUTES}
    return {
        "timeUnixNano": _nanoseconds(str(entry["at"])),
        "observedTimeUnixNano": _nanoseconds(str(entry["at"])),
        "severityNumber": number,
        "severityText": text,
        "eventName": f"authsome.audit.{event}",
        "body": {"stringValue": " ".join(words)},
        "attributes": _attributes(members),
    }


def checkpoint_record(checkpoint: Mapping[str, object]) -> Mapping[str, object]:
    """The LogRecord of a checkpoint: held by the collector, it vouches for all that was sent before it."""
    taken = checkpoint["taken_at"]
    nanoseconds = str((taken if isinstance(taken, int) else 0) * 1000)
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": _INFO[0],
        "severityText": _INFO[1],
        "eventName": "authsome.audit.checkpoint",
        "body": {"stringValue": f"checkpoint up to entry {checkpoint['ends_at']}"},
        "attributes": _attributes({f"authsome.audit.{name}": value for name, value in checkpoint.items()}),
    }


def _attributes(members: Mapping[str, object]) -> list[Mapping[str, object]]:
    """KeyValue pairs: numbers of 64 bits are strings in OTLP's JSON (protobuf's mapping)."""
    return [
        {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}}
        for name, value in members.items()
    ]


def _nanoseconds(at: str) -> str:
    elapsed = datetime.fromisoformat(at) - _EPOCH
    return str(((elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds) * 1000)


def _judge(response: HttpResponse, sent: int) -> None:
    """Whether a batch was taken, all of it."""
    if response.status >= 300:
        raise _ended(f"the collector refuses: status {response.status}", sent)
    try:
        partial = json_object(response.body).get("partialSuccess") if response.body else None
    except ValueError:
        raise _ended("what answers is no collector", sent) from None
    if isinstance(partial, dict):
        rejected = str(partial.get("rejectedLogRecords", 0))
        if rejected not in {"0", ""}:
            why = clean_line(str(partial.get("errorMessage", "")))
            raise _ended(f"the collector rejects {rejected[:20]} records: {why}", sent)


def _asked_pause(response: HttpResponse) -> float | None:
    text = response.header("Retry-After") or ""
    return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _is_loopback(host: str) -> bool:
    literal = address.parse_literal(host)
    return address.is_local_name(host) or (literal is not None and address.reach(literal) is address.Reach.LOOPBACK)


def _ended(why: str, sent: int) -> EndpointRefused:
    return EndpointRefused(why, hint=_hint(sent))


def _hint(sent: int) -> str:
    return f"{sent:,} entries were taken before; export again when the collector takes them"


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise UsageError(f"{_HEADERS} is not of the form name=value,name=value")  # its values may be secret
        found.append((name.strip(), urllib.parse.unquote(value.strip())))
    return tuple(found)
