"""The process that serves one run's child: started beside it, watching it, gone with it.

Rule: what it needs comes on standard input, never by argument or environment. When the child's process ends it tells
the daemon, stops listening and exits; when it is killed itself, the child is left without a network.
"""

import asyncio
import contextlib
import json
import logging
import os
import resource
import select
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from authsome import clock
from authsome.address import AddressPolicy
from authsome.client import supervisor
from authsome.client.wire import origin_of
from authsome.errors import AuthsomeError, UsageError
from authsome.home import read_private
from authsome.proxy import log, stubs, trust
from authsome.proxy.assignment import Assignment, assignment_from_json
from authsome.proxy.broker import Broker, Line
from authsome.proxy.tenancy import Ground, Tenancy, Tenants
from authsome.transport import outbound_from

logger = logging.getLogger(__name__)

TUNNEL_POLICY: Final = AddressPolicy(allow_intranet=True)
"""What a tunnel may reach: what the child could reach by itself, but not this machine through us."""
_POLL_SECONDS: Final = 0.5
_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_FIRST_SPARE_DESCRIPTOR: Final = 3


def main(*, tunnel_policy: AddressPolicy = TUNNEL_POLICY) -> int:
    """Serve until the run ends, which ends this process; returns the exit status when it cannot serve."""
    _harden()
    try:
        assignment = assignment_from_json(sys.stdin.buffer.readline())
    except UsageError as error:
        sys.stderr.write(f"authsome: error: {error.message}\n")
        return UsageError.exit_status
    handler = log.install(assignment.home)
    try:
        asyncio.run(_serve(assignment, tunnel_policy))
    except AuthsomeError as error:
        logger.error("%s", error.message)  # noqa: TRY400  # said in full
        _report({"error": error.code, "message": error.message, "hint": error.hint})
        return error.exit_status
    except Exception:
        logger.exception("the worker failed")
        return AuthsomeError.exit_status
    finally:
        handler.close()
    return 0


def _harden() -> None:
    """Leave no core dump, hold nobody's descriptors, and let only signals meant for us end us (SEC-129)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415  # only here

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # A pipe of the caller's that we held open would never end for whoever reads it.
    os.closerange(_FIRST_SPARE_DESCRIPTOR, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    _raise_descriptor_limit()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(assignment: Assignment, tunnel_policy: AddressPolicy) -> None:
    stubs.install()
    from authsome.proxy import authority, full  # noqa: PLC0415  # mitmproxy, after the stubs

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    watch = _watch(assignment.pid, ended)
    guard = supervisor.guard(assignment.home, assignment.daemon_url) if assignment.is_supervised else None
    line = Line(assignment.daemon_url, guard=guard, ca_bundle=assignment.extra_roots)
    broker = Broker(line, assignment.lease)
    tenants = Tenants(own_ports=_daemon_ports(assignment.daemon_url))
    tenants.add(
        Tenancy(
            Ground(
                lease=assignment.lease,
                table=assignment.table,
                source=broker,
                trust=assignment.upstream_roots,
                outbound=outbound_from({"https_proxy": assignment.https_proxy, "no_proxy": assignment.no_proxy}),
                tunnel_policy=tunnel_policy,
            )
        )
    )
    issuer = authority.Issuer(authority.load(read_private(trust.authority_path(assignment.home))))
    engine = full.Engine(tenants, issuer, clock=clock.now)
    port = engine.listen()
    # Written after the watch began: if the caller died meanwhile, nobody reads, and this fails.
    _report({"port": port})
    _leave_standard_streams()
    logger.info("run %s: listening on port %d", assignment.lease.run, port)
    await watch
    logger.info("run %s: ended", assignment.lease.run)
    tenants.end(assignment.lease.run)
    engine.close()
    try:
        broker.end()
    except AuthsomeError as error:
        logger.warning("run %s: the daemon could not be told of its end: %s", assignment.lease.run, error.message)
    line.close()
    # Threads may still wait for a slow daemon or name server; the secrets in this memory do not wait for them.
    os._exit(0)


def _report(said: dict[str, object]) -> None:
    """The one line that whoever started us waits for."""
    os.write(1, json.dumps(said).encode() + b"\n")


def _watch(pid: int, ended: asyncio.Event) -> Awaitable[object]:
    """Wait for a process's end, or for `ended`; the watch has begun when this returns."""
    loop = asyncio.get_running_loop()
    try:
        if sys.platform == "linux":
            loop.add_reader(os.pidfd_open(pid), ended.set)
        elif sys.platform == "darwin":
            queue = select.kqueue()
            exits = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue.control([exits], 0)
            loop.add_reader(queue.fileno(), _keep(queue, ended.set))
        else:
            return _poll(pid, ended)
    except ProcessLookupError:
        ended.set()
    except OSError:  # a kernel or sandbox without pidfd
        return _poll(pid, ended)
    return ended.wait()


def _keep(owner: object, callback: Callable[[], None]) -> Callable[[], None]:
    """A callback that keeps its descriptor's owner alive."""

    def call() -> None:
        assert owner is not None
        callback()

    return call


async def _poll(pid: int, ended: asyncio.Event) -> None:
    while not ended.is_set():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass  # it is there, as another user
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await ended.wait()


def _daemon_ports(url: str) -> frozenset[int]:
    origin = origin_of(url)
    return frozenset({origin.port}) if origin.is_loopback else frozenset()


def _leave_standard_streams() -> None:
    """Let go of the caller's pipes."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    os.close(null)
