"""Streams of events: handed over by the server, written by one thread, bounded in every way, ended when they must."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from authsome.broker.news import Onlooker, Told
from authsome.daemon.messages import Response, json_response
from authsome.daemon.streams import Bounds, Streams
from authsome.errors import DaemonUnavailable
from authsome.secret import Secret
from daemon.conftest import Client
from fakes.patience import eventually

QUICK = Bounds(gap=timedelta(milliseconds=1), tick=timedelta(milliseconds=20))
ACCEPT = "Accept: text/event-stream"


@dataclass
class Board:
    """What there is to tell: to each group the topics that are on it, once; who may no longer look."""

    topics: dict[str, set[str]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    failure: Exception | None = None
    looks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, watchers):
        """As `News.look`."""
        with self.lock:
            self.looks += 1
            if self.failure is not None:
                raise self.failure
            told = [
                None
                if each.session in self.ended
                else Told(topics=frozenset(self.topics.get(each.session, ())), watcher=replace(each, heard=7))
                for each in watchers
            ]
            self.topics.clear()
            return told

    def put(self, session, *topics):
        """Have it told."""
        with self.lock:
            self.topics.setdefault(session, set()).update(topics)


@dataclass
class Hall:
    """A server whose `/NAME` and `/NAME-MORE` are streams of sessions of one principal, and `/` a plain answer."""

    board: Board
    streams: Streams
    served: object
    clients: ExitStack

    def open(self, session, *, buffer=None):
        """A client that asks for a stream; the kernel keeps no more for it than `buffer` bytes, if that is given."""
        client = Client(self.clients.enter_context(socket.socket()))
        client.socket.settimeout(60)
        if buffer is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.socket.connect(("127.0.0.1", self.served.port))
        client.send(self.served.head("GET", f"/{session}", ACCEPT))
        return client


@pytest.fixture
def hall(run_server) -> Iterator[object]:
    """Makes such servers."""
    with ExitStack() as stack:

        def made(bounds=QUICK, *, most=200):
            board = Board()
            streams = Streams(board.look, most=most, bounds=bounds)

            def handle(request) -> Response:
                if request.path == "/":
                    return json_response({"ok": True})
                session = request.path.removeprefix("/")
                vault = session.partition("-")[0]
                onlooker = Onlooker(session=session, vault=vault, key=Secret("k"), seen=0, heard=0, asked="", defined=0)
                return streams.answer(request, onlooker, frozenset({"first"}))

            served = run_server(handle)
            stack.callback(streams.close)
            return Hall(board, streams, served, stack)

        yield made


def read_until(client, text: bytes) -> bytes:
    """What comes up to a text, and the text; what follows is kept."""
    while text not in client.received:
        data = client.socket.recv(65536)
        assert data, client.received
        client.received += data
    found, _, client.received = client.received.partition(text)
    return found + text


def has_ended(client) -> bool:
    """Wait until the server has ended a stream, whatever it still says."""
    try:
        while client.socket.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def finds_room(hall, session) -> bool:
    """Try again until there is a stream for this session."""

    def is_there() -> bool:
        client = hall.open(session)
        status = read_until(client, b"\r\n").split()[1]
        client.socket.close()
        return status == b"200"

    return eventually(is_there)


def test_a_stream(hall):
    """The head guards itself and promises no length; what was missed comes first, then what happens, with its place."""
    open_hall = hall()
    client = open_hall.open("ada")
    head = read_until(client, b"\r\n\r\n").decode().lower()
    for line in ("content-type: text/event-stream", "connection: close", "cache-control: no-store", "x-frame-options"):
        assert line in head
    assert "content-length" not in head
    assert "default-src 'none'" in head
    assert read_until(client, b"\n\n").startswith(b"retry: ")
    assert read_until(client, b"\n\n") == b"event: changed\nid: 0\ndata: first\n\n"
    open_hall.board.put("ada", "runs", "log")
    open_hall.streams.tell()
    assert read_until(client, b"\n\n") == b"event: changed\nid: 7\ndata: log runs\n\n"
    client.socket.close()
    assert open_hall.served.is_empty()
    assert open_hall.streams.number == 0


def test_who_is_told(hall):
    """Each stream what is its own, and no other's."""
    open_hall = hall(replace(QUICK, beat=timedelta(milliseconds=50)))
    ada, bob = open_hall.open("ada"), open_hall.open("bob")
    for client in (ada, bob):
        read_until(client, b"data: first\n\n")
    open_hall.board.put("ada", "runs")
    assert b"runs" in read_until(ada, b"data: runs\n\n")
    for _ in range(3):
        assert read_until(bob, b"\n\n") == b":\n\n"


def test_streams_have_no_threads_and_keep_nobody_waiting(hall):
    """A hundred of them: one more thread, and everything else is answered meanwhile. # SEC-192"""
    open_hall = hall()
    assert open_hall.served.get().status == 200
    clients = [open_hall.open(f"s{number // 4}") for number in range(100)]
    for client in clients:
        read_until(client, b"data: first\n\n")
    assert open_hall.streams.number == 100
    assert threading.active_count() < 20
    for _ in range(20):
        assert open_hall.served.get().status == 200
    for number in range(25):
        open_hall.board.put(f"s{number}", "uses")
    for client in clients[::4]:
        assert read_until(client, b"\n\n") == b"event: changed\nid: 7\ndata: uses\n\n"
    for client in clients:
        client.socket.close()
    assert open_hall.served.is_empty()


