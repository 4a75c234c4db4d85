"""The short road of `run`: ask the daemon for a run, hand it to the worker, and become the command.

Becoming the command, instead of waiting for it, makes its status, signals, terminal and process group exact, and leaves
nothing resident. `proxy/run.py` is the long road, which starts what is not running and tells what went wrong.

Rule 1: nothing is told from here. Whatever is not plainly as it should be raises `Unusual`, and the long road, which
can say what it was, is taken from the beginning. Until then nothing has been done that matters.

Rule 2: it is paid for hundreds of times a day, so it imports only what the interpreter has loaded anyway, C modules,
and what signs. A test holds the list. `json`, `pathlib`, `typing`, `re` are each a fifth of what all of it takes.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without its enumerations
import _socket
import binascii
import fcntl
import os
import stat

from authsome import __version__, archive, clock
from authsome.identity import ed25519, signing
from authsome.identity.did import did_from_public_key
from authsome.proxy import environment, peer, plain, trust
from authsome.proxy.plain import Unusual

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final, Never

_FORMAT: "Final" = 1  # of assignments; a worker of another is another worker
_PATH_LIMIT: "Final" = 100  # bytes of a Unix socket's path: 103 on macOS, 107 on Linux
_BEGINNING: "Final" = 128  # bytes of a file that tell a script from a program
_LONGEST_NAME: "Final" = 64  # characters of a command's name that the daemon takes
_ANSWER_LIMIT: "Final" = 4 * 1024 * 1024
_SECONDS: "Final" = 30.0
_NODE_PRELOAD: "Final" = "node_preload.cjs"
_HANDLE_CHARACTERS: "Final" = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_IGNORED_BY_PYTHON: "Final" = ("SIGPIPE", "SIGXFSZ", "SIGXFZ")


class Refused(Unusual):
    """The worker does not serve the run; `answer` says why, in JSON."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Wish:
    """What the user asked of a run. A plain class, because `dataclasses` would cost each run 12 ms."""

    __slots__ = ("command", "connections", "inside", "only", "seconds", "unmatched")

    def __init__(  # noqa: PLR0913  # each by name
        self,
        command: "Sequence[str]",
        *,
        connections: "Mapping[str, str] | None" = None,
        only: "Sequence[str]" = (),
        seconds: int | None = None,
        unmatched: str = "tunnel",
        inside: str = "",
    ) -> None:
        self.command = tuple(command)
        self.connections = dict(connections or {})
        """Connection by provider, where it is not to be the default one."""
        self.only = tuple(only)
        """The only providers to route; empty for all."""
        self.seconds = seconds
        """How long it may get credentials; None for as long as the command runs."""
        self.unmatched = unmatched
        """What becomes of hosts that no route names: tunnel or deny."""
        self.inside = inside
        """The run that this one is begun in, which bounds it; empty for none."""

    def question(self) -> "dict[str, object]":
        """What the daemon is asked."""
        asked: dict[str, object] = {"connections": self.connections, "only": list(self.only), "seconds": self.seconds}
        if name := _shown(self.command[0]):
            asked["command"] = name
        return {**asked, "inside": self.inside} if self.inside else asked


def _shown(command: str) -> str:
    """A command by its name alone, as the daemon shows it: never its arguments, which may hold secrets."""
    name = os.path.basename(command)[:_LONGEST_NAME]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)


