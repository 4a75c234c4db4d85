"""Replay memory: which proofs and form tokens were used, until they have expired anyway (RFC 9449 §11.1).

Rule: a row lies where its expiry puts it, so the memory costs the same however many requests went before.
"""

from typing import Final

from authsome.vault.database import Transaction

_STEP: Final = 128
"""How much is forgotten at once: little enough for any request to wait for."""
_ONE_IN: Final = 64
"""One proof in so many makes room for `_STEP`: twice the room that all of them take."""


def remember(transaction: Transaction, expires_at: int, jti_hash: bytes, *, forget_before: int | None = None) -> bool:
    """Note a proof as used; False when it was before.

    Args:
        transaction: commit it before anything is answered.
        expires_at: when the proof ends, in seconds since the epoch; part of what is signed, so part of the key.
        jti_hash: what tells the proof from every other one.
        forget_before: make room now and then by forgetting what expired before this second.
    """
    if forget_before is not None and jti_hash[0] % _ONE_IN == 0:
        forget(transaction, forget_before)
    noted = transaction.execute(
        "INSERT INTO replay (expires_at, jti_hash) VALUES (?, ?) ON CONFLICT DO NOTHING", (expires_at, jti_hash)
    )
    return noted.rowcount == 1


def forget(transaction: Transaction, before: int, *, limit: int = _STEP) -> int:
    """Forget up to `limit` proofs that expired before a second since the epoch; how many they were."""
    gone = transaction.execute(
        "DELETE FROM replay WHERE (expires_at, jti_hash) IN"
        " (SELECT expires_at, jti_hash FROM replay WHERE expires_at < ? ORDER BY expires_at, jti_hash LIMIT ?)",
        (before, limit),
    )
    return gone.rowcount
