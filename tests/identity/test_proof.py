"""Proofs of possession, against PyJWT as the independent counterpart, and against everything a forger may try."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from authsome.errors import AuthenticationFailed
from authsome.identity import key, proof
from authsome.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "proof.json").read_text())["proofs"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE = "http://127.0.0.1:7998"
TARGET = "/proxy/resolve?a=b"
BODY = b'{"host": "api.github.com"}'
PAIR = key.from_seed(Secret(bytes(range(32))))
ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point (RFC 8032 §5.1)


def mint(**changes):
    """A good token, or one with other arguments."""
    facts = {"handle": "ada", "audience": HERE, "method": "POST", "target": TARGET, "body": BODY, "now": NOW}
    return proof.mint(PAIR, **{**facts, **changes})


def verify(token, **changes):
    """Verify as the daemon would for the request that `mint` signs."""
    facts = {
        "public_key": PAIR.public_bytes,
        "audiences": frozenset({HERE, "http://localhost:7998"}),
        "method": "POST",
        "target": TARGET,
        "body": BODY,
        "now": NOW,
    }
    return proof.verify(token, **{**facts, **changes})


def refused(token, **changes):
    """Why a token is refused, after checking that the caller is told no more than that it is."""
    with pytest.raises(AuthenticationFailed) as caught:
        verify(token, **changes)
    plain = AuthenticationFailed()
    assert (caught.value.message, caught.value.hint) == (plain.message, plain.hint)
    return caught.value.reason


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def signed(header, payload, *, pair=PAIR):
    """A token of any header and payload (bytes, or a value for JSON), properly signed."""
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    text = ".".join(encode(part) for part in parts)
    return f"{text}.{encode(pair.sign(text.encode()))}"


HEADER = {"alg": "EdDSA", "typ": "pop+jwt"}
CLAIMS = json.loads(decode(mint().split(".")[1]))
MISSING = ...  # prints alike in every process, where object() would not: xdist compares the names of tests


def with_claims(**changes):
    """A properly signed token with some claims changed or missing."""
    return signed(HEADER, {name: value for name, value in {**CLAIMS, **changes}.items() if value is not MISSING})


# ---- what is accepted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["handle"][:8])
def test_vectors(vector):
    """A released proof is minted the same for ever, and verifies for ever."""
    pair = key.from_seed(Secret(bytes.fromhex(vector["seed"])))
    now = datetime.fromtimestamp(vector["now"], UTC)
    request = {"method": vector["method"], "target": vector["target"], "body": vector["body"].encode(), "now": now}
    token = proof.mint(pair, handle=vector["handle"], audience=vector["audience"], jti=vector["jti"], **request)
    assert token == vector["token"]
    assert (pair.did, pair.public_bytes.hex()) == (vector["did"], vector["public_key"])
    accepted = proof.verify(token, public_key=pair.public_bytes, audiences=frozenset({vector["audience"]}), **request)
    assert accepted == proof.Proof(
        handle=vector["handle"],
        did=vector["did"],
        jti_hash=bytes.fromhex(vector["jti_hash"]),
        expires_at=vector["now"] + 60,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["handle"][:8])
def test_vectors_are_standard_tokens(vector):
    """An independent library reads and verifies our tokens, and finds the contract's claims in them."""
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["public_key"]))
    claims = jwt.decode(
        vector["token"],
        public_key,
        algorithms=["EdDSA"],
        audience=vector["audience"],
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": vector["did"],
        "sub": vector["handle"],
        "aud": vector["audience"],
        "iat": vector["now"],
        "exp": vector["now"] + 60,
        "jti": vector["jti"],
        "htm": vector["method"],
        "htu": vector["target"],
        "body_sha256": hashlib.sha256(vector["body"].encode()).hexdigest(),
    }
    assert jwt.get_unverified_header(vector["token"]) == HEADER


def test_a_standard_library_s_token_is_accepted():
    """A token that PyJWT signs with our header and claims is as good as ours: the format is the contract."""
    private = PAIR._private_key
    token = jwt.encode(CLAIMS, private, algorithm="EdDSA", headers={"typ": "pop+jwt"})
    assert verify(token).handle == "ada"


