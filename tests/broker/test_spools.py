"""Uses that a proxy wrote down become entries: each once, in order, and what is wrong with them is said."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authsome.broker import routing, spools
from authsome.errors import StorageFailed
from authsome.models.audit import Event
from authsome.models.use import Codes, rest_of
from authsome.proxy.spool import SEGMENT_BYTES, Spool
from authsome.secret import Secret
from broker.conftest import House

AT = datetime(2026, 6, 1, 11, 59, 0, tzinfo=UTC)


class Writer:
    """What a proxy does with one run."""

    def __init__(self, house: House, *, first: int = 0) -> None:
        self.house = house
        self.run = house.broker.runs.begin(house.owner, routing.DEFAULT_CHOICE).run.id
        self.news: list[None] = []
        self.key = house.broker.spools.key(self.run)
        self.first = first
        self.spool = self.begin()

    def begin(self) -> Spool:
        """Another spool of the same run."""
        directory, run = self.house.home.spool, self.run
        return Spool(directory, run, Codes(self.key), self.first, on_news=lambda: self.news.append(None))

    def use(self, *paths: str) -> None:
        """Write uses down."""
        for path in paths:
            rest = rest_of("GET", "api.example.localhost", path, "keyed", "work")
            assert rest is not None
            assert self.spool.write(int(AT.timestamp() * 1_000_000), rest)

    @property
    def files(self) -> list[Path]:
        """The spool's files, in order."""
        found = self.house.home.spool.glob(f"{self.run}.*")
        return sorted(found, key=lambda path: int(path.suffix[1:]))


@pytest.fixture
def writer(house: House) -> Writer:
    """A live run whose proxy writes."""
    return Writer(house)


def paths(house: House) -> list[str | None]:
    """What was requested, by the log."""
    return [each.entry.path for each in house.events(Event.RESOLVE)]


def logged(house: House) -> int:
    """How many requests there were, by the log."""
    with house.context.database.read() as reader:
        return reader.execute("SELECT count(*) FROM audit WHERE event = 'resolve'").fetchone()[0]


def doubts(house: House) -> list[str | None]:
    """What was wrong, by the log."""
    return [each.entry.detail for each in house.events(Event.USES_IN_DOUBT)]


def test_a_use_becomes_the_entry_of_its_time(house, writer):
    """With everything that an entry of a resolve says."""
    writer.use("/a")
    house.broker.spools.take_all()
    (recorded,) = house.events(Event.RESOLVE)
    entry = recorded.entry
    assert (entry.at, entry.method, entry.host, entry.path) == (AT, "GET", "api.example.localhost", "/a")
    assert (entry.provider, entry.connection, entry.run) == ("keyed", "work", writer.run)
    assert (entry.identity, entry.principal, entry.vault_id) == (
        house.owner.handle,
        house.owner.principal.id,
        house.owner.vault_id,
    )


def test_each_use_is_taken_once(house, writer):
    """Whoever asks for them, and however often."""
    writer.use("/a", "/b")
    house.broker.spools.take_all()
    house.broker.spools.take_all()
    writer.use("/c")
    assert house.broker.spools.next(writer.run) == 3
    house.broker.spools.take(writer.run, count=3)
    assert paths(house) == ["/a", "/b", "/c"]
    assert doubts(house) == []


def test_a_restart_goes_on_where_it_was(open_house: Callable[[], House]):
    """How far we are is in the database, the key comes from the vault's."""
    house = open_house()
    writer = Writer(house)
    writer.use("/a")
    house.broker.spools.take_all()
    writer.use("/b")
    house = open_house()
    house.broker.spools.take_all()
    writer.use("/c")
    house.broker.spools.take_all()
    assert paths(house) == ["/a", "/b", "/c"]
    assert doubts(house) == []


