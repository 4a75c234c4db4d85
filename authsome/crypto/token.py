"""Tokens that prove by being known: what is kept of one that was drawn at random, 256 bits long.

A plain hash is enough: nobody guesses 256 bits, so there is nothing for a salt or many rounds to slow down.
"""

import hashlib

from authsome.secret import Secret


def hash_of(token: Secret[str]) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.reveal().encode("utf-8", "surrogatepass")).digest()
