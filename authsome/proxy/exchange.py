"""One request and its response: everything that is decided about them, the same for whichever engine carries them.

Rule: the credential is asked for last, when all else is settled; and what was put on a request is remembered for as
long as its run lasts, so that no later answer of that host brings it back.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from authsome import clock
from authsome.errors import AuthsomeError, EndpointUnreachable, RequestInvalid
from authsome.proxy import answers, digests, inject, rules, scrub
from authsome.proxy.answers import Answer
from authsome.proxy.inject import Credential, Fields, Head
from authsome.proxy.rules import Question, Target
from authsome.proxy.scrub import Filter, Needles
from authsome.proxy.tenancy import Tenancy

_REMEMBERED: Final = 8  # credentials of one host in one run: two logins, and what they were before a refresh
_NONE: Final = Needles(())
_UNAUTHORIZED: Final = 401
_SWITCHING: Final = 101
_FRESH_SECONDS: Final = 2.0
"""How long a request may wait for its body with a credential that was asked for before: a run may be over since then,
or the connection gone."""


class Recall(Protocol):
    """Knows what was sent to whom."""

    def needles(self, tenancy: Tenancy, host: str, credential: Credential | None, /) -> Needles:
        """What to look for in the answer to a request that carries this credential, or none."""


class Memory:
    """What was sent to whom: the secrets that an answer of a host is looked through for, by run and host."""

    def __init__(self) -> None:
        self._by_tenancy: WeakKeyDictionary[Tenancy, dict[str, _Sent]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def needles(self, tenancy: Tenancy, host: str, credential: Credential | None) -> Needles:
        """What to look for in the answer to a request that carries this credential, or none."""
        with self._lock:
            by_host = self._by_tenancy.get(tenancy)
            if credential is None or not credential.secrets:
                sent = by_host.get(host) if by_host else None
                return sent.needles if sent else _NONE
            if by_host is None:
                by_host = self._by_tenancy[tenancy] = {}
            sent = by_host.setdefault(host, _Sent())
            sent.add(credential)
            return sent.needles

    def sent(self, tenancy: Tenancy, host: str) -> tuple[Credential, ...]:
        """The credentials whose secrets are looked for in the answers of a host."""
        with self._lock:
            by_host = self._by_tenancy.get(tenancy)
            sent = by_host.get(host) if by_host else None
            return tuple(sent.credentials.values()) if sent else ()


def needles_of(credentials: Collection[Credential]) -> Needles:
    """What to look for where these were sent."""
    return Needles(
        [secret for each in credentials for secret in each.secrets],
        [value for each in credentials for _, value in each.set],
    )


class _Sent:
    """The last credentials that a host got."""

    def __init__(self) -> None:
        self.credentials: OrderedDict[str, Credential] = OrderedDict()
        self.needles = _NONE

    def add(self, credential: Credential) -> None:
        known = self.credentials.get(credential.credential_id)
        if known is credential or known == credential:
            self.credentials.move_to_end(credential.credential_id)
            return
        self.credentials[credential.credential_id] = credential
        if len(self.credentials) > _REMEMBERED:
            self.credentials.popitem(last=False)
        self.needles = needles_of(self.credentials.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A response as the child gets it."""

    reason: bytes
    fields: Fields
    filter: Filter | None
    """What the body's content goes through; None: nothing is looked for."""


