"""Device logins under way: a thread for each asks the provider whether the code was entered (RFC 8628 §3.4).

Rule: what a login waits for is in the database alone. A thread looks there before each question and before it believes
an answer, so a login that was cancelled is asked about no more and stores nothing, and a restart goes on where it was.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from authsome.broker.context import Context
from authsome.errors import AuthsomeError, DaemonBusy, EndpointUnreachable
from authsome.models.login import AwaitingDevice
from authsome.oauth import device, token
from authsome.vault import logins

_LOOK: Final = 1.0  # seconds: how often the clock is compared with the login's end, whatever the interval
_PATIENCE: Final = 2.0  # seconds that an end waits for questions under way

_log: Final = logging.getLogger("authsome.broker")

Answer = token.Tokens | device.Pending | device.SlowDown


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a thread may do to its login; the rest of it is the business of `Logins`."""

    ask: Callable[[AwaitingDevice], Answer]
    """Ask the provider whether the code was entered."""
    finish: Callable[[AwaitingDevice, token.Tokens], None]
    """Store the tokens, unless the login no longer waits."""
    fail: Callable[[AwaitingDevice, AuthsomeError], None]
    """End the login, unless it no longer waits."""


class Polls:
    """The threads that ask."""

    def __init__(self, context: Context, changed: threading.Condition, desk: Desk) -> None:
        """Take what the threads work with; `changed` is notified whenever some login has moved on."""
        self._context = context
        self._changed = changed
        self._desk = desk
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self, login: AwaitingDevice) -> None:
        """Ask about this login until it has ended; where the system gives no thread for that, it has.

        Raises:
            StorageFailed: nor could that be written down.
        """
        name = f"device login {login.request.id}"
        thread = threading.Thread(target=self._run, args=(login,), name=name, daemon=True)
        try:
            with self._changed:
                thread.start()
                self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        except RuntimeError:
            self._desk.fail(login, DaemonBusy())

    def stop(self) -> None:
        """Ask no more; the logins stay as they are."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, login: AwaitingDevice) -> None:
        try:
            self._ask_until_answered(login)
        except AuthsomeError as error:
            self._end(login, error)
        except Exception:  # noqa: BLE001  # the thread's last line: nobody else would ever ask about this login
            _log.exception("device login")
            self._end(login, AuthsomeError("the login could not be finished", hint="see `authsome daemon logs`"))

    def _end(self, login: AwaitingDevice, error: AuthsomeError) -> None:
        with suppress(AuthsomeError):  # a vault that cannot be written: the login ends by its time
            self._desk.fail(login, error)

    def _ask_until_answered(self, login: AwaitingDevice) -> None:
        pause, current = login.interval, self._wait(login, login.interval)
        while current is not None:
            answer = self._ask(current)
            match answer:
                case device.Pending():
                    pause = current.interval
                case device.SlowDown():
                    pause = device.slowed(current.interval, answer.interval)
                    self._slow(current, pause)
                case EndpointUnreachable():
                    pause = device.backed_off(pause, answer.retry_after)
                case token.Tokens():
                    self._desk.finish(current, answer)
                    return
            current = self._wait(current, pause)

    def _wait(self, login: AwaitingDevice, pause: timedelta) -> AwaitingDevice | None:
        """The login after the pause, as it is stored then; None when it no longer waits, or nobody does."""
        due = time.monotonic() + pause.total_seconds()
        with self._changed:
            while not self._stopping:
                current = self._stored(login)
                left = due - time.monotonic()
                if current is None or left <= 0:
                    return current
                self._changed.wait(min(left, _LOOK))
        return None

    def _stored(self, login: AwaitingDevice) -> AwaitingDevice | None:
        context, request = self._context, login.request
        if request.expires_at <= context.clock():
            return None  # whoever looks at it next finds that it took too long
        with context.database.read() as reader:
            current = logins.get(reader, context.sealers.for_vault(request.vault_id), request.id)
        return current if isinstance(current, AwaitingDevice) else None

    def _ask(self, login: AwaitingDevice) -> Answer | EndpointUnreachable:
        """What the provider answers; trouble on the way to it is an answer, too: ask again later."""
        try:
            return self._desk.ask(login)
        except EndpointUnreachable as error:
            return error

    def _slow(self, login: AwaitingDevice, interval: timedelta) -> None:
        """Remember the wider interval, also for after a restart (§3.5: for all later questions)."""
        context = self._context
        with self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(login.request.vault_id)
            current = logins.get(tx, sealer, login.request.id)
            if isinstance(current, AwaitingDevice):
                logins.put(tx, sealer, replace(current, interval=interval))
