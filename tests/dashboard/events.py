"""A stream of events as a browser would hold it, without the browser."""

import http.client
from dataclasses import dataclass
from typing import Self

from dashboard.visitor import Visitor
from fakes.program import Program


@dataclass(slots=True)
class Events:
    """An open stream; each event is its name and its data."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    heard: str = ""
    """The last event's id."""

    @classmethod
    def of(cls, program: Program, visitor: Visitor, *, path: str = "/ui/events", heard: str = "") -> Self:
        """Open one; the status of a refusal is in `response`."""
        connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)
        headers = {"Accept": "text/event-stream", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in visitor.jar.items())
        if heard:
            headers["Last-Event-ID"] = heard
        connection.request("GET", path, headers=headers)
        events = cls(connection, connection.getresponse())
        if events.response.status == 200:
            assert events.response.readline().startswith(b"retry: ")
            assert events.response.readline() == b"\n"
        return events

    def next(self) -> tuple[str, str] | None:
        """The next event, waited for; None: the stream has ended."""
        found: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(":")
            if line == "\n" and "event" in found:
                self.heard = found.get("id", self.heard)
                return found["event"], found["data"]
            if name:
                found[name] = value.strip()
        return None

    def wait_for(self, topic: str) -> None:
        """Wait until something of this kind has changed."""
        while (event := self.next()) is not None:
            if topic in event[1].split():
                return
        raise AssertionError(f"the stream ended without {topic}")

    def ends(self) -> bool:
        """Wait for the end; whether it was said."""
        said = False
        while (event := self.next()) is not None:
            said = event[0] == "ended"
        return said

    def close(self) -> None:
        """Go."""
        self.response.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
