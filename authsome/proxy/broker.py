"""The worker's line to the daemon: routes, credentials and the end of a run, asked with that run's own secret.

Everything here blocks, and may be called from any number of threads.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from authsome import errors
from authsome.client.wire import Channel
from authsome.errors import AuthenticationFailed, AuthsomeError, CredentialUnavailable, DaemonUnavailable, NotAllowed
from authsome.message import HttpResponse, clean_line, json_object
from authsome.models.route import RouteTable
from authsome.proxy import inject, rules
from authsome.proxy.changes import NOBODY
from authsome.proxy.rules import Lease, Question, Target
from authsome.proxy.shelf import Opening, Shelf
from authsome.secret import Secret

log = logging.getLogger(__name__)

_RESOLVE_SECONDS: Final = 45.0  # the daemon may have to refresh first, which may take it 30
_REFRESH_SECONDS: Final = 10.0  # how long a 401 waits for the refresh that it caused
_OTHER_SECONDS: Final = 5.0
_CHANNELS: Final = 32  # requests that wait for the daemon at the same time; a slow provider holds up only its own
_SHARE: Final = 16  # of them for one run, so that there are some for the others


class Line:
    """Connections to one daemon, kept for the next question of any run."""

    def __init__(self, url: str, *, guard: Callable[[], None] | None = None, ca_bundle: Path | None = None) -> None:
        """Take the daemon's URL, and what each new connection is checked by (see `Channel`)."""
        self.url = url
        self._guard = guard
        self._ca_bundle = ca_bundle
        self._idle: list[Channel] = []
        self._free = threading.BoundedSemaphore(_CHANNELS)

    def ask(self, method: str, path: str, *, authorization: str, body: bytes, seconds: float) -> HttpResponse:
        """One request and its answer.

        Raises:
            DaemonUnavailable: there is none in time.
        """
        if not self._free.acquire(timeout=seconds):
            raise DaemonUnavailable("too many requests wait for the daemon")
        try:
            # list.pop and list.append are atomic, so two threads never hold the same channel.
            try:
                channel = self._idle.pop()
            except IndexError:
                channel = Channel(self.url, guard=self._guard, ca_bundle=self._ca_bundle)
            headers = (("Authorization", authorization), ("Content-Type", "application/json"))
            try:
                response = channel.request(method, path, headers=headers, body=body, timeout=seconds)
            except BaseException:
                channel.close()
                raise
            self._idle.append(channel)
            return response
        finally:
            self._free.release()

    def close(self) -> None:
        """Let go of the connections that nobody waits on."""
        while self._idle:
            self._idle.pop().close()


