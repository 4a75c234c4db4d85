"""`login`: get a credential and wait until it is stored.

Rule: a key is typed, piped or put into the form, never an argument; and leaving a login half-way stores nothing.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from authsome.cli import browser, prompt, qr, segments
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.cli.output import Stopwatch
from authsome.client.api import Daemon, JsonObject
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    CredentialUnavailable,
    KeyRejected,
    NotAllowed,
    UsageError,
    from_code,
)
from authsome.message import json_object
from authsome.models import url
from authsome.models.connection import CLIENT_ID, DEFAULT_CONNECTION
from authsome.secret import Secret

FLOWS = ("pkce", "device_code", "dcr_pkce", "client_credentials", "api_key")
_INPUT_LIMIT = 64 * 1024  # characters on standard input
_TRIAL = 120.0  # seconds: the daemon may be trying the key on its provider, which has 30 for each request
_WAIT = 20  # seconds of one long poll; the progress line moves between polls
_TRIES = 3
_DISCOVERY = 180.0  # seconds: half a dozen questions to servers that nobody knows yet, each with 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that a login asks for."""

    name: str
    label: str
    secret: bool
    required: bool
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login as the daemon tells it."""

    id: str
    status: str
    provider: str
    connection: str
    browser_url: str
    authorization_url: str | None
    docs_url: str | None
    redirect_uri: str | None
    flows: tuple[str, ...]
    fields: tuple[Field, ...]
    problem: str | None
    device: JsonObject | None
    error: JsonObject | None
    stored: JsonObject | None
    new_provider: bool
    unverified: str | None
    untried: str | None
    unnamed: str | None

    @property
    def asks_for_client(self) -> bool:
        """Whether an OAuth client is asked for."""
        return any(field.name == CLIENT_ID for field in self.fields)

    @property
    def code(self) -> str:
        """What is to be entered at the provider, in a login by device code."""
        return str((self.device or {}).get("user_code"))

    @classmethod
    def from_json(cls, value: JsonObject) -> "Session":
        """Read the daemon's answer; what a newer daemon adds is left alone."""

        def text(name: str) -> str | None:
            return str(value[name]) if value.get(name) else None

        error, stored, fields = value.get("error"), value.get("connection_view"), value.get("fields")
        device, flows = value.get("device"), value.get("flows")
        return cls(
            id=str(value["id"]),
            status=str(value["status"]),
            provider=str(value["provider"]),
            connection=str(value["connection"]),
            browser_url=str(value.get("browser_url") or ""),
            authorization_url=text("authorization_url"),
            docs_url=text("docs_url"),
            redirect_uri=text("redirect_uri"),
            flows=tuple(str(flow) for flow in flows) if isinstance(flows, list) else (),
            fields=tuple(_field(each) for each in fields if isinstance(each, dict)) if isinstance(fields, list) else (),
            problem=text("problem"),
            device=device if isinstance(device, dict) else None,
            error=error if isinstance(error, dict) else None,
            stored=stored if isinstance(stored, dict) else None,
            new_provider=value.get("new_provider") is True,
            unverified=text("unverified"),
            untried=text("untried"),
            unnamed=text("unnamed"),
        )


def configure_login(parser: Parser) -> None:
    """The arguments of `login`."""
    parser.argument("provider", "a provider's name, as `authsome list` shows it, or the URL of an MCP server or issuer")
    parser.option("--flow", metavar="FLOW", help=f"the way to log in: {', '.join(FLOWS)}", choices=FLOWS)
    parser.option("--connection", metavar="NAME", help="name of the connection (default: default)")
    parser.option("--scopes", metavar="a,b", help="scopes to ask for instead of the usual ones")
    parser.option("--base-url", metavar="URL", help="where a self-hosted provider is")
    parser.flag("--force", help="log in again although the connection exists")
    parser.flag("--no-verify", help="store the credential without trying it on its provider")
    parser.flag("--no-browser", help="ask on the terminal; show links instead of opening them")
    parser.flag("--stdin", help="read the key, or a JSON object of fields, from standard input")
    parser.too_many = "a key is never an argument (others can read those): leave it away to be asked, or use --stdin"
    parser.examples = (
        "authsome login openai",
        "authsome login github --connection work --scopes repo,read:org",
        "authsome login https://mcp.example.com/mcp",
        "pass show openai | authsome login openai --stdin",
    )


