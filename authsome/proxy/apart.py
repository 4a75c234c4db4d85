"""The full engine in a process of its own: what it is lent to serve, and the worker that it asks about everything.

The worker starts it (`monitor`), and is its standard input. It ends when the worker does.

Rule: nothing is decided here that the worker has not said. It holds no authority's key, no run's secret or password,
and knows no way to the daemon: of a run it learns what it needs to carry its requests.
"""

import itertools
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from authsome import clock, errors
from authsome.home import Home
from authsome.models.route import RouteTable
from authsome.proxy import exchange, grounds, hardening, inject, log, rules, stubs
from authsome.proxy.inject import Credential
from authsome.proxy.rules import Question, Target
from authsome.proxy.scrub import Needles
from authsome.proxy.socketpair import Message, Messages
from authsome.proxy.tenancy import Tenancy

if TYPE_CHECKING:
    from authsome.proxy.full import Full

logger = logging.getLogger(__name__)

_START: Final = "import sys; sys.path[:] = sys.argv[2:]; from authsome.proxy.apart import main; main()"
_NAME: Final = "authsome-full-engine"
"""For who reads a list of processes."""


def command() -> list[str]:
    """What starts this process, from the files that the caller runs from, whatever became of its archive."""
    options = ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]  # an archive's unpacked files never change
    return [sys.executable, *options, "-c", _START, _NAME, *sys.path]


def main() -> Never:
    """Serve what the worker lends, until the worker ends."""
    hardening.harden()
    messages = Messages(socket.socket(fileno=os.dup(0)))
    hardening.leave_standard_streams()
    try:
        told, _ = messages.receive()
    except (EOFError, OSError):
        os._exit(0)
    log.install(Home(Path(str(told["home"]))))
    try:
        stubs.install()
        from authsome.proxy import full  # noqa: PLC0415  # mitmproxy: after the stubs, and only here

        worker = Worker(messages, frozenset(cast("list[int]", told["own_ports"])))
        engine = full.Full(worker, clock=clock.now)
        logger.info("the full engine has started")
        _listen(messages, worker, engine)
    except Exception:
        logger.exception("the full engine failed")
        os._exit(errors.AuthsomeError.exit_status)
    os._exit(0)  # threads may wait for answers that do not come any more


def _listen(messages: Messages, worker: "Worker", engine: "Full") -> None:
    """Hear the worker to its end."""
    try:
        while True:
            message, descriptor = messages.receive()
            if descriptor is not None:
                connection = socket.socket(fileno=descriptor)
                ground = cast("Mapping[str, object] | None", message.get("ground"))
                tenancy = worker.tenancy(ground) if ground is not None else None
                target = Target(host=str(message["host"]), port=cast("int", message["port"])) if tenancy else None
                engine.serve(cast("int", message["child"]), connection, tenancy, target)
            elif "end" in message:
                engine.end(cast("int", message["end"]))
            else:
                worker.answered(message)
    except (EOFError, OSError):
        return


class Worker:
    """The worker, as far as it is asked; every question blocks until it is answered, and may come from any thread."""

    def __init__(self, messages: Messages, own_ports: frozenset[int]) -> None:
        self.own_ports = own_ports
        """Where Authsome itself listens on this machine: nobody is led there."""
        self.memory = Memory(self)
        self._messages = messages
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[object]] = {}
        self._tenancies: WeakValueDictionary[str, Tenancy] = WeakValueDictionary()
        self._lock = threading.Lock()

    def ask(self, question: str, **named: object) -> object:
        """Ask, and wait for the answer.

        Raises:
            AuthsomeError: the worker's, or the daemon's.
        """
        number, answer = next(self._numbers), Future[object]()
        self._waiting[number] = answer
        self._messages.send({"ask": number, "question": question, **named})
        return answer.result()

    def answered(self, message: Message) -> None:
        """Take an answer."""
        waiting = self._waiting.pop(cast("int", message["answer"]))
        if "error" in message:
            hint = cast("str | None", message["hint"])
            waiting.set_exception(errors.from_code(str(message["error"]), str(message["message"]), hint))
        else:
            waiting.set_result(message["value"])

    def admit(self, child: int, authorization: Sequence[str]) -> Tenancy:
        """Whose a connection is, by what was sent on it.

        Raises:
            AuthsomeError: nobody's, or another's than before.
        """
        told = self.ask("admit", child=child, authorization=list(authorization))
        return self.tenancy(cast("Mapping[str, object]", told))

    def tenancy(self, told: Mapping[str, object]) -> Tenancy:
        """The run that the worker tells of: the same one for as long as a connection of it is here."""
        run = str(told["run"])
        with self._lock:
            tenancy = self._tenancies.get(run)
            if tenancy is None:
                tenancy = self._tenancies[run] = Tenancy(grounds.from_json(told, _Source(self, run)))
            return tenancy

    def leaf(self, host: str) -> tuple[bytes, bytes]:
        """A certificate for a host with its authority's, and the key of the former: each as PEM."""
        found = cast("Mapping[str, str]", self.ask("leaf", host=host))
        return found["chain"].encode(), found["key"].encode()

    def gone(self, child: int) -> None:
        """Tell that a connection has ended."""
        self._messages.send({"gone": child})


class _Source:
    """A run's routes and credentials, from the worker (see `tenancy.Source`)."""

    def __init__(self, worker: Worker, run: str) -> None:
        self._worker = worker
        self._run = run

    keeps = False

    def kept(self, method: str, target: Target, path: str, connection: str | None) -> Credential | None:  # noqa: ARG002
        """Nothing is: the worker, when it is asked, looks itself."""
        return None

    def resolve(self, question: Question, *, is_rejected: bool = False) -> Credential:
        """What goes on a request."""
        answer = self._worker.ask(
            "resolve",
            run=self._run,
            method=question.method,
            host=question.target.host,
            port=question.target.port,
            path=question.path,
            provider=question.provider,
            connection=question.connection,
            is_rejected=is_rejected,
        )
        return inject.credential_from_json(cast("Mapping[str, object]", answer))

    def routes(self) -> RouteTable:
        """The run's routes as of now."""
        return rules.table_from_json(self._worker.ask("routes", run=self._run))


class Memory:
    """What was sent to whom, as the worker remembers it for both engines (see `exchange.Recall`)."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._made: WeakKeyDictionary[Tenancy, dict[str, tuple[list[object], Needles]]] = WeakKeyDictionary()

    def needles(self, tenancy: Tenancy, host: str, _credential: Credential | None) -> Needles:
        """What to look for in an answer of a host; a credential has been remembered when it was asked for."""
        sent = cast("list[object]", self._worker.ask("sent", run=tenancy.lease.run, host=host))
        made = self._made.setdefault(tenancy, {})
        before = made.get(host)
        if before is not None and before[0] == sent:
            return before[1]
        credentials = [inject.credential_from_json(cast("Mapping[str, object]", each)) for each in sent]
        needles = exchange.needles_of(credentials)
        made[host] = sent, needles
        return needles
