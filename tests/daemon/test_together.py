"""Requests that come at the same time, answered together: each its own answer, and nobody kept waiting by another."""

import json
import threading
import time
from contextlib import ExitStack

import pytest

from authsome.daemon.messages import Request, Response, json_response
from authsome.daemon.readiness import MOST
from authsome.errors import NotAllowed
from fakes.patience import wait

ENOUGH = 60.0


class Group:
    """Takes POSTs; holds the first ones it gets until `release`, so that the others come together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()

    def begin(self, request: Request) -> Request | None:
        if request.path == "/odd":
            raise NotAllowed("said by the handler")
        return request if request.method == "POST" else None

    def carry_out(self, begun: list[Request]) -> list[object]:
        self.sizes.append(len(begun))
        if any(request.path == "/broken" for request in begun):
            raise RuntimeError("a mistake")
        return [self._answer(request) for request in begun]

    def _answer(self, request: Request) -> object:
        if request.path == "/slow":
            return self._slowly
        return json_response({"together": request.body.decode()})

    def _slowly(self, request: Request) -> Response:
        self.release.wait(ENOUGH)
        return json_response({"late": request.body.decode()})


@pytest.fixture
def crowd(run_server):
    """A server whose only worker is busy until `go`, so that what is sent meanwhile is found at the same time."""
    with ExitStack() as stack:
        go = threading.Event()
        busy = threading.Event()

        def handle(request: Request) -> Response:
            if request.path == "/busy":
                busy.set()
                go.wait(ENOUGH)
            if request.path == "/slow":
                group.release.wait(ENOUGH)
            return json_response({"alone": request.body.decode()})

        group = Group()
        served = run_server(handle)
        served.server.answer_together(group)
        served.server._workers._put_aside = lambda _: None  # the watchman would let another worker in
        holder = stack.enter_context(served.client())
        holder.send(served.head("GET", "/busy"))
        assert busy.wait(ENOUGH)

        posted = []

        def post(path: str, body: str):
            posted.append(path)
            client = stack.enter_context(served.client())
            client.send(served.head("POST", path, f"Content-Length: {len(body)}") + body.encode())
            return client

        def start() -> None:
            wait(lambda: len(served.server._conversations) > len(posted), "all of them to be there")
            del served.server._workers._put_aside
            go.set()
            holder.expect(200)

        yield served, group, post, start
        group.release.set()


def said(client) -> str:
    """What the next answer repeats of its request, which may be answered by itself when nothing else is left."""
    (text,) = json.loads(client.expect(200).body).values()
    return text


def test_each_gets_its_own_answer(crowd):
    """As many as the kernel tells at once are one group, and every answer goes where its request came from."""
    _, group, post, start = crowd
    clients = {f"number {number}": post("/", f"number {number}") for number in range(3 * MOST)}
    start()
    for body, client in clients.items():
        assert said(client) == body
    assert sum(group.sizes) <= 3 * MOST
    assert max(group.sizes) > MOST // 2


def test_others_are_answered_by_themselves(crowd):
    """Requests that are not for the group, refused ones and unfinished ones among them, take their usual way."""
    served, _, post, start = crowd
    first, odd = post("/", "a"), post("/odd", "b")
    half = post("/", "c")
    half.send(b"POST / HTTP/1.1\r\nHost: ")  # the next one's beginning
    bad = served.connect()
    bad.send(b"POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    last = post("/", "d")
    start()
    assert [said(client) for client in (first, odd, half)] == ["a", "b", "c"]
    bad.expect(421)
    bad.socket.close()
    assert said(last) == "d"
    half.send(f"{served.host}\r\n\r\n".encode())
    half.expect(200)


def test_who_has_to_wait_keeps_nobody_waiting(crowd):
    """Answers that take long are made after all others are sent, each in a thread of its own."""  # SEC-194
    served, group, post, start = crowd
    slow = [post("/slow", f"slow {number}") for number in range(4)]
    quick = [post("/", f"quick {number}") for number in range(4)]
    start()
    for number, client in enumerate(quick):
        assert said(client) == f"quick {number}"
    assert served.get().status == 200
    group.release.set()
    for number, client in enumerate(slow):
        assert said(client) == f"slow {number}"


def test_who_is_gone_takes_no_answer_from_others(crowd):
    """A client that hangs up, or sends more before it has read, is nobody else's matter."""
    served, _, post, start = crowd
    gone = [post("/", "x") for _ in range(4)]
    for client in gone:
        client.socket.close()
    eager = post("/", "first")
    eager.send(served.head("GET", "/second") + served.head("POST", "/third", "Content-Length: 1") + b"3")
    other = post("/", "y")
    start()
    assert said(other) == "y"
    assert [said(eager) for _ in range(3)] == ["first", "", "3"]


def test_a_mistake_is_answered_and_over(crowd):
    """When all of a group fails each one is told, and the next request is served."""
    served, _, post, start = crowd
    clients = [post("/broken", "x") for _ in range(3)]
    start()
    for client in clients:
        client.expect(500)
    assert served.get().status == 200


def test_answers_that_took_long_are_sent_although_nobody_else_comes(run_server):
    """A disk that is slow has the watchman let another worker in, who waits for what comes; these are there already."""
    slow = Group()
    slow.carry_out = lambda begun: time.sleep(0.1) or [json_response({"ok": True})] * len(begun)
    served = run_server()
    served.server.answer_together(slow)
    with ExitStack() as stack:
        clients = [stack.enter_context(served.client()) for _ in range(12)]
        for _ in range(5):
            for client in clients:
                client.send(served.head("POST", "/", "Content-Length: 2") + b"{}")
            for client in clients:
                client.expect(200)
