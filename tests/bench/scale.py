"""What much of it costs: a long log, many connections, a slow disk."""

import http.client
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import homes
import ours
from homes import LONG
from report import Row, Samples
from resolve import send
from subject import OURS, Subject

from authsome.identity import signing
from authsome.identity.key import IdentityKey, from_seed
from authsome.models.audit import Entry, Event
from authsome.secret import Secret
from authsome.vault import audit
from authsome.vault.database import Database

SHORT = 1_000
FEW, MANY = 10, 10_000
_RARE = 60  # entries of each rare kind, the oldest of all
_ASKED = 30  # requests for a page, of each kind and round
_RESOLVES = 2000
_SLOW = 2000

_FILTERS: Mapping[str, Mapping[str, str]] = {
    "newest": {},
    "event": {"event": "login_failed"},
    "provider": {"provider": "rare"},
    "identity": {"identity": "rare"},
    "since": {"since": "recent"},
}


def measure(archive: Path, directory: Path, rounds: int) -> list[Row]:
    """Each against itself with little of it, in turn."""
    directory.mkdir()
    return [
        *_pages(archive, directory, rounds),
        *_many_connections(archive, directory, rounds),
        *_slow_disk(archive, directory, rounds),
    ]


# ---- the log ---------------------------------------------------------------------------------------------------------


def _pages(archive: Path, directory: Path, rounds: int) -> list[Row]:
    took: dict[str, Samples] = {name: Samples() for name in (*_FILTERS, "vault")}
    with ExitStack() as stack:
        subjects = {}
        for count in (SHORT, LONG):
            installation = ours.install(archive, directory / f"log-{count}")
            with homes.opened(homes.home_of(installation)) as (database, _):
                homes.log(database, _entries(count))
            subjects[str(count)] = installation.subject()
        for subject in subjects.values():
            stack.enter_context(subject.running())
        for _ in range(rounds):
            for name, query in _FILTERS.items():
                for count, subject in subjects.items():
                    took[name].add(count, _asked(subject, query))
    for _ in range(rounds):
        for count in (SHORT, LONG):
            with homes.opened(directory / f"log-{count}" / ".authsome") as (database, _):
                took["vault"].add(str(count), _timed(lambda database=database: _vault_page(database)))
    return [_page_row(name, samples) for name, samples in took.items()]


def _page_row(name: str, samples: Samples) -> Row:
    short, long = samples.median(str(SHORT)), samples.median(str(LONG))
    kind = "the newest" if name == "newest" else f"by a rare {name}" if name != "since" else "since a moment ago"
    return Row(
        name=f"a page of the log, {kind}: {LONG:,} entries",
        ours=f"{long:.2f} ms ({long / short:.2f} x)",
        others=f"of {SHORT:,}: {short:.2f} ms",
        target=f"≤ 2 x that of {SHORT:,}",
        met=long <= 2 * short,
    )


def _entries(count: int) -> Iterator[Entry]:
    """So many entries, nearly all of them requests of one identity to one provider."""
    start = datetime.now(UTC) - timedelta(seconds=count)
    usual = Entry(
        event=Event.RESOLVE, at=start, vault_id="vault_usual", principal="principal_usual", identity="usual",
        proof="AAAAAAAAAAAAAAAAAAAAAA", provider="openai", connection="default", method="POST",
        host="api.openai.com", path="/v1/chat/completions", run="0123456789abcdef",
    )  # fmt: skip
    rare = (
        replace(usual, event=Event.LOGIN_FAILED),
        replace(usual, provider="rare"),
        replace(usual, identity="rare"),
        replace(usual, vault_id="vault_rare"),
    )
    for number in range(count):
        yield replace(rare[number % 4] if number < 4 * _RARE else usual, at=start + timedelta(seconds=number))


def _asked(subject: Subject, query: Mapping[str, str]) -> float:
    """Milliseconds to a page of fifty, on a kept connection."""
    key = from_seed(Secret(bytes.fromhex(subject.identity.seed)))
    if "since" in query:
        query = {"since": (datetime.now(UTC) - timedelta(seconds=300)).isoformat()}
    target = f"/audit/events?{urlencode({'limit': 50, **query})}"
    connection = http.client.HTTPConnection("127.0.0.1", subject.port)
    took = [_exchange(connection, subject, key, target) for _ in range(_ASKED)]
    connection.close()
    return statistics.median(took) * 1000


