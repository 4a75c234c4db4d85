"""Headless Chromium, driven by the DevTools protocol: what a user sees, does, and is protected from.

    with chromium.launch(directory) as browser, browser.profile() as profile:
        page = profile.new_page()
        page.open(url)
        page.fill("#login", "octocat")
        page.click("#allow")
        page.wait_for_text("logged in")
        assert not page.violations

Nothing outside this machine is reachable: every name but localhost, `*.localhost` and those in `hosts` fails to
resolve.
"""

import base64
import json
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import websocket

from fakes.patience import PATIENCE, eventually

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
    "--remote-debugging-port=0",
    "--window-size=1000,800",
)
_WHOLE: Final = "document.readyState === 'complete'"

Json = dict[str, object]


class BrowserError(AssertionError):
    """What was waited for did not come, or the page threw; the message says what the page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that a page made."""

    method: str
    url: str
    headers: Mapping[str, str]
    """As sent, names in lower case; without those that the network layer adds later."""


@dataclass(slots=True, kw_only=True)
class _Events:
    """What a page has told of itself."""

    console: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class _Connection:
    """The DevTools connection of one browser: commands and their results in turn, events on the way."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=PATIENCE, suppress_origin=True)
        self._last = 0
        self._open: dict[str, _Events] = {}

    def attach(self, session: str) -> _Events:
        """Keep the events of this session from now on."""
        return self._open.setdefault(session, _Events())

    def call(self, method: str, parameters: Json | None = None, *, session: str | None = None) -> Json:
        """Send a command and wait for its result."""
        number = self._send(method, parameters or {}, session)
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result = answer["result"]
                assert isinstance(result, dict)
                return result

    def drain(self) -> None:
        """Take in the events that are on their way: until the browser has been quiet for a moment."""
        while select.select([self._socket.sock], [], [], 0.1)[0]:
            self._receive()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _send(self, method: str, parameters: Json, session: str | None) -> int:
        self._last += 1
        message: Json = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        return self._last

    def _receive(self) -> Json:
        message: Json = json.loads(self._socket.recv())
        events = self._open.get(str(message.get("sessionId")))
        if events and "method" in message:
            self._note(events, str(message["method"]), message["params"], str(message["sessionId"]))
        return message

    def _note(self, events: _Events, method: str, params: object, session: str) -> None:
        assert isinstance(params, dict)
        match method:
            case "Runtime.consoleAPICalled":
                texts = (str(part.get("value", part.get("description"))) for part in params["args"])
                events.console.append(f"{params['type']}: {' '.join(texts)}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                events.console.append(f"exception: {thrown}")
            case "Log.entryAdded":
                entry = params["entry"]
                events.console.append(f"{entry['level']}: {entry['text']}")
            case "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue":
                details = params["issue"]["details"]["contentSecurityPolicyIssueDetails"]
                what = details.get("blockedURL", details["contentSecurityPolicyViolationType"])
                events.violations.append(f"{details['violatedDirective']}: {what}")
            case "Page.javascriptDialogOpening":
                events.dialogs.append(str(params["message"]))
                self._send("Page.handleJavaScriptDialog", {"accept": False}, session)
            case "Network.requestWillBeSent":
                request = params["request"]
                headers = {name.lower(): str(value) for name, value in request["headers"].items()}
                events.requests.append(Request(method=request["method"], url=request["url"], headers=headers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One tab."""

    _connection: _Connection
    _session: str
    _target: str
    _events: _Events

    # ---- what a user does ----------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go to a URL and wait until it is loaded; an error page of the browser fails."""
        answer = self._call("Page.navigate", {"url": url})
        if answer.get("errorText") not in {None, "net::ERR_ABORTED"}:  # aborted: a download, or an answer 204
            raise BrowserError(f"{url}: {answer['errorText']}")
        self._wait(_WHOLE, f"{url} to be loaded")

    def fill(self, selector: str, value: str) -> None:
        """Type a value into a field in place of what is there."""
        self.wait_for(selector)
        self._evaluate(f"(e => {{ e.focus(); e.select?.(); }})({_find(selector)})")
        self._call("Input.insertText", {"text": value})

    def click(self, selector: str, *, seconds: float = PATIENCE) -> None:
        """Click in the middle of an element, as a mouse would, as soon as it can be reached there."""
        with self.held(selector, seconds=seconds):
            pass

    @contextmanager
    def held(self, selector: str, *, seconds: float = PATIENCE) -> Iterator[None]:
        """Press in the middle of an element for the length of a block, and let go where that was.

        A live page may move the element just before. What was pressed instead is let go of elsewhere: that is no click.
        """
        end = time.monotonic() + seconds
        while (place := self._press(selector)) is None:
            self._mouse("mouseReleased", {"x": 0, "y": 0})
            if time.monotonic() > end:
                raise BrowserError(f"{selector} cannot be pressed; the page shows:\n{self.text()}")
        yield
        self._mouse("mouseReleased", place)

    def _press(self, selector: str) -> Json | None:
        """Press in the middle of an element; None when something else was there by then."""
        self.wait_for(selector)
        place = self._middle(selector)
        self._mouse("mousePressed", place)
        # A page without a doctype has links alone match `:active` that stands by itself.
        return place if self._evaluate(f"{_find(selector)}?.matches(':is(*):active') === true") else None

    def _middle(self, selector: str) -> Json:
        place = self._evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})({_find(selector)})"
        )
        assert isinstance(place, list)
        return {"x": place[0], "y": place[1]}

    def _mouse(self, kind: str, place: Json) -> None:
        self._call("Input.dispatchMouseEvent", {"type": kind, **place, "button": "left", "clickCount": 1})

    def press(self, key: str) -> None:
        """Press a key by its name: `Enter`, `Tab`, `Escape`."""
        code = {"Enter": 13, "Tab": 9, "Escape": 27}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", {"type": "keyDown", **event, **({"text": "\r"} if code == 13 else {})})
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    # ---- what a user sees ----------------------------------------------------------------------------------

    def wait_for(self, selector: str) -> None:
        """Wait until an element is there, and the rest of its page, after which nothing moves."""
        self._wait(f"{_find(selector)} !== null && {_WHOLE}", f"an element {selector}")

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text, and is loaded."""
        self._wait(f"document.body?.innerText.includes({json.dumps(text)}) && {_WHOLE}", f"the text {text!r}")

    def wait_for_url(self, prefix: str) -> None:
        """Wait until the page's URL begins with `prefix` and the page is loaded."""
        self._wait(f"location.href.startsWith({json.dumps(prefix)}) && {_WHOLE}", f"a URL {prefix}…")

    def wait_until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        self._wait(condition, condition)

    def text(self, selector: str = "body") -> str:
        """The visible text of an element."""
        return str(self._evaluate(f"{_find(selector)}.innerText"))

    def texts(self, selector: str) -> list[str]:
        """The visible text of every such element."""
        found = self._evaluate(f"Array.from(document.querySelectorAll({json.dumps(selector)}), e => e.innerText)")
        assert isinstance(found, list)
        return found

    def has(self, selector: str) -> bool:
        """Whether there is such an element now."""
        return bool(self._evaluate(f"{_find(selector)} !== null"))

    def value(self, selector: str) -> str:
        """What stands in a field."""
        return str(self._evaluate(f"{_find(selector)}.value"))

    def attribute(self, selector: str, name: str) -> str | None:
        """An attribute of an element."""
        found = self._evaluate(f"{_find(selector)}.getAttribute({json.dumps(name)})")
        return None if found is None else str(found)

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression, awaited if it is a promise (the page's CSP does not hinder it)."""
        return self._evaluate(expression)

    @property
    def url(self) -> str:
        """The URL in the address bar."""
        return str(self._evaluate("location.href"))

    @property
    def title(self) -> str:
        """The page's title."""
        return str(self._evaluate("document.title"))

    def screenshot(self, path: Path, *, width: int | None = None, dark: bool = False) -> Path:
        """Write a PNG of the whole page, as at this `width` and in this colour scheme."""
        self.emulate(width=width, dark=dark)
        picture = self._call("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(str(picture["data"])))
        return path

    def emulate(self, *, width: int | None = None, dark: bool = False, calm: bool = False) -> None:
        """Show the page as at this `width`, in this colour scheme and with `calm` motion from now on."""
        if width:
            metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            self._call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        motion = [{"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}]
        self._call("Emulation.setEmulatedMedia", {"features": [*scheme, *motion]})

    # ---- what happened out of sight ------------------------------------------------------------------------

    @property
    def console(self) -> list[str]:
        """Messages, warnings, failed loads and exceptions, each with its level, oldest first."""
        return self._noted().console

    @property
    def violations(self) -> list[str]:
        """What the content security policy blocked, each with its directive."""
        return self._noted().violations

    @property
    def dialogs(self) -> list[str]:
        """The texts of alert() and its like; each was dismissed."""
        return self._noted().dialogs

    @property
    def requests(self) -> list[Request]:
        """Every request, oldest first."""
        return self._noted().requests

    def history(self) -> list[str]:
        """The addresses that the back button leads to, and the present one."""
        entries = self._call("Page.getNavigationHistory")["entries"]
        assert isinstance(entries, list)
        return [str(entry["url"]) for entry in entries]

    def cookies(self) -> list[Json]:
        """Every cookie of the profile, with `name`, `value`, `domain`, `path`, `httpOnly`, `secure`, `sameSite`."""
        found = self._call("Network.getAllCookies")["cookies"]
        assert isinstance(found, list)
        return found

    def disable_javascript(self) -> None:
        """Run no script of any page that is opened from now on."""
        self._call("Emulation.setScriptExecutionDisabled", {"value": True})

    def show(self) -> None:
        """Bring the tab to the front of its window."""
        self._call("Page.bringToFront")

    def close(self) -> None:
        """Close the tab, as a user who gives up."""
        self._connection.call("Target.closeTarget", {"targetId": self._target})

    # ---- inside --------------------------------------------------------------------------------------------

    def _call(self, method: str, parameters: Json | None = None) -> Json:
        return self._connection.call(method, parameters, session=self._session)

    def _noted(self) -> _Events:
        with suppress(BrowserError):  # between two documents there is nothing to ask
            self._evaluate("0")  # what the page has told so far comes before the answer
        self._connection.drain()
        return self._events

    def _evaluate(self, expression: str) -> object:
        parameters: Json = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", parameters)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")

    def _wait(self, condition: str, what: str) -> None:
        def holds() -> object:
            with suppress(BrowserError):  # between two documents there is nothing to ask
                return self._evaluate(condition)
            return False

        if not eventually(holds):
            raise BrowserError(f"waited in vain for {what}; {self.url} shows:\n{self.text()}\n{self._events.console}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Cookies and storage of their own: another user's browser."""

    _connection: _Connection
    _context: str

    def new_page(self, *, in_window: bool = False) -> Page:
        """Open an empty tab, which hides the one before it; or in a window of its own, beside the others."""
        call = self._connection.call
        wanted: Json = {"url": "about:blank", "browserContextId": self._context}
        if in_window:
            wanted["newWindow"] = True
        target = call("Target.createTarget", wanted)["targetId"]
        session = str(call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"])
        events = self._connection.attach(session)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            call(f"{domain}.enable", session=session)
        return Page(_connection=self._connection, _session=session, _target=str(target), _events=events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A running Chromium."""

    _connection: _Connection

    @contextmanager
    def profile(self) -> Iterator[Profile]:
        """A fresh profile; it is gone, with its pages, when the block ends."""
        context = str(self._connection.call("Target.createBrowserContext")["browserContextId"])
        try:
            yield Profile(_connection=self._connection, _context=context)
        finally:
            self._connection.call("Target.disposeBrowserContext", {"browserContextId": context})


def _find(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


@contextmanager
def launch(directory: Path, *, hosts: Mapping[str, str] | None = None, accept: Sequence[str] = ()) -> Iterator[Browser]:
    """Start Chromium and end it with the block.

    Args:
        directory: an empty directory for its data.
        hosts: names that resolve to an address of this machine, such as {"evil.test": "127.0.0.1"}.
        accept: authorities to accept though Chromium does not know them (`Authority.spki`).
    """
    data = directory / "data"
    rules = [f"MAP {name} {address}" for name, address in (hosts or {}).items()]
    rules += ["MAP * ~NOTFOUND", "EXCLUDE localhost", "EXCLUDE *.localhost", "EXCLUDE 127.0.0.1", "EXCLUDE [::1]"]
    command = ["chromium", *_FLAGS, f"--user-data-dir={data}", f"--host-resolver-rules={', '.join(rules)}"]
    if accept:
        command.append(f"--ignore-certificate-errors-spki-list={','.join(accept)}")
    environment = {"HOME": str(directory), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    log = directory / "chromium.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, "about:blank"], env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            connection = _Connection(_debugger(data / "DevToolsActivePort", process, log))
            yield Browser(_connection=connection)
            with suppress(websocket.WebSocketException, OSError):
                connection.call("Browser.close")
            connection.close()
        finally:
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _debugger(active: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """The URL of the browser's DevTools connection, as soon as it is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            lines = active.read_text().splitlines()
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise BrowserError(f"Chromium did not start:\n{log.read_text(errors='replace')}")