def run(words: "Sequence[str]", environ: "Mapping[str, str]") -> None:
    """Become the command that `run`'s words ask for, if everything is as usual; return if not."""
    try:
        _run(_wish(words, inside=environ.get(environment.RUN, "")), environ)
    except (Unusual, OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        return


def _run(wish: Wish, environ: "Mapping[str, str]") -> None:
    path = find_command(wish.command[0], environ)
    if not path or environ.get("AUTHSOME_IDENTITY_KEY") or environ.get("AUTHSOME_DAEMON_URL"):
        raise Unusual
    home = environ.get("AUTHSOME_HOME") or (environ["HOME"] + "/.authsome")
    home = os.path.abspath(home)
    extra = os.path.abspath(environ["AUTHSOME_CA_BUNDLE"]) if environ.get("AUTHSOME_CA_BUNDLE") else ""
    url = _daemon(home)
    roots = trust.find(f"{home}/proxy", environ, extra, clock.seconds())
    preload = f"{home}/proxy/{_NODE_PRELOAD}"
    if roots is None or plain.size(preload) != plain.size(os.path.join(os.path.dirname(__file__), _NODE_PRELOAD)):
        raise Unusual
    config = plain.from_json(plain.read_private(f"{home}/config.json"))
    name = worker_name(url, is_supervised=True, extra=extra, authority=roots.authority, settings=config.get("proxy"))
    worker = dial(socket_path(f"{home}/proxy", name))
    try:
        answer = _begin(home, url, wish, environ.get("AUTHSOME_IDENTITY") or plain.text(config, "identity"))
        begun = plain.from_json(answer)
        password = new_password()
        line = assignment(answer, wish, password=password, roots=roots, environ=environ)
        try:
            port = assign(worker, line)
        except (OSError, Unusual):
            _end(home, url, begun)
            raise
    finally:
        worker.close()
    grant = grant_of(begun, password)
    child = environment.for_child(environ, grant, port=port, bundle=roots.child, node_preload=preload)
    become(path, wish.command, child)


def _wish(words: "Sequence[str]", *, inside: str) -> Wish:
    """What the words say, in the forms that are common; the long road knows them all."""
    connections: dict[str, str] = {}
    only: list[str] = []
    unmatched = "tunnel"
    rest = list(words)
    while rest and rest[0][:1] == "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name not in {"--connection", "--only", "--unmatched"}:
            raise Unusual
        if not equals:
            value = rest.pop(0) if rest else ""
        if name == "--connection":
            provider, equals, connection = value.partition("=")
            if not (provider and connection) or provider in connections:
                raise Unusual
            connections[provider] = connection
        elif name == "--only":
            only += value.split(",")
        elif value in {"tunnel", "deny"} and unmatched == "tunnel":
            unmatched = value
        else:
            raise Unusual
    if not rest or not all(only):  # an empty name must not come to mean all of them
        raise Unusual
    return Wish(rest, connections=connections, only=only, unmatched=unmatched, inside=inside)


# ---- the command -------------------------------------------------------------------------------------------


def find_command(name: str, environ: "Mapping[str, str]") -> "str | None":
    """The file that a command is, as execvp(3) would find it: None when there is none, "" when none may be executed."""
    if not name:
        return None
    if "/" in name:
        candidates = [name]
    else:
        places = environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [f"{place or '.'}/{name}" for place in places]
    found: str | None = None
    for candidate in candidates:
        try:
            is_file = stat.S_ISREG(os.stat(candidate).st_mode)
        except PermissionError:
            found = ""
            continue
        except (OSError, ValueError):
            continue
        if is_file and os.access(candidate, os.X_OK):
            return candidate
        found = ""
    return found


def become(path: str, command: "Sequence[str]", environ: "Mapping[str, str]") -> "Never":
    """Replace this process by the command; OSError when the system does not let it.

    A script that names no interpreter is the shell's, as for every other program that starts it (`execvp`, POSIX).
    """
    for name in _IGNORED_BY_PYTHON:  # at its start, which exec would pass on
        if hasattr(_signal, name):
            _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
    try:
        os.execve(path, list(command), dict(environ))  # noqa: S606  # no shell is the point
    except OSError as error:
        import errno  # noqa: PLC0415  # not for those that the system takes

        if error.errno != errno.ENOEXEC or not _is_text(path):
            raise
    os.execve("/bin/sh", ["sh", path, *command[1:]], dict(environ))  # noqa: S606  # the command's own


def _is_text(path: str) -> bool:
    """Whether a shell could read it, and not a program for another machine."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"\0" not in os.read(descriptor, _BEGINNING)
    finally:
        os.close(descriptor)


# ---- the daemon --------------------------------------------------------------------------------------------


def _daemon(home: str) -> str:
    """The URL of the daemon that holds this home (see `client/supervisor.py`, whose rules these are)."""
    descriptor = os.open(f"{home}/server/daemon.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        plain.check_private(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise Unusual  # nobody holds it
        holder = int(os.read(descriptor, 32))
    finally:
        os.close(descriptor)
    state = plain.from_json(plain.read_private(f"{home}/server/daemon.json"))
    if (state["pid"], state["version"], state["build"]) != (holder, __version__, archive.build_id()):
        raise Unusual
    if os.path.lexists(f"{home}/server/bootstrap.key"):
        raise Unusual  # nobody owns this home yet
    return plain.text(state, "url")


def _begin(home: str, url: str, wish: Wish, handle: str) -> bytes:
    """Ask for a run, as that identity; the daemon's answer, as it is."""
    if not set(handle) <= _HANDLE_CHARACTERS:
        raise Unusual
    key = _Key(binascii.a2b_base64(plain.read_private(f"{home}/identities/{handle}.key")))
    body = plain.to_json(wish.question()).encode()
    proof = signing.mint(
        key, handle=handle, audience=url, method="POST", target="/proxy/runs", body=body, now=clock.seconds()
    )
    return _exchange(home, url, "POST", "/proxy/runs", authorization=f"PoP {proof}", body=body, status=b"201")


def _end(home: str, url: str, begun: "Mapping[str, object]") -> None:
    """End a run that no worker has taken, so that its secret dies now and not by its time."""
    run, secret = plain.text(begun, "run"), plain.text(begun, "secret")
    target = f"/proxy/runs/{run}"
    _exchange(home, url, "DELETE", target, authorization=f"Run {run}:{secret}", body=b"", status=b"204")


def _exchange(  # noqa: PLR0913  # a request has that many parts
    home: str, url: str, method: str, target: str, *, authorization: str, body: bytes, status: bytes
) -> bytes:
    """One request on a connection of its own, and the body of its answer, which has to have that status."""
    scheme, _, authority = url.partition("://")
    host, _, port = authority.rpartition(":")
    if scheme != "http" or not host.startswith("127."):
        raise Unusual
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_SECONDS)
        connection.connect((host, int(port)))
        if _daemon(home) != url:  # nobody has taken its port in between
            raise Unusual
        connection.sendall(head.encode() + body)
        answer = b""
        while more := connection.recv(64 * 1024):
            answer += more
            if len(answer) > _ANSWER_LIMIT:
                raise Unusual
    finally:
        connection.close()
    fields, end, content = answer.partition(b"\r\n\r\n")
    line, *lines = fields.split(b"\r\n")
    lengths = [each[15:].strip() for each in lines if each[:15].lower() == b"content-length:"]
    if line[:12] != b"HTTP/1.1 " + status or not end or (lengths or [b"0"]) != [b"%d" % len(content)]:
        raise Unusual
    return content