def run_login(args: Arguments, context: Context) -> int:
    """Log in, and wait for the end of it."""
    daemon, given = context.daemon, None
    target = args.text("provider")
    is_url = "://" in target
    if args.flag("stdin"):
        try:
            given = _read_stdin()
        except UsageError:
            if not is_url:  # who has mistyped the name is told that first: the command before the pipe did so, too
                daemon.call("GET", f"/providers/{segments.named(target)}")
            raise
    body: dict[str, object] = {"url" if is_url else "provider": target, "force": args.flag("force")}
    if args.flag("no-verify"):
        body["verify"] = False
    for name in ("connection", "flow"):
        if (value := args.optional(name)) is not None:
            body[name] = value
    if (base_url := args.optional("base-url")) is not None:
        body["base_url"] = base_url
    if (scopes := args.optional("scopes")) is not None:
        body["scopes"] = [scope for scope in scopes.replace(",", " ").split() if scope]
    attempt = _Attempt(context, daemon, no_browser=args.flag("no-browser"), given=given, command=_Command.of(args))
    if is_url:
        context.output.progress(f"asking {target} how to log in …")
    return _tell(_finished(daemon, attempt, body), context)


def with_key(context: Context, body: Mapping[str, object], fields: Mapping[str, Secret[str]]) -> Session:
    """Log in with a key that is at hand, on the road of `--stdin`.

    Args:
        context: the command's surroundings.
        body: what is asked of the daemon: the provider, the connection, and whether it may be replaced.
        fields: the key.
    """
    command = _Command(target=str(body["provider"]), options={})
    attempt = _Attempt(context, context.daemon, no_browser=True, given=fields, command=command)
    return _finished(context.daemon, attempt, {**body, "flow": "api_key"})


def _finished(daemon: Daemon, attempt: "_Attempt", body: JsonObject) -> Session:
    """Begin a login and see it to its end; one that is left half-way is ended."""
    address = body.get("url")
    patience = _DISCOVERY if address else _TRIAL
    session = Session.from_json(daemon.call("POST", "/auth/sessions", body, timeout=patience))
    if address:
        attempt.tell_provider(str(address), session)
    try:
        return attempt.finish(session)
    except (KeyboardInterrupt, AuthsomeError):
        with suppress(AuthsomeError):
            daemon.call("POST", f"/auth/sessions/{session.id}/cancel", {}, timeout=5)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """What was typed, as far as it says which login is meant: for hints that can be typed."""

    target: str
    options: Mapping[str, str | None]
    """Values by option; None for a flag."""

    @classmethod
    def of(cls, args: Arguments) -> "_Command":
        """The command that these arguments are of."""
        options: dict[str, str | None] = {
            name: value
            for name in ("flow", "connection", "scopes", "base-url")
            if (value := args.optional(name)) is not None
        }
        options |= {name: None for name in ("force", "no-verify") if args.flag(name)}
        return cls(target=args.text("provider"), options=options)

    def typed(self, **changes: str) -> str:
        """The command for a shell, with some options added or changed."""
        import shlex  # noqa: PLC0415  # 3 ms that most logins do without

        words = ["authsome", "login", self.target]
        for name, value in {**self.options, **changes}.items():
            words += [f"--{name}"] if value is None else [f"--{name}", value]
        return shlex.join(words)


