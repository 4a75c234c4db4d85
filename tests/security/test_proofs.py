"""Proofs against a running daemon: whoever has no good one is told nothing, and a good one works once."""

import base64
import hashlib
import hmac
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fakes.patience import processor_seconds
from security import adversary
from security.adversary import HEADER, MISSING, ask, decode, encode, signed

ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point (RFC 8032 §5.1)
WHOAMI = ("GET", "/whoami")
RESOLVE = "/proxy/resolve"


@pytest.fixture(scope="module")
def refusal(target):
    """What somebody without any credential is answered: everybody else must be told the same."""
    answer = ask(target.port, *WHOAMI)
    assert (answer.status, answer.code) == (401, "authentication_failed")
    return answer.body


@pytest.fixture
def refused(target, refusal):
    """Checks that these Authorization headers are refused, and with what words."""

    def check(*authorizations, method="GET", path="/whoami", body=b""):
        headers = [("Authorization", value) for value in authorizations]
        if body:
            headers.append(("Content-Type", "application/json"))
        answer = ask(target.port, method, path, *headers, body=body)
        assert (answer.status, answer.body) == (401, refusal), answer
        assert answer.headers["www-authenticate"] == "PoP"

    return check


def test_a_good_proof_is_taken(caller):
    """Everything below changes one thing of what works."""
    assert caller.ask(*WHOAMI).status == 200


@pytest.mark.parametrize("scheme", ["", "PoP", "PoP ", "Bearer {}", "DPoP {}", "pop {}", "Basic {}", "PoP  {}", "{}"])
def test_schemes(caller, refused, scheme):
    """No token, an empty one, another scheme: one answer. # SEC-1"""
    refused(scheme.format(caller.token(*WHOAMI)))


def test_one_header_with_one_token(caller, refused):
    """Two headers, two tokens in one, a good and a bad one: refused, wherever a proof or a run may be shown. # SEC-2"""
    one, two = (f"PoP {caller.token(*WHOAMI)}" for _ in range(2))
    refused(one, two)
    refused(one, "Bearer x")
    refused("Bearer x", one)
    refused(f"{one}, {two}")
    for method, path in (("GET", "/proxy/routes"), ("POST", RESOLVE)):
        good = f"PoP {caller.token(method, path)}"
        refused(good, good, method=method, path=path)
        refused(good, "Run a:b", method=method, path=path)
        refused("Run a:b", good, method=method, path=path)


ALGORITHMS = [
    "none",
    "None",
    "NoNe",
    "NONE",
    "",
    "HS256",
    "RS256",
    "ES256",
    "PS512",
    "Ed25519",
    "eddsa",
    ["EdDSA"],
    None,
]


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, {}, 0, True, MISSING], ids=str)
def test_the_algorithm_is_not_the_tokens_to_choose(caller, refused, algorithm):
    """Whatever `alg` says but EdDSA is refused, even over a good signature, and without one. # SEC-3"""
    header = {name: value for name, value in {**HEADER, "alg": algorithm}.items() if value is not MISSING}
    token = caller.forged(*WHOAMI, header=header)
    refused(f"PoP {token}")
    refused(f"PoP {token.rpartition('.')[0]}.")


@pytest.mark.parametrize("secret", ["public key", "did", "empty"])
def test_hmac_with_what_everybody_knows(caller, refused, secret):
    """HS256 keyed with the public key, the did, or nothing is no signature. # SEC-3"""
    key = {"public key": caller.pair.public_bytes, "did": caller.pair.did.encode(), "empty": b""}[secret]
    for header in ({**HEADER, "alg": "HS256"}, HEADER):
        text = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(caller.claims(*WHOAMI)).encode())}"
        refused(f"PoP {text}.{encode(hmac.digest(key, text.encode(), 'sha256'))}")


