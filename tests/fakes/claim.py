"""Claims as people answer them: the identity asks on its terminal, its owner answers in a browser."""

from collections.abc import Mapping

from fakes.program import Program
from fakes.visitor import Visitor, link_of


def sign_in(program: Program, browser: Visitor | None = None) -> Visitor:
    """A browser that is signed in as the owner of a program's identity."""
    browser = browser or Visitor()
    browser.open(str(program.json("ui")["url"]))
    browser.submit({})
    assert browser.status == 200, browser.page
    return browser


def printed(program: Program, name: str = "ci") -> dict[str, str]:
    """A new identity that lies nowhere, as a CI has it: the two variables."""
    done = program("identity", "create", name, "--print")
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def confirm(program: Program, env: Mapping[str, str], limits: Mapping[str, str] | None = None) -> None:
    """Have an identity ask, and the program's owner say yes, within limits."""
    process = program.start("identity", "claim", "--no-browser", env=env)
    link = link_of(process)
    browser = sign_in(program)
    browser.open(link)
    browser.submit(limits or {}, to="/confirm")
    assert browser.status == 200, browser.page
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