class _Attempt:
    """One login on its way from the first question to its end."""

    def __init__(
        self,
        context: Context,
        daemon: Daemon,
        *,
        no_browser: bool,
        given: Mapping[str, Secret[str]] | Secret[str] | None,
        command: "_Command",
    ) -> None:
        self._context = context
        self._output = context.output
        self._daemon = daemon
        self._given = given
        self._command = command
        self._browser = not no_browser and browser.available(context.environ)
        self._shown = False
        self._tries = 0

    def tell_provider(self, address: str, session: Session) -> None:
        """Say which provider a URL belongs to, from now on or already."""
        what = "becomes the provider" if session.new_provider else "belongs to the provider"
        self._output.note(f"{address} {what} {session.provider}")
        if session.new_provider:
            self._output.note(f"its token will be sent to {urlsplit(address).netloc}, and nowhere else")

    def finish(self, session: Session) -> Session:
        """Do what each state asks for, until the last."""
        while True:
            match session.status:
                case "input":
                    session = self._input(session)
                case "callback" if self._may_paste and session.authorization_url:
                    session = self._paste(session)
                case "callback" | "exchanging":
                    self._show(session, "to log in, open")
                    session = self._wait(session)
                case "device":
                    self._show_code(session)
                    session = self._wait(session, f"waiting until you have entered {session.code}")
                case "completed":
                    return session
                case _:
                    raise _failure(session)

    def _input(self, session: Session) -> Session:
        if session.problem and (self._given is not None or self._tries >= _TRIES):
            raise _rejected(session)
        if self._given is not None:
            return self._resume(session, _assigned(self._given, session))
        if self._browser and not self._tries:
            self._show(session, f"{_title(session)} is asked for in your browser:")
            return self._wait(session)
        if prompt.possible() and not self._output.as_json:
            self._tries += 1
            return self._resume(session, self._ask(session))
        names = ", ".join(field.name for field in session.fields)
        is_one = len([field for field in session.fields if field.required]) == 1
        what = "it" if is_one else f"a JSON object of them ({_example(session)})"
        hint = f"pipe {what} in: {self._command.typed()} --stdin"
        if session.asks_for_client and "api_key" in session.flows:
            hint += "; or a token alone, with --flow api_key"
        raise CredentialUnavailable(
            f"logging in to {session.provider} needs {names}, and there is neither a browser nor a terminal to ask on",
            hint=hint,
        )

    def _ask(self, session: Session) -> dict[str, Secret[str]]:
        if session.problem:
            self._output.note(session.problem)
        elif session.asks_for_client:
            self._tell_client(session)
        answers = {}
        for field in session.fields:
            if field.hint and field.hint not in (session.problem or ""):
                self._output.note(f"({field.hint})")
            label = f"{field.label}: "
            answers[field.name] = (
                prompt.secret(self._output, label) if field.secret else Secret(prompt.text(self._output, label))
            )
        return answers

    def _tell_client(self, session: Session) -> None:
        """Say where an OAuth client comes from, as the form in the browser does."""
        place = session.docs_url or session.provider
        self._output.note(f"this needs an OAuth app of yours, once; it is made at {place}")
        if session.redirect_uri is not None:
            self._output.note(f"give it the redirect URI  {session.redirect_uri}")

    def _resume(self, session: Session, fields: Mapping[str, Secret[str]]) -> Session:
        body = {"fields": {name: value.reveal() for name, value in fields.items() if value}}
        return Session.from_json(self._daemon.call("POST", f"/auth/sessions/{session.id}/resume", body, timeout=_TRIAL))

    def _show(self, session: Session, what: str) -> None:
        """Say where to go, once, and open it where that is possible."""
        if self._shown:
            return
        self._shown = True
        opened = self._browser and browser.open_url(session.browser_url, self._context.environ)
        self._output.note(f"{what if not opened else 'your browser should open; if it does not, open'}")
        self._output.note(f"  {session.browser_url}")
        port = _port_here(session.browser_url)
        if not opened and port is not None and self._context.environ.get("SSH_CONNECTION"):
            self._output.hint(f"from another machine, first: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE")

    @property
    def _may_paste(self) -> bool:
        """Whether the login may be finished in a browser that cannot reach us, and somebody is here to say so."""
        return not self._browser and not self._output.as_json and prompt.possible()

    def _paste(self, session: Session) -> Session:
        """Wait for the browser, on this machine or on any other, whose last address is pasted here."""
        self._output.note(f"to log in to {session.provider}, open in a browser on this machine")
        self._output.note(f"  {session.browser_url}")
        self._output.note("or on any other machine")
        self._output.note(f"  {session.authorization_url}")
        self._output.note("there the last page cannot be loaded: paste its address here, and press Enter")
        if "device_code" in session.flows:
            self._output.hint(f"or stop, and enter a code: {self._command.typed(flow='device_code')}")
        with prompt.listening() as listener:
            return self._wait(session, "waiting for the browser, or for that address", listener)

    def _take_address(self, session: Session, address: str) -> Session:
        """Hand over what was pasted; an address that is none of this login's is no reason to end it."""
        try:
            target = f"/auth/sessions/{session.id}/callback"
            return Session.from_json(self._daemon.call("POST", target, {"address": address}, timeout=_TRIAL))
        except (AuthenticationFailed, NotAllowed) as error:
            self._output.note(f"that is not the address: {error.message}")
            return session

    def _show_code(self, session: Session) -> None:
        """Say which code is to be entered where; open our page that says it, too, where that is possible."""
        device = session.device or {}
        place, direct = str(device.get("verification_uri")), device.get("verification_uri_complete")
        self._output.note(f"to log in to {session.provider}, open on any device")
        self._output.note(f"  {place}")
        self._output.note(f"and enter the code  {session.code}")
        if self._browser and not self._shown and browser.open_url(session.browser_url, self._context.environ):
            self._shown = True
            self._output.hint("your browser should open a page that says the same")
        target = str(direct or place)
        if self._output.progress_shown and url.is_link(target):
            drawn = qr.lines(target, dark_on_light=self._output.err_color)
            self._output.picture(drawn)

    def _wait(
        self,
        session: Session,
        what: str = "waiting for you to finish in the browser",
        listener: prompt.Listener | None = None,
    ) -> Session:
        """Wait until the login has moved on, showing for how long already."""
        watch = Stopwatch()
        status = session.status
        patience = 1 if self._output.progress_shown or listener is not None else _WAIT
        while session.status == status:
            self._output.progress(f"{what} … {watch}, Ctrl-C stops")
            if listener is not None and (address := listener.line()) is not None:
                session = self._take_address(session, address)
                continue
            target = f"/auth/sessions/{session.id}?wait={patience}&status={status}"
            session = Session.from_json(self._daemon.wait_for(target, timeout=patience + 15.0))
        return session


