"""The full engine's process, from when it is first needed, and what it may ask the worker.

The worker lends it connections of children: those that speak HTTP/2 only, after the CONNECT, or all of them. Whose a
connection is, where it may lead and what goes on its requests is asked back, request by request: so there is one truth
about runs, and the library that speaks HTTP/2 holds neither the authority's key, nor a run's secret, nor a line to the
daemon.

Rule: the worker keeps a descriptor of every connection that it lends. When the run ends, or that process does, the
connection ends, whatever becomes of the process.
"""

import logging
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Final, cast

from authsome.clock import Clock
from authsome.errors import AuthsomeError, NotAllowed, RequestInvalid
from authsome.home import Home
from authsome.proxy import grounds, inject, rules
from authsome.proxy.authority import Issuer
from authsome.proxy.engine import Contexts, Engine
from authsome.proxy.exchange import Memory
from authsome.proxy.rules import Question, Target
from authsome.proxy.socketpair import Message, Messages
from authsome.proxy.tenancy import Tenancy, Tenants

logger = logging.getLogger(__name__)

_QUESTIONS: Final = 32  # answered at the same time: as many as the process asks
_END_SECONDS: Final = 5.0
_TELL_SECONDS: Final = 5  # how long its side of the pair may be full until it counts as hung


class Monitor(Engine):
    """Lends connections to the full engine's process, and starts it anew when it has ended."""

    def __init__(  # noqa: PLR0913  # each by name
        self,
        tenants: Tenants,
        issuer: Issuer,
        *,
        clock: Clock,
        memory: Memory,
        home: Home,
        command: Sequence[str],
    ) -> None:
        """Take what it answers from, and the command line that starts the process."""
        super().__init__(tenants)
        self._clock = clock
        self._memory = memory
        self._home = home
        self._command = command
        self._leafs = Contexts[str, dict[str, str]](lambda host: _leaf(issuer, host))
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._threads = ThreadPoolExecutor(_QUESTIONS, thread_name_prefix="monitor")

    def _meet(self, connection: socket.socket) -> None:
        try:
            self.lend(connection)
        except (OSError, AuthsomeError):
            logger.exception("a connection could not be lent")

    def lend(self, connection: socket.socket, *, tenancy: Tenancy | None = None, target: Target | None = None) -> None:
        """Have the process serve a child's connection, which is taken: from its first byte, or behind a CONNECT.

        Args:
            connection: in clear; if there was a CONNECT, TLS has not begun.
            tenancy: whose it is, if that is known.
            target: where its CONNECT leads, which is to be intercepted.

        Raises:
            NotAllowed: the run is over.
            OSError: there is no such process.
        """
        try:
            process = self._running()
            try:
                process.lend(connection, tenancy, target)
            except OSError:  # it has ended just now
                self._forget(process)
                self._running().lend(connection, tenancy, target)
        except BaseException:
            connection.close()
            raise

    def _running(self) -> "_Process":
        with self._lock:
            if self._process is None:
                self._process = _Process(self._command, self)
                self._process.begin({"home": str(self._home.root), "own_ports": sorted(self.tenants.own_ports)})
            return self._process

    def _forget(self, process: "_Process") -> None:
        with self._lock:
            if self._process is process:
                self._process = None

    def serve(self, process: "_Process") -> None:
        """Listen to a process to its end."""
        try:
            while True:
                message, _ = process.messages.receive()
                if "gone" in message:
                    process.gone(cast("int", message["gone"]))
                else:
                    self._threads.submit(self._answer, process, message)
        except (EOFError, OSError):
            pass
        except Exception:  # it says what no message is: nobody would answer it any more
            logger.exception("the full engine is not understood")
            process.kill()
        self._forget(process)
        process.end()

    # ---- what it asks --------------------------------------------------------------------------------------

    def _answer(self, process: "_Process", message: Message) -> None:
        question = str(message["question"])
        answer: Mapping[str, object]
        try:
            answer = {"value": self._answers[question](self, process, message)}
        except AuthsomeError as error:
            answer = error.to_json()
        except Exception:
            logger.exception("a question of the full engine could not be answered: %s", question)
            answer = AuthsomeError("the proxy failed", hint="see `authsome doctor`").to_json()
        process.tell({"answer": message["ask"], **answer})

    def _admit(self, process: "_Process", asked: Message) -> object:
        """Whose a connection is, by what it has shown."""
        tenancy = self.tenants.admit(cast("list[str]", asked["authorization"]), self._clock())
        process.loan(cast("int", asked["child"])).admit(tenancy)
        return grounds.to_json(tenancy.ground)

    def _routes(self, _process: "_Process", asked: Message) -> object:
        return rules.table_to_json(self._tenancy(asked).table())

    def _resolve(self, _process: "_Process", asked: Message) -> object:
        """A credential; what is sent to a host is remembered here, for both engines."""
        tenancy = self._tenancy(asked)
        question = Question(
            method=str(asked["method"]),
            target=Target(host=str(asked["host"]), port=cast("int", asked["port"])),
            path=str(asked["path"]),
            provider=str(asked["provider"]),
            connection=cast("str | None", asked["connection"]),
        )
        is_rejected = bool(asked["is_rejected"])
        source = tenancy.source
        kept = (
            None if is_rejected else source.kept(question.method, question.target, question.path, question.connection)
        )
        credential = kept or source.resolve(question, is_rejected=is_rejected)
        if not is_rejected:
            self._memory.needles(tenancy, question.target.host, credential)
        return inject.credential_to_json(credential)

    def _sent(self, _process: "_Process", asked: Message) -> object:
        """What a host was sent, by either engine."""
        sent = self._memory.sent(self._tenancy(asked), str(asked["host"]))
        return [inject.credential_to_json(credential) for credential in sent]

    def _leaf(self, _process: "_Process", asked: Message) -> object:
        return self._leafs.get(str(asked["host"]))

    def _tenancy(self, asked: Message) -> Tenancy:
        tenancy = self.tenants.find(str(asked["run"]))
        if tenancy is None:
            raise NotAllowed("the run is over", hint="start a new one with `authsome run`")
        return tenancy

    _answers: Final[Mapping[str, Callable[["Monitor", "_Process", Message], object]]] = {
        "admit": _admit,
        "leaf": _leaf,
        "resolve": _resolve,
        "routes": _routes,
        "sent": _sent,
    }


