"""PKCE."""

import re

from authsome.oauth import pkce
from authsome.secret import Secret


def test_the_rfcs_example():
    """RFC 7636, appendix B."""
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert pkce.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifiers():
    """A verifier has 43 to 128 unreserved characters and is fresh each time; its challenge has 43."""  # SEC-51
    found = [pkce.new_verifier() for _ in range(100)]
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier.reveal()) for verifier in found)
    assert len({verifier.reveal() for verifier in found}) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", pkce.challenge(verifier)) for verifier in found)


def test_only_s256():
    """No other method has a name here."""  # SEC-51
    assert pkce.METHOD == "S256"