def _tell(session: Session, context: Context) -> int:
    stored = session.stored or {}
    if session.unverified:
        context.output.note(f"stored, but it could not be verified: {session.unverified}")
    if context.output.as_json:
        told: JsonObject = stored or {"provider": session.provider, "connection": session.connection}
        reasons = {"unverified": session.unverified, "untried": session.untried, "unnamed": session.unnamed}
        context.output.result({**told, **reasons})
        return 0
    account, connection = stored.get("account"), session.connection
    whose = f" as {account}" if account else ""
    beside = f" (connection {connection})" if connection != DEFAULT_CONNECTION else ""
    context.output.line(good=f"logged in to {session.provider}{whose}{beside}")
    if session.untried:
        context.output.note(f"it was stored without being tried: {session.untried}")
    if session.unnamed:
        context.output.note(f"{session.provider} took it and does not say whose it is: {session.unnamed}")
    context.output.hint("next: authsome run -- COMMAND, and its requests carry this credential")
    return 0


def _read_stdin() -> Mapping[str, Secret[str]] | Secret[str]:
    """A key on one line, or a JSON object of fields."""
    if sys.stdin.isatty():
        raise UsageError(
            "--stdin reads from a pipe or a file, not from the terminal", hint="leave --stdin away to be asked"
        )
    try:
        text = sys.stdin.buffer.read(4 * _INPUT_LIMIT + 1).decode().strip()
    except UnicodeDecodeError:
        raise UsageError("standard input is not text in UTF-8") from None
    if not text:
        raise UsageError("there is nothing on standard input", hint="the key is to be its only line")
    if len(text) > _INPUT_LIMIT:
        raise UsageError("there is more on standard input than any key holds")
    if text.startswith("{"):
        try:
            fields = json_object(text.encode())
        except ValueError:
            raise UsageError("standard input begins like a JSON object, but is none") from None
        if not all(isinstance(value, str) for value in fields.values()):
            raise UsageError("each field on standard input is to be a text", hint='{"FIELD": "VALUE", …}')
        return {name: Secret(str(value)) for name, value in fields.items()}
    if "\n" in text:
        raise UsageError(
            "there is more than one line on standard input", hint="one line with the key, or a JSON object"
        )
    return Secret(text)


def _assigned(given: Mapping[str, Secret[str]] | Secret[str], session: Session) -> Mapping[str, Secret[str]]:
    if not isinstance(given, Secret):
        return given
    required = [field for field in session.fields if field.required]
    if len(required) != 1:
        raise UsageError(
            f"{session.provider} asks for more than a key", hint=f"give a JSON object: {_example(session)}"
        )
    return {required[0].name: given}


def _example(session: Session) -> str:
    """What a login asks for, as a JSON object."""
    return json.dumps({field.name: "…" for field in session.fields}, ensure_ascii=False)


def _port_here(address: str) -> int | None:
    """The port of an address on this machine; None for one that a browser elsewhere can reach, too."""
    with suppress(ValueError):  # no URL
        parts = urlsplit(address)
        if parts.hostname in {"127.0.0.1", "localhost", "::1"}:
            return parts.port
    return None


def _title(session: Session) -> str:
    labels = [field.label for field in session.fields]
    return " and ".join(labels) if labels else f"what {session.provider} needs"


def _rejected(session: Session) -> KeyRejected:
    return KeyRejected(session.problem, hint="nothing was stored")


def _failure(session: Session) -> AuthsomeError:
    error = session.error or {}
    hint = error.get("hint")
    message = str(error.get("message") or "the login ended without a credential")
    return from_code(str(error.get("code", "")), message, str(hint) if hint else None)


def _field(value: JsonObject) -> Field:
    return Field(
        name=str(value["name"]),
        label=str(value.get("label") or value["name"]),
        secret=value.get("secret") is not False,
        required=value.get("required") is not False,
        hint=str(value["hint"]) if value.get("hint") else None,
    )