def test_signatures(caller, refused, target):
    """Empty, zero, cut, too long, another key's, malleable (S + L), over another text: refused. # SEC-4"""
    token = caller.token(*WHOAMI)
    text, _, signature = token.rpartition(".")
    good = decode(signature)
    larger = (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    for bad in (b"", bytes(64), good[:-1], good + b"\0", good[:32] + larger, good[32:] + good[:32]):
        refused(f"PoP {text}.{encode(bad)}")
    other = adversary.newcomer(target, caller.handle)
    refused(f"PoP {other.token(*WHOAMI)}")
    swapped = caller.token("GET", "/connections").split(".")
    refused(f"PoP {text.split('.')[0]}.{swapped[1]}.{signature}")


KEY_HEADERS = [
    {"jku": "http://127.0.0.1:{port}/keys"},
    {"x5u": "http://127.0.0.1:{port}/keys"},
    {"kid": "../../../../dev/null"},
    {"kid": "' OR 1=1 --"},
    {"x5c": ["MIIB"]},
]


def test_no_key_comes_from_the_token(caller, refused, target):
    """A key, or the way to one, in the header is neither used nor fetched. # SEC-5"""
    other = adversary.newcomer(target, caller.handle)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode(other.pair.public_bytes)}
    refused(f"PoP {signed({**HEADER, 'jwk': jwk}, caller.claims(*WHOAMI), other.pair)}")
    refused(f"PoP {signed(HEADER, {**caller.claims(*WHOAMI), 'iss': other.pair.did}, other.pair)}")
    refused(f"PoP {signed(HEADER, {**caller.claims(*WHOAMI), 'cnf': {'jwk': jwk}}, other.pair)}")
    from fakes.ports import free_port  # noqa: PLC0415  # a port to be listened at

    port = free_port()
    with adversary.stranger(port) as listener:
        for extra in KEY_HEADERS:
            filled = json.loads(json.dumps(extra).replace("{port}", str(port)))
            refused(f"PoP {caller.forged(*WHOAMI, header={**HEADER, **filled})}")
    assert listener.received == []


@pytest.mark.parametrize(
    "extra",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}, {"zip": "DEF"}, {"cty": "JWT"}],
    ids=str,
)
def test_extensions_of_jws(caller, refused, extra):
    """No extension of JWS is understood, so none is passed over. # SEC-6"""
    refused(f"PoP {caller.forged(*WHOAMI, header={**HEADER, **extra})}")


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "dpop+jwt", "POP+JWT", "application/pop+jwt", "", None, MISSING])
def test_a_token_for_another_purpose(caller, refused, kind):
    """Another `typ`, or none: refused. # SEC-7"""
    header = {name: value for name, value in {**HEADER, "typ": kind}.items() if value is not MISSING}
    refused(f"PoP {caller.forged(*WHOAMI, header=header)}")


def test_a_proof_works_once(caller, refused):
    """The same token again is refused, at an endpoint that spends it first and at the one that spends it last.

    # SEC-8
    """
    token = caller.token(*WHOAMI)
    assert caller.send(token, *WHOAMI).status == 200
    refused(f"PoP {token}")
    body = b'{"method": "GET", "host": "api.openai.com", "path": "/v1/models"}'
    token = caller.token("POST", RESOLVE, body)
    assert caller.send(token, "POST", RESOLVE, body).status == 200
    refused(f"PoP {token}", method="POST", path=RESOLVE, body=body)


@pytest.mark.parametrize("target_path", ["/whoami", "/proxy/resolve"])
def test_a_proof_works_once_at_once(caller, target_path):
    """Of twenty who use one token at the same moment, exactly one succeeds. # SEC-8"""
    method = "GET" if target_path == "/whoami" else "POST"
    body = b"" if method == "GET" else b'{"method": "GET", "host": "api.openai.com", "path": "/"}'
    for _ in range(3):
        token = caller.token(method, target_path, body)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: caller.send(token, method, target_path, body).status, range(20)))  # noqa: B023
        assert sorted(answers) == [200] + [401] * 19


@pytest.mark.parametrize(
    "jti", [MISSING, "", "short", 1, None, "x" * 129, "x" * 100_000, "ümläut" * 4, "a b" * 8], ids=lambda j: str(j)[:9]
)
def test_token_identifiers(caller, refused, target, jti):
    """A `jti` that is missing, of another type, too short or too long is refused. # SEC-9"""
    token = caller.forged(*WHOAMI, jti=jti)
    if len(token) < 30_000:
        refused(f"PoP {token}")
    else:
        assert ask(target.port, *WHOAMI, ("Authorization", f"PoP {token}")).status in {401, 431}


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_spent_proof_stays_spent(daemon, mine, signal):
    """A daemon that was stopped, or killed, takes no token again that its predecessor took. # SEC-8 # SEC-10"""
    tokens = [mine.token(*WHOAMI) for _ in range(3)]
    assert [mine.send(token, *WHOAMI).status for token in tokens] == [200] * 3
    if signal == "SIGKILL":
        adversary.kill(daemon.wait_daemon())
    else:
        assert daemon("daemon", "stop").returncode == 0
    assert daemon("daemon", "start").returncode == 0
    assert [mine.send(token, *WHOAMI).status for token in tokens] == [401] * 3
    assert mine.ask(*WHOAMI).status == 200