def test_how_many(hall):
    """So many of a session, so many in all; whoever comes too late is told so, and has room when another has gone."""
    open_hall = hall(most=8)
    mine = [open_hall.open("ada") for _ in range(4)]
    for client in mine:
        read_until(client, b"data: first\n\n")
    open_hall.open("ada").expect(503)
    others = [open_hall.open(name) for name in ("bob", "cid", "eve", "fay")]
    for client in others:
        read_until(client, b"data: first\n\n")
    open_hall.open("dan").expect(503)
    mine[0].socket.close()
    others[0].socket.close()
    for name in ("ada", "dan"):
        assert finds_room(open_hall, name)


def test_how_many_of_a_principal(hall):
    """Half of all, with however many browsers: the rest is left for others, who have room while it has none."""
    open_hall = hall(most=12)
    mine = [open_hall.open(f"ada-{number // 2}") for number in range(6)]
    for client in mine:
        read_until(client, b"data: first\n\n")
    open_hall.open("ada-9").expect(503)
    others = [open_hall.open(name) for name in ("bob-1", "bob-1", "bob-2", "cid-1", "cid-2", "dan-1")]
    for client in others:
        read_until(client, b"data: first\n\n")
    mine[0].socket.close()
    assert finds_room(open_hall, "ada-9")


def test_who_reads_nothing_is_let_go_of(hall):
    """What waits for it is bounded, others are told as ever, and after a while its place is another's."""
    open_hall = hall(replace(QUICK, patience=timedelta(milliseconds=500)))
    slow = open_hall.open("slow", buffer=4096)
    quick = open_hall.open("quick")
    read_until(quick, b"data: first\n\n")
    told = 0
    while open_hall.streams.number == 2:
        for session in ("slow", "quick"):
            open_hall.board.put(session, "x" * 4096)
        read_until(quick, b"x\n\n")
        told += 1
        held = [len(each.pending) for each in tuple(open_hall.streams._streams)]
        assert max(held, default=0) < 8192
    assert told > 10
    assert has_ended(slow)
    open_hall.board.put("quick", "runs")
    read_until(quick, b"data: runs\n\n")


def test_who_talks_is_let_go_of(hall):
    """Nothing but its end is to be heard on a stream."""
    open_hall = hall()
    client = open_hall.open("ada")
    read_until(client, b"data: first\n\n")
    client.send(open_hall.served.head())
    assert has_ended(client)
    client.socket.close()
    assert open_hall.served.is_empty()


def test_who_may_no_longer_look(hall):
    """Is told so, and that is the end; others go on."""
    open_hall = hall()
    ada, bob = open_hall.open("ada"), open_hall.open("bob")
    for client in (ada, bob):
        read_until(client, b"data: first\n\n")
    open_hall.board.ended.add("ada")
    assert read_until(ada, b"\n\n") == b"event: ended\ndata:\n\n"
    assert ada.is_closed()
    open_hall.board.put("bob", "runs")
    read_until(bob, b"data: runs\n\n")


@pytest.mark.parametrize("failure", [DaemonUnavailable("the vault is closed"), ValueError("a mistake")])
def test_what_cannot_be_known_ends_all(hall, failure):
    """Nobody looks on because nobody could say whether they may; the next one is served again."""
    open_hall = hall()
    client = open_hall.open("ada")
    read_until(client, b"data: first\n\n")
    open_hall.board.failure = failure
    assert client.is_closed()
    client.socket.close()
    assert open_hall.served.is_empty()
    open_hall.board.failure = None
    again = open_hall.open("ada")
    read_until(again, b"data: first\n\n")


def test_the_end_of_the_daemon(hall):
    """Streams end at once, are no requests that did not end, and no new one begins."""
    open_hall = hall()
    client = open_hall.open("ada")
    read_until(client, b"data: first\n\n")
    open_hall.streams.close()
    assert client.is_closed()
    open_hall.open("bob").expect(503)
    assert open_hall.served.server.stop(timedelta(seconds=30)) == 0


def test_without_streams_nobody_looks(hall):
    """No thread of theirs before the first, and none awake after the last."""
    open_hall = hall()
    open_hall.streams.tell()
    assert open_hall.board.looks == 0
    client = open_hall.open("ada")
    read_until(client, b"data: first\n\n")
    client.socket.close()
    assert open_hall.served.is_empty()
    before = open_hall.board.looks
    open_hall.streams.tell()
    assert open_hall.served.get().status == 200
    assert open_hall.board.looks == before


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        ("GET", (), 400),
        ("GET", ("Accept: text/html",), 400),
        ("GET", (ACCEPT, "Sec-Fetch-Site: cross-site"), 400),
        ("GET", (ACCEPT, "Sec-Fetch-Site: none"), 400),
        ("HEAD", (ACCEPT,), 200),
    ],
)
def test_what_asks_for_none(hall, method, lines, status):
    """Only a script of ours gets a stream: no address bar, no other site, no HEAD. # SEC-42"""
    open_hall = hall()
    with open_hall.served.client() as client:
        client.send(open_hall.served.head(method, "/ada", *lines))
        client.expect(status, with_body=method != "HEAD")
        client.send(open_hall.served.head())
        client.expect(200)
    assert open_hall.streams.number == 0
