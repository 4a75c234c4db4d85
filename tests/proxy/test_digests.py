"""What a request says of its own body, when that was changed."""

import base64
import hashlib

import pytest

from authsome.errors import RequestInvalid
from authsome.proxy import digests

BEFORE, AFTER = b'{"a":"placeholder"}', b'{"a":"real"}'


def of(algorithm: str, body: bytes) -> bytes:
    """A digest in Base64."""
    return base64.b64encode(hashlib.new(algorithm, body).digest())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Content-Digest", b"sha-256=:%b:"),
        (b"repr-digest", b"sha-256=:%b:"),
        (b"Digest", b"SHA-256=%b"),
        (b"Digest", b"sha-256=%b"),
    ],
)
def test_a_digest_is_made_anew(name: bytes, value: bytes):
    """In its own spelling; a wrong one stays wrong, and one of many is like one."""
    sent, wanted = value % of("sha256", BEFORE), value % of("sha256", AFTER)
    assert digests.renewed(((name, sent),), BEFORE, AFTER) == ((name, wanted),)
    wrong = value % of("sha256", b"other")
    assert digests.renewed(((name, wrong),), BEFORE, AFTER) == ((name, wrong),)
    assert digests.renewed(((name, sent + b" ,\t" + wrong),), BEFORE, AFTER) == ((name, wanted + b", " + wrong),)


@pytest.mark.parametrize(("written", "algorithm"), [(b"sha-512", "sha512"), (b"sha", "sha1"), (b"md5", "md5")])
def test_by_other_algorithms(written: bytes, algorithm: str):
    """Those that have a name in the registry and are of any use."""
    sent, wanted = (written + b"=:" + of(algorithm, body) + b":" for body in (BEFORE, AFTER))
    assert digests.renewed(((b"Content-Digest", sent),), BEFORE, AFTER) == ((b"Content-Digest", wanted),)


def test_content_md5():
    """RFC 1864; a wrong one stays."""
    sent = ((b"Content-MD5", of("md5", BEFORE)), (b"Content-MD5", of("md5", b"x")), (b"X", b"y"))
    assert digests.renewed(sent, BEFORE, AFTER) == ((b"Content-MD5", of("md5", AFTER)), *sent[1:])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Content-Digest", b"unixsum=:AAAA:"),
        (b"Content-Digest", b"sha-256"),
        (b"Content-Digest", b""),
        (b"Digest", b"crc32c=0a72a4df"),
        (b"Signature", b"sig=:AA==:"),
        (b"Signature-Input", b'sig=("content-digest")'),
        (b"X-Hub-Signature-256", b"sha256=00"),
        (b"X-Hub-Signature", b"sha1=00"),
        (b"stripe-signature", b"t=1,v1=00"),
        (b"X-Amz-Content-Sha256", b"00"),
    ],
)
def test_what_cannot_be_made_anew_is_refused(name: bytes, value: bytes):
    """An algorithm that nobody here knows, and every signature."""
    with pytest.raises(RequestInvalid) as caught:
        digests.renewed(((b"X", b"y"), (name, value)), BEFORE, AFTER)
    assert caught.value.message.startswith(name.decode().lower())
    assert caught.value.hint


def test_none_is_left_of_a_body_that_was_changed():
    """Whatever is in it."""
    sent = (
        (b"Content-Digest", b"x"),
        (b"X", b"y"),
        (b"repr-digest", b""),
        (b"Digest", b"md5=x"),
        (b"Content-MD5", b"x"),
    )
    assert digests.without(sent) == ((b"X", b"y"),)


def test_other_fields_stay():
    """Whatever they are called that only resembles."""
    sent = ((b"X-Signatures", b"1"), (b"Want-Content-Digest", b"sha-256=1"), (b"X-Digest", b"2"), (b"ETag", b'"3"'))
    assert digests.renewed(sent, BEFORE, AFTER) == sent