def _exchange(connection: http.client.HTTPConnection, subject: Subject, key: IdentityKey, target: str) -> float:
    token = signing.mint(
        key, handle=subject.identity.handle, audience=subject.url, method="GET", target=target, body=b"",
        now=int(time.time()),
    )  # fmt: skip
    since = time.perf_counter()
    connection.request("GET", target, headers={"Authorization": f"PoP {token}"})
    response = connection.getresponse()
    body = response.read()
    took = time.perf_counter() - since
    if response.status != 200 or not json.loads(body)["events"]:
        raise RuntimeError(f"{target} answers {response.status}")
    return took


def _vault_page(database: Database) -> None:
    with database.read() as reader:
        if len(audit.page(reader, "vault_rare", limit=50)) != 50:
            raise RuntimeError("entries are missing")


def _timed(work: Callable[[], None]) -> float:
    """Milliseconds, the median of some."""
    took = []
    for _ in range(_ASKED):
        since = time.perf_counter()
        work()
        took.append(time.perf_counter() - since)
    return statistics.median(took) * 1000


# ---- many connections ------------------------------------------------------------------------------------------------


def _many_connections(archive: Path, directory: Path, rounds: int) -> list[Row]:
    rows = []
    for name, provider_of in (
        ("of one provider", lambda _: "openai"),
        ("of many providers", lambda number: f"provider-{number % 500}"),
    ):
        used, rate = Samples(), Samples()
        with ExitStack() as stack:
            running = []
            for count in (FEW, MANY):
                installation = ours.install(archive, directory / f"{name.replace(' ', '-')}-{count}")
                with homes.opened(homes.home_of(installation)) as (database, _):
                    _connect(database, count, provider_of)
                subject = installation.subject()
                running.append((str(count), subject, stack.enter_context(subject.running()).pid))
            for _, subject, pid in running:
                send(subject, pid, connections=8, requests=400)
            for _ in range(rounds):
                for count, subject, pid in running:
                    (block,) = send(subject, pid, connections=8, requests=_RESOLVES)
                    used.add(count, block.cpu)
                    rate.add(count, block.rate)
        times = rate.median(str(FEW)) / rate.median(str(MANY))
        rows.append(
            Row(
                name=f"resolve, {MANY:,} connections {name}",
                ours=f"{rate.median(str(MANY)):,.0f}/s ({used.median(str(MANY)):.0f} µs CPU; {times:.2f} x the time)",
                others=f"of {FEW}: {rate.median(str(FEW)):,.0f}/s ({used.median(str(FEW)):.0f} µs)",
                target=f"≤ 1.2 x the time of {FEW}",
                met=times <= 1.2,
            )
        )
    return rows


def _connect(database: Database, count: int, provider_of: Callable[[int], str]) -> None:
    """So many connections more: copies of the one that is asked for, under other names."""
    with database.transaction(durable=False) as tx:
        columns = [row[1] for row in tx.execute("PRAGMA table_info(connections)")]
        own = {"provider": "?", "name": "?", "is_default": "0"}
        copied = ", ".join(own.get(column, column) for column in columns)
        for number in range(1, count):
            tx.execute(
                f"INSERT INTO connections ({', '.join(columns)}) SELECT {copied} FROM connections"
                " WHERE provider = 'openai' AND name = 'default'",
                (provider_of(number), f"c{number}"),
            )


# ---- a slow disk -----------------------------------------------------------------------------------------------------


def _slow_disk(archive: Path, directory: Path, rounds: int) -> list[Row]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return []
    library = directory / "slow_sync.so"
    source = Path(__file__).with_name("slow_sync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    subject = ours.install(archive, directory / "slow").subject()
    subject = replace(subject, environment={**subject.environment, "LD_PRELOAD": str(library)})
    medians, worst, rates = Samples(), Samples(), Samples()
    with subject.running() as process:
        send(subject, process.pid, connections=8, requests=400)
        for _ in range(rounds):
            # small blocks: the proofs of one that takes longer than a minute are too old at its end
            for block in send(subject, process.pid, connections=64, requests=_SLOW, blocks=4):
                medians.add(OURS, block.median)
                worst.add(OURS, block.p99)
                rates.add(OURS, block.rate)
    median, p99 = medians.median(OURS), worst.median(OURS)
    return [
        Row(
            name="resolve, 64 connections, a sync costs 3 ms",
            ours=f"{rates.median(OURS):,.0f}/s, p50 {median:.1f} ms, p99 {p99:.1f} ms ({p99 / median:.1f} x)",
            target="p99 ≤ 10 x p50",
            met=p99 <= 10 * median,
        )
    ]