class _Key:
    """This machine's identity, as far as it signs."""

    __slots__ = ("_private_key", "did")

    def __init__(self, seed: bytes) -> None:
        self._private_key = ed25519.private_key(seed)
        self.did = did_from_public_key(self._private_key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._private_key.sign(message)


# ---- the worker --------------------------------------------------------------------------------------------


def worker_name(url: str, *, is_supervised: bool, extra: str, authority: str, settings: object) -> str:
    """What names the worker that serves a run: everything that all of its runs have in common.

    Args:
        url: the daemon's.
        is_supervised: whether it is the daemon of our own home.
        extra: AUTHSOME_CA_BUNDLE, which verifies a daemon that is not.
        authority: which of our authorities its leaf certificates are from: one that was renewed gets a new worker.
        settings: `proxy` of config.json.
    """
    daemon = (url, is_supervised, "" if is_supervised else extra)
    common = repr((_FORMAT, archive.build_id(), daemon, authority, settings))
    return f"worker-{signing.sha256(common.encode('utf-8', 'backslashreplace'))[:16]}.sock"


def socket_path(directory: str, name: str) -> str:
    """Where that worker is to be found: in the home, or, when that path is too long for a socket, below /tmp.

    Both are private directories; who listens there is asked of the kernel all the same.
    """
    path = f"{directory}/{name}"
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        return path
    place = signing.sha256(os.fsencode(directory))[:16]
    return f"/tmp/authsome-{os.geteuid()}/{place}-{name.removeprefix('worker-')}"  # noqa: S108  # see `_check_place`


def dial(path: str) -> "_socket.socket":
    """Connect to the worker that is to be found there.

    Raises:
        OSError: there is none.
        Unusual: it is not ours, or not in a place of ours.
    """
    _check_place(os.path.dirname(path))
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        _check_peer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def assignment(  # each by name
    begun: bytes, wish: Wish, *, password: str, roots: "trust.Trust", environ: "Mapping[str, str]"
) -> bytes:
    """A run for a worker to serve, as one line; it holds the run's secret.

    Args:
        begun: the daemon's answer to the new run, as it came.
        wish: what was asked of it.
        password: what the child's proxy URL is to hold.
        roots: what servers are verified against.
        environ: the caller's, which may name a proxy for the way out.
    """
    more = {
        "password": password,
        "unmatched": wish.unmatched,
        "inside": wish.inside,
        "upstream_roots": roots.upstream,
        "https_proxy": environment.caller_proxy(environ, "https_proxy"),
        "no_proxy": environment.caller_proxy(environ, "no_proxy"),
    }
    return b'{"begun":' + begun.replace(b"\n", b" ") + b"," + plain.to_json(more).encode()[1:] + b"\n"


def assign(worker: "_socket.socket", line: bytes) -> int:
    """Have the worker serve a run until this process ends; returns the port of its proxy.

    Raises:
        OSError: it is gone.
        Refused: it says why not.
    """
    worker.sendall(line)
    answer = b""
    while not answer.endswith(b"\n"):
        more = worker.recv(4096)
        if not more or len(answer) > _ANSWER_LIMIT:
            raise ConnectionResetError
        answer += more
    word, _, port = answer.partition(b" ")
    if word != b"port":
        raise Refused(answer)
    return int(port)


def new_password() -> str:
    """What one child's proxy URL holds, and nobody else knows."""
    return signing.encode(os.urandom(32))


def grant_of(begun: "Mapping[str, object]", password: str) -> environment.Grant:
    """What the daemon's answer to a new run gives its child.

    Raises:
        Unusual: it is not of the agreed form.
    """
    routes, placeholders = begun.get("routes"), begun.get("environment", {})
    if not (isinstance(routes, list) and isinstance(placeholders, dict)):
        raise Unusual
    return environment.Grant(
        run=plain.text(begun, "run"),
        password=password,
        hosts=[(plain.text(route, "host"), route.get("suffix") is True) for route in routes],
        placeholders={str(name): str(value) for name, value in placeholders.items()},
    )


def _check_peer(connection: "_socket.socket") -> None:
    if peer.user_and_process(connection)[0] != os.geteuid():
        raise Unusual


def _check_place(directory: str) -> None:
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Unusual
