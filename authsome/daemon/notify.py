"""Telling the user what happened behind their back, by a command of theirs (`notify` in config.json).

Rules:
1. The command is a program and its arguments, no shell. What happened is on its standard input, as JSON, and in a few
   variables; never a secret, and none of ours is in its environment.
2. Nobody waits for it, it has half a minute, and few run at a time. Its failure is a line in the log.
3. The same is not told again for a while.
"""

import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final

from authsome.clock import Clock, Steady
from authsome.errors import AuthsomeError, reason_of
from authsome.home import SECRET_VARIABLES, Home, read_config
from authsome.models.notice import Notice, commands

QUIET: Final = timedelta(minutes=5)
PATIENCE: Final = timedelta(seconds=30)
MOST: Final = 4
_MEMORY: Final = 1000  # notices whose time is remembered

_log: Final = logging.getLogger("authsome.notify")


class Notifier:
    """Runs the user's commands."""

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        *,
        clock: Clock,
        steady: Steady,
        patience: timedelta = PATIENCE,
    ) -> None:
        """Take where the settings are, what the commands inherit, and how long they may take."""
        self._home = home
        self._environ = {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}
        self._clock = clock
        self._steady = steady
        self._patience = patience
        self._guard = threading.Lock()
        self._told: dict[tuple[str, str | None, str | None], float] = {}
        self._running = 0

    def __call__(self, notice: Notice) -> None:
        """Have the user told, unless they were told a moment ago; returns at once and raises nothing."""
        if not self._admit(notice):
            return
        try:
            threading.Thread(target=self._tell, args=(notice,), name="notify", daemon=True).start()
        except RuntimeError:  # no thread to be had
            self._end()

    def _admit(self, notice: Notice) -> bool:
        key = (notice.occasion.value, notice.provider, notice.connection)
        now = self._steady()
        with self._guard:
            last = self._told.get(key)
            if last is not None and now - last < QUIET.total_seconds():
                return False
            if self._running >= MOST:
                _log.warning("%s is not told: other commands are still at it", _of(notice))
                return False
            if len(self._told) >= _MEMORY:
                self._told.clear()
            self._told[key] = now
            self._running += 1
            return True

    def _end(self) -> None:
        with self._guard:
            self._running -= 1

    def _tell(self, notice: Notice) -> None:
        try:
            command = commands(read_config(self._home)).get(notice.occasion)
            if command is not None:
                self._run(command, notice)
        except AuthsomeError as error:
            _log.warning("%s is not told: %s", _of(notice), error.message)
        except OSError as error:
            _log.warning("%s is not told: %s", _of(notice), reason_of(error))
        finally:
            self._end()

    def _run(self, command: tuple[str, ...], notice: Notice) -> None:
        process = subprocess.Popen(  # noqa: S603  # the user's own words, and no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**self._environ, **_variables(notice)},
            cwd="/",
            start_new_session=True,
        )
        try:
            process.communicate(self._details(notice), timeout=self._patience.total_seconds())
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _log.warning("the command for %s took too long and was ended", notice.occasion)
        else:
            if process.returncode:
                _log.warning("the command for %s ended with status %d", notice.occasion, process.returncode)

    def _details(self, notice: Notice) -> bytes:
        details = {
            "event": notice.occasion,
            "at": self._clock().isoformat(timespec="seconds").replace("+00:00", "Z"),
            "provider": notice.provider,
            "connection": notice.connection,
            "message": notice.message,
            "hint": notice.hint,
        }
        return json.dumps(details).encode() + b"\n"


def _of(notice: Notice) -> str:
    return notice.occasion if notice.provider is None else f"{notice.occasion} of {notice.provider}"


def _variables(notice: Notice) -> dict[str, str]:
    told = {
        "AUTHSOME_EVENT": notice.occasion.value,
        "AUTHSOME_PROVIDER": notice.provider,
        "AUTHSOME_CONNECTION": notice.connection,
    }
    return {name: value for name, value in told.items() if value is not None}
