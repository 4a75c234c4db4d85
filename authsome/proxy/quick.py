"""The quick road of a kept connection: requests whose credential is known, and answers that come in one piece.

It decides nothing by itself. What it passes on of a request is what `inject`, `scrub` and `http1` have made of the same
bytes: of a head that has come before on this connection it remembers what became of it. So a program that sends the
same headers again and again, as programs do, has them read once. Answers differ, in a date or an id, but line by line
they are of few kinds; a head of usual lines only passes as it is, which is what those three would make of it.

Rule: whatever is not plainly as it is here (a body that is still to come, another protocol, a credential that has to be
asked for) is left as it is, and the connection leaves for a thread, where all of it is read anew.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from authsome.clock import Clock
from authsome.errors import AuthsomeError
from authsome.proxy import http1, inject, rules, scrub, targets
from authsome.proxy.exchange import Intercepted, Memory
from authsome.proxy.http1 import Counted, Request
from authsome.proxy.inject import Credential, Fields, Head
from authsome.proxy.rules import Question, Target
from authsome.proxy.scrub import Needles, Scrubber
from authsome.proxy.side import Side
from authsome.proxy.tenancy import Tenancy

MOST: Final = 8
"""Requests' heads that are remembered; a program has a few kinds."""
_LARGEST: Final = 16 * 1024  # bytes of a head of which something is remembered
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (/[!\"$-~]*) HTTP/1\.1")  # no fragment, as in `targets`
_END: Final = b"\r\n\r\n"
_NOT_QUICK: Final = frozenset({b"CONNECT", b"HEAD"})
_UNQUICK_STATUS: Final = frozenset({101, 401})
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) [\t -~\x80-\xff]*")
_UNUSUAL_STATUS: Final = frozenset({b"204", b"304", b"401"})
_FIELD: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)"
)
"""A field as it is sent, so that reading and writing it would change nothing."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_KEEP_ALIVE: Final = b"Connection: keep-alive"
_LINES: Final = 256
_DROPPED: Final = inject.DROPPED_OF_ANSWERS - {b"connection"}
_UNUSUAL: Final = frozenset({b"content-encoding", b"transfer-encoding"}) | scrub.MESSAGES_CODED


@dataclass(slots=True)
class _Asked:
    """What becomes of requests with the same header fields."""

    length: int
    """Of the body."""
    wanted: str | None
    """The connection that they ask for."""
    fields: Fields
    """Those that are passed on."""
    credential: Credential | None = None
    """The one that was put on them last."""
    needles: Needles | None = None
    put: Fields = ()
    """The fields with it."""
    sent: bytes = b""
    """The same as they are sent."""
    takes_body: bool = False
    """Whether a body may hold placeholders."""
    accepted: frozenset[bytes] = frozenset()
    """The codings that they then ask for."""


class _Answered(NamedTuple):
    """What becomes of an answer."""

    length: int
    """Of the body."""
    sent: bytes
    """Its head as it is passed on."""


class _Line(Enum):
    """What becomes of a line of an answer's head."""

    PASSED = auto()
    LENGTH = auto()
    """Passed on, and the body's length."""
    DROPPED = auto()
    KEEP_ALIVE = auto()
    """Said anew behind the others."""
    UNUSUAL = auto()
    """It is to be read with the rest of its head."""


_PASSED, _MEASURE, _GONE, _KEPT, _STRANGE = _Line
"""The same, for every line of every answer: Python 3.11 is slow to find a member in its class, and to hash it."""


@dataclass(slots=True)
class Pending:
    """A request that is on its way."""

    method: bytes
    target: bytes
    raw: bytes
    """Its head as it came."""
    asked: _Asked
    sent: bytes
    """As it was sent."""
    received: bytes = b""
    """What has come of the answer."""


