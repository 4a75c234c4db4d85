"""Canaries: known secrets go through every journey, and are then looked for in every byte that was left or said."""

import base64
import json
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fakes import oidc
from fakes.visitor import Visitor
from security import adversary
from security.conftest import KEY

BAD_KEY = "a-canary-that-is-no-key-at-all"
DEBUG = {"AUTHSOME_LOG_LEVEL": "debug"}


def spellings(secret: str) -> Iterator[bytes]:
    """The forms in which a secret is still one: plain, base64 at each offset, hex, URL-encoded."""
    data = secret.encode()
    yield data
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    for offset in range(3):
        start, end = -(-offset * 8 // 6), (offset + len(data)) * 8 // 6
        padded = bytes(offset) + data + bytes(2)
        yield base64.b64encode(padded)[start + 1 : end - 1]
        yield base64.urlsafe_b64encode(padded)[start + 1 : end - 1]
    yield data[::-1]


def found(secrets: Mapping[str, str], data: bytes) -> list[str]:
    """Which of the secrets these bytes hold, in whatever spelling."""
    return [name for name, secret in secrets.items() if any(form in data for form in spellings(secret))]


def test_the_search_finds_what_it_looks_for():
    """A search that finds nothing proves something only if it would have found it."""
    secret = "p+s/s=&%25?#: ~post-secret"
    for data in (
        secret.encode(),
        base64.b64encode(b"x:" + secret.encode() + b":y"),
        base64.urlsafe_b64encode(b"xyz" + secret.encode()),
        base64.b64encode(b"a" + secret.encode()),
        secret.encode().hex().encode(),
        urllib.parse.urlencode({"a": secret}).encode(),
        json.dumps({"a": secret}).encode(),
    ):
        assert found({"it": secret}, b"before " + data + b" after") == ["it"]


@contextmanager
def watching(program) -> Iterator[set[bytes]]:
    """Read the command line and environment of every process of the installation, every few milliseconds. # SEC-141"""
    seen: set[bytes] = set()
    stop = threading.Event()
    mark = str(program.directory).encode()
    old = {entry.name for entry in Path("/proc").iterdir()}

    def watch() -> None:
        while not stop.wait(0.005):
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit() or (entry.name in old):
                    continue
                with suppress(OSError):
                    line, environment = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
                    if mark in line + environment:
                        seen.update((line, environment))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def secrets_of(server: oidc.OidcServer) -> dict[str, str]:
    """Every secret that the provider has seen or made."""
    values = {}
    for number, entry in enumerate(server.log()):
        for source in (entry.form or {}, entry.answer or {}, dict(urllib.parse.parse_qsl(entry.query))):
            for name in (
                "code",
                "code_verifier",
                "state",
                "access_token",
                "refresh_token",
                "client_secret",
                "id_token",
            ):
                if isinstance(value := source.get(name), str):
                    values[f"{name} {number}"] = value
    assert {name.split()[0] for name in values} >= {"code", "code_verifier", "state", "access_token", "refresh_token"}
    return values


class Journey:
    """Commands of one installation at their most talkative, and all that they said."""

    def __init__(self, program, server, begin_login):
        self.program = program
        self.server = server
        self.begin_login = begin_login
        self.said = []

    def run(self, *args, env=None, **options):
        """One command; what it says is searched later."""
        done = self.program(*args, env={**DEBUG, **(env or {})}, **options)
        self.said += [done.stdout, done.stderr]
        assert "Traceback" not in done.stderr
        return done

    def fails(self, *args, **options):
        """One command that must not succeed."""
        assert self.run(*args, **options).returncode != 0

    def exports(self, provider):
        """One command whose output is what was asked for, and so is not searched."""
        done = self.program("export", provider, "--format", "env", env=DEBUG)
        self.said.append(done.stderr)
        assert done.returncode == 0
        return done.stdout

    def log_in(self):
        """An OAuth login with a client secret, to its end."""
        login, link = self.begin_login("acme", "--verbose", client=oidc.POST)
        Visitor().log_in(link, self.server)
        out, err = login.communicate(timeout=60)
        assert login.returncode == 0, err
        self.said += [out, err.replace(link, "")]  # the link is for the user

    def use(self, url):
        """A child that tells all it has, and a request of each kind."""
        script = f"env; cat /proc/self/environ; set; curl -s -o /dev/null -w '%{{http_code}}' {url}"
        assert self.run("run", "--", "sh", "-c", script).stdout.endswith("200")
        question = {"method": "GET", "host": "token.example.localhost", "path": "/a?b"}
        assert adversary.owner(self.program).ask("POST", "/proxy/resolve", question).status == 200

    def refresh(self):
        """A refresh, one that is refused in words that repeat what was sent, and one answered with a page."""
        self.program.make_due()
        assert self.run("get", "acme", "--json").returncode == 0
        assert self.exports("acme")
        self.program.make_due()
        last = self.server.token_requests()[-1].answer
        quoted = urllib.parse.quote_plus(oidc.POST.secret)
        echo = f"you sent {last['access_token']}, {last['refresh_token']}, {oidc.POST.secret}, {quoted}"
        body = json.dumps({"error": echo, "error_description": echo})
        self.server.plan("/token", status=400, body=body, headers={"Content-Type": "application/json"})
        self.fails("export", "acme")
        time.sleep(1.1)  # the pause after a failure
        self.server.plan("/token", status=200, body=f"<html>{secrets_of(self.server)}</html>")
        self.fails("export", "acme")

    def show(self):
        """Every command that shows something."""
        for command in SHOWING:
            self.run(*command.split(), "--verbose")
            self.run(*command.split(), "--json")

    def go_wrong(self):
        """Refused keys, foreign callbacks, a login broken off."""
        self.fails("login", "keyed", "--stdin", "--force", input=BAD_KEY)
        self.fails("login", "openai", "--stdin", input=json.dumps({"nonsense": BAD_KEY}))
        self.fails("login", "keyed", "--stdin", "--connection", "bad name", input=KEY)
        self.fails("get", "nothing")
        self.fails("export", "keyed", env={"AUTHSOME_RUN": "x"})
        login, link = self.begin_login("acme", "--force", client=oidc.POST)
        for query in ("state=guess&code=canary-code", "error=x&state=y"):
            adversary.ask(self.program.port, "GET", f"/auth/callback/oauth?{query}")
        login.terminate()
        self.said += [text.replace(link, "") for text in login.communicate(timeout=60)]

    def crash(self):
        """The daemon killed, and what comes after."""
        adversary.kill(self.program.wait_daemon())
        assert self.run("list").returncode == 0
        assert KEY in self.exports("keyed")  # the one place where it is wanted
        assert self.run("logout", "acme").returncode == 0


SHOWING = (
    *("list", "get keyed", "get acme", "inspect acme", "log -n 100", "doctor", "whoami"),
    *("daemon status", "daemon logs"),
)


def test_no_secret_is_left_anywhere(program, keyed, define, begin_login):
    """Login, use, refresh, refusal, export, crash and restart leave no secret but in the answers that are for them.

    # SEC-62 # SEC-126 # SEC-141 # SEC-142 # SEC-143 # SEC-144 # SEC-145 # SEC-147 # SEC-184
    """
    with oidc.serve(redirect_uris=[program.callback]) as server, watching(program) as seen:
        definition = server.definition("acme", client=oidc.POST, api_url="https://token.example.localhost")
        definition["export"] = {"env": {"ACME_TOKEN": {"value": "{access_token}", "placeholder": "acme-placeholder"}}}
        define(definition)
        assert program("daemon", "restart", env=DEBUG).returncode == 0
        journey = Journey(program, server, begin_login)
        journey.log_in()
        journey.use(keyed.url("/v1/x?api_secret=1", host="api.example.localhost"))
        journey.refresh()
        journey.show()
        journey.go_wrong()
        journey.crash()
        secrets = secrets_of(server)
    master = program.home / "server" / "master.key"
    secrets |= {"api key": KEY, "refused key": BAD_KEY, "client secret": oidc.POST.secret}
    secrets["master key"] = master.read_text().strip()
    assert len(secrets) > 12
    assert len(seen) > 10
    assert [found(secrets, part.encode()) for part in journey.said] == [[]] * len(journey.said)
    assert [found(secrets, data) for data in seen] == [[]] * len(seen)
    files = {path: data for path, data in program.files().items() if path != master}
    assert any(path.name == "store.db-wal" for path in files)
    assert {str(path): names for path, data in files.items() if (names := found(secrets, data))} == {}
    events = {event["event"] for event in program.json("log", "-n", "200")["events"]}
    assert {"login", "refresh", "refresh_failed", "resolve", "export", "run", "logout"} <= events


def test_a_key_is_never_an_argument(program):
    """A key given as an argument is refused, without being repeated. # SEC-142"""
    for args in (("login", "openai", KEY), ("login", "openai", "--key", KEY), ("login", "openai", f"--api-key={KEY}")):
        done = program(*args)
        assert done.returncode == 2
        assert KEY not in done.stdout


def test_typing_is_not_echoed(program, keyed):
    """A key typed at the prompt is not shown, nor left in the terminal's title or the clipboard. # SEC-142 # SEC-146"""
    del keyed
    with program.on_terminal("login", "keyed", "--no-browser", "--connection", "typed") as terminal:
        terminal.expect("API key: ")
        terminal.send_line(KEY)
        assert terminal.wait() == 0
        assert KEY not in terminal.transcript
        assert "\x1b]" not in terminal.transcript


def test_showing_is_asked_for_and_recorded(program, keyed):
    """`get` hides secrets, --json too; without a terminal they are not shown at all; `export` is in the log.

    # SEC-145
    """
    del keyed
    for args in (
        ("get", "keyed"),
        ("get", "keyed", "--json"),
        ("get", "keyed", "--show-secret"),
        ("get", "keyed", "--field", "api_key"),
    ):
        done = program(*args)
        assert KEY not in done.stdout + done.stderr
    assert program("get", "keyed", "--show-secret").returncode != 0
    assert KEY in program("export", "keyed").stdout
    events = [event["event"] for event in program.json("log")["events"]]
    assert "export" in events
    assert "show" not in events


def test_frames_of_a_crash_hold_no_secret(program, keyed):
    """An unexpected error under the daemon is logged by its place, and answered without any account. # SEC-143"""
    del keyed
    caller = adversary.owner(program)
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.execute("UPDATE secrets SET sealed = ? WHERE field = 'api_key'", (KEY.encode(),))
    answer = caller.ask("POST", "/connections/keyed/default/secrets", {"purpose": "export"})
    assert answer.status >= 500
    assert KEY.encode() not in answer.body
    done = program("export", "keyed", "--verbose", env=DEBUG)
    assert done.returncode == 9
    log = (program.home / "server" / "daemon.log").read_text()
    assert KEY not in done.stdout + done.stderr + log
