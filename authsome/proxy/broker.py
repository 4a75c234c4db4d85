"""The worker's line to the daemon: routes, credentials and the end of the run, asked with the run's own secret."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from authsome import errors
from authsome.client.wire import Channel
from authsome.errors import AuthenticationFailed, AuthsomeError, CredentialUnavailable, DaemonUnavailable, NotAllowed
from authsome.message import HttpResponse, clean_line, json_object
from authsome.models.route import RouteTable
from authsome.proxy import inject, rules
from authsome.proxy.rules import Lease, Target

_RESOLVE_SECONDS: Final = 45.0  # the daemon may have to refresh first, which may take it 30
_OTHER_SECONDS: Final = 5.0
_LINES: Final = 32  # requests that wait for the daemon at the same time; a slow provider holds up only its own


class Broker:
    """Asks the daemon; safe for any number of tasks of one event loop."""

    def __init__(
        self, url: str, lease: Lease, *, guard: Callable[[], None] | None = None, ca_bundle: Path | None = None
    ) -> None:
        """Take the daemon's URL, the run, and what each new connection is checked by (see `Channel`)."""
        self._url = url
        self._guard = guard
        self._lease = lease
        self._ca_bundle = ca_bundle
        self._idle: list[Channel] = []
        self._threads = ThreadPoolExecutor(max_workers=_LINES, thread_name_prefix="daemon")

    async def resolve(
        self, method: str, target: Target, path: str, *, provider: str, is_rejected: bool = False
    ) -> inject.Credential:
        """What goes on a request.

        Args:
            method: the request's method, for the audit.
            target: where it goes.
            path: its path, without the query.
            provider: the provider whose route it takes, to be named in an error.
            is_rejected: the server has just refused the credential: refresh it first, once.

        Raises:
            AuthsomeError: there is no credential for it; the request must not be sent.
        """
        question: dict[str, object] = {"method": method, "host": target.host, "port": target.port, "path": path}
        if is_rejected:
            question["rejected"] = True
        try:
            answer = await self._ask("POST", "/proxy/resolve", question, _RESOLVE_SECONDS)
        except errors.NotFound as error:
            raise CredentialUnavailable(error.message, hint=f"log in with `authsome login {provider}`") from error
        return inject.credential_from_json(answer)

    async def routes(self) -> RouteTable:
        """The run's routes as of now.

        Raises:
            AuthsomeError: the daemon cannot be asked, or no longer knows the run.
        """
        answer = await self._ask("GET", "/proxy/routes", None, _OTHER_SECONDS)
        return rules.table_from_json(answer.get("routes"))

    async def end(self) -> None:
        """Tell the daemon that the run is over.

        Raises:
            AuthsomeError: it could not be told; the run ends there by its own time.
        """
        await self._ask("DELETE", f"/proxy/runs/{self._lease.run}", None, _OTHER_SECONDS)

    def close(self) -> None:
        """Let go of the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()

    async def _ask(
        self, method: str, path: str, question: Mapping[str, object] | None, seconds: float
    ) -> dict[str, object]:
        body = b"" if question is None else json.dumps(question).encode()
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._threads, self._exchange, method, path, body, seconds)
        return _answer(response)

    def _exchange(self, method: str, path: str, body: bytes, seconds: float) -> HttpResponse:
        # list.pop and list.append are atomic, so two threads never hold the same channel.
        try:
            channel = self._idle.pop()
        except IndexError:
            channel = Channel(self._url, guard=self._guard, ca_bundle=self._ca_bundle)
        secret = f"{self._lease.run}:{self._lease.secret.reveal()}"
        headers = (("Authorization", f"Run {secret}"), ("Content-Type", "application/json"))
        try:
            response = channel.request(method, path, headers=headers, body=body, timeout=seconds)
        except BaseException:
            channel.close()
            raise
        self._idle.append(channel)
        return response


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
        raise NotAllowed("the daemon no longer knows this run", hint="start a new one with `authsome run`") from problem
    raise problem


def _problem(data: Mapping[str, object]) -> AuthsomeError:
    code, detail, title, hint = (data.get(name) for name in ("code", "detail", "title", "hint"))
    message = detail if isinstance(detail, str) else title if isinstance(title, str) else "the daemon refused"
    return errors.from_code(
        code if isinstance(code, str) else "",
        clean_line(message, 500),
        clean_line(hint, 500) if isinstance(hint, str) else None,
    )
