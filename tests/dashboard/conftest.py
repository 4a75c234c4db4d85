"""What the dashboard's tests share: a browser that is signed in, and the rules of accessibility."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import pytest

from browser.chromium import Page
from fakes import program

_AXE = Path(__file__).resolve().parents[1] / "fakes" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def open_dashboard(daemon: program.Program) -> Callable[..., None]:
    """Signs a page in by a one-time link, and goes on to a path of the dashboard."""

    def opened(page: Page, path: str = "/ui/") -> None:
        page.open(str(daemon.json("ui")["url"]))
        page.wait_for("body.dash")
        if path != "/ui/":
            page.open(daemon.url + path)
        page.wait_for("h1")

    return opened


@pytest.fixture
def open_without_script(daemon: program.Program) -> Callable[[Page, str], None]:
    """The same in a page whose scripts do not run: by the button that ours would press."""

    def opened(page: Page, path: str) -> None:
        page.disable_javascript()
        page.open(str(daemon.json("ui")["url"]))
        page.click("button[type=submit]")
        page.wait_for("body.dash")
        page.open(daemon.url + path)
        page.wait_for("h1")

    return opened


@pytest.fixture
def agent(daemon: program.Program, start: Callable[..., Popen[str]]) -> tuple[dict[str, str], Popen[str], str, str]:
    """An identity that asks to be claimed, in a terminal that waits: environment, process, path, fingerprint."""
    made = daemon("identity", "create", "agent", "--print")
    assert made.returncode == 0, made.stderr
    environment = dict(line.split("=", 1) for line in made.stdout.splitlines())
    fingerprint = re.search(r"fingerprint  ([0-9a-f ]{39})", made.stderr)[1]
    process = start("identity", "claim", "--no-browser", env=environment)
    said = ""
    while "fingerprint" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    link = re.search(rf"{re.escape(daemon.url)}(/claim/\S+)", said)[1]
    assert fingerprint in said
    return environment, process, link, fingerprint


@pytest.fixture(scope="session")
def complaints() -> Callable[[Page], list[str]]:
    """What axe-core finds wrong with a page (WCAG 2.2 A and AA, and its best practices), in both colour schemes."""
    script = _AXE.read_text("utf-8")

    def found(page: Page) -> list[str]:
        page.evaluate(f"(() => {{ {script} }})()")
        said = []
        for dark in (False, True):
            page.emulate(dark=dark)
            answer = page.evaluate("axe.run().then(r => JSON.stringify(r.violations))")
            said += [
                f"{each['id']}: {node['html']}: {node['failureSummary']}"
                for each in json.loads(str(answer))
                for node in each["nodes"]
            ]
        return said

    return found


@pytest.fixture
def presentable(complaints: Callable[[Page], list[str]], tmp_path: Path) -> Callable[..., None]:
    """Checks what every page has to be: accessible, within its window at any width, and silent.

    `expects` are words of what its console may say, such as the status of an error page. Its pictures, light and
    dark, narrow and wide, are kept with the test's files.
    """

    def check(page: Page, *, expects: Sequence[str] = ()) -> None:
        assert complaints(page) == []
        place = re.sub(r"\W+", "-", urlsplit(page.url).path).strip("-")
        for width in (380, 1440):
            for dark in (False, True):
                picture = tmp_path / f"{place}-{width}-{'dark' if dark else 'light'}.png"
                page.screenshot(picture, width=width, dark=dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} is too narrow"
        assert page.violations == []  # SEC-36
        said = [each for each in page.console if not each.startswith("verbose:")]  # advice of the developer tools
        assert [each for each in said if not any(word in each for word in expects)] == []
        assert page.dialogs == []
        assert page.evaluate("[...document.links].every(a => /^https:/.test(a.href) || a.origin === location.origin)")

    return check