@given(
    st.binary(max_size=200),
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.text(alphabet="abc/-_.~%20?=&", max_size=60).map(lambda text: "/" + text).filter(proof.is_plain_target),
)
def test_what_is_minted_verifies(body, method, target):
    """Whatever is signed is accepted for that very request, and only with a fresh token id each time."""
    facts = {"body": body, "method": method, "target": target}
    first, second = (verify(mint(**facts), **facts) for _ in range(2))
    assert (first.handle, first.did) == ("ada", PAIR.did)
    assert len(first.jti_hash) == 16
    assert first.jti_hash != second.jti_hash  # SEC-8: the replay memory tells tokens apart


def test_parsed_and_whole_token_are_the_same():
    """`verify` takes what `parse` made: the daemon looks the handle's key up in between."""
    claimed = proof.parse(mint())
    assert (claimed.handle, claimed.did) == ("ada", PAIR.did)
    assert verify(claimed).handle == "ada"


@pytest.mark.parametrize("seconds", [-30, -29, 0, 29, 30])
def test_clocks_may_differ_by_half_a_minute(seconds):
    """A caller whose clock is up to 30 s off, either way, is served."""  # SEC-12
    assert verify(mint(now=NOW + timedelta(seconds=seconds)))


def test_replay_key_belongs_to_the_handle():
    """One identity cannot use up another's token ids."""  # SEC-8
    jti = "0123456789abcdef"
    mine, theirs = (verify(mint(handle=handle, jti=jti)).jti_hash for handle in ("ada", "bob"))
    assert mine == verify(mint(handle="ada", jti=jti)).jti_hash
    assert mine != theirs


# ---- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        # SEC-3: the algorithm is not the token's to choose
        {"alg": "none", "typ": "pop+jwt"},
        {"alg": "NoNe", "typ": "pop+jwt"},
        {"alg": ["EdDSA"], "typ": "pop+jwt"},
        {"alg": "eddsa", "typ": "pop+jwt"},
        {"alg": "Ed25519", "typ": "pop+jwt"},
        {"alg": "RS256", "typ": "pop+jwt"},
        {"alg": "ES256", "typ": "pop+jwt"},
        {"alg": None, "typ": "pop+jwt"},
        {"typ": "pop+jwt"},
        # SEC-7: minted for another purpose
        {"alg": "EdDSA"},
        {"alg": "EdDSA", "typ": "JWT"},
        {"alg": "EdDSA", "typ": "dpop+jwt"},
        {"alg": "EdDSA", "typ": "POP+JWT"},
        {"alg": "EdDSA", "typ": "application/pop+jwt"},
        # SEC-5: keys from the token
        {**HEADER, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": encode(PAIR.public_bytes)}},
        {**HEADER, "jku": "http://127.0.0.1:1/keys"},
        {**HEADER, "x5u": "http://127.0.0.1:1/keys"},
        {**HEADER, "kid": "../../../dev/null"},
        {**HEADER, "kid": "' OR 1=1 --"},
        # SEC-6: extensions
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": []},
        {**HEADER, "b64": False},
        {**HEADER, "b64": True},
        {**HEADER, "zip": "DEF"},
        [HEADER],
        "EdDSA",
        None,
        {},
    ],
    ids=json.dumps,
)
def test_any_other_header_is_refused(header):
    """There is one header; with any other, a good signature counts for nothing."""
    assert refused(signed(header, CLAIMS)) in {"wrong header", "malformed token"}


@pytest.mark.parametrize("secret", [PAIR.public_bytes, PAIR.did.encode(), b""], ids=["public key", "iss", "empty"])
@pytest.mark.parametrize("algorithm", ["HS256", "EdDSA"])
def test_a_mac_is_no_signature(secret, algorithm):
    """A MAC keyed with what everybody knows is refused, whatever the header calls it."""  # SEC-3
    text = ".".join(encode(json.dumps(part).encode()) for part in ({**HEADER, "alg": algorithm}, CLAIMS))
    mac = hmac.digest(secret, text.encode(), "sha256")
    for signature in (mac, mac * 2):
        assert refused(f"{text}.{encode(signature)}")


# ---- the signature --------------------------------------------------------------------------------------------------


