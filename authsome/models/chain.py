"""The log's chain: what an entry's hash is taken over, what a checkpoint signs, and how both are checked.

Pure, so that an export is checked where there is no vault.

Rules:
1. An entry's hash covers the hash of the one before and every column, each with its length: no two different entries
   give the same bytes. What was released is never changed (tests/vectors/audit.json); a new form gets a new version.
2. Hashes are public: who may write the table can compute them. What he cannot make is the server's seal on each entry
   and its signature under a checkpoint.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from typing import Final

from authsome.errors import RequestInvalid

VERSION: Final = b"\x01"
"""Begins every hash, and says how it was made."""

TEXT_COLUMNS: Final = (
    "event", "vault", "principal", "identity", "proof", "provider", "connection", "method", "host", "path", "run",
    "detail",
)  # fmt: skip
"""An entry's columns after `id` and `at`, in the order in which they are hashed."""

_ENTRY: Final = b"authsome-audit-entry-1\n"
_GENESIS: Final = b"authsome-audit-genesis-1\n"
_CHECKPOINT: Final = b"authsome-audit-checkpoint-1\n"
_MARK: Final = b"authsome-audit-mark-1\n"
_NOTHING: Final = b"\xff\xff\xff\xff"
"""Stands for a column without a value: no length, for no text is as long."""
_NUMBERS: Final = Struct(">qq").pack
_LENGTH: Final = Struct(">I").pack

Columns = tuple[str | None, ...]


class Reason(StrEnum):
    """Why a checkpoint was taken."""

    BEGIN = "begin"
    """The chain begins: what lies before it is as it was found."""
    INTERVAL = "interval"
    START = "start"
    SHUTDOWN = "shutdown"
    RETENTION = "retention"
    """Entries up to here were removed by the rule of the settings."""
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log: an entry's number and hash; number 0 is before the first."""

    id: int
    hash: bytes


def genesis(store: str) -> Place:
    """Where the chain of a store begins; no two stores share it, so no entry fits into another's log."""
    return Place(0, VERSION + hashlib.sha256(_GENESIS + store.encode()).digest())


def entry_hash(previous: bytes, number: int, at: int, columns: Columns) -> bytes:
    """The hash of an entry.

    Args:
        previous: the hash of the entry before it, or that of the genesis.
        number: its id.
        at: its time in microseconds since the epoch.
        columns: the values of `TEXT_COLUMNS`.
    """
    parts = [_ENTRY, previous, _NUMBERS(number, at)]
    for text in columns:
        if text is None:
            parts.append(_NOTHING)
        else:
            data = text.encode()
            parts += (_LENGTH(len(data)), data)
    return VERSION + hashlib.sha256(b"".join(parts)).digest()


def mark(place: Place) -> str:
    """What tells a place from any other. Anybody may have it: by two hashes in a row an entry could be guessed."""
    return hashlib.sha256(_MARK + _NUMBERS(place.id, 0) + place.hash).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The server's word on what the log was: from where it began to where it had come."""

    number: int
    """Counts the checkpoints of a store, from 1."""
    store: str
    begins: Place
    """The place before the first entry that was there, or that was exported."""
    ends: Place
    latest: int
    """The greatest time of any entry up to here, in microseconds; one further on may be older, by a clock set back."""
    taken_at: int
    reason: Reason
    signature: bytes = b""

    def signed(self) -> bytes:
        """What the signature is over."""
        texts = (self.store.encode(), self.reason.encode())
        return b"".join(
            (
                _CHECKPOINT,
                _NUMBERS(self.number, self.taken_at),
                _NUMBERS(self.begins.id, self.ends.id),
                self.begins.hash,
                self.ends.hash,
                _NUMBERS(self.latest, 0),
                *(_LENGTH(len(text)) + text for text in texts),
            )
        )

    def to_json(self) -> dict[str, object]:
        """The members of a checkpoint in an export."""
        return {
            "number": self.number,
            "store": self.store,
            "begins_after": self.begins.id,
            "begins_hash": self.begins.hash.hex(),
            "ends_at": self.ends.id,
            "ends_hash": self.ends.hash.hex(),
            "latest": self.latest,
            "taken_at": self.taken_at,
            "reason": self.reason.value,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, members: Mapping[str, object]) -> "Checkpoint":
        """The checkpoint of an export's line.

        Raises:
            RequestInvalid: it is none.
        """
        try:
            return cls(
                number=whole_number(members["number"]),
                store=plain_text(members["store"]),
                begins=Place(whole_number(members["begins_after"]), bytes.fromhex(plain_text(members["begins_hash"]))),
                ends=Place(whole_number(members["ends_at"]), bytes.fromhex(plain_text(members["ends_hash"]))),
                latest=whole_number(members["latest"]),
                taken_at=whole_number(members["taken_at"]),
                reason=Reason(plain_text(members["reason"])),
                signature=bytes.fromhex(plain_text(members["signature"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestInvalid("this is not a checkpoint of the log") from error


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a log, and where: nothing after that place is vouched for."""

    entry: int
    problem: str


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as it is hashed, with the hash that it carries."""

    id: int
    at: int
    columns: Columns
    hash: bytes | None
    """None: it is from before the chain."""


class Walk:
    """A walk along the chain, entry by entry; it keeps nothing but the place where it is."""

    def __init__(self, start: Place) -> None:
        self.place = start

    def step(self, line: Line) -> Flaw | None:
        """Go on to the next entry; what is wrong with it, if it is not the one that follows."""
        wanted = self.place.id + 1
        if line.id > wanted:
            gone = f"entry {wanted} is" if line.id == wanted + 1 else f"entries {wanted} to {line.id - 1} are"
            return Flaw(wanted, f"{gone} missing")
        if line.id < wanted:
            return Flaw(wanted, f"entry {line.id} comes where entry {wanted} should")
        try:
            wanted_hash = entry_hash(self.place.hash, line.id, line.at, line.columns)
        except (
            AttributeError,
            TypeError,
            ValueError,
            OverflowError,
        ):  # another type than the column's, a lone surrogate
            wanted_hash = b""
        if line.hash is None or line.hash != wanted_hash:
            return Flaw(line.id, f"entry {line.id} was changed, or is not the one that stood here")
        self.place = Place(line.id, line.hash)
        return None

    def check(self, checkpoint: Checkpoint, is_signed: Callable[[bytes, bytes], bool]) -> Flaw | None:
        """Compare a checkpoint for the present place with the place.

        Args:
            checkpoint: one that ends here.
            is_signed: whether the server has signed (message, signature).
        """
        name = f"checkpoint {checkpoint.number}"
        if not is_signed(checkpoint.signed(), checkpoint.signature):
            return Flaw(self.place.id, f"{name} is not signed by this server's key")
        if checkpoint.ends != self.place:
            return Flaw(self.place.id, f"{name} says another history up to entry {checkpoint.ends.id}")
        return None


def whole_number(value: object) -> int:
    """The value, where it is a number as the log has them; a TypeError otherwise."""
    if type(value) is not int or not -(2**62) < value < 2**62:
        raise TypeError("not a number")
    return value


def plain_text(value: object) -> str:
    """The value, where it is a text; a TypeError otherwise, or a ValueError where it holds a lone surrogate."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()
    return value
