"""The daemon killed in the middle of things: what was in flight goes on with the next one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakes import claim, oidc
from fakes.program import Program
from fakes.visitor import Visitor, link_of
from security import adversary

if TYPE_CHECKING:
    from subprocess import Popen


def test_a_login_whose_daemon_is_killed_at_the_redirect(
    program: Program, acme: oidc.OidcServer, begin_login: Callable[..., tuple["Popen[str]", str]]
):
    """SIGKILL while the browser is at the provider; the callback finds the next daemon, and completes. # SEC-66"""
    process, link = begin_login("acme")
    browser = Visitor()
    asked = browser.open(link, stop_at=acme.issuer)
    first = program.wait_daemon()
    adversary.kill(first)
    assert program("daemon", "start").returncode == 0
    assert program.wait_daemon() != first
    browser.open(acme.approve(asked, login="octocat"))
    assert browser.status == 200, browser.page
    assert "logged in" in browser.page.lower() or "connected" in browser.page.lower(), browser.page
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "logged in to acme" in out
    assert program.json("get", "acme")["status"] == "connected"


def test_what_a_killed_daemon_knew(program: Program):
    """A claim that waits, limits, and who is revoked: all of it is known to the next daemon. # SEC-20"""
    assert program("whoami").returncode == 0
    limited, revoked, asking = (claim.printed(program, name) for name in ("limited", "revoked", "asking"))
    claim.confirm(program, limited, {"methods": "GET"})
    claim.confirm(program, revoked)
    assert program("identity", "revoke", "revoked", "--yes").returncode == 0
    process = program.start("identity", "claim", "--no-browser", env=asking)
    link = link_of(process)
    adversary.kill(program.wait_daemon())
    assert program("daemon", "start").returncode == 0
    browser = claim.sign_in(program)
    browser.open(link)
    browser.submit({}, to="/confirm")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "limits     GET" in program("whoami", env=limited).stdout
    assert program("whoami", env=revoked).returncode == 10