class Quick:
    """The road for one connection of a child's, and its server's."""

    def __init__(  # noqa: PLR0913  # each another thing
        self, child: Side, tenancy: Tenancy, target: Target, *, memory: Memory, heads: "Heads", clock: Clock
    ) -> None:
        self._child = child
        self._tenancy = tenancy
        self._target = target
        self._memory = memory
        self._heads = heads
        self._clock = clock
        self._asked: dict[bytes, _Asked] = {}
        self.pending: Pending | None = None

    def ask(self, server: Side) -> bool:
        """Send on the request that has come; False: it is not one for this road, and is left as it is."""
        unread = self._child.unread
        end = unread.find(_END)
        first = unread.find(b"\r\n")
        if end < 0:
            return False
        block = unread[first + 2 : end + 2]
        line = _LINE.fullmatch(unread, 0, first)  # a URL names a host: what is read with it counts for no other line
        asked = (self._asked.get(block) or self._read(unread[: end + 4], block)) if line else None
        if asked is None or line is None or len(unread) != end + 4 + asked.length:
            return False
        method, target = line.groups()
        if method in _NOT_QUICK or self._tenancy.lease.is_over(self._clock):
            return False
        path = target.partition(b"?")[0].decode("latin-1")
        credential = self._tenancy.source.kept(method.decode("latin-1"), self._target, path, asked.wanted)
        if credential is None:
            return False
        needles = self._memory.needles(self._tenancy, self._target.host, credential)
        if asked.credential is not credential or asked.needles is not needles:
            self._put_on(asked, credential, needles)
        if credential.query or credential.placeholders:
            target = inject.injected_target(target, credential)
        fields, body = asked.sent, unread[end + 4 :]
        if asked.takes_body:
            try:
                fields, body = self._with_body(asked, credential, body)
            except AuthsomeError:  # which a thread meets again, and tells
                return False
        sent = b"%b %b HTTP/1.1\r\n%b%b" % (method, target, fields, body)
        self._child.unread = b""
        self.pending = Pending(method, target, unread[: end + 4], asked, sent)
        server.send(sent)
        return True

    def answer(self, data: bytes, server: Side) -> bool:
        """Pass on an answer that has come whole; False: it is not one for this road."""
        pending = self.pending
        assert pending is not None
        end = data.find(_END) + 4
        if end < 4:
            return False
        head, asked = data[:end], pending.asked
        assert asked.needles is not None
        answered = self._heads.usual(head, asked.needles) or _read_answer(head, asked, asked.needles)
        if answered is None or len(data) != end + answered.length:
            return False
        self.pending = None
        server.used += 1
        self._child.send(answered.sent + asked.needles.replaced(data[end:]))
        return True

    def exchange(self, pending: Pending) -> tuple[Intercepted, Request]:
        """A request that is on its way, for others to carry to its end."""
        asked = pending.asked
        assert asked.credential is not None
        assert asked.needles is not None
        request = http1.parse_request(pending.raw)
        path = pending.target.partition(b"?")[0].decode("latin-1")
        exchange = Intercepted(self._tenancy, self._target, self._memory)
        question = Question(
            method=request.method.decode("latin-1"),
            target=self._target,
            path=path,
            provider=asked.credential.provider,
            connection=asked.wanted,
        )
        exchange.resume(question, asked.credential, asked.needles, asked.accepted)
        return exchange, request

    def _read(self, head: bytes, block: bytes) -> _Asked | None:
        """What becomes of a request; None where that is for a thread to tell."""
        try:
            request = http1.parse_request(head)
            body = http1.request_body(request)
            fields, wanted = inject.chosen_connection(request.fields)
            fields = inject.forwardable(fields)
            rules.check_authorities(self._target, targets.named(request)[1])
        except (http1.Refused, AuthsomeError):
            return None
        names = {name.lower() for name, _ in request.fields}
        if not isinstance(body, Counted) or request.is_last or names & {b"expect", b"upgrade"}:
            return None
        asked = _Asked(length=body.left, wanted=wanted, fields=fields)
        if len(block) <= _LARGEST:
            if len(self._asked) >= MOST:
                self._asked.clear()
            self._asked[block] = asked
        return asked

    def _put_on(self, asked: _Asked, credential: Credential, needles: Needles) -> None:
        fields, accepted = scrub.narrowed(asked.fields) if needles else (asked.fields, frozenset[bytes]())
        put = inject.injected(Head(target=b"/", fields=fields), credential)
        asked.put, asked.sent = put.fields, http1.fields_bytes(put.fields)
        asked.takes_body = inject.takes_body(put.fields, credential)
        asked.credential, asked.needles, asked.accepted = credential, needles, accepted

    @staticmethod
    def _with_body(asked: _Asked, credential: Credential, body: bytes) -> tuple[bytes, bytes]:
        """The fields and the body as they are sent."""
        put, found = inject.injected_body(asked.put, body, credential)
        return (asked.sent, body) if found == body else (http1.fields_bytes(put), found)


class Heads:
    """The heads of answers, by lines that have come before, on whatever connection: what one means, it means on all."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, _Line] = {}

    def usual(self, head: bytes, needles: Needles) -> _Answered | None:
        """What becomes of an answer, if nothing but usual lines are in its head."""
        first, *lines = head[: -len(_END)].split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None or status[1] in _UNUSUAL_STATUS or len(head) > _LARGEST or needles.are_in(head):
            return None
        known, length, passed, is_kept = self._kinds, None, [first], False
        for line in lines:
            kind = known.get(line) or self._learn(line)
            if kind is _PASSED:
                passed.append(line)
            elif kind is _MEASURE:
                if length is not None:
                    return None
                length = int(line.partition(b":")[2])
                passed.append(line)
            elif kind is _KEPT:
                is_kept = True
            elif kind is _STRANGE:
                return None
        if length is None:
            return None
        if is_kept:
            passed.append(_KEEP_ALIVE)
        return _Answered(length, b"\r\n".join((*passed, b"", b"")))

    def _learn(self, line: bytes) -> _Line:
        if len(self._kinds) >= _LINES:
            self._kinds.clear()
        kind = self._kinds[line] = _kind(line)
        return kind


def _kind(line: bytes) -> _Line:
    field = _FIELD.fullmatch(line)
    if field is None:
        return _STRANGE
    name, value = field[1].lower(), field[2]
    if name == b"content-length":
        return _MEASURE if _LENGTH.fullmatch(value) else _STRANGE
    if name == b"connection":
        return _KEPT if value.lower() == b"keep-alive" else _STRANGE
    if name in _DROPPED:
        return _GONE
    return _STRANGE if name in _UNUSUAL or scrub.has_messages(((name, value),)) else _PASSED


def _read_answer(head: bytes, asked: _Asked, needles: Needles) -> _Answered | None:
    """What becomes of an answer; None where that is for a thread to tell."""
    try:
        response = http1.parse_response(head)
        body = http1.response_body(response, b"GET")
        fields = inject.response_fields(response.fields)
        if response.status < 200 or response.status in _UNQUICK_STATUS or response.is_last:
            return None
        if not isinstance(body, Counted):
            return None
        if needles:
            fields, through = scrub.answer(
                fields, needles, status=response.status, accepted=asked.accepted, has_body=not body.is_complete
            )
            if not isinstance(through, Scrubber):
                return None
    except (http1.Refused, AuthsomeError):
        return None
    sent = http1.response_bytes(response.status, needles.replaced(response.reason), fields)
    return _Answered(body.left, sent)
