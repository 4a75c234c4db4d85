"""`run -- true`: what a run costs a command, in multiples of starting Python at all, and beside upstream's."""

import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ours import Ours
from report import Row, Samples
from startup import milliseconds
from subject import OURS, Subject

from fakes import api
from fakes.authority import Authority

ROUNDS = 8
_BARE = "python -c pass"
_UPSTREAMS_PORT = 7998
_TRUE = ("run", "--", "true")
_HOST = "api.example.localhost"
_KEY = "kk-0123456789abcdefghijklmnop"
_RUNS, _REQUESTS = 20, 100
_NEWEST = "upstream 0.7.2"


def measure(ours: Ours, peers: Sequence[Subject], rounds: int, directory: Path) -> list[Row]:
    """With everything running, with nothing running, and many at once."""
    try:
        return [*_warm(ours, peers, rounds), _cold(ours, peers, rounds), _many(ours, directory)]
    finally:
        ours("daemon", "stop")


def _warm(ours: Ours, peers: Sequence[Subject], rounds: int) -> list[Row]:
    samples = Samples()
    bare = (ours.python, "-c", "pass")
    ours(*_TRUE)
    with ExitStack() as stack:
        for peer in peers:
            stack.enter_context(peer.running())
            milliseconds(_command(peer, *_TRUE), _environment(peer))
        for number in range(rounds * ROUNDS):
            samples.add(_BARE, milliseconds(bare, ours.environment))
            samples.add(OURS, milliseconds(ours.argv(*_TRUE), ours.environment))
            for peer in peers if number % ROUNDS == 0 else ():  # each takes as long as fifty of ours
                samples.add(peer.name, milliseconds(_command(peer, *_TRUE), _environment(peer)))
    ours("daemon", "stop")
    took, base = samples.median(OURS), samples.median(_BARE)
    others = ", ".join(f"{name}: {samples.median(name):,.0f} ms" for name in samples.by_name if name != OURS)
    name = "`run -- true`, everything running"
    figure = f"{took:.1f} ms ({took / base:.2f} x)"
    return [
        Row(name=name, ours=figure, others=f"{_BARE}: {base:.1f} ms", target="≤ 4 x", met=took <= 4 * base),
        _beside(name, took, samples, others.partition(", ")[2], 20),
    ]


def _cold(ours: Ours, peers: Sequence[Subject], rounds: int) -> Row:
    """Upstream starts a daemon by itself on its own port only: left out where somebody has that port."""
    samples = Samples()
    peers = peers if _is_free(_UPSTREAMS_PORT) else ()
    for _ in range(rounds):
        ours("daemon", "stop")  # the worker goes with it
        samples.add(OURS, milliseconds(ours.argv(*_TRUE), ours.environment))
        for peer in peers:
            # On a busy machine upstream gives up on the daemon that it starts: then this round has no figure of it.
            with _stopped(peer), suppress(subprocess.CalledProcessError):
                samples.add(peer.name, milliseconds(_command(peer, *_TRUE), peer.environment))
    ours("daemon", "stop")
    others = samples.others("ms", but=OURS)
    return _beside("`run -- true`, nothing running", samples.median(OURS), samples, others, 8)


def _beside(name: str, took: float, samples: Samples, others: str, part: int) -> Row:
    """A figure beside upstream's newest one."""
    newest = samples.median(_NEWEST) if _NEWEST in samples.by_name else None
    figure = f"{took:.1f} ms" + (f" (1/{newest / took:.0f})" if newest else "")
    met = None if newest is None else took * part <= newest
    return Row(name=name, ours=figure, others=others, target=f"≤ 1/{part} of upstream's", met=met)


def _many(ours: Ours, directory: Path) -> Row:
    """Runs at once, each with many requests, all of which have to get their credential."""
    directory.mkdir()
    authority = Authority.create(directory / "authority")
    more = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    with api.serve(leaf=authority.issue(_HOST)) as server:
        definition = directory / "bench.json"
        definition.write_text(
            '{"schema_version": 1, "name": "bench", "auth_type": "api_key", "allow_private_addresses": true,'
            f' "api_url": "{server.url("/", host=_HOST)}", "api_key": {{}},'
            ' "inject": {"header": "Authorization", "template": "Bearer {api_key}"}}'
        )
        ours("register", str(definition), "--yes", more=more)
        ours("login", "bench", "--stdin", "--no-verify", stdin=_KEY, more=more)
        url = server.url(f"/v1/[1-{_REQUESTS}]", host=_HOST)
        curl = ("run", "--only", "bench", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} ", url)
        with ThreadPoolExecutor(_RUNS) as pool:
            said = list(pool.map(lambda _: ours(*curl, more=more), range(_RUNS)))
        right = sum(request.header("authorization") == f"Bearer {_KEY}" for request in server.requests)
    ours("daemon", "stop")
    answered = sum(len(re.findall(r"\b200\b", each)) for each in said)
    total = _RUNS * _REQUESTS
    return Row(
        name=f"{_RUNS} runs at once, {_REQUESTS} requests each",
        ours=f"{answered:,} answered, {right:,} with the credential",
        target="no error",
        met=answered == right == total,
    )


def _command(peer: Subject, *words: str) -> tuple[str, ...]:
    """A command line of a peer: its own program, whatever the working directory holds."""
    return (str(Path(peer.serve[0]).with_name("authsome")), *words)


def _environment(peer: Subject) -> Mapping[str, str]:
    """A command's environment; one version reads the one name, one the other."""
    return {**peer.environment, "AUTHSOME_BASE_URL": peer.url, "AUTHSOME_DAEMON_URL": peer.url}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def _stopped(peer: Subject) -> Iterator[None]:
    """The peer without a daemon, before and after."""
    stop = _command(peer, "daemon", "stop")
    for yielding in (True, False):
        subprocess.run(stop, env=peer.environment, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        if yielding:
            yield
