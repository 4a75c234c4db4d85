"""The daemon's life: take the home, open the vault, answer, and end without losing a request.

Rule: the order is what makes it safe. The home's lock first, so that nobody else opens the vault; then the port, so
that nothing is unlocked for a daemon that cannot listen; the state file last, so that whoever reads it meets a daemon
that answers. From the port on it is alive and says so; what needs the vault waits at the gate until it is open.

What a run does not need is made ready after that: whoever starts the daemon waits for it.
"""

import gc
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from authsome import __version__, archive, clock
from authsome.daemon import forwarding as forwardings
from authsome.daemon import hardening, log
from authsome.daemon.changes import Changes
from authsome.daemon.gate import Gate
from authsome.daemon.peers import Peers, allowed_by
from authsome.daemon.server import Server
from authsome.errors import AuthsomeError, VaultLocked
from authsome.home import Settings, read_config, write_private
from authsome.vault.lock import HomeLock

if TYPE_CHECKING:
    from authsome.broker.broker import Broker
    from authsome.broker.context import Context, Send
    from authsome.daemon.api import Api
    from authsome.message import HttpRequest, HttpResponse
    from authsome.models.principal import Caller
    from authsome.outbound import Outbound
    from authsome.transport import Trust
    from authsome.vault.database import Database
    from authsome.vault.vaults import Sealers

DRAIN: Final = timedelta(seconds=5)
UPKEEP: Final = timedelta(seconds=60)
_SETTLE: Final = timedelta(seconds=0.5)
"""From being ready to what can wait: the command that started the daemon is likely to ask several things at once."""

_log: Final = logging.getLogger("authsome.daemon")


def serve(settings: Settings, *, environ: Mapping[str, str], supervised: bool, on_ready: Callable[[str], None]) -> None:
    """Run the daemon until SIGTERM, SIGINT or `POST /daemon/stop`.

    Args:
        settings: where the home is, where to listen, and the master key if the environment gave one.
        environ: where HTTPS_PROXY and NO_PROXY name the company's proxy, if there is one.
        supervised: a client started us in the background: the log goes to the home's log file.
        on_ready: told the daemon's URL once it answers.

    Raises:
        AuthsomeError: it could not start; nothing that is stored has changed.
    """
    hardening.no_core_dumps()
    os.umask(0o077)
    with ExitStack() as stack:
        lock = stack.enter_context(HomeLock.acquire(settings.home))
        log.start(settings.log_level, path=settings.home.daemon_log if supervised else None)
        forwarding = forwardings.checked(settings)
        peers = Peers(allowed_by(read_config(settings.home)))
        server = Server(settings.host, settings.port, base_url=settings.base_url, peers=peers, forwarding=forwarding)
        stack.callback(server.stop, DRAIN)
        gate = Gate(archive.build_id(), server.step_aside)
        stack.callback(gate.close)
        listening = _listen(server, gate)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.begin_stop())
        # The kernel may give a signal to any thread, and a handler runs in this one, which waits: a byte tells of it.
        signal.set_wakeup_fd(server.wake_descriptor, warn_on_full_buffer=False)
        stack.callback(signal.set_wakeup_fd, -1)
        announced = _Announced(settings, server, on_ready)
        stack.callback(_remove_state, settings)
        try:
            broker, api = stack.enter_context(
                _opened(
                    settings,
                    server,
                    lock,
                    environ,
                    lambda database: _unlock(settings, server, database, gate, announced),
                )
            )
        except _StoppedLocked:
            return
        if announced.unlocked_by is not None:
            _note_unlock(broker.context, announced.unlocked_by)
        changes = Changes()
        broker.context.database.announce_to(changes.tell)
        changes.open(settings.home)
        stack.callback(api.close)
        stack.callback(changes.close, settings.home)
        stack.callback(broker.close)
        threading.Thread(target=_upkeep, args=(broker, api, server), name="upkeep", daemon=True).start()
        stack.callback(_start_renewal(broker))
        gate.open(api.handle)
        server.answer_together(api)
        announced()
        listening.join()
        _log.info("stopping")
        api.close()
        changes.close(settings.home)  # from now on everybody asks, and is answered or not
        _remove_state(settings)  # before the port is free for others
        if abandoned := server.stop(DRAIN):
            _log.warning("%d requests did not end in time and were cut off", abandoned)


def _listen(server: Server, gate: Gate) -> threading.Thread:
    """Answer from now on, in threads of their own: this one has a vault to open."""
    server.start(gate.handle)
    listening = threading.Thread(target=server.serve_forever, name="listener", daemon=True)
    listening.start()
    return listening