def test_files_go_when_they_are_taken(house, writer):
    """While the run goes on in the next one; the last goes when the proxy has said how many uses there are."""
    long = "/" + "x" * 500
    count = SEGMENT_BYTES // 500
    writer.use(*[long] * count)
    assert len(writer.files) == 2
    house.broker.spools.take_all()
    assert len(writer.files) == 1
    writer.use("/last")
    writer.spool.stop()
    house.broker.spools.take(writer.run, count=writer.spool.count(), is_last=True)
    writer.spool.close()
    house.broker.spools.take(writer.run)
    assert writer.files == []
    assert logged(house) == count + 1
    assert doubts(house) == []


def test_an_unfinished_line_waits(house, writer):
    """A line that is being written is not taken in part."""
    writer.use("/a")
    (file,) = writer.files
    whole = file.read_bytes()
    os.truncate(file, len(whole) - 5)
    house.broker.spools.take_all()
    assert paths(house) == []
    with file.open("ab") as more:
        more.write(whole[-5:])
    house.broker.spools.take_all()
    assert paths(house) == ["/a"]
    assert doubts(house) == []


@pytest.mark.parametrize(
    ("change", "kept", "said"),
    [
        pytest.param(lambda each: each[0] + each[2], ["/a", "/c"], ["use 1 is missing"], id="taken away"),
        pytest.param(lambda each: each[2], ["/c"], ["uses 0 to 1 are missing"], id="all but one"),
        pytest.param(
            lambda each: each[0] + each[2] + each[1],
            ["/a", "/c"],
            ["use 1 is missing", "1 use came once more, or late"],
            id="another order",
        ),
        pytest.param(
            lambda each: b"".join([*each[:2], *each]),
            ["/a", "/b", "/c"],
            ["2 uses came once more, or late"],
            id="twice",
        ),
        pytest.param(
            lambda each: each[0] + each[1].replace(b"/b", b"/B") + each[2],
            ["/a", "/c"],
            ["use 1 is missing", "1 line was not written by its proxy"],
            id="changed",
        ),
        pytest.param(
            lambda each: each[0] + b"x" * 5000 + b"\n" + each[1] + b"\n\n" + each[2],
            ["/a", "/b", "/c"],
            ["3 lines were not written by its proxy"],
            id="other lines",
        ),
    ],
)
def test_what_is_not_as_it_was_written_is_said(house, writer, change, kept, said):
    """Changed, taken away, doubled, or in another order: what is true is kept, and the rest is on record. # SEC-183"""
    writer.use("/a", "/b", "/c")
    (file,) = writer.files
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(change(lines))
    house.broker.spools.take_all()
    assert paths(house) == kept
    assert doubts(house) == said


def test_another_runs_lines_are_not_this_ones(house, writer):
    """Each run has a key of its own."""
    other = Writer(house)
    other.use("/other")
    writer.use("/a")
    writer.files[0].write_bytes(other.files[0].read_bytes())
    house.broker.spools.take(writer.run)
    assert paths(house) == []
    assert doubts(house) == ["1 line was not written by its proxy"]


def test_a_shortened_file_is_noticed(house, writer):
    """Also below what was taken in already, and also at its end, once the proxy says how many there were."""
    writer.use("/a", "/b")
    house.broker.spools.take_all()
    (file,) = writer.files
    os.truncate(file, 0)
    house.broker.spools.take_all()
    assert doubts(house) == ["what was written down has been shortened"]
    writer.use("/c")
    house.broker.spools.take_all()
    assert paths(house) == ["/a", "/b", "/c"]
    writer.use("/d", "/e")
    os.truncate(file, 0)
    house.broker.spools.take(writer.run, count=writer.spool.count())
    assert doubts(house)[-1] == "uses 3 to 4 are missing"


def test_a_proxy_that_ends_without_a_word_is_on_record(house, writer):
    """The lock on its file ends with it; what it had written is taken in."""
    writer.use("/a")
    writer.spool.close()
    house.broker.spools.take_all()
    assert paths(house) == ["/a"]
    assert doubts(house) == ["its proxy has ended without a word"]
    assert writer.files == []