def malleable(signature):
    """The same signature with S + L for S: true in the group, and not canonical (RFC 8032 §5.1.7)."""
    number = int.from_bytes(signature[32:], "little") + ORDER
    return signature[:32] + number.to_bytes(32, "little")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: bytes(64),
        lambda signature: signature[:63],
        lambda signature: signature[:32],
        lambda signature: signature + b"\0",
        lambda signature: signature * 2,
        lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
        lambda signature: signature[:63] + bytes([signature[63] ^ 0x80]),
        malleable,
        lambda _: (1).to_bytes(32, "little") + bytes(32),  # R the neutral element, S zero
    ],
    ids=["empty", "zero", "short", "half", "long", "twice", "first bit", "last bit", "S + L", "neutral"],
)
def test_damaged_signature(damage):
    """A signature has one form."""  # SEC-4
    text, _, signature = mint().rpartition(".")
    assert refused(f"{text}.{encode(damage(decode(signature)))}") == "wrong signature"


def test_signature_of_another_key():
    """Somebody else's signature proves nothing, also not about a token that names its own key as issuer."""
    # SEC-4, SEC-18
    other = key.generate()
    assert refused(signed(HEADER, CLAIMS, pair=other)) == "wrong signature"
    assert refused(signed(HEADER, {**CLAIMS, "iss": other.did}, pair=other)) == "wrong signature"
    assert refused(with_claims(iss=other.did)) == "wrong issuer"


@given(st.data())
def test_any_changed_character_is_noticed(data):
    """No character of a token can be changed: neither claims nor signature nor the base64's unused bits."""
    # SEC-4, SEC-22
    token = mint()
    place = data.draw(st.integers(0, len(token) - 1))
    char = data.draw(st.characters(codec="ascii").filter(lambda char: char != token[place]))
    assert refused(token[:place] + char + token[place + 1 :])


def test_payload_of_another_token():
    """A payload cannot move under another token's signature."""  # SEC-4
    first, second = mint().split("."), mint(target="/connections").split(".")
    assert refused(".".join([first[0], second[1], first[2]]), target="/connections") == "wrong signature"


def test_unknown_identity_takes_the_same_work():
    """Without a key a signature is checked all the same, and nothing passes: not even the decoy's own signature."""
    # SEC-24
    decoy = key.from_seed(Secret(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")))
    assert decoy.public_bytes == proof._DECOY_KEY  # its private half is printed in RFC 8032
    assert refused(mint(), public_key=None) == "unknown identity"
    assert refused(signed(HEADER, {**CLAIMS, "iss": decoy.did}, pair=decoy), public_key=None) == "unknown identity"


def test_a_signature_that_was_checked_before():
    """Its outcome is taken; that of a token that nobody's key or the decoy's has signed makes nobody of its sender."""
    key_ready = proof.PublicKey.from_bytes(PAIR.public_bytes)
    claimed = proof.parse(mint())
    assert proof.is_signed_with(claimed, key_ready)
    assert not proof.is_signed_with(claimed, proof.PublicKey.from_bytes(key.generate().public_bytes))
    assert verify(claimed, public_key=key_ready, is_signed=True).handle == "ada"
    assert refused(claimed, public_key=key_ready, is_signed=False) == "wrong signature"
    for is_signed in (True, False):
        assert refused(claimed, public_key=None, is_signed=is_signed) == "unknown identity"


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(33)])
def test_a_key_that_is_none(public_key):
    """A registry that holds nonsense refuses; it does not crash."""
    assert refused(mint(), public_key=public_key)


