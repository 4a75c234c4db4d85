"""The proxy of `run`: how late the first event of a stream comes, and what a large download does to its memory."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from ours import bare_python
from report import Row, Samples
from subject import rss

from fakes import api
from fakes.authority import Authority
from fakes.program import Program, installed

HOST = "api.example.localhost"
_KEY = "kk-0123456789abcdefghijklmnop"
_MEBIBYTES = 200
_MOST_LATE, _MOST_LATER = 1.0, 0.3  # milliseconds: of the first event, of each further one
_MOST_GROWTH = 20.0  # MiB
_STREAMS = 10  # a round
_INTERVAL = 0.05  # seconds between events
_CLIENT = Path(__file__).with_name("stream_client.py")
_DIRECT, _FIRST, _OPEN = "direct", "a run's first connection", "open connection"


class _Figures(TypedDict):
    """What `stream_client.py events` prints, in milliseconds."""

    new: float
    opened: list[float]
    lasted: list[float]
    late: list[float]


def measure(archive: Path, directory: Path, rounds: int) -> list[Row]:
    """Streams in turn with direct ones; one download."""
    directory.mkdir()
    authority = Authority.create(directory / "authority")
    variables = {"AUTHSOME_CA_BUNDLE": str(authority.certificate)}
    with (
        api.serve(leaf=authority.issue(HOST)) as server,
        installed(directory / "user", command=(bare_python(), str(archive)), variables=variables) as program,
    ):
        connect(program, server.url("/", host=HOST))
        return [*_streams(program, server, authority, rounds), _download(program, server)]


def connect(program: Program, url: str) -> None:
    """A provider whose API is at this URL, and a key for it."""
    definition = {
        "schema_version": 1,
        "name": "bench",
        "auth_type": "api_key",
        "api_url": url,
        "allow_private_addresses": True,
        "api_key": {},
        "inject": {"header": "Authorization", "template": "Bearer {api_key}"},
    }
    program("daemon", "start")
    directory = program.home / "providers"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "bench.json"
    path.write_text(json.dumps(definition))
    path.chmod(0o600)
    done = program("login", "bench", "--stdin", input=_KEY)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _streams(program: Program, server: api.ApiServer, authority: Authority, rounds: int) -> list[Row]:
    url = server.url(f"/sse?events=4&interval={_INTERVAL}", host=HOST)
    command = (sys.executable, str(_CLIENT), "events", url, str(_STREAMS))
    direct = {"SSL_CERT_FILE": str(authority.certificate), "HTTPS_PROXY": None}
    fresh, opened, lasted, later = Samples(), Samples(), Samples(), Samples()
    for _ in range(rounds):
        for name, words, more in ((_DIRECT, command, direct), ("ours", program.argv("run", "--", *command), None)):
            figures = _client(words, program.environment(more))
            fresh.add(name, figures["new"])
            opened.add(name, statistics.median(figures["opened"]))
            lasted.add(name, statistics.median(figures["lasted"]))
            later.add(name, statistics.median(figures["late"]))
    if not all(request.header("authorization") for request in server.requests[-_STREAMS:]):
        raise RuntimeError("the proxy did not put the key on the requests")
    rows = []
    for name, samples in ((_OPEN, opened), (_FIRST, fresh)):
        late = samples.median("ours") - samples.median(_DIRECT)
        rows.append(
            Row(
                name=f"first event of a stream, {name}",
                ours=f"{samples.median('ours'):.1f} ms ({late:+.1f} ms)",
                others=f"direct: {samples.median(_DIRECT):.1f} ms; whole stream: {lasted.median(_DIRECT):.0f} ms",
                target=f"≤ +{_MOST_LATE:.0f} ms" if name == _OPEN else "",
                met=late <= _MOST_LATE if name == _OPEN else None,
            )
        )
    more = later.median("ours") - later.median(_DIRECT)
    rows.append(
        Row(
            name="each further event",
            ours=f"{later.median('ours'):.2f} ms after it was sent ({more:+.2f} ms)",
            others=f"direct: {later.median(_DIRECT):.2f} ms",
            target=f"≤ +{_MOST_LATER} ms",
            met=more <= _MOST_LATER,
        )
    )
    return rows


def _client(command: tuple[str, ...] | list[str], environment: Mapping[str, str]) -> _Figures:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    figures: _Figures = json.loads(done.stdout)
    return figures


def _download(program: Program, server: api.ApiServer) -> Row:
    url = server.url(f"/download?bytes={_MEBIBYTES << 20}", host=HOST)
    with _waiting(program, url) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        (worker,) = [pid for pid, command in program.processes().items() if "proxy-worker" in command]
        before = rss(worker)
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak from now on
        child.stdin.write("go\n")
        child.stdin.flush()
        seconds = json.loads(child.stdout.readline())["seconds"]
        growth = rss(worker, peak=True) - before
    return Row(
        name=f"proxy: {_MEBIBYTES} MiB download, peak memory",
        ours=f"{growth:+.1f} MiB on {before:.0f} MiB, {_MEBIBYTES / seconds:,.0f} MiB/s",
        target=f"< +{_MOST_GROWTH:.0f} MiB",
        met=growth < _MOST_GROWTH,
    )


@contextmanager
def _waiting(program: Program, url: str) -> Iterator["subprocess.Popen[str]"]:
    """A client behind the proxy that waits for the word to download."""
    with program.start("run", "--", sys.executable, str(_CLIENT), "download", url) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            assert child.stderr is not None
            raise RuntimeError(child.stderr.read())
        yield child
        assert child.stdin is not None
        child.stdin.close()
