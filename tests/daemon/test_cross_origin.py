"""A browser's POST counts only when it comes from a page of ours; cookies are this host's and path's alone."""

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest

from authsome.daemon import cross_origin
from authsome.daemon.cross_origin import FORM_LIFETIME, Forms
from authsome.daemon.messages import Request
from authsome.errors import NotAllowed
from authsome.secret import Secret

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
OURS = "http://127.0.0.1:7998"
KEY = Secret("browser-key")


def request(**headers):
    """A POST to us with these headers; a tuple sends one twice, None leaves it out."""
    values = {
        name.replace("_", "-"): value if isinstance(value, tuple) else (value,)
        for name, value in headers.items()
        if value is not None
    }
    return Request(
        method="POST",
        path="/x",
        query="",
        target="/x",
        headers=values,
        body=b"",
        peer="127.0.0.1",
        received_over=OURS,
        stopping=Event(),
    )


def forms(now=NOW, spent=None):
    """Form tokens at a moment, and what was spent of them."""
    spent = set() if spent is None else spent

    def spend(ends, token_hash):
        before = len(spent)
        spent.add((ends, token_hash))
        return len(spent) > before

    return Forms(lambda: now, spend)


def passes(check):
    """Whether a check lets the request through."""
    try:
        check()
    except NotAllowed:
        return False
    return True


# Sec-Fetch-Site, Origin, passes
TABLE = [
    ("same-origin", OURS, True),
    ("same-origin", "null", True),  # browsers say so for a page without referrer
    ("same-origin", None, True),
    ("none", None, True),
    ("same-origin", "http://evil.example", False),
    ("cross-site", OURS, False),
    ("cross-site", None, False),
    ("same-site", None, False),
    ("same-site", OURS, False),
    ("", OURS, False),
    ("Same-Origin", None, False),
    (("same-origin", "same-origin"), None, False),
    (None, OURS, True),
    (None, "null", False),
    (None, "http://evil.example", False),
    (None, "http://localhost:7998", False),
    (None, "http://127.0.0.1:7999", False),
    (None, "https://127.0.0.1:7998", False),
    (None, OURS + "/", False),
    (None, (OURS, OURS), False),
    (None, "", False),
    (None, None, True),
]


@pytest.mark.parametrize(("site", "origin", "is_taken"), TABLE)
def test_where_a_post_comes_from(site, origin, is_taken):
    """Fetch Metadata decides, then Origin; for who says nothing the form's token does."""  # SEC-29 SEC-30
    sent = request(sec_fetch_site=site, origin=origin)
    token = forms().token(KEY, "input 1")
    assert passes(lambda: forms().check(sent, key=KEY, purpose="input 1", token=token)) is is_taken


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "x",
        ".",
        "é",
        forms().token(KEY, "input 2"),
        forms().token(Secret("another key"), "input 1"),
        forms().token(KEY, "input 1") + "=",
        forms().token(KEY, "input 1")[:-1],
        "9" + forms().token(KEY, "input 1"),
        forms(NOW - FORM_LIFETIME).token(KEY, "input 1"),
    ],
    ids=["none", "empty", "word", "dot", "letter", "form", "browser", "longer", "shorter", "later", "old"],
)
def test_a_form_needs_its_own_token(token):
    """None, another form's, another browser's, and one that is too old are refused even from a page of ours."""
    # SEC-31
    with pytest.raises(NotAllowed):
        forms().check(request(sec_fetch_site="same-origin"), key=KEY, purpose="input 1", token=token)


def test_a_form_is_taken_once():
    """Its token is spent by the first POST; the next page has another one; and a foreign POST spends nothing."""
    # SEC-31
    spent = set()
    token, other = (forms().token(KEY, "input 1") for _ in range(2))
    assert token != other

    def sent(token, site="same-origin"):
        return passes(
            lambda: forms(spent=spent).check(request(sec_fetch_site=site), key=KEY, purpose="input 1", token=token)
        )

    assert [sent(token, "cross-site"), sent(token), sent(token), sent(other)] == [False, True, False, True]


def test_cookies_are_locked_in():
    """HttpOnly, SameSite, a path, no domain; Secure when asked; no lifetime deletes."""  # SEC-44
    options = {"path": "/auth/sessions/1", "same_site": "Strict"}
    assert cross_origin.set_cookie("a", "b", **options, lifetime=timedelta(minutes=10), secure=True) == (
        "Set-Cookie",
        "a=b; Path=/auth/sessions/1; Max-Age=600; HttpOnly; SameSite=Strict; Secure",
    )
    deleted = cross_origin.set_cookie("a", "", **options, lifetime=timedelta(), secure=False)[1]
    assert "Max-Age=0" in deleted
    assert "Secure" not in deleted
    assert "Domain" not in deleted


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [("a b", "c", "/"), ("a", "b;c", "/"), ("a", "b", "/;Domain=x"), ("a", "b", "x"), ("", "b", "/")],
)
def test_no_cookie_is_split(name, value, path):
    """A value never becomes an attribute."""
    with pytest.raises(ValueError, match="cookie"):
        cross_origin.set_cookie(name, value, path=path, same_site="Lax", lifetime=timedelta(1), secure=False)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (("key=abc",), "abc"),
        (("other=1; key=abc; third",), "abc"),
        (('junk="a;b"; key=abc; \x7f=é',), "abc"),
        (("other=1", "key=abc"), "abc"),
        (("key=abc; key=def",), None),
        (("key=abc", "key=abc"), None),
        (("key=a b",), None),
        (('key="abc"',), None),
        (("KEY=abc",), None),
        (("xkey=abc",), None),
        (("key",), None),
        ((), None),
    ],
)
def test_reading_a_cookie(headers, found):
    """Others' cookies are passed over; one that was planted beside ours makes both worthless."""  # SEC-44
    assert cross_origin.cookie(request(cookie=headers), "key") == found