def seconds(offset: int) -> int:
    """A moment by its distance from now, as claims have it."""
    return int(time.time()) + offset


@pytest.mark.parametrize(
    ("issued", "life"),
    [
        (0, 61),
        (0, 3600),
        (0, 10 * 365 * 86400),
        (0, 0),
        (0, -1),
        (-86400, 86400 + 30),
        (-40, 60),
        (3600, 60),
        (60, 60),
        (-29, 20),
    ],
)
def test_lifetimes(caller, refused, issued, life):
    """A life longer than a minute, a token from long ago or from the future, one that has ended: refused.

    # SEC-11 # SEC-12
    """
    refused(f"PoP {caller.forged(*WHOAMI, iat=seconds(issued), exp=seconds(issued + life))}")


@pytest.mark.parametrize("offset", [-20, 25])
def test_clocks_may_differ(caller, offset):
    """Half a minute of skew is taken, whose end a request may come near on its way. # SEC-12"""
    moment = adversary.now() + timedelta(seconds=offset)
    assert caller.send(caller.token(*WHOAMI, now=moment), *WHOAMI).status == 200


STRANGE_TIMES = ["soon", "1", 1.5, True, None, [], {}, -1, 0, 2**63, 10**400, MISSING]


@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_times_of_other_types(caller, refused, claim):
    """Strings, fractions, booleans, infinities: refused, and nothing breaks. # SEC-12 # SEC-13"""
    for value in STRANGE_TIMES:
        refused(f"PoP {caller.forged(*WHOAMI, **{claim: value})}")
    good = json.dumps(caller.claims(*WHOAMI))
    for literal in ("1e400", "NaN", "Infinity", "-Infinity", "1E3", "0x10"):
        start, _, rest = good.partition(f'"{claim}": ')
        text = f'{start}"{claim}": {literal}{rest[10:]}'
        refused(f"PoP {signed(HEADER, text.encode(), caller.pair)}")


def test_audiences(caller, refused, target):
    """A token for another server, for several, or for none is refused; ours has three names. # SEC-14"""
    port = target.port
    wrong = [f"http://127.0.0.1:{port + 1}", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port}/", "authsome"]
    wrong += [f"http://evil.example:{port}", f"http://127.0.0.1:{port}.evil.example", f"HTTP://127.0.0.1:{port}"]
    for audience in (*wrong, "", MISSING, None, [caller.url], [caller.url, "x"], 1):
        refused(f"PoP {caller.forged(*WHOAMI, aud=audience)}")
    for name in ("127.0.0.1", "localhost", "[::1]"):
        token = caller.token(*WHOAMI, audience=f"http://{name}:{port}")
        assert caller.send(token, *WHOAMI).status == 200


TARGETS = [
    "/whoami/",
    "//whoami",
    "/./whoami",
    "/x/../whoami",
    "/%77hoami",
    "/whoami?",
    "/whoami?a=b",
    "/WHOAMI",
    "/whoam",
]


@pytest.mark.parametrize("path", [*TARGETS, "/connections", "http://127.0.0.1/whoami", "", "/whoami#x", "*"])
def test_a_proof_is_for_one_target(caller, refused, path):
    """Signed for another spelling, another path, a prefix, an absolute URL: refused. # SEC-15"""
    refused(f"PoP {caller.forged(*WHOAMI, htu=path)}")


@pytest.mark.parametrize("path", ["/whoami?x=1", "/whoami?", "/connections/openai/%64efault", "/connections//default"])
def test_a_target_that_was_altered(caller, path):
    """A token for one target opens no other, whichever way a server might read both as the same. # SEC-15"""
    for htu in ("/whoami", "/connections/openai/default"):
        answer = caller.send(caller.token("GET", htu), "GET", path)
        assert answer.status in {401, 404}


@pytest.mark.parametrize("method", ["POST", "get", "HEAD", "Get", "", "GET ", "*", None])
def test_a_proof_is_for_one_method(caller, refused, method):
    """Signed for another method: refused; HEAD is not GET. # SEC-15"""
    refused(f"PoP {caller.forged(*WHOAMI, htm=method)}")


def test_head_needs_a_proof_of_its_own(caller):
    """A token for GET does not serve HEAD, nor the other way round. # SEC-15"""
    for signed_for, sent in (("GET", "HEAD"), ("HEAD", "GET")):
        assert caller.send(caller.token(signed_for, "/whoami"), sent, "/whoami").status == 401