class Exchange:
    """One request of an admitted connection, and its response, that pass without a credential."""

    def __init__(self, tenancy: Tenancy, target: Target, memory: Recall) -> None:
        self.target = target
        self._tenancy = tenancy
        self._memory = memory
        self._provider: str | None = None
        self._upgrade: bytes | None = None
        self._through: Filter | None = None
        """What the response's body goes through."""
        self._needles = _NONE
        self._accepted = frozenset[bytes]()

    def request(self, method: str, head: Head, *, keep_trailers_option: bool = False) -> Head:
        """The request as it is sent.

        Raises:
            AuthsomeError: it must not be sent.
        """
        del method
        if not self.target.host.isascii():
            raise RequestInvalid("a host is written in ASCII, an IDN as xn--…")
        self._tenancy.lease.allow_unmatched(self.target)
        host = self.target.http_host.encode("ascii")
        fields, _ = inject.chosen_connection(head.fields)
        fields = inject.forwardable(fields, keep_trailers_option=keep_trailers_option)
        self._note(fields)
        # A host that was sent a credential over TLS may answer with it in clear text, too.
        fields = self._watched(fields, None)
        return Head(target=head.target, fields=((b"Host", host), *inject.without(fields, ("Host",))))

    @property
    def is_fresh(self) -> bool:
        """Whether what is on the request was asked for just now."""
        return True

    def takes_body(self, fields: Fields) -> bool:  # noqa: ARG002
        """Whether the body of a request with these fields is to be had whole and given to `body` before it is sent."""
        return False

    def body(self, head: Head, content: bytes, now: datetime) -> tuple[Head, bytes]:  # noqa: ARG002
        """A whole body that has come now, and the request's head, as they are sent.

        Raises:
            AuthsomeError: it must not be sent.
        """
        return head, content

    def _watched(self, fields: Fields, credential: Credential | None) -> Fields:
        """A request's fields, narrowed so that its answer can be looked through if there is anything to look for."""
        self._needles = self._memory.needles(self._tenancy, self.target.host, credential)
        if self._needles:
            fields, self._accepted = scrub.narrowed(fields)
        return fields

    def _note(self, fields: Fields) -> None:
        """Remember which other protocol the request asks for: only to that may the server change."""
        self._upgrade = next((value for name, value in fields if name.lower() == b"upgrade"), None)

    def request_trailers(self, fields: Fields) -> Fields:
        """Trailers are headers that come late: what may not stand in the head may not stand there.

        Raises:
            RequestInvalid: they are malformed, or sign another body than is sent.
        """
        return inject.trailers(fields)

    def response(self, status: int, reason: bytes, fields: Fields, *, has_body: bool) -> Passed:
        """The response as it is passed on.

        Raises:
            AuthsomeError: it cannot be passed on.
        """
        return self._passed(status, reason, self._checked(status, fields, inject.forwardable), has_body=has_body)

    def _passed(self, status: int, reason: bytes, fields: Fields, *, has_body: bool) -> Passed:
        """A response without the secrets that are looked for."""
        if not self._needles:
            return Passed(reason=reason, fields=fields, filter=None)
        fields, through = scrub.answer(fields, self._needles, status=status, accepted=self._accepted, has_body=has_body)
        self._through = through
        return Passed(reason=self._needles.replaced(reason), fields=fields, filter=through)

    def _checked(self, status: int, fields: Fields, pick: Callable[[Fields], Fields]) -> Fields:
        """A response's fields without those that are not for the child."""
        if status == _SWITCHING and self._upgrade is None:
            raise EndpointUnreachable(f"{self.target.authority}: the server changes the protocol unasked")
        if any(name.lower() == b"transfer-encoding" and value.lower() != b"chunked" for name, value in fields):
            raise EndpointUnreachable(f"{self.target.authority}: the server's answer: a transfer coding but chunked")
        try:
            return pick(fields)
        except RequestInvalid as error:
            message = f"{self.target.authority}: the server's answer: {error.message}"
            raise EndpointUnreachable(message) from error

    def response_trailers(self, fields: Fields) -> Fields:
        """Its trailers, without secrets, and without digests of a body that did not come as it was sent."""
        fields = inject.trailers(fields)
        if self._through is not None and self._through.has_changed:
            fields = digests.without(fields)
        return self._needles.replaced_fields(fields)

    def upgraded(self) -> Filter | None:
        """What the server's bytes go through once both sides have left HTTP."""
        return scrub.upgraded(self._upgrade, self._needles) if self._needles else None

    def refusal(
        self, error: AuthsomeError, *, status: int | None = None, was_sent: bool = False, is_closing: bool = False
    ) -> Answer:
        """The answer to a request that was not sent, or that has no response."""
        return answers.problem(
            error,
            target=self.target,
            provider=self._provider,
            status=status,
            was_sent=was_sent,
            is_closing=is_closing,
        )