@pytest.mark.parametrize("other", [None, "01", "00"])
def test_a_file_that_is_gone_is_missed_from_its_first_use_on(house, writer, other):
    """Its proxy has had us see it while it was empty. Who kills the proxy and takes it away is on record. # SEC-183

    By whichever name something else is put there, as long as no proxy gives it one.
    """
    assert house.broker.spools.take(writer.run, count=0)
    writer.use("/a")
    (file,) = writer.files
    writer.spool.close()
    file.unlink()
    if other is not None:
        file.with_suffix(f".{other}").touch(mode=0o600)
    for _ in range(2):
        house.broker.spools.take_all()
    assert doubts(house) == ["what its proxy had written down is gone"]


def test_a_file_in_which_nothing_is_written_goes_without_a_word(house, writer):
    """A run that has made no further request ends like any other."""
    assert house.broker.spools.take(writer.run, count=0)
    writer.spool.stop()
    assert house.broker.spools.take(writer.run, count=0, is_last=True)
    writer.spool.close()
    house.broker.spools.take_all()
    assert writer.files == []
    assert doubts(house) == []


def test_that_no_more_will_come_is_not_forgotten(house, writer, monkeypatch):
    """Although somebody else takes in uses of the run in the moment in which its proxy says so."""
    writer.use("/a")
    others: list[threading.Thread] = []
    committing, said = threading.Event(), threading.Event()

    def clock() -> datetime:
        if threading.current_thread() in others:
            committing.set()
            assert said.wait(60)
        elif not others and logged(house):  # the proxy's last word is about to be written down
            writer.use("/b")
            others.append(threading.Thread(target=house.broker.spools.take_all))
            others[0].start()
            committing.wait(0.3)
        return house.clock()

    monkeypatch.setattr(house.broker.spools, "_context", replace(house.context, clock=clock))
    house.broker.spools.take(writer.run, count=1, is_last=True)
    said.set()
    (other,) = others
    other.join(60)
    writer.spool.close()
    house.broker.spools.take_all()
    assert paths(house) == ["/a", "/b"]
    assert doubts(house) == []