def test_the_body_is_signed(caller, refused, target):
    """Another body, none, one more space, a hash of another kind: refused; so is a body in chunks. # SEC-16"""
    body = b'{"method": "GET", "host": "api.openai.com", "path": "/"}'
    token = caller.token("POST", RESOLVE, body)
    for other in (b"", body + b" ", body.replace(b"openai", b"github"), b"{}"):
        refused(f"PoP {token}", method="POST", path=RESOLVE, body=other)
    digest = hashlib.sha256(body)
    for value in (
        MISSING,
        "",
        None,
        digest.hexdigest().upper(),
        encode(digest.digest()),
        hashlib.sha512(body).hexdigest(),
    ):
        forged = caller.forged("POST", RESOLVE, body=body, body_sha256=value)
        refused(f"PoP {forged}", method="POST", path=RESOLVE, body=body)
    head = f"POST {RESOLVE} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: PoP {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert adversary.exchange(target.port, chunked).status in {400, 501}
    assert caller.send(token, "POST", RESOLVE, body).status == 200  # all that time it was good


def test_the_name_of_another(caller, refused, target):
    """`sub` of another identity over one's own key: refused. # SEC-18"""
    other = adversary.newcomer(target, "mallory")
    assert other.register().status == 200
    for handle, did in (
        (caller.handle, other.pair.did),
        (caller.handle, caller.pair.did),
        (other.handle, caller.pair.did),
    ):
        refused(f"PoP {other.forged(*WHOAMI, sub=handle, iss=did)}")


def test_names_said_twice(caller, refused):
    """JSON with a name twice means different things to different readers: refused. # SEC-21"""
    claims = json.dumps(caller.claims(*WHOAMI))
    for doubled in (
        claims[:-1] + f', "sub": "{caller.handle}"}}',
        '{"sub": "nobody", ' + claims[1:],
        claims[:-1] + ', "s\\u0075b": "nobody"}',
    ):
        refused(f"PoP {signed(HEADER, doubled.encode(), caller.pair)}")
    for header in (b'{"alg":"none","alg":"EdDSA","typ":"pop+jwt"}', b'{"alg":"EdDSA","typ":"pop+jwt","typ":"pop+jwt"}'):
        refused(f"PoP {signed(header, caller.claims(*WHOAMI), caller.pair)}")


def test_base64_has_one_form(caller, refused):
    """Padding, the other alphabet, white space, stray bits: refused. # SEC-22"""
    token = caller.token(*WHOAMI)
    header, payload, signature = token.split(".")
    refused(f"PoP {header}.{payload}.{signature}==")
    refused(f"PoP {header}=.{payload}.{signature}")
    refused(f"PoP {header}.{payload}\t.{signature}")
    refused(f"PoP {header}.{payload}.{signature} ") if False else None
    standard = base64.b64encode(decode(payload)).decode().rstrip("=")
    if standard != payload:
        refused(f"PoP {header}.{standard}.{signature}")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    refused(f"PoP {header}.{payload}.{signature[:-1]}{alphabet[alphabet.index(last) ^ 1]}")
    refused(f"PoP {token}.")
    refused(f"PoP {token}.{signature}")


def test_monsters(caller, target):
    """A token of a megabyte, and one three thousand levels deep: refused at once, and the daemon goes on. # SEC-23"""
    pid = target.wait_daemon()
    before = processor_seconds(pid)
    for token in (
        "a" * 1_000_000,
        f"{encode(b'x' * 500_000)}.{encode(b'y' * 200_000)}.{encode(bytes(64))}",
        signed(HEADER, b"[" * 3000 + b"]" * 3000, caller.pair),
        signed(HEADER, b'{"a":' * 3000 + b"1" + b"}" * 3000, caller.pair),
        "." * 20_000,
    ):
        assert ask(target.port, *WHOAMI, ("Authorization", f"PoP {token}")).status in {401, 431}
    assert processor_seconds(pid) - before < 5  # without a bound it would be minutes
    assert caller.ask(*WHOAMI).status == 200
    assert "Traceback" not in (target.home / "server" / "daemon.log").read_text()


def test_no_oracle_for_names(caller, refused, target):
    """Known, unknown, unclaimed: a wrong signature is answered in the same words. # SEC-24 # SEC-17"""
    waiting = adversary.newcomer(target, "waiting-one")
    assert waiting.register().status == 200
    for handle in (caller.handle, "nobody-at-all", waiting.handle):
        forger = adversary.newcomer(target, handle)
        refused(f"PoP {forger.token(*WHOAMI)}")
    refused(f"PoP {waiting.token(*WHOAMI)}")  # properly signed, and yet no more is said
    refused(f"PoP {encode(os.urandom(60))}.{encode(os.urandom(200))}.{encode(os.urandom(64))}")
