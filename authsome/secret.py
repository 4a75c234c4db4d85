"""Secret: a value that cannot be printed, logged, pickled or JSON-encoded by accident.

`reveal()` is the one way out; a test lists the files that may call it.
"""

from typing import Generic, Never, TypeVar

Value = TypeVar("Value", str, bytes)


class Secret(Generic[Value]):
    """A secret string or secret bytes; equality takes constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value: Value = value

    def reveal(self) -> Value:
        """The plain value, for the one place that must have it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac  # noqa: PLC0415  # loads all of OpenSSL, which most commands have no use for

        mine, theirs = self._value, other._value
        if isinstance(mine, str) and isinstance(theirs, str):
            return hmac.compare_digest(mine.encode(), theirs.encode())
        if isinstance(mine, bytes) and isinstance(theirs, bytes):
            return hmac.compare_digest(mine, theirs)
        return False

    __hash__ = None  # type: ignore[assignment]  # a hash would put the value into tables that outlive it

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> Never:
        raise TypeError("a Secret is never serialised")
