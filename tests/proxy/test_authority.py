"""Our authority and its leaves, judged by OpenSSL's strictest eye."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification

from authsome.broker import runs
from authsome.proxy import authority

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ours() -> authority.Authority:
    """An authority."""
    return authority.create(NOW)


def test_it_says_what_it_is_and_lives_shortly(ours: authority.Authority):
    """The name tells whose it is; 61 days, 30 of them for new runs, and no authority below it."""
    # SEC-175
    certificate = ours.certificate
    assert certificate.subject.rfc4514_string().startswith("CN=Authsome proxy for ")
    assert certificate.not_valid_after_utc - NOW <= timedelta(days=61)
    assert ours.renew_at == certificate.not_valid_after_utc - timedelta(days=31)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def verifies(ours: authority.Authority, at: datetime) -> bool:
    """Whether a client whose clock says so accepts a leaf."""
    leaf = authority.Issuer(ours).issue("api.example.com")
    builder = verification.PolicyBuilder().store(verification.Store([ours.certificate])).time(at)
    try:
        builder.build_server_verifier(x509.DNSName("api.example.com")).verify(leaf.certificate, [])
    except verification.VerificationError:
        return False
    return True


def test_a_run_that_began_with_it_ends_with_it(ours: authority.Authority):
    """Its leafs are good for as long as the longest run lasts that could still begin with it, to the second."""
    # SEC-175
    second = timedelta(seconds=1)
    last = ours.renew_at - second
    assert ours.serves(last)
    assert not ours.serves(ours.renew_at)
    assert last + runs.LONGEST < ours.certificate.not_valid_after_utc
    assert verifies(ours, last + runs.LONGEST)
    assert verifies(ours, ours.certificate.not_valid_after_utc - second)
    assert not verifies(ours, ours.certificate.not_valid_after_utc + second)


def test_it_serves_nobody_before_its_time(ours: authority.Authority):
    """A clock that has been set back since it was made would have all clients refuse it."""
    # SEC-175
    begin = ours.certificate.not_valid_before_utc
    second = timedelta(seconds=1)
    assert NOW - timedelta(minutes=6) < begin <= NOW - timedelta(minutes=5)
    assert (ours.serves(begin), verifies(ours, begin)) == (True, True)
    assert (ours.serves(begin - second), verifies(ours, begin - second)) == (False, False)


def test_it_survives_its_file(ours: authority.Authority):
    """What is written is read back."""
    again = authority.load(ours.to_pem())
    assert again.certificate == ours.certificate
    assert again.key.private_numbers() == ours.key.private_numbers()
    assert b"PRIVATE" not in ours.certificate_pem()


def test_a_certificate_of_another_key_is_refused(ours: authority.Authority):
    """A file that was put together from two is none."""
    other = authority.create(NOW)
    mixed = ours.to_pem().replace(ours.certificate_pem(), other.certificate_pem())
    for data in (mixed, b"", ours.certificate_pem()):
        with pytest.raises(ValueError):  # noqa: PT011  # the one thing to catch
            authority.load(data)


@pytest.mark.parametrize("host", ["api.example.com", "127.0.0.1", "a" * 60 + "." + "b" * 60 + ".example.com"])
def test_a_leaf_is_for_one_host_and_verifies_strictly(ours: authority.Authority, tmp_path: Path, host: str):
    """OpenSSL accepts it for that host, with every check that RFC 5280 asks for, and for no other host."""
    # SEC-176
    leaf = authority.Issuer(ours).issue(host)
    pem = serialization.Encoding.PEM
    key = leaf.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate.public_bytes(pem) + key)
    (tmp_path / "ca.pem").write_bytes(ours.certificate_pem())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "leaf.pem")
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(client, server, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "other.example.com")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """A handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ours.cipher() is not None
    assert socket.has_ipv6 in {True, False}


def test_leaf_keys_are_not_the_authoritys(ours: authority.Authority):
    """The authority's key signs certificates and nothing else; each process has a leaf key of its own."""
    # SEC-175
    first, second = authority.Issuer(ours).issue("a.example.com"), authority.Issuer(ours).issue("a.example.com")
    keys = {leaf.key.private_numbers().private_value for leaf in (first, second)}
    assert len(keys) == 2
    assert ours.key.private_numbers().private_value not in keys