def test_a_proxy_that_goes_on_in_the_next_file_has_not_ended(house, writer):
    """It may turn over after somebody has looked which files there are, and before that one has read the first."""
    writer.use("/a")
    seen = [int(path.suffix[1:]) for path in writer.files]
    long = "/" + "x" * 500
    writer.use(*[long] * (SEGMENT_BYTES // 500))
    assert len(writer.files) == 2
    house.broker.spools._take(writer.run, seen)
    assert doubts(house) == []
    house.broker.spools.take(writer.run)
    assert logged(house) == 1 + SEGMENT_BYTES // 500
    assert doubts(house) == []


@pytest.mark.parametrize("name", ["0123abcd.0", "x.y", "..", ".0123abcd.0"])
@pytest.mark.usefixtures("writer")
def test_files_of_nobody_say_nothing(house, name):
    """What lies beside, or belongs to no run, makes no entries and no noise."""
    if name != "..":
        (house.home.spool / name).write_bytes(b"GET\n" * 100)
    house.broker.spools.take_all()
    assert house.events(Event.USES_IN_DOUBT) == []


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file_is_not_read(house, writer, tmp_path, kind):
    """A link is not followed and nothing is waited for; that it lay there is said once. # SEC-119 # SEC-183"""
    target = tmp_path / "target"
    writer.use("/a")
    (path,) = writer.files
    target.write_bytes(path.read_bytes())
    path.unlink()
    {"link": lambda: path.symlink_to(target), "directory": path.mkdir, "pipe": lambda: os.mkfifo(path)}[kind]()
    for _ in range(2):
        house.broker.spools.take_all()
    (doubt,) = doubts(house)
    assert doubt.startswith("in the place of what its proxy writes is something that cannot be read: ")
    assert paths(house) == []
    assert target.exists()
    assert not path.is_symlink()


def test_a_file_is_read_whatever_its_mode(house, writer):
    """Its lines show who wrote them; so nobody keeps them from the log by opening it to others."""
    writer.use("/a")
    writer.files[0].chmod(0o666)
    house.broker.spools.take_all()
    assert paths(house) == ["/a"]
    assert doubts(house) == []


def test_what_cannot_be_read_just_now_is_read_later(house, writer, monkeypatch):
    """A daemon that has no descriptor left throws nothing away, and takes nothing out of order. # SEC-191"""
    long = "/" + "x" * 500
    writer.use(*[long] * (SEGMENT_BYTES // 500))

    def none_left(path: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(spools, "_open", none_left)
        house.broker.spools.take_all()
    assert len(writer.files) == 2
    house.broker.spools.take_all()
    assert logged(house) == SEGMENT_BYTES // 500
    assert doubts(house) == []


def test_a_place_that_cannot_be_read_is_told(house):
    """Whoever wants to see the log is told what is wrong with it, in words."""
    house.home.proxy.mkdir(mode=0o700)
    house.home.spool.write_bytes(b"")
    with pytest.raises(StorageFailed, match="spool cannot be read") as told:
        house.broker.spools.take_all()
    assert told.value.hint


def test_lines_say_what_is_plain_only():
    """What would be read as something else is not written down, and so asked for."""
    assert rest_of("GET", "a", "/x y", "p", "c") is None
    assert rest_of("GET", "a", "/x\n", "p", "c") is None
    assert rest_of("GET", "a", "/\u20ac", "p", "c") is None
    assert rest_of("GET", "a", "", "p", "c") is None
    codes = Codes(Secret(bytes(32)))
    rest = rest_of("GET", "a", "/" + "x" * 10_000, "p", "c")
    assert rest is not None
    line = codes.line(7, 1, rest)
    found = codes.read(line[:-1])
    assert found is not None
    assert (found.number, found.at, found.path) == (7, 1, "/" + "x" * 599)
    assert codes.read(b"") is None


@pytest.mark.parametrize(("left", "expected"), [(3600, 5.0), (63, 3.0), (60, 0.0), (10, 0.0)])
def test_an_answer_may_be_kept_no_longer_than_it_holds(house, left, expected):
    """A token is asked for again when it is to be refreshed; nothing is kept for longer than some seconds."""
    house.oauth("acme", "https://acme.example.localhost/token")
    connection = house.connect("acme", lifetime=timedelta(hours=1))
    house.broker.freshness.learn(connection, house.clock())
    house.clock.advance(timedelta(seconds=3600 - left))
    house.steady.seconds += 3600 - left
    lasts = house.broker.freshness.lasts(connection, house.clock(), at_most=timedelta(seconds=5))
    assert lasts.total_seconds() == expected


def forged(writer: Writer, number: int, content: bytes) -> Path:
    """A file that somebody else who can write to the home puts beside the proxy's."""
    path = writer.house.home.spool / f"{writer.run}.{number}"
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("number", [2, 10**14])
def test_a_file_that_is_put_behind_the_proxys_hides_nothing(house, writer, number):
    """Neither what the proxy writes afterwards, nor its next file; and it is said."""
    writer.use("/a", "/b")
    (real,) = writer.files
    false = forged(writer, number, real.read_bytes().splitlines(keepends=True)[1])
    house.broker.spools.take_all()
    writer.use("/c")
    house.broker.spools.take(writer.run, count=3)
    assert real.exists()
    assert paths(house) == ["/a", "/b", "/c"]
    writer.spool.stop()
    house.broker.spools.take(writer.run, count=3, is_last=True)
    writer.spool.close()
    house.broker.spools.take_all()
    assert not real.exists()
    assert not false.exists()
    assert paths(house) == ["/a", "/b", "/c"]
    assert doubts(house) == ["1 use came once more, or late"]


def test_a_file_without_end_keeps_nobody_waiting(house, writer, monkeypatch):
    """It is read to a size that no proxy's has, others' uses come in, and it is said once."""
    monkeypatch.setattr(spools, "_LARGEST", 256 * 1024)
    writer.use("/a")
    (real,) = writer.files
    os.truncate(real, 2**40)
    other = Writer(house)
    other.use("/b")
    for _ in range(2):
        house.broker.spools.take_all()
    assert sorted(paths(house)) == ["/a", "/b"]
    assert [each for each in doubts(house) if "more" in each] == ["more lies there than a proxy writes"]
