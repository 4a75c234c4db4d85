"""The private half of an Ed25519 key pair, from the library by the shortest way. Imports nothing else."""

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def private_key(seed: bytes) -> "Ed25519PrivateKey":
    """What `Ed25519PrivateKey.from_private_bytes` returns, from where it takes it; ValueError if it is not 32 bytes.

    It first asks whether OpenSSL knows Ed25519, and loads every cipher there is to do so: a quarter of the time of a
    command that signs one request. Where the library is built otherwise, it is asked the long way.
    """
    try:
        from cryptography.hazmat.bindings._rust import openssl  # noqa: PLC0415

        return openssl.ed25519.from_private_bytes(seed)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(seed)
