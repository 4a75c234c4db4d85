"""Markup wherever a text is kept, as if nothing had been checked on its way in: on every page it is text."""

import json
import re
import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from fakes import definitions

EVIL = '"><img src=x onerror=alert(1)><svg onload=alert(1)>'  # no slash: it stands in paths, too
KEY = "kk-aaaaaaaaaaaaaaaaaaaaaaaa"
COPIES = {
    "identities": ("handle",),
    "connections": ("name", "account", "problem"),
    "principals": ("id", "name", "email", "vault_id"),
    "invitations": ("id", "email"),
    "dashboard_sessions": ("id", "browser", "address", "identity"),
    "runs": ("id", "identity", "command"),
    "audit": ("principal", "identity", "proof", "provider", "connection", "method", "host", "path", "run", "detail"),
}
"""Where texts are kept that a page may show: a row of each table is there a second time, with these."""
OTHERWISE = {
    "identities": {"did": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
    "connections": {"is_default": 0, "status": "invalid", "scopes": '["<b>", "javascript:alert(1)"]'},
    "invitations": {"token_hash": b"x" * 32},
    "dashboard_sessions": {"way": "link", "key_hash": b"x" * 32},
    "runs": {"secret_hash": b"x" * 32, "pinned": json.dumps({"keyed": EVIL}), "only_providers": json.dumps([EVIL])},
    "audit": {"id": 10_000, "hash": None, "seal": None},
}
"""What else has to differ, or be well-formed."""


def plant(store: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> None:
    """Put the table's first row in once more, with markup in these columns."""
    row = dict(store.execute(f"SELECT * FROM {table}").fetchone())
    row |= dict.fromkeys(columns, EVIL) | OTHERWISE.get(table, {})
    marks = ", ".join("?" * len(row))
    store.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture
def running(define, program, start, api_server):
    """A connection in use by a run, and somebody invited: a row in each of the tables."""
    definition = definitions.keyed(api_server.url("/", host="api.example.localhost"))
    define({**definition, "display_name": EVIL, "description": EVIL})
    assert program("login", "keyed", "--stdin", "--no-verify", input=KEY).returncode == 0
    assert program("admin", "principals", "invite", "ada@example.org").returncode == 0
    url = api_server.url("/<img src=x>", host="api.example.localhost")
    run = start("run", "--", "sh", "-c", f"curl -s '{url}' >/dev/null; echo begun; exec sleep 600")
    assert run.stdout is not None
    assert run.stdout.readline() == "begun\n"


def test_markup_in_every_row(running, program, page, open_dashboard):
    """Handles, names, addresses, causes, paths: each page that can be reached shows them, and runs nothing. # SEC-38"""
    del running
    open_dashboard(page)
    with closing(sqlite3.connect(program.home / "server" / "store.db", timeout=60, isolation_level=None)) as store:
        store.row_factory = sqlite3.Row
        for table, columns in COPIES.items():
            plant(store, table, columns)
    ahead, seen, shown = {"/ui/", "/audit", "/ui/apps/keyed"}, set(), set()
    while ahead:
        path = ahead.pop()
        seen.add(path)
        page.open(program.url + path)
        page.wait_for("body")
        assert not page.has("img[src=x], svg[onload], script:not([src])"), path
        assert page.evaluate("[...document.links].every(a => /^https?:/.test(a.href))"), path
        if EVIL in page.text():
            shown.add(urlsplit(path).path)
        links = page.evaluate(
            "[...document.links].filter(a => a.origin == location.origin).map(a => a.pathname + a.search)"
        )
        bundled = re.compile(r"/ui/apps/[a-z0-9-]+|/ui/apps\?page=.*")  # they say what we say
        ahead |= {link for link in links if not bundled.fullmatch(link)} - seen
    places = {"/audit", *(f"/ui/{place}" for place in ("", "apps", "connections", "identities", "runs", "settings"))}
    assert places | {"/ui/settings/principals"} <= shown
    assert {
        len([path for path in shown if path.startswith(f"/ui/{kind}/")]) for kind in ("connections", "identities")
    } == {1, 2}
    assert page.dialogs == []
    assert page.violations == []
    assert page.console == []