class _Process:
    """One process of the full engine, and the connections that it was lent."""

    def __init__(self, command: Sequence[str], monitor: Monitor) -> None:
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as on_failure:
            on_failure.callback(ours.close)
            # The pair is its standard input: nothing else of ours is open there, and at our end it ends (see `apart`).
            self._program = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)  # noqa: S603  # our own
            on_failure.pop_all()
        # Whoever tells it something, as the end of a run, must not wait for it for ever.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _TELL_SECONDS, 0))
        self.messages = Messages(ours)
        self._monitor = monitor
        self._loans: dict[int, _Loan] = {}
        self._count = 0
        self._has_ended = False
        self._lock = threading.Lock()

    def begin(self, told: Message) -> None:
        """Tell it where it stands, and listen to it."""
        self.tell(told)
        threading.Thread(target=self._monitor.serve, args=(self,), name="full", daemon=True).start()

    def tell(self, message: Message) -> None:
        """Send it a message, if it is still there; one that does not listen any more is ended."""
        try:
            self.messages.send(message)
        except OSError:
            self._program.kill()

    def kill(self) -> None:
        """End it."""
        self._program.kill()

    def lend(self, connection: socket.socket, tenancy: Tenancy | None, target: Target | None) -> None:
        """Hand it a connection.

        Raises:
            OSError: it has ended.
            NotAllowed: the run has.
        """
        with self._lock:
            if self._has_ended:
                raise BrokenPipeError
            self._count += 1
            number = self._count
            loan = self._loans[number] = _Loan(self, number, connection)
        told: dict[str, object] = {"child": number}
        try:
            if tenancy is None:
                self._monitor.tenants.strangers.meet(loan.end_soon)
            else:
                loan.admit(tenancy)
                told["ground"] = grounds.to_json(tenancy.ground)
            if target is not None:
                told["host"], told["port"] = target.host, target.port
            self.messages.send(told, connection.fileno())
        except BaseException as error:
            with self._lock:
                self._loans.pop(number, None)
            loan.forget()
            if isinstance(error, OSError):
                self._program.kill()
            raise

    def loan(self, number: int) -> "_Loan":
        """A connection that it has; RequestInvalid when it has been gone."""
        with self._lock:
            loan = self._loans.get(number)
        if loan is None:
            raise RequestInvalid("the connection has ended")
        return loan

    def gone(self, number: int) -> None:
        """It has done with a connection."""
        with self._lock:
            loan = self._loans.pop(number, None)
        if loan is not None:
            loan.release()

    def end(self) -> None:
        """It has ended, or does not listen any more: so do all connections that it had."""
        with self._lock:
            self._has_ended = True
            loans, self._loans = list(self._loans.values()), {}
        for loan in loans:
            loan.release()
        self.messages.close()
        try:
            status = self._program.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._program.kill()
            status = self._program.wait()
        logger.warning("the full engine has ended with status %d; %d connections with it", status, len(loans))

    @property
    def tenants(self) -> Tenants:
        """Those whose connections it is lent."""
        return self._monitor.tenants


class _Loan:
    """A connection that was lent, and our own descriptor of it."""

    def __init__(self, process: _Process, number: int, connection: socket.socket) -> None:
        self._process = process
        self._number = number
        self._connection = connection
        self._tenancy: Tenancy | None = None
        self._is_gone = False
        self._lock = threading.Lock()

    def admit(self, tenancy: Tenancy) -> None:
        """Note whose it is: it stays with whoever sent its first request.

        Raises:
            NotAllowed: the run has ended.
            RequestInvalid: it is another's, or gone.
        """
        with self._lock:
            if self._is_gone:  # the answer to its first request was not waited for
                raise RequestInvalid("the connection has ended")
            if self._tenancy is None:
                tenancy.attach(self.end_soon)
                self._tenancy = tenancy
                self._process.tenants.strangers.part(self.end_soon)
            elif self._tenancy is not tenancy:
                raise RequestInvalid("this connection belongs to another run")

    def end_soon(self) -> None:
        """Cut it, and have what it leads to cut."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._process.tell({"end": self._number})

    def forget(self) -> None:
        """Let nobody cut it any more, and nobody take it."""
        with self._lock:
            self._is_gone = True
        self._process.tenants.strangers.part(self.end_soon)
        if self._tenancy is not None:
            self._tenancy.detach(self.end_soon)

    def release(self) -> None:
        """Let go of it: it ends, if that has not happened."""
        self.forget()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _leaf(issuer: Issuer, host: str) -> dict[str, str]:
    """A certificate for a host with its authority's, and their key, as PEM."""
    leaf = issuer.issue(host)
    return {"chain": leaf.chain_pem().decode(), "key": leaf.key_pem().decode()}
