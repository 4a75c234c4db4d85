"""Definitions, scans and imports by whoever may ask, in bodies that nobody's client sends."""

import base64

import pytest

KEY = base64.b64encode(bytes(32)).decode()
LIKENESS = {"provider": "openai", "likeness": "0" * 64}
DEFINITION = '{"schema_version": 1, "name": "%s", "api_url": "api.%s.test", "auth_type": "api_key", "api_key": {}}'


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/providers", {}, 400),
        ("POST", "/providers", {"definition": {}}, 400),
        ("POST", "/providers", {"definition": ""}, 400),
        ("POST", "/providers", {"definition": "{", "source": "\x1b[2J.json"}, 400),
        ("POST", "/providers", {"definition": "{", "source": "x" * 4000}, 422),
        ("POST", "/providers", {"definition": "[" * 100_000}, 422),
        ("POST", "/providers", {"definition": "a" * 600_000}, 400),
        ("POST", "/providers", {"definition": "a" * 1_100_000}, 413),
        ("POST", "/providers", {"definition": "{}", "confirmed": "yes"}, 400),
        ("POST", "/providers", {"definition": "{}", "path": "/etc/cron.d/x"}, 400),
        ("POST", "/providers", {"definition": DEFINITION % ("..", "x"), "confirmed": True}, 422),
        ("POST", "/providers", {"definition": DEFINITION % ("openai", "x"), "confirmed": True}, 409),
        ("DELETE", "/providers/openai", None, 403),
        ("DELETE", "/providers/nosuch?forget=maybe", None, 400),
        ("DELETE", "/providers/..%2f..%2fserver%2fstore", None, 404),
        ("POST", "/scan", {"key": KEY[:-4], "candidates": []}, 400),
        ("POST", "/scan", {"key": "!", "candidates": []}, 400),
        ("POST", "/scan", {"key": KEY, "candidates": [LIKENESS] * 501}, 400),
        ("POST", "/scan", {"key": KEY, "candidates": [{**LIKENESS, "value": "x"}]}, 400),
        ("POST", "/scan", {"key": KEY, "candidates": ["x"]}, 400),
        ("POST", "/admin/import-upstream", {"directory": "relative"}, 400),
        ("POST", "/admin/import-upstream", {"directory": "/proc/self"}, 400),
        ("POST", "/admin/import-upstream", {"directory": "/etc", "master_key_file": "shadow"}, 400),
        ("POST", "/admin/import-upstream", {"directory": "/\x00"}, 400),
    ],
)
def test_odd_bodies(caller, method, path, body, status):
    """Each is refused in one line that repeats nothing, and the daemon lives. # SEC-110"""
    answer = caller.ask(method, path, body)
    assert answer.status == status, answer
    problem = answer.json()
    assert problem["detail"].isprintable()
    assert len(problem["detail"]) < 600
    assert caller.ask("GET", "/whoami").status == 200


def test_what_is_no_likeness_is_like_nothing(caller):
    """A likeness of any length and alphabet is compared, and is nobody's."""
    odd = [
        {"provider": provider, "likeness": text} for provider in ("openai", "nosuch") for text in ("x", "é", "0" * 4000)
    ]
    answers = caller.ask("POST", "/scan", {"key": KEY, "candidates": odd}).json()["answers"]
    assert answers == [{"same": [], "others": ["default"]}] * 3 + [{"same": [], "others": []}] * 3
