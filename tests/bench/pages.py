"""The dashboard's pages with much of everything: how large each is, how long it takes, and what it costs the daemon."""

import http.client
import json
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import homes
import ours
from homes import LONG
from report import Row, Samples
from subject import Subject, cpu

from authsome.broker.catalog import Catalog, bundled_directory
from authsome.models.audit import Entry, Event
from authsome.models.principal import Principal
from authsome.vault import principals, usage
from dashboard import crowd, seed
from dashboard.visitor import Visitor

CONNECTIONS = 1000
MOST_MS, MOST_BYTES = 30, 50_000
_CROWD = crowd.Crowd(identities=300, principals=300, claims=30, invitations=300, runs=300, sessions=300, definitions=50)
_ASKED = 20  # requests for a page, in each round
_DAYS = 14

PAGES = (
    "/ui/",
    "/ui/connections",
    "/ui/connections?page=20",
    "/ui/connections?q=work",
    "/ui/connections?state=attention",
    "/ui/connections/ahrefs/default",
    "/ui/apps",
    "/ui/apps?q=mail",
    "/ui/apps?state=custom",
    "/ui/apps/ahrefs",
    f"/ui/apps/{crowd.name(0)}",
    "/ui/runs",
    "/ui/identities",
    "/ui/identities?whose=all&page=8",
    f"/ui/identities/{crowd.handle(2)}",
    "/ui/settings",
    "/ui/settings/principals",
    "/ui/settings/principals?page=10",
    "/ui/settings/providers",
    "/ui/settings/providers?page=3",
    "/audit",
    "/audit?before=500000",
    "/audit?provider=ahrefs&identity=nobody",
    "/audit?event=login_failed",
    f"/claim/{crowd.asking(0)}",
)


def measure(archive: Path, directory: Path, rounds: int) -> list[Row]:
    """Every page in turn, round by round; and each as the first that is asked for after a start."""
    installation = ours.install(archive, directory)
    _fill(installation)
    subject = installation.subject()
    samples = {name: Samples() for name in ("warm", "cpu", "cold")}
    with subject.running() as process:
        kept = _kept(subject, cookie := _signed_in(installation))
        sizes = {page: len(kept.ask(page)[1]) for page in PAGES}
        for _ in range(rounds):
            for page in PAGES:
                before = cpu(process.pid)
                samples["warm"].add(page, statistics.median(kept.ask(page)[0] for _ in range(_ASKED)))
                samples["cpu"].add(page, (cpu(process.pid) - before) / _ASKED * 1000)
    for page in PAGES:
        for _ in range(rounds):
            with subject.running():
                first = _kept(subject, cookie)
                first.ask("/ui/style.css")  # waits for the vault
                samples["cold"].add(page, first.ask(page)[0])
    return [_row(page, sizes[page], samples) for page in PAGES]


@dataclass(slots=True)
class _Kept:
    """A signed-in browser's connection."""

    connection: http.client.HTTPConnection
    cookie: str

    def ask(self, page: str) -> tuple[float, bytes]:
        """Milliseconds to the end of a page, and the page."""
        since = time.perf_counter()
        self.connection.request("GET", page, headers={"Cookie": self.cookie})
        response = self.connection.getresponse()
        body = response.read()
        took = (time.perf_counter() - since) * 1000
        if response.status != 200:
            raise RuntimeError(f"{page} answers {response.status}")
        return took, body


def _row(page: str, size: int, samples: Mapping[str, Samples]) -> Row:
    warm, cpu_ms, cold = (samples[name].median(page) for name in ("warm", "cpu", "cold"))
    shown = "".join(f"{part[:18]}…" if len(part) > 40 else part for part in re.split(r"(/)", page))
    return Row(
        name=f"page {shown}",
        ours=f"{size / 1000:.1f} KB, {warm:.1f} ms, {cpu_ms:.1f} ms CPU; the first after a start {cold:.1f} ms",
        target=f"≤ {MOST_BYTES / 1000:.0f} KB, ≤ {MOST_MS} ms",
        met=size <= MOST_BYTES and max(warm, cold) <= MOST_MS,
    )


def _fill(installation: ours.Ours) -> None:
    home = homes.home_of(installation)
    crowd.define(home / "providers", _CROWD)
    catalog = Catalog(bundled=bundled_directory(), custom=home / "providers")
    providers = [each.provider for each in catalog.all() if each.provider is not None]
    now = datetime.now(UTC)
    with homes.opened(home) as (database, sealers):
        with database.read() as reader:
            owner = principals.owner(reader)
        assert owner is not None
        crowd.fill(database, sealers, owner, _CROWD, now=now)
        sealer, made = sealers.for_vault(owner.vault_id), []
        with database.transaction() as tx:
            for number in range(CONNECTIONS):
                provider = providers[number % len(providers)]
                name = "default" if number < len(providers) else f"work-{number // len(providers)}"
                seed.connect(tx, sealer, provider, name, number=number, now=now)
                made.append((provider.name, name))
        homes.log(database, _entries(owner, made, now))
        more = True
        while more:
            with database.transaction(durable=False) as tx:
                more = usage.count_up(tx)


def _entries(owner: Principal, connections: Sequence[tuple[str, str]], now: datetime) -> Iterator[Entry]:
    """A long log: uses of all connections by all identities, the last of them a moment ago."""
    for number in range(LONG):
        provider, name = connections[number * 7 % len(connections)]
        yield Entry(
            event=Event.LOGIN_FAILED if number % 5000 == 0 else Event.RESOLVE,
            at=now - timedelta(days=_DAYS) * ((LONG - number) / LONG),
            vault_id=owner.vault_id, principal=owner.id, identity=crowd.handle(number % _CROWD.identities),
            provider=provider, connection=name, method="POST", host="api.example.com", path="/v1/things/" + "p" * 80,
            run=f"{number % _CROWD.runs:016x}",
        )  # fmt: skip


def _signed_in(installation: ours.Ours) -> str:
    """The cookie of a browser that came by a link."""
    link = urlsplit(str(json.loads(installation("ui", "--no-browser", "--json"))["url"]))
    visitor = Visitor(installation.port, f"http://127.0.0.1:{installation.port}")
    visitor.get(f"{link.path}?{link.query}")
    visitor.submit(link.path, link.path)
    return "; ".join(f"{name}={value}" for name, value in visitor.jar.items())


def _kept(subject: Subject, cookie: str) -> _Kept:
    return _Kept(http.client.HTTPConnection("127.0.0.1", subject.port), cookie)
