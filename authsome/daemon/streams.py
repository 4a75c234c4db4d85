"""Streams of events to browsers (server-sent events, WHATWG HTML §9.2), all of them by one thread.

Rules:
1. A stream has no thread: its connection is handed over by the server once the head is sent, and from then on only
   written to when the kernel takes it at once.
2. Streams are bounded, in all, for each principal and for each of its browsers, so that nobody has those of others; so
   is what one holds: a message, and which topics it is owed. Who takes nothing for a while is let go of.
3. Nobody looks on for longer than they may: each look says of every stream whether it still may be, and a look that
   fails ends all.
4. Without a stream there is no thread's work, and nothing wakes up.
"""

import logging
import secrets
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from authsome import clock
from authsome.broker.news import Told, Topics, Watcher
from authsome.clock import Steady
from authsome.daemon.messages import Request, Response
from authsome.errors import AuthsomeError, DaemonBusy, RequestInvalid

CONTENT_TYPE: Final = "text/event-stream"

_BUFFER: Final = 16 * 1024  # bytes of the kernel's for each stream; what it takes more is not asked for
_HEARD: Final = 1024  # bytes that are read of who should say nothing
_END: Final = timedelta(seconds=5)  # for the thread to end
_log: Final = logging.getLogger("authsome.daemon")

Look = Callable[[Sequence[Watcher]], Sequence[Told | None]]
"""What there is to tell each; None ends its stream. May raise AuthsomeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many, how long, how often."""

    group: int = 4
    """Of one session: browsers have six connections to a server, and pages are to come over the others."""
    share: float = 0.5
    """Of all that there may be, for one principal, however many browsers it is signed in with."""
    gap: timedelta = timedelta(milliseconds=250)
    """Between two looks, however much happens."""
    tick: timedelta = timedelta(seconds=2)
    """Until the next look when nobody tells that anything happened: another daemon may have written, a session ends by
    its time, and proxies write their uses down without a word."""
    beat: timedelta = timedelta(seconds=15)
    """Until something is sent when there is nothing to say: what stands in between ends a connection that is silent."""
    patience: timedelta = timedelta(seconds=20)
    """Until one who takes nothing is let go of."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One of them, as the thread sees it."""

    connection: socket.socket
    release: Callable[[], None]
    watcher: Watcher
    pending: bytes
    since: float
    """When it last took something, or was begun."""
    owed: set[str] = field(default_factory=set)
    """What is to be told once `pending` is taken."""


