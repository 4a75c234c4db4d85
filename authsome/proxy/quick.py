"""The quick road of a kept connection: requests whose credential is known, and answers that come in one piece.

It decides nothing by itself. What it passes on is what `inject`, `scrub` and `http1` have made of the same bytes: of a
head that has come before on this connection it remembers what became of it. So a program that sends the same headers
again and again, as programs do, has them read once.

Rule: whatever is not plainly as it is here (a body that is still to come, another protocol, a credential that has to be
asked for) is left as it is, and the connection leaves for a thread, where all of it is read anew.
"""

import re
from dataclasses import dataclass
from typing import Final

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
"""Heads that are remembered, of each direction; a program has a few kinds of requests."""
_LARGEST: Final = 16 * 1024  # bytes of a head that is remembered
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (/[!\"$-~]*) HTTP/1\.1")  # no fragment, as in `targets`
_END: Final = b"\r\n\r\n"
_NOT_QUICK: Final = frozenset({b"CONNECT", b"HEAD"})
_UNQUICK_STATUS: Final = frozenset({101, 401})


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


@dataclass(frozen=True, slots=True)
class _Answered:
    """What becomes of answers with the same head."""

    length: int
    needles: Needles
    accepted: frozenset[bytes]
    sent: bytes


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

    def __init__(self, child: Side, tenancy: Tenancy, target: Target, memory: Memory, clock: Clock) -> None:
        self._child = child
        self._tenancy = tenancy
        self._target = target
        self._memory = memory
        self._clock = clock
        self._asked: dict[bytes, _Asked] = {}
        self._answered: dict[bytes, _Answered] = {}
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
        answered = self._answered.get(head)
        if answered is None or answered.needles is not asked.needles or answered.accepted != asked.accepted:
            answered = self._read_answer(head, asked)
        if answered is None or len(data) != end + answered.length:
            return False
        self.pending = None
        server.used += 1
        self._child.send(answered.sent + answered.needles.replaced(data[end:]))
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

    def _read_answer(self, head: bytes, asked: _Asked) -> _Answered | None:
        """What becomes of an answer; None where that is for a thread to tell."""
        needles = asked.needles
        assert needles is not None
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
        answered = _Answered(length=body.left, needles=needles, accepted=asked.accepted, sent=sent)
        if len(head) <= _LARGEST:
            if len(self._answered) >= MOST:
                self._answered.clear()
            self._answered[head] = answered
        return answered