# ---- the claims -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # SEC-9
        ({"jti": MISSING}, "missing or unknown claim"),
        ({"jti": ""}, "malformed claim"),
        ({"jti": 12345678901234567890}, "malformed claim"),
        ({"jti": None}, "malformed claim"),
        ({"jti": "a" * 15}, "malformed claim"),
        ({"jti": "a" * 129}, "malformed claim"),
        ({"jti": "a" * 100_000}, "malformed token"),
        ({"jti": "a" * 16 + "\n"}, "malformed claim"),
        ({"jti": "a" * 16 + "\0"}, "malformed claim"),
        ({"jti": "é" * 16}, "malformed claim"),
        # SEC-11
        ({"exp": CLAIMS["iat"] + 61}, "lifetime too long"),
        ({"exp": CLAIMS["iat"] + 3600}, "lifetime too long"),
        ({"exp": CLAIMS["iat"] + 315_360_000}, "lifetime too long"),
        ({"exp": CLAIMS["iat"]}, "lifetime too long"),
        ({"exp": CLAIMS["iat"] - 1}, "lifetime too long"),
        # SEC-12
        ({"iat": MISSING}, "missing or unknown claim"),
        ({"iat": CLAIMS["iat"] - 86_400, "exp": CLAIMS["iat"] + 30}, "lifetime too long"),
        ({"iat": CLAIMS["iat"] - 31, "exp": CLAIMS["iat"] + 20}, "issued too long ago, or in the future"),
        ({"iat": CLAIMS["iat"] + 31, "exp": CLAIMS["iat"] + 60}, "issued too long ago, or in the future"),
        ({"iat": CLAIMS["iat"] + 3600, "exp": CLAIMS["iat"] + 3660}, "issued too long ago, or in the future"),
        ({"iat": CLAIMS["iat"] - 20, "exp": CLAIMS["iat"]}, "expired"),
        ({"iat": CLAIMS["iat"] - 20, "exp": CLAIMS["iat"] - 10}, "expired"),
        # SEC-13
        ({"exp": MISSING}, "missing or unknown claim"),
        ({"exp": str(CLAIMS["exp"])}, "malformed claim"),
        ({"exp": float(CLAIMS["exp"])}, "malformed claim"),
        ({"exp": True}, "malformed claim"),
        ({"iat": True, "exp": 2}, "malformed claim"),
        ({"exp": None}, "malformed claim"),
        ({"exp": [CLAIMS["exp"]]}, "malformed claim"),
        ({"exp": 10**400}, "lifetime too long"),
        ({"iat": 10**400, "exp": 10**400 + 30}, "issued too long ago, or in the future"),
        ({"iat": -(10**400), "exp": -(10**400) + 30}, "issued too long ago, or in the future"),
        # SEC-14, SEC-209
        ({"aud": MISSING}, "missing or unknown claim"),
        ({"aud": [HERE]}, "malformed claim"),
        ({"aud": ""}, "wrong audience"),
        ({"aud": "https://other.example.com"}, "wrong audience"),
        ({"aud": HERE + "/"}, "wrong audience"),
        ({"aud": "http://127.0.0.1"}, "wrong audience"),
        # SEC-15
        ({"htm": "GET"}, "wrong method"),
        ({"htm": "post"}, "wrong method"),
        ({"htm": MISSING}, "missing or unknown claim"),
        ({"htu": MISSING}, "missing or unknown claim"),
        ({"htu": "/proxy/resolve"}, "wrong target"),
        ({"htu": "/proxy/"}, "wrong target"),
        ({"htu": TARGET + "&c=d"}, "wrong target"),
        ({"htu": HERE + TARGET}, "wrong target"),
        ({"htu": "/proxy/../proxy/resolve?a=b"}, "wrong target"),
        ({"htu": "/proxy/%72esolve?a=b"}, "wrong target"),
        ({"htu": "/Proxy/resolve?a=b"}, "wrong target"),
        ({"htu": TARGET + "#f"}, "wrong target"),
        # SEC-16
        ({"body_sha256": MISSING}, "missing or unknown claim"),
        ({"body_sha256": None}, "malformed claim"),
        ({"body_sha256": ""}, "wrong body"),
        ({"body_sha256": hashlib.sha256(b"").hexdigest()}, "wrong body"),
        ({"body_sha256": hashlib.sha256(BODY).hexdigest().upper()}, "wrong body"),
        # SEC-17, SEC-18: who
        ({"sub": MISSING}, "missing or unknown claim"),
        ({"sub": ""}, "malformed claim"),
        ({"sub": "../ada"}, "malformed claim"),
        ({"sub": "ada\n"}, "malformed claim"),
        ({"sub": 7}, "malformed claim"),
        ({"iss": MISSING}, "missing or unknown claim"),
        ({"iss": "ada"}, "wrong issuer"),
        ({"iss": PAIR.did + "#key"}, "wrong issuer"),
        ({"iss": {"id": PAIR.did}}, "malformed claim"),
        # what nobody defined
        ({"nbf": CLAIMS["iat"] + 5}, "missing or unknown claim"),
        ({"admin": True}, "missing or unknown claim"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_claims_are_refused(changes, reason):
    """Every claim must be there, be of its type, and say the truth, though the key's owner signed it."""
    assert refused(with_claims(**changes)) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body": BODY + b" "}, "wrong body"),  # SEC-16
        ({"body": b""}, "wrong body"),
        ({"method": "GET"}, "wrong method"),  # SEC-15
        ({"method": "post"}, "wrong method"),
        ({"target": "/proxy/resolve"}, "wrong target"),
        ({"target": "/proxy/resolve?a=b&"}, "wrong target"),
        ({"audiences": frozenset({"http://127.0.0.1:7999"})}, "wrong audience"),  # SEC-14
        ({"audiences": frozenset()}, "wrong audience"),
        ({"now": NOW + timedelta(seconds=31)}, "issued too long ago, or in the future"),  # SEC-10
        ({"now": NOW - timedelta(seconds=31)}, "issued too long ago, or in the future"),
        ({"public_key": key.from_seed(Secret(bytes(32))).public_bytes}, "wrong signature"),  # SEC-18
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_request_is_refused(changes, reason):
    """A good token is good for its own request only."""
    assert refused(mint(), **changes) == reason


@pytest.mark.parametrize(
    "target",
    [
        "",
        "proxy",
        "//evil.example/x",
        "/a//b",
        "/a/../b",
        "/a/..",
        "/./a",
        "/a/.",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a b",
        "/a\tb",
        "/a\r\nb",
        "/a\0b",
        "/é",
        "/a#b",
        "/a?b#c",
        "*",
        "http://127.0.0.1:7998/a",
    ],
)
def test_target_that_reads_two_ways_is_refused(target):
    """Even when token and request agree on it: two readers might not agree on what it names."""  # SEC-15
    assert refused(with_claims(htu=target), target=target) == "wrong target"


def test_queries_are_free():
    """Dots, slashes and encoded ones in a query are data."""
    target = "/a/b.c/..d?path=../x//y%2fz&%2e"
    assert verify(mint(target=target), target=target)


# ---- the form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda _: ".",
        lambda _: "..",
        lambda _: "...",
        lambda token: token.rpartition(".")[0],
        lambda token: token + ".",
        lambda token: token + "." + token,
        lambda token: "." + token,
        lambda token: token + "=",
        lambda token: token.replace(".", "=.", 1),
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token[:40] + "\n" + token[40:],
        lambda token: token[:40] + "+" + token[41:],
        lambda token: token[:40] + "/" + token[41:],
        lambda token: token[:40] + "é" + token[41:],
        lambda token: token + "A" * 1_000_000,
        lambda _: "A" * 1_000_000,
        lambda _: "." * 1_000_000,
    ],
)
def test_malformed_tokens(damage: Callable[[str], str]):
    """A token has one spelling and a bounded size."""  # SEC-1, SEC-2, SEC-22, SEC-23
    assert refused(damage(mint()))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
        json.dumps(CLAIMS).encode("utf-16"),
        json.dumps(CLAIMS).encode() + b"\xff",
        json.dumps(CLAIMS).encode() + b"{}",
        json.dumps(CLAIMS).encode()[:-1],
        b"[" * 3000,  # SEC-23
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"iss":' + b"[" * 1000 + b"]" * 1000 + b"}",
        json.dumps(CLAIMS).encode().replace(b'"exp":', b'"exp": NaN, "x":'),  # SEC-13
        json.dumps({**CLAIMS, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": NaN'),
        json.dumps({**CLAIMS, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": 1e400'),
        json.dumps({**CLAIMS, "exp": 0}).encode().replace(b'"exp": 0', b'"exp": -Infinity'),
        json.dumps(CLAIMS).encode().replace(b"{", b'{"sub": "bob", ', 1),  # SEC-21
        json.dumps(CLAIMS).encode()[:-1] + b', "sub": "bob"}',
        json.dumps(CLAIMS).encode()[:-1] + b', "\\u0073ub": "ada"}',
    ],
)
def test_payload_is_strict_json(payload):
    """A payload that two parsers might read in two ways is refused."""
    assert refused(signed(HEADER, payload))


def test_header_with_a_doubled_member():
    """The header too names each member once."""  # SEC-21
    assert refused(signed(b'{"alg":"none","alg":"EdDSA","typ":"pop+jwt"}', CLAIMS)) == "malformed token"


@given(st.text(max_size=300))
def test_no_text_is_a_crash(text):
    """Whatever stands in the header, the answer is a refusal."""
    assert refused(text)


def test_no_token_in_what_is_kept():
    """A token is a bearer's for a minute: what is kept of it is a hash."""
    token = with_claims()
    accepted = verify(token)
    assert CLAIMS["jti"] not in repr(accepted)
    assert token.rpartition(".")[2] not in repr(accepted)
