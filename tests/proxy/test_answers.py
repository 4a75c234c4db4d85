"""What the proxy itself answers: problem details, and the same in the status line for who shows nothing else."""

import json

import pytest

from authsome.errors import CredentialUnavailable, EndpointUnreachable, NotAllowed, RequestInvalid
from authsome.proxy import answers
from authsome.proxy.rules import Target

API = Target(host="api.example.com", port=443)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (CredentialUnavailable("it has expired"), "authsome login p"),
        (CredentialUnavailable("it has expired", hint="log in: authsome login q"), "log in: authsome login q"),
        (EndpointUnreachable("cut", hint="try again"), "try again; `authsome doctor` says more"),
        (NotAllowed("pinned"), "`authsome run --explain URL` says more"),
        (RequestInvalid("two names", hint="name one"), "name one"),
    ],
)
def test_names_provider_cause_and_command(error, hint):
    """A request that had a route is answered with what mends it."""
    # SEC-162
    answer = answers.problem(error, target=API, provider="p")
    told = json.loads(answer.body)
    assert (told["provider"], told["detail"], told["hint"], told["host"]) == ("p", error.message, hint, API.host)
    assert (told["status"], told["code"]) == (answer.status, error.code)


def test_a_request_that_may_have_arrived_is_not_said_to_be_unsent():
    """Who is told that nothing was sent would send it again."""
    titles = [json.loads(answers.problem(NotAllowed("no"), was_sent=sent).body)["title"] for sent in (False, True)]
    assert titles == ["authsome did not send this request", "authsome has no answer to this request"]


@pytest.mark.parametrize(
    ("message", "hint", "reason"),
    [
        ("no", None, b"no"),
        ("no", "log in", b"no (log in)"),
        ("a\r\nSet-Cookie: b\x1b[31m", None, b"a Set-Cookie: b"),
        ("für", None, b"f?r"),
        ("x" * 500, None, b"x" * 299 + b"?"),
    ],
)
def test_the_reason_is_one_line_of_ascii(message, hint, reason):
    """Whatever a message quotes, it ends no line."""
    assert answers.problem(NotAllowed(message, hint=hint)).reason == reason
