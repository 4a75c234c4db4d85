"""Vendors' libraries as children: what they speak is their own, and the credential is put on it all the same.

Rule: as in test_clients.py, a test names what it runs (`CLIENT boto3`), and docs/clients.md has a row for each.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from fakes import api, daemon_api, wire
from fakes.api import ApiServer
from proxy.conftest import ENGINES
from proxy.support import HOST, OTHER_HOST, PLACEHOLDER, TOKEN, Runner
from proxy.test_clients import NODE_PACKAGES


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every library gets along with both engines."""
    name: str = request.param
    return name


def events(*bodies: object) -> api.Answer:
    """A stream of server-sent events, each named by its type as Anthropic does, which OpenAI does not mind."""
    text = "".join(
        f"event: {body['type']}\ndata: {json.dumps(body)}\n\n" if isinstance(body, dict) else f"data: {body}\n\n"
        for body in bodies
    )
    return api.Answer(headers=(("Content-Type", "text/event-stream"),), body=text.encode())


# ---- OpenAI ------------------------------------------------------------------------------------------------


OPENAI = {
    "Python": (
        "import openai\n"
        "stream = openai.OpenAI(max_retries=0).responses.create(model='m', input='hi', stream=True)\n"
        "print(''.join(e.delta for e in stream if e.type == 'response.output_text.delta'))"
    ),
    "Node": (
        "const OpenAI = require('openai'); (async () => {"
        "  const stream = await new OpenAI({maxRetries: 0}).responses.create({model: 'm', input: 'hi', stream: true});"
        "  let text = ''; for await (const e of stream) if (e.type === 'response.output_text.delta') text += e.delta;"
        "  console.log(text); process.exit(0); })().catch((e) => { console.error(e); process.exit(1); });"
    ),
}


@pytest.mark.parametrize("language", OPENAI)
def test_openai(runner: Runner, language: str):
    """A streamed answer; the placeholder in OPENAI_API_KEY is all that the library knows."""
    # CLIENT OpenAI SDK
    delta = {
        "type": "response.output_text.delta",
        "item_id": "i",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
    }
    runner.server.answers["/v1/responses"] = events(
        {**delta, "delta": "Hel", "sequence_number": 0}, {**delta, "delta": "lo", "sequence_number": 1}, "[DONE]"
    )
    runner.daemon.environment = {"OPENAI_API_KEY": PLACEHOLDER}
    environ = {"OPENAI_BASE_URL": runner.server.url("/v1", host=HOST), "NODE_PATH": NODE_PACKAGES}
    assert runner.output(*interpreter(runner, language), OPENAI[language], environ=environ) == b"Hello\n"
    (request,) = runner.server.requests
    assert request.header("authorization") == f"Bearer {TOKEN}"
    assert json.loads(request.body)["input"] == "hi"


def interpreter(runner: Runner, language: str) -> tuple[str, str]:
    """What runs a line of code."""
    return (runner.python, "-c") if language == "Python" else ("node", "-e")


# ---- Anthropic ---------------------------------------------------------------------------------------------


ANTHROPIC = {
    "Python": (
        "import anthropic\n"
        "message = {'role': 'user', 'content': 'hi'}\n"
        "client = anthropic.Anthropic(max_retries=0)\n"
        "with client.messages.stream(model='m', max_tokens=9, messages=[message]) as stream:\n"
        "    print(''.join(stream.text_stream))"
    ),
    "Node": (
        "const Anthropic = require('@anthropic-ai/sdk'); (async () => {"
        "  const messages = [{role: 'user', content: 'hi'}];"
        "  const client = new Anthropic({maxRetries: 0});"
        "  console.log(await client.messages.stream({model: 'm', max_tokens: 9, messages}).finalText());"
        "  process.exit(0); })().catch((e) => { console.error(e); process.exit(1); });"
    ),
}