@contextmanager
def _opened(
    settings: Settings,
    server: Server,
    lock: HomeLock,
    environ: Mapping[str, str],
    unlock: "Callable[[Database], Sealers]",
) -> "Iterator[tuple[Broker, Api]]":
    """The vault and everything above it, loaded only now: a daemon that lives can say so meanwhile."""
    from authsome.vault import chain  # noqa: PLC0415
    from authsome.vault.database import Database  # noqa: PLC0415

    with closing(Database.open(lock, clock=clock.now)) as database:
        yield _build(settings, server, database, environ, unlock)
        chain.close(database, now=clock.now())


def _build(
    settings: Settings,
    server: Server,
    database: "Database",
    environ: Mapping[str, str],
    unlock: "Callable[[Database], Sealers]",
) -> "tuple[Broker, Api]":
    """Everything above the vault: loaded while Argon2id works on the master key, which takes as long again."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    from authsome.vault import chain, logins  # noqa: PLC0415

    with ThreadPoolExecutor(1, thread_name_prefix="unlock") as pool:
        unlocking = pool.submit(unlock, database)
        from authsome.broker.broker import Broker  # noqa: PLC0415  # as said above, and all the following
        from authsome.broker.catalog import Catalog, bundled_directory  # noqa: PLC0415
        from authsome.broker.context import Context  # noqa: PLC0415
        from authsome.daemon.api import Api  # noqa: PLC0415
        from authsome.daemon.api.system import Nameplate  # noqa: PLC0415
        from authsome.daemon.authentication import Audiences  # noqa: PLC0415
        from authsome.daemon.notify import Notifier  # noqa: PLC0415
        from authsome.models.notice import Notice  # noqa: PLC0415

        catalog = Catalog(bundled=bundled_directory(), custom=settings.home.providers)
        catalog.names()  # reads those of the user's own
        send = _sender(settings, server, environ)
        sealers = unlocking.result()
    chain.begin(database, settings.home, sealers, now=clock.now())
    context = Context(
        database=database,
        sealers=sealers,
        catalog=catalog,
        clock=clock.now,
        send=send,
        notify=Notifier(settings.home, environ, clock=clock.now, steady=clock.steady),
    )
    url = settings.base_url or server.url
    broker = Broker(context, settings.home, base_url=url)
    database.tell_of_damage(lambda problem: context.notify(Notice.of_log(problem)))
    broker.identities.offer_bootstrap()
    with database.read() as reader:
        has_logins = logins.any_left(reader)
    if has_logins:
        broker.logins.recover()  # before anybody can begin another
    broker.refresher.recover()  # the home's lock is ours, so whoever began a refresh is dead
    broker.spools.take_all()
    broker.rekeying.resume()
    nameplate = Nameplate(
        url=url,
        build=archive.build_id(),
        home=str(settings.home.root),
    )
    audiences = Audiences(frozenset(server.origins.values()), server.public)
    api = Api(
        broker,
        audiences=audiences,
        nameplate=nameplate,
        stop=server.begin_stop,
        step_aside=server.step_aside,
        most_streams=server.most_streams,
    )
    return broker, api


class _StoppedLocked(Exception):
    """The daemon was stopped before anybody gave the passphrase."""


class _Announced:
    """Says once, as soon as something can be answered, where the daemon is."""

    def __init__(self, settings: Settings, server: Server, on_ready: Callable[[str], None]) -> None:
        self._settings, self._server, self._on_ready = settings, server, on_ready
        self._is_done = False
        self.unlocked_by: Caller | None = None
        """Who gave the passphrase."""

    def __call__(self) -> None:
        if not self._is_done:
            self._is_done = True
            _write_state(self._settings, self._server)
            _log.info("listening at %s, home %s", self._server.url, self._settings.home.root)
            self._on_ready(self._server.url)


def _unlock(settings: Settings, server: Server, database: "Database", gate: Gate, announced: _Announced) -> "Sealers":
    """The unlocked store; where its key is a passphrase, once somebody has given it."""
    from authsome.vault import vaults  # noqa: PLC0415

    try:
        return vaults.unlock(database, settings, clock=clock.now)
    except VaultLocked:
        from authsome.daemon.authentication import Audiences  # noqa: PLC0415
        from authsome.daemon.porter import Porter  # noqa: PLC0415  # only where there is a passphrase

        porter = Porter(
            database,
            settings,
            audiences=Audiences(frozenset(server.origins.values()), server.public),
            build=archive.build_id(),
            clock=clock.now,
            step_aside=server.step_aside,
            leave=gate.unlock,
        )
        gate.lock(porter.handle)
        announced()
        _log.info("the vault is locked")
        sealers = porter.wait(server.stopping)
        if sealers is None:
            raise _StoppedLocked from None
        announced.unlocked_by = porter.caller
        _log.info("the vault was unlocked")
        return sealers


def _note_unlock(context: "Context", caller: "Caller") -> None:
    from authsome.broker import record  # noqa: PLC0415
    from authsome.models.audit import Event  # noqa: PLC0415
    from authsome.vault import audit  # noqa: PLC0415

    with context.database.transaction() as tx:
        audit.append(tx, record.by_caller(Event.UNLOCK, caller, context.clock()))


def _sender(settings: Settings, server: Server, environ: Mapping[str, str]) -> "Send":
    """What reaches providers; loaded with the first request to one, as no run waits for that."""
    from authsome.address import AddressPolicy  # noqa: PLC0415

    loaded: list[tuple[Outbound, Trust]] = []

    def way() -> "tuple[Outbound, Trust]":
        from authsome.outbound import outbound_from  # noqa: PLC0415
        from authsome.transport import Trust  # noqa: PLC0415

        if not loaded:
            loaded.append((outbound_from(environ), Trust(settings.ca_bundle)))
        return loaded[0]

    if {"HTTPS_PROXY", "https_proxy"} & environ.keys():
        way()  # a wrong value is told at once

    def send(request: "HttpRequest", allow_private: bool) -> "HttpResponse":  # noqa: FBT001  # the shape of `Send`
        from authsome import transport  # noqa: PLC0415

        policy = AddressPolicy(allow_private=allow_private, own_ports=frozenset({server.server_port}))
        server.step_aside()  # nobody waits for a slow provider
        outbound, trust = way()
        return transport.send(request, policy=policy, trust=trust, outbound=outbound)

    return send


def _write_state(settings: Settings, server: Server) -> None:
    path = archive.archive_path()
    state = {
        "pid": os.getpid(),
        "url": server.url,
        "version": __version__,
        "build": archive.build_id(),
        "archive": str(path) if path else None,
    }
    write_private(settings.home.daemon_state, json.dumps(state).encode() + b"\n")


def _remove_state(settings: Settings) -> None:
    with suppress(OSError):
        settings.home.daemon_state.unlink(missing_ok=True)


def _start_renewal(broker: "Broker") -> Callable[[], None]:
    """Refresh ahead of time from now on; what is returned ends it, once the request it may be at is over."""
    work = threading.Thread(
        target=broker.renewal.run, args=(broker.refresher, broker.freshness), name="renewal", daemon=True
    )
    work.start()

    def end() -> None:
        broker.renewal.stop()
        work.join(DRAIN.total_seconds())

    return end


def _upkeep(broker: "Broker", api: "Api", server: Server) -> None:
    """Make ready what nobody waited for; then keep house once a minute."""
    if server.stopping.wait(_SETTLE.total_seconds()):
        return
    _check_archive(server)
    api.router()
    gc.freeze()  # what is loaded by now lives as long as the daemon: no collection has to look at it again
    gc.set_threshold(10_000)  # counted in objects; at the usual 700 every few requests pay for a look
    gc.enable()  # off in short commands, and until here
    while not server.stopping.wait(UPKEEP.total_seconds()):
        _keep(broker)


def _check_archive(server: Server) -> None:
    """End this daemon if what it runs from was damaged; sizes were compared before anything was loaded."""
    if damage := archive.verify_cache():
        archive.discard_cache()
        _log.error("the unpacked archive is damaged: %s; this daemon ends, the next start unpacks it anew", damage[0])
        server.begin_stop()


def _keep(broker: "Broker") -> None:
    """Take in what proxies have used, and forget what has expired; what one of these meets keeps none of the others."""
    for step in (_take_uses, _forget_expired, _keep_log, _forget_proofs):
        try:
            step(broker, broker.context.clock())
        except AuthsomeError as error:
            _log.warning("upkeep: %s", error.message)
        except Exception:  # noqa: BLE001  # the thread goes on: a minute later it may be another world
            _log.exception("upkeep")


def _take_uses(broker: "Broker", now: datetime) -> None:
    from authsome.vault import runs, spools  # noqa: PLC0415

    broker.spools.take_all()  # before the runs are forgotten that they belong to
    with broker.context.database.transaction(durable=False) as tx:
        runs.purge(tx, before=now)
        spools.purge(tx)


def _forget_expired(broker: "Broker", now: datetime) -> None:
    from authsome.broker.logins import RETENTION  # noqa: PLC0415
    from authsome.vault import claims, invitations, logins  # noqa: PLC0415

    broker.context.sealers.drop_spent()
    with broker.context.database.transaction(durable=False) as tx:
        logins.purge(tx, before=now - RETENTION)
        claims.purge(tx, now)
        invitations.purge(tx, now)
    broker.dashboard_sessions.purge(now)


def _keep_log(broker: "Broker", _now: datetime) -> None:
    broker.usage.count_up()  # before entries are let go of that would count
    broker.audit_log.keep()


def _forget_proofs(broker: "Broker", now: datetime) -> None:
    from authsome.identity import proof  # noqa: PLC0415
    from authsome.vault import replay  # noqa: PLC0415

    before = int(now.timestamp()) - proof.MAX_LIFETIME  # a clock may be set back
    is_done = False
    while not is_done:
        with broker.context.database.transaction(durable=False) as tx:
            is_done = not replay.forget(tx, before)
