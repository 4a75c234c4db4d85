"""Signed calls to the daemon: JSON in, JSON out, its problems raised as the errors they were.

The first call finds the daemon (and starts it), makes this machine's identity when it has none, and lets the home's
owner claim it with the bootstrap secret that only the owner can read.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Self

from authsome import clock
from authsome.client import keys, supervisor
from authsome.client.supervisor import Notice
from authsome.client.wire import Channel, origin_of
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    DaemonUnavailable,
    IdentityUnclaimed,
    NotAllowed,
    UnsafeFile,
    VaultLocked,
    from_code,
)
from authsome.home import Settings, read_private
from authsome.identity import signing
from authsome.message import HttpResponse, json_object
from authsome.secret import Secret

JsonObject = Mapping[str, object]

_RETURN = 20.0  # seconds that a daemon may be away: a restart takes one, behind a proxy a few more
_PAUSE = 0.2
_NEW = "new"


class Daemon:
    """The daemon, as one identity calls it. Not for two threads at once."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        notice: Notice | None = None,
        detail: Notice | None = None,
        passphrase: Callable[[bool], Secret[str] | None] | None = None,
        now: Callable[[], int] = clock.seconds,
    ) -> None:
        """Take whose daemon it is.

        Args:
            settings: whose home it is, and where it listens.
            environ: what a daemon that is started gets of it.
            notice: told of what is waited for.
            detail: told of each step.
            passphrase: asks the user for that of a locked vault; told whether it is a new one; None: nobody can be
                asked.
            now: the clock.
        """
        self.settings = settings
        self._environ = environ or {}
        self._notice = notice
        self._detail = detail
        self._passphrase = passphrase
        self._now = now
        self._channel: Channel | None = None
        self._is_ours = False
        self._identity: keys.ActiveIdentity | None = None
        self._registered = False
        self._meanwhile: Callable[[], None] | None = None
        self.only_looks = False
        """Whether asking is to change nothing: no identity is made, and none made known to the daemon."""

    def while_starting(self, do: Callable[[], None]) -> None:
        """Have something done while the daemon gets ready, should it have to be started."""
        self._meanwhile = do

    @property
    def url(self) -> str:
        """Where the daemon listens; it runs once this is known."""
        return self._connected().url

    @property
    def is_supervised(self) -> bool:
        """Whether it is the daemon of our own home, known by the lock that it holds."""
        self._connected()
        return self._is_ours

    @property
    def identity(self) -> keys.ActiveIdentity:
        """The identity that signs; made when this machine has none.

        Raises:
            IdentityUnclaimed: it has none, and that is to stay so (`only_looks`).
        """
        if self._identity is None:
            self._identity = keys.active(self.settings) or self._create_identity()
            self._tell(f"acting as {self._identity.handle}, whose key is in {self._identity.path or 'the environment'}")
        return self._identity

    def call(
        self,
        method: str,
        target: str,
        body: JsonObject | None = None,
        *,
        timeout: float = 30.0,
        accept: frozenset[int] = frozenset(),
    ) -> dict[str, object]:
        """One signed request and its answer.

        Args:
            method: the method.
            target: path and query.
            body: sent as JSON.
            timeout: seconds for all of it together.
            accept: statuses from 400 on whose answers are wanted, too, and not raised.

        Raises:
            AuthsomeError: what the daemon answered, or why it could not be asked.
        """
        try:
            return self._call(method, target, body, timeout, accept)
        except VaultLocked:
            given = None if self._passphrase is None else self._passphrase(self.lock_state() == _NEW)
            if given is None:
                raise
        self.unlock(given)
        return self._call(method, target, body, timeout, accept)

    def health(self) -> dict[str, object]:
        """What the daemon tells everybody of itself: nothing is signed."""
        return _result(self._connected().request("GET", "/health"))

    def lock_state(self) -> str:
        """What the daemon says of its vault: "ok" when it is open, "locked", or "new" when it has no passphrase yet."""
        return str(self.health().get("status"))

    def unlock(self, passphrase: Secret[str]) -> None:
        """Give a locked vault its passphrase.

        Raises:
            NotAllowed: the daemon may be anybody's: it is not that of our home, and not known by a certificate.
            PassphraseRefused: it is another one.
            UsageError: it is to be a new one, and too short.
        """
        if not (self.is_supervised or origin_of(self.url).secure):
            raise NotAllowed(
                f"{self.url} is not the daemon of this home, so it gets no passphrase", hint="unlock it in its own home"
            )
        body: dict[str, object] = {"passphrase": passphrase.reveal()}
        if (secret := self._bootstrap()) is not None:
            body |= {"bootstrap": secret, "did": self.identity.key.did}
        _result(self._send("POST", "/daemon/unlock", body, 30.0))
        self._registered = False

    def _call(
        self, method: str, target: str, body: JsonObject | None, timeout: float, accept: frozenset[int]
    ) -> dict[str, object]:
        self._connected()
        may_register = not (self._registered or self.only_looks)
        if may_register and self._bootstrap() is not None:  # this home has no owner yet
            may_register = False
            self.register()
        response = self._send(method, target, body, timeout)
        if response.status == AuthenticationFailed.http_status:
            if self.only_looks:
                raise IdentityUnclaimed(f"the daemon has not let in the identity {self.identity.handle}")
            if may_register:
                if not self.register():
                    raise IdentityUnclaimed(f"the identity {self.identity.handle} belongs to no principal yet")
                response = self._send(method, target, body, timeout)
        return _result(response, accept)

    def wait_for(self, target: str, *, timeout: float) -> dict[str, object]:
        """A GET of somebody who waits for what happens elsewhere: a daemon that is gone may come back meanwhile.

        None is started: whoever stopped it may have meant it.

        Args:
            target: path and query.
            timeout: seconds for each attempt.

        Raises:
            AuthsomeError: what the daemon answered, or that it did not come back.
        """
        deadline = time.monotonic() + _RETURN
        while True:
            try:
                return self.call("GET", target, timeout=timeout)
            except DaemonUnavailable as error:
                if type(error) is not DaemonUnavailable or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def register(self) -> bool:
        """Make this identity known to the daemon, and claim it when that is ours to do; whether it is claimed.

        Raises:
            NotAllowed: its handle belongs to another key there, or too many wait to be claimed.
        """
        self._registered = True
        identity = self.identity
        body: dict[str, object] = {"handle": identity.handle, "did": identity.key.did}
        if (secret := self._bootstrap()) is not None:
            body["bootstrap"] = secret
        return _result(self._send("POST", "/identities", body, 30.0)).get("claimed") is True

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, method: str, target: str, body: JsonObject | None, timeout: float) -> HttpResponse:
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        channel = self._connected()
        identity = self.identity
        token = signing.mint(
            identity.key,
            handle=identity.handle,
            audience=channel.url,
            method=method,
            target=target,
            body=data,
            now=self._now(),
        )
        headers = [("Authorization", f"PoP {token}"), ("Accept", "application/json")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        begun = time.monotonic()
        response = channel.request(method, target, headers=tuple(headers), body=data, timeout=timeout)
        milliseconds = (time.monotonic() - begun) * 1000
        self._tell(f"{method} {target.partition('?')[0]}: {response.status} in {milliseconds:.0f} ms")
        return response

    def _tell(self, step: str) -> None:
        if self._detail is not None:
            self._detail(step)

    def _connected(self) -> Channel:
        if self._channel is None:
            self._channel = self._connect()
            whose = f"that of {self.settings.home.root}" if self._is_ours else "not of this home"
            self._tell(f"the daemon is at {self._channel.url}, {whose}")
        return self._channel

    def _connect(self) -> Channel:
        settings = self.settings
        given = settings.daemon_url
        if not supervisor.may_start(settings):
            assert given is not None
            return self._opened(Channel(given, ca_bundle=settings.ca_bundle))
        ours = supervisor.running(settings.home)
        if given is not None and (ours.url if ours else supervisor.last_url(settings.home)) != given:
            # Somebody else's daemon (a forwarded port, a container's), or a place where ours is to be started.
            channel = Channel(given)
            try:
                channel.open()
            except DaemonUnavailable:
                if ours is not None:
                    raise DaemonUnavailable(
                        f"nothing listens at {given}; the daemon of this home is at {ours.url}",
                        hint="unset AUTHSOME_DAEMON_URL, or run `authsome daemon restart`",
                    ) from None
            else:
                return channel
        self._is_ours = True
        return self._supervised()

    def _supervised(self) -> Channel:
        """A connection to the daemon of our home; one that is just ending is waited for and replaced."""
        home = self.settings.home
        state = self._running()
        channel = Channel(state.url, guard=supervisor.guard(home, state.url))
        try:
            channel.open()
        except DaemonUnavailable:
            if not supervisor.wait_for_end(home, state.pid):
                raise
            state = self._running()
            channel = self._opened(Channel(state.url, guard=supervisor.guard(home, state.url)))
        return channel

    def _running(self) -> supervisor.DaemonState:
        return supervisor.ensure_running(
            self.settings, environ=self._environ, notice=self._notice, meanwhile=self._prepare
        )

    def _prepare(self) -> None:
        """Do what can be done while the daemon gets ready: what is asked for, and load what signs."""
        if self._meanwhile is not None:
            self._meanwhile()
        if self._identity is None:
            self._identity = keys.active(self.settings)

    def _opened(self, channel: Channel) -> Channel:
        try:
            channel.open()
        except DaemonUnavailable as error:
            given = self.settings.daemon_url
            if given is None or error.hint != DaemonUnavailable.default_hint:
                raise
            raise DaemonUnavailable(
                error.message,
                hint="it is not on this machine, so it is not started from here; check AUTHSOME_DAEMON_URL",
            ) from error
        return channel

    def _create_identity(self) -> keys.ActiveIdentity:
        if self.only_looks:
            raise IdentityUnclaimed("this machine has no identity yet", hint="run `authsome init`")
        with supervisor.start_lock(self.settings.home, self._notice):
            # Another command may have made one while this one waited for the lock.
            return keys.active(self.settings) or keys.create(self.settings)

    def _bootstrap(self) -> str | None:
        """The secret that proves the home's owner; only ever sent to the daemon that holds this home."""
        if not self._is_ours:
            return None
        try:
            return read_private(self.settings.home.bootstrap).decode("ascii").strip()
        except (OSError, UnsafeFile, UnicodeDecodeError):
            return None


def _result(response: HttpResponse, accept: frozenset[int] = frozenset()) -> dict[str, object]:
    try:
        answer = json_object(response.body) if response.body else {}
    except ValueError:
        raise _not_ours(response) from None
    if response.status < 400 or (response.status in accept and "code" not in answer):
        return answer
    raise _problem(response, answer)


def _problem(response: HttpResponse, answer: JsonObject) -> AuthsomeError:
    """The error of a problem document (RFC 9457 §3)."""
    code, hint = answer.get("code"), answer.get("hint")
    if not isinstance(code, str):
        return _not_ours(response)
    message = answer.get("detail") or answer.get("title") or ""
    return from_code(code, str(message), str(hint) if hint else None)


def _not_ours(response: HttpResponse) -> DaemonUnavailable:
    return DaemonUnavailable(
        f"the answer (status {response.status}) is not one of an authsome daemon",
        hint="another program may have the port; set AUTHSOME_PORT or AUTHSOME_DAEMON_URL",
    )