@pytest.mark.parametrize("language", ANTHROPIC)
def test_anthropic(runner: Runner, language: str):
    """The key goes in a header of its own, where the library puts the placeholder."""
    # CLIENT Anthropic SDK
    usage = {"input_tokens": 1, "output_tokens": 1}
    begun = {"id": "msg", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": usage}
    runner.server.answers["/v1/messages"] = events(
        {"type": "message_start", "message": {**begun, "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    )
    runner.daemon.environment = {"ANTHROPIC_API_KEY": PLACEHOLDER}
    runner.daemon.credentials[HOST] = {**daemon_api.bearer(TOKEN), "set": [["x-api-key", TOKEN]]}
    environ = {"ANTHROPIC_BASE_URL": runner.server.url(host=HOST).rstrip("/"), "NODE_PATH": NODE_PACKAGES}
    assert runner.output(*interpreter(runner, language), ANTHROPIC[language], environ=environ) == b"Hello\n"
    (request,) = runner.server.requests
    assert request.header("x-api-key") == TOKEN
    assert request.header("authorization") is None


# ---- Stripe ------------------------------------------------------------------------------------------------


STRIPE = """
import os, sys, stripe
stripe.api_key, stripe.api_base, stripe.max_network_retries = os.environ["STRIPE_API_KEY"], sys.argv[1], 0
if sys.argv[2] == "told": stripe.ca_bundle_path = os.environ["SSL_CERT_FILE"]
print(stripe.Balance.retrieve().object)
"""


@pytest.mark.parametrize("way", ["told", "untold"])
def test_stripe(runner: Runner, way: str):
    """It has roots of its own: told of others it gets along, untold it refuses the proxy and has sent nothing."""
    # CLIENT Stripe SDK
    # SEC-168
    runner.server.answers["/v1/balance"] = api.Answer(body=b'{"object": "balance"}')
    runner.daemon.environment = {"STRIPE_API_KEY": PLACEHOLDER}
    done = runner(runner.python, "-c", STRIPE, runner.server.url(host=HOST).rstrip("/"), way)
    if way == "untold":
        assert done.returncode == 1
        assert b"APIConnectionError" in done.stderr
        assert runner.server.requests == []
        return
    assert done.stdout == b"balance\n", done.stderr
    (request,) = runner.server.requests
    assert request.header("authorization") == f"Bearer {TOKEN}"


# ---- AWS ---------------------------------------------------------------------------------------------------


AWS_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret/of+the=child"}
BOTO3 = """
import sys, boto3
from botocore.config import Config
config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
def client(name): return boto3.client(name, region_name="eu-central-1", endpoint_url=sys.argv[1], config=config)
client("dynamodb").list_tables(Limit=7)
s3 = client("s3")
s3.put_object(Bucket="bucket", Key="a b/\\u00fc+%41~(1)//x.txt", Body=b"content" * 999)
s3.list_objects_v2(Bucket="bucket", Prefix="a b/+%&=\\u00fc", Delimiter="/")
"""


def is_signed(request: wire.Recorded) -> bool:
    """Whether a request is, to the byte, what the holder of `AWS_KEYS` signed (Signature Version 4)."""
    kind, _, rest = (request.header("authorization") or "").partition(" ")
    assert kind == "AWS4-HMAC-SHA256"
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    scope = given["Credential"].partition("/")[2]
    query = "&".join(
        sorted(part if "=" in part else f"{part}=" for part in request.target.partition("?")[2].split("&"))
    )
    lines = [
        request.method,
        request.path,
        query if "?" in request.target else "",
        *(f"{name}:{' '.join((request.header(name) or '').split())}" for name in given["SignedHeaders"].split(";")),
        "",
        given["SignedHeaders"],
        request.header("x-amz-content-sha256") or request.sha256,
    ]
    hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{AWS_KEYS['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{request.header('x-amz-date')}\n{scope}\n{hashed}"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex() == given["Signature"]


@pytest.fixture(params=["plain http", "tunnel"])
def aws(request: pytest.FixtureRequest, runner: Runner) -> Iterator[ApiServer]:
    """A server that no route names, by http through the proxy, or by https through a tunnel."""
    if request.param == "tunnel":
        yield runner.server
        return
    with api.serve() as server:
        yield server


def test_boto3(runner: Runner, aws: ApiServer):
    """What a child signs itself arrives as it was signed."""
    # CLIENT boto3
    # SEC-178
    aws.answers["/"] = api.Answer(body=b'{"TableNames": []}')
    key = "/bucket/" + quote("a b/ü+%41~(1)//x.txt", safe="/~")
    aws.answers[key] = api.Answer()
    aws.answers["/bucket"] = api.Answer(body=b"<ListBucketResult/>")
    runner.output(runner.python, "-c", BOTO3, aws.url(host=OTHER_HOST).rstrip("/"), environ=AWS_KEYS)
    tables, put, listing = aws.requests
    assert json.loads(tables.body) == {"Limit": 7}
    assert put.path == key
    assert "prefix=" + quote("a b/+%&=ü", safe="") in listing.target
    assert [is_signed(request) for request in aws.requests] == [True] * 3
    assert runner.daemon.resolved == []