class Broker:
    """Asks the daemon on behalf of one run."""

    def __init__(self, line: Line, lease: Lease, shelf: Shelf | None = None) -> None:
        """Args: the connections to the daemon, whose run it is, and what the run keeps; None: nothing."""
        self._line = line
        self._run = lease.run
        self._secret = lease.secret
        self._shelf = shelf
        self._free = threading.BoundedSemaphore(_SHARE)

    @property
    def keeps(self) -> bool:
        """Whether answers may be used again."""
        return self._shelf is not None and self._shelf.is_open

    def kept(self, method: str, target: Target, path: str, connection: str | None) -> inject.Credential | None:
        """What goes on a request, where that is known and its use has been written down; None: ask.

        Arguments as those of `resolve`. Does not block.
        """
        return None if self._shelf is None else self._shelf.use(method, target, path, connection)

    def resolve(self, question: Question, *, is_rejected: bool = False) -> inject.Credential:
        """What goes on a request.

        Args:
            question: the request.
            is_rejected: the server has just refused the credential: refresh it first, once.

        Raises:
            AuthsomeError: there is no credential for it; the request must not be sent.
        """
        target, connection = question.target, question.connection
        body: dict[str, object] = {
            "method": question.method,
            "host": target.host,
            "port": target.port,
            "path": question.path,
        }
        if connection is not None:
            body["connection"] = connection
        if is_rejected:
            body["rejected"] = True
        seconds = _REFRESH_SECONDS if is_rejected else _RESOLVE_SECONDS
        epoch = NOBODY
        if self._shelf is not None:
            epoch = self._shelf.clear() if is_rejected else self._shelf.before_asking(self._open_spool)
        try:
            answer = self._ask("POST", "/proxy/resolve", body, seconds)
        except (errors.NotFound, errors.ConnectionNotFound) as error:
            named = f" --connection {connection}" if connection is not None else ""
            hint = f"log in with `authsome login {question.provider}{named}`"
            raise CredentialUnavailable(error.message, hint=hint) from error
        credential = inject.credential_from_json(answer)
        if self._shelf is not None and epoch != NOBODY:
            self._shelf.keep(credential, question, epoch=epoch)
        return credential

    def routes(self) -> RouteTable:
        """The run's routes as of now.

        Raises:
            AuthsomeError: the daemon cannot be asked, or no longer knows the run.
        """
        if self._shelf is None:
            return self._asked_routes()
        return self._shelf.routes(self._asked_routes)

    def _asked_routes(self) -> RouteTable:
        answer = self._ask("GET", "/proxy/routes", None, _OTHER_SECONDS)
        return rules.table_from_json(answer.get("routes"))

    def end(self) -> None:
        """Tell the daemon that the run is over, and before that how many uses it has to find.

        Raises:
            AuthsomeError: it could not be told; the run ends there by its own time.
        """
        if self._shelf is not None and self._shelf.stop():
            self._tell_count(is_last=True)
            self._shelf.close()
        self._ask("DELETE", f"/proxy/runs/{self._run}", None, _OTHER_SECONDS)

    def _open_spool(self) -> Opening:
        """Ask by what key uses are written down, and from which number on."""
        answer = self._ask("GET", "/proxy/spool", None, _OTHER_SECONDS)
        key, number = answer.get("key"), answer.get("next")
        if not isinstance(key, str) or not isinstance(number, int):
            raise DaemonUnavailable("the daemon's answer has no key")
        return Opening(
            run=self._run,
            key=Secret(bytes.fromhex(key)),
            first=number,
            show=lambda: self._show(number),
            tell=self._tell,
        )

    def _show(self, first: int) -> None:
        """Have the daemon look for the file in which the uses from this one on will be."""
        if not self._say_count(first):
            raise DaemonUnavailable("earlier uses of this run have not arrived")

    def _tell(self) -> None:
        """Have the daemon take in what was written down."""
        if self._shelf is None or not self._shelf.is_open:  # the run is over, and its end has told
            return
        try:
            arrived = self._tell_count()
        except AuthsomeError as error:  # it does so by itself, once a minute and when its log is read
            log.info("run %s: %s", self._run, error.message)
            return
        if not arrived:  # somebody else has a hand in the files: what they would say comes to the daemon directly
            self._shelf.stop()
            log.warning("run %s: uses do not arrive, so each request is asked for", self._run)

    def _tell_count(self, *, is_last: bool = False) -> bool:
        """Tell the daemon how many uses there are; whether it has found all of them."""
        assert self._shelf is not None
        return self._say_count(self._shelf.count(), is_last=is_last)

    def _say_count(self, count: int, *, is_last: bool = False) -> bool:
        told = {"count": count, "is_last": is_last}
        return self._ask("POST", "/proxy/spool", told, _OTHER_SECONDS).get("arrived") is not False

    def _ask(self, method: str, path: str, question: Mapping[str, object] | None, seconds: float) -> dict[str, object]:
        body = b"" if question is None else json.dumps(question).encode()
        authorization = f"Run {self._run}:{self._secret.reveal()}"
        if not self._free.acquire(timeout=seconds):
            raise DaemonUnavailable("too many requests of this run wait for the daemon")
        try:
            response = self._line.ask(method, path, authorization=authorization, body=body, seconds=seconds)
        finally:
            self._free.release()
        return _answer(response)


def _answer(response: HttpResponse) -> dict[str, object]:
    if response.status == 204:
        return {}
    try:
        data = json_object(response.body)
    except ValueError as error:
        raise DaemonUnavailable("the daemon's answer is not JSON") from error
    if 200 <= response.status < 300:
        return data
    problem = _problem(data)
    if isinstance(problem, AuthenticationFailed):  # to the child a 401 would mean that the API refused it
        raise NotAllowed(
            "this run is over, or its identity may no longer act",
            hint="see `authsome whoami`, then start a new one with `authsome run`",
        ) from problem
    raise problem


def _problem(data: Mapping[str, object]) -> AuthsomeError:
    code, detail, title, hint = (data.get(name) for name in ("code", "detail", "title", "hint"))
    message = detail if isinstance(detail, str) else title if isinstance(title, str) else "the daemon refused"
    return errors.from_code(
        code if isinstance(code, str) else "",
        clean_line(message, 500),
        clean_line(hint, 500) if isinstance(hint, str) else None,
    )