class Streams:
    """All streams, and the thread that writes them."""

    def __init__(self, look: Look, *, most: int, bounds: Bounds | None = None, steady: Steady = clock.steady) -> None:
        """Take what says what there is to tell, and how many there may be."""
        self._look_for = look
        self.most = most
        self.bounds = bounds or Bounds()
        self._steady = steady
        self._guard = threading.Lock()
        self._new: list[_Stream] = []
        self._number = 0
        self._held: Counter[str] = Counter()  # by session or login, and by principal
        self._streams: set[_Stream] = set()
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.settimeout(0)
        self._wake_writer.settimeout(0)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._closing = False
        self._is_told = False

    @property
    def number(self) -> int:
        """How many there are."""
        return self._number

    def tell(self) -> None:
        """Note that something has happened; for whoever holds the writer's turn, so it costs next to nothing."""
        if self._number and not self._is_told:
            self._is_told = True
            self._wake()

    def answer(self, request: Request, watcher: Watcher, topics: Topics = frozenset()) -> Response:
        """The answer that becomes a stream.

        Args:
            request: what asks for it.
            watcher: who is to be told.
            topics: what it has missed.

        Raises:
            RequestInvalid: it does not ask for one: nothing but a script of ours does.
            DaemonBusy: there are too many.
        """
        accepted = [each.partition(";")[0].strip() for each in ",".join(request.headers.get("accept", ())).split(",")]
        if CONTENT_TYPE not in accepted or request.headers.get("sec-fetch-site") not in {None, ("same-origin",)}:
            raise RequestInvalid("this address is for the dashboard's script")
        with self._guard:
            self._check_room(watcher)
        # Everybody who is cut off by a restart would otherwise be back in the same moment.
        first = f"retry: {1000 + secrets.randbelow(1000)}\n\n".encode() + _message(topics, watcher.heard)

        def take(connection: socket.socket, release: Callable[[], None]) -> None:
            self._take(_Stream(connection, release, watcher, first, self._steady()))

        return Response(
            status=200,
            content_type=CONTENT_TYPE,
            headers=(("X-Accel-Buffering", "no"),),  # a proxy before us is not to hold events back
            taken_by=None if request.method == "HEAD" else take,
        )

    def close(self) -> None:
        """End every stream, and take no more; once is enough."""
        with self._guard:
            self._closing = True
            thread = self._thread
        self._wake()
        if thread is None:
            self._release()
        else:
            thread.join(_END.total_seconds())

    def _release(self) -> None:
        """Give back what the streams are watched with: by whoever used it last."""
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _check_room(self, watcher: Watcher) -> None:
        """Call with the guard held."""
        of_one = max(1, int(self.most * self.bounds.share))
        is_full = self._held[watcher.group] >= self.bounds.group or self._held[watcher.owner] >= of_one
        if self._closing or self._number >= self.most or is_full:
            raise DaemonBusy("too many pages are being kept up to date", hint="close some of them")

    def _take(self, stream: _Stream) -> None:
        """Take over a connection; from here on it is the thread's."""
        try:
            with self._guard:
                self._check_room(stream.watcher)
                if self._thread is None:
                    thread = threading.Thread(target=self._serve, name="streams", daemon=True)
                    thread.start()
                    self._thread = thread
                self._number += 1
                self._held.update((stream.watcher.group, stream.watcher.owner))
                self._new.append(stream)
            self._is_told = True  # what happened until now was told nobody
        except (DaemonBusy, RuntimeError):  # others were quicker; no thread to be had
            stream.release()
            return
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake
            self._wake_writer.send(b"\0")

    # ---- the thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._run()
        finally:
            self._release()

    def _run(self) -> None:
        looked_at = 0.0
        while True:
            for key, events in self._selector.select(self._wait(looked_at)):
                if key.fileobj is self._wake_reader:
                    with suppress(OSError):
                        while self._wake_reader.recv(_HEARD):
                            pass
                elif events & selectors.EVENT_READ:
                    self._hear(key.data)
                else:
                    self._write(key.data)
            self._begin_new()
            if self._closing:
                break
            now = self._steady()
            if self._streams and now - looked_at >= self._pause():
                looked_at = now
                self._is_told = False
                self._look()
            self._keep(now)
        self._begin_new()  # what was taken over just before
        for stream in tuple(self._streams):
            self._end(stream)

    def _wait(self, looked_at: float) -> float | None:
        """For how long there is nothing to do unless somebody says so."""
        return max(0.0, looked_at + self._pause() - self._steady()) if self._streams else None

    def _pause(self) -> float:
        """Seconds between this look and the last."""
        return (self.bounds.gap if self._is_told else self.bounds.tick).total_seconds()

    def _begin_new(self) -> None:
        with self._guard:
            new, self._new = self._new, []
        for stream in new:
            self._streams.add(stream)
            try:
                stream.connection.settimeout(0)
                stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                self._selector.register(stream.connection, selectors.EVENT_READ, stream)
            except (OSError, ValueError):  # gone already
                self._end(stream)
                continue
            self._write(stream)

    def _look(self) -> None:
        streams = tuple(self._streams)
        try:
            found = self._look_for([each.watcher for each in streams])
        except Exception as error:  # noqa: BLE001  # nobody would be left to tell anybody anything
            if isinstance(error, AuthsomeError):
                _log.warning("events: %s", error.message)
            else:
                _log.exception("unexpected error")
            for stream in streams:
                self._end(stream)
            return
        for stream, told in zip(streams, found, strict=True):
            if told is None:
                with suppress(OSError):
                    stream.connection.send(stream.pending + b"event: ended\ndata:\n\n")
                self._end(stream)
                continue
            stream.watcher = told.watcher
            if told.topics:
                stream.owed |= told.topics
                self._write(stream)

    def _keep(self, now: float) -> None:
        """Say something where it has been silent, and let go of who takes nothing."""
        for stream in tuple(self._streams):
            silent = now - stream.since
            if stream.pending and silent >= self.bounds.patience.total_seconds():
                self._end(stream)
            elif not stream.pending and silent >= self.bounds.beat.total_seconds():
                stream.pending, stream.since = b":\n\n", now
                self._write(stream)

    def _write(self, stream: _Stream) -> None:
        """Send what the kernel takes at once."""
        if stream not in self._streams:
            return
        try:
            while stream.pending or stream.owed:
                if not stream.pending:
                    stream.pending = _message(stream.owed, stream.watcher.heard)
                    stream.owed = set()
                    stream.since = self._steady()
                sent = stream.connection.send(stream.pending)
                stream.pending = stream.pending[sent:]
                stream.since = self._steady()
        except BlockingIOError:
            pass
        except OSError:
            self._end(stream)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if stream.pending else 0)
        self._selector.modify(stream.connection, wanted, stream)

    def _hear(self, stream: _Stream) -> None:
        """Nothing is to be heard on a stream but its end."""
        if stream not in self._streams:
            return
        with suppress(BlockingIOError):
            with suppress(ConnectionError):
                stream.connection.recv(_HEARD)
            self._end(stream)

    def _end(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        with suppress(KeyError, ValueError):  # never begun
            self._selector.unregister(stream.connection)
        with self._guard:
            self._number -= 1
            self._held.subtract((stream.watcher.group, stream.watcher.owner))
            self._held += Counter()  # forgets who has none
        stream.release()


def _message(topics: Collection[str], heard: int) -> bytes:
    """One event; its id is where whoever comes back goes on."""
    if not topics:
        return b""
    return f"event: changed\nid: {heard}\ndata: {' '.join(sorted(topics))}\n\n".encode()