class Intercepted(Exchange):
    """One request to a host that a route names, and its response."""

    def __init__(self, tenancy: Tenancy, target: Target, memory: Recall) -> None:
        super().__init__(tenancy, target, memory)
        self._credential: Credential | None = None
        self._question: Question | None = None
        """What was asked to get the credential."""
        self._unsettled: str | None = None
        """Its path, until it is known whose the request is."""
        self._came: tuple[str, Head, bool] | None = None
        """The request as it came."""
        self._fresh_until = 0.0
        self._replaced: tuple[bytes, bytes] | None = None
        """A body as it came, and as it is sent, where placeholders in it were replaced."""

    def check(self, line: bytes, authorities: Sequence[str], now: datetime) -> None:
        """Check that the request may go to the connection's target at all; `line`: its path and query.

        Raises:
            AuthsomeError: the run's time is over, or the request names another host.
        """
        self._unsettled = _path(line)
        self._tenancy.lease.check_time(now)
        rules.check_authorities(self.target, authorities)

    def request(self, method: str, head: Head, *, keep_trailers_option: bool = False) -> Head:
        """The request as it is sent; asks the daemon, which writes it down, and blocks meanwhile.

        Raises:
            AuthsomeError: it must not be sent.
        """
        self._came = method, head, keep_trailers_option
        fields, wanted = inject.chosen_connection(head.fields)
        fields = inject.forwardable(fields, keep_trailers_option=keep_trailers_option)
        self._note(fields)
        self._credential = self._resolved(method, _path(head.target), wanted)
        self._fresh_until = clock.steady() + _FRESH_SECONDS
        head = Head(target=head.target, fields=self._watched(fields, self._credential))
        return head if self._credential is None else inject.injected(head, self._credential)

    @property
    def is_fresh(self) -> bool:
        """See `Exchange`."""
        return clock.steady() < self._fresh_until

    def takes_body(self, fields: Fields) -> bool:
        """See `Exchange`."""
        credential = self._credential
        return credential is not None and inject.takes_body(fields, credential)

    def body(self, head: Head, content: bytes, now: datetime) -> tuple[Head, bytes]:
        """See `Exchange`; placeholders in it are replaced. Where it was long in coming, the daemon is asked anew."""
        if not self.is_fresh:
            assert self._came is not None
            method, came, keep_trailers_option = self._came
            self._tenancy.lease.check_time(now)
            head = self.request(method, came, keep_trailers_option=keep_trailers_option)
        if self._credential is None:
            return head, content
        fields, found = inject.injected_body(head.fields, content, self._credential)
        self._replaced = (content, found) if found != content else None
        return Head(target=head.target, fields=fields), found

    @property
    def is_quick(self) -> bool:
        """Whether the next request of its kind may get the same credential without asking."""
        return self._credential is not None and self._credential.reusable_seconds > 0 and self._tenancy.source.keeps

    def resume(self, question: Question, credential: Credential, needles: Needles, accepted: frozenset[bytes]) -> None:
        """Go on with a request that was sent with this credential by the quick road."""
        self._provider, self._question = question.provider, question
        self._credential, self._needles, self._accepted = credential, needles, accepted

    def _resolved(self, method: str, path: str, wanted: str | None) -> Credential | None:
        """What goes on it: as it is known, or as the daemon says; None: it belongs to no route."""
        kept = self._tenancy.source.kept(method, self.target, path, wanted)
        provider = kept.provider if kept is not None else self._tenancy.provider(self.target, path, wanted=wanted)
        self._unsettled, self._provider = None, provider
        if provider is None:
            return None
        self._question = Question(method=method, target=self.target, path=path, provider=provider, connection=wanted)
        return kept if kept is not None else self._tenancy.source.resolve(self._question)

    def request_trailers(self, fields: Fields) -> Fields:
        """See `Exchange`; the names that a credential uses are gone, and digests are of the body as it is sent."""
        fields = super().request_trailers(fields)
        if self._credential is None:
            return fields
        if self._replaced is not None:
            fields = digests.renewed(fields, *self._replaced)
        return inject.without(fields, (*self._credential.remove, *(name for name, _ in self._credential.set)))

    def response(self, status: int, reason: bytes, fields: Fields, *, has_body: bool) -> Passed:
        """See `Exchange`; a 401 to our credential has that refreshed for the next request, and blocks meanwhile."""
        if status == _UNAUTHORIZED and self._question is not None and self._credential is not None:
            self._tenancy.rejected(self._question, self._credential)
        return self._passed(status, reason, self._checked(status, fields, inject.response_fields), has_body=has_body)

    def refusal(
        self, error: AuthsomeError, *, status: int | None = None, was_sent: bool = False, is_closing: bool = False
    ) -> Answer:
        """See `Exchange`; names whose the request would have been, if it came to nothing before that was settled."""
        if self._unsettled is not None:
            self._provider = self._tenancy.claimant(self.target, self._unsettled)
        return super().refusal(error, status=status, was_sent=was_sent, is_closing=is_closing)


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("latin-1")
