"""An export of the log: lines of JSON that whoever has them can check, without the daemon and without its secrets.

The first line says what the log is and where the export begins, one line is one entry, and the last is a checkpoint
that the server has signed over exactly what lies between.

Rule: each line has one spelling. So nothing in an export can be changed without being found, not even a blank.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from authsome.errors import RequestInvalid
from authsome.models.audit import Event
from authsome.models.chain import (
    TEXT_COLUMNS,
    Checkpoint,
    Flaw,
    Line,
    Place,
    Reason,
    Walk,
    genesis,
    plain_text,
    whole_number,
)

VERSION: Final = 1
_HINT: Final = "make one with `authsome log export`"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENTRY_MEMBERS: Final = frozenset({"id", "at", "previous", "hash", *TEXT_COLUMNS})

IsSigned = Callable[[bytes, bytes, bytes], bool]
"""Whether the key with this public half has signed a message: (public, message, signature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an export is an export of."""

    store: str
    key: str
    """The did:key that its last line is signed with."""
    begins: Place
    is_whole: bool
    """False: entries of others than the caller's vault were left out, so it is no chain."""

    def to_json(self) -> dict[str, object]:
        """The first line's members."""
        return {
            "export": VERSION,
            "store": self.store,
            "key": self.key,
            "begins_after": self.begins.id,
            "begins_hash": self.begins.hash.hex(),
            "whole": self.is_whole,
        }

    @classmethod
    def from_json(cls, members: Mapping[str, object]) -> "Header":
        """The header of a first line.

        Raises:
            RequestInvalid: it is none.
        """
        try:
            header = cls(
                store=plain_text(members["store"]),
                key=plain_text(members["key"]),
                begins=Place(whole_number(members["begins_after"]), bytes.fromhex(plain_text(members["begins_hash"]))),
                is_whole=members["whole"] is True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestInvalid("this is no export of the log", hint=_HINT) from error
        if members.get("export") != VERSION:
            raise RequestInvalid("this export was made by a newer version of authsome", hint="check it with that one")
        return header


def entry_to_json(line: Line, previous: bytes | None) -> dict[str, object]:
    """The members of an entry's line; those that say nothing are left out."""
    members: dict[str, object] = {"id": line.id, "at": _moment(line.at)}
    members |= {name: text for name, text in zip(TEXT_COLUMNS, line.columns, strict=True) if text is not None}
    if previous is not None:
        members["previous"] = previous.hex()
    members["hash"] = line.hash.hex() if line.hash is not None else ""
    return members


def render(members: Mapping[str, object]) -> str:
    """The one spelling of a line, without its end."""
    return json.dumps(members, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an export is worth."""

    header: Header
    entries: int
    last: int
    flaw: Flaw | None


def verify(
    lines: Iterable[str], is_signed: IsSigned, public: Callable[[str], bytes], *, tell: Callable[[int], None]
) -> Verdict:
    """Check an export, line by line; no more than two of them are kept.

    Args:
        lines: the lines, without their ends.
        is_signed: checks a signature.
        public: the raw key that a did:key names; a ValueError when it names none, or not the wanted one.
        tell: told now and then how many entries were checked.

    Raises:
        RequestInvalid: it is no export, or one that leaves out the entries of others.
    """
    source = iter(lines)
    first = next(source, "")
    header = Header.from_json(_members(first))
    if not header.is_whole:
        raise RequestInvalid(
            "this export has one principal's entries only, and the chain runs through all of them",
            hint="an export by an admin can be checked",
        )
    count = 0

    def verdict(flaw: Flaw | None) -> Verdict:
        return Verdict(header=header, entries=count, last=walk.place.id, flaw=flaw)

    walk = Walk(header.begins)
    begins = header.begins
    if first != render(header.to_json()) or (begins.id == 0 and begins != genesis(header.store)):
        return verdict(Flaw(begins.id + 1, "the first line was changed"))
    try:
        key = public(header.key)
    except ValueError:
        return verdict(Flaw(begins.id + 1, "it is not signed with the key that it should be"))
    damage = None
    for text, is_last in _with_last(source):
        if is_last:
            return verdict(_end_flaw(text, header, walk, partial(is_signed, key)) or damage)
        if (flaw := _step(walk, text)) is not None:
            return verdict(flaw)
        if damage is None and _members(text).get("event") == Event.LOG_DAMAGED:
            damage = Flaw(walk.place.id, str(_members(text).get("detail")))
        count += 1
        if count % 1000 == 0:
            tell(count)
    return verdict(Flaw(walk.place.id + 1, "the export is cut off: its last line is missing"))


def _with_last(source: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is the last."""
    held = next(source, None)
    for text in source:
        assert held is not None
        yield held, False
        held = text
    if held is not None:
        yield held, True


def _step(walk: Walk, text: str) -> Flaw | None:
    expected = walk.place.id + 1
    members = _members(text)
    before = walk.place.hash
    try:
        line = _line(members)
    except (KeyError, TypeError, ValueError):
        return Flaw(expected, f"the line of entry {expected} is not as it was written")
    if (flaw := walk.step(line)) is not None:
        return flaw
    if text != render(entry_to_json(line, before)):
        return Flaw(line.id, f"the line of entry {line.id} is not as it was written")
    return None


def _end_flaw(text: str, header: Header, walk: Walk, is_ours: Callable[[bytes, bytes], bool]) -> Flaw | None:
    following = walk.place.id + 1
    try:
        checkpoint = Checkpoint.from_json(_members(text))
    except RequestInvalid:
        if _step(walk, text) is None:  # an entry, and a good one
            return Flaw(walk.place.id + 1, "the export is cut off: its last line is missing")
        return Flaw(following, "the last line was changed, or is missing")
    if text != render(checkpoint.to_json()):
        return Flaw(following, "the last line is not as it was written")
    if not is_ours(checkpoint.signed(), checkpoint.signature):
        return Flaw(following, f"the last line is not signed by {header.key}")
    if checkpoint.store != header.store or checkpoint.reason is not Reason.EXPORT:
        return Flaw(following, "the last line is of another export")
    return _extent_flaw(checkpoint, header, walk.place)


def _extent_flaw(checkpoint: Checkpoint, header: Header, place: Place) -> Flaw | None:
    following = place.id + 1
    if checkpoint.begins != header.begins:
        return Flaw(checkpoint.begins.id + 1, "the first entries are missing, or were changed")
    if checkpoint.ends.id > place.id:
        gone = f"entry {following} is" if checkpoint.ends.id == following else f"entries from {following} on are"
        return Flaw(following, f"{gone} missing from the end of the export")
    if checkpoint.ends != place:
        return Flaw(min(checkpoint.ends.id, place.id), "the last entries are not those that were exported")
    return None


def _line(members: Mapping[str, object]) -> Line:
    if members.keys() - _ENTRY_MEMBERS:
        raise ValueError("unknown members")
    moment = datetime.fromisoformat(plain_text(members["at"]))
    return Line(
        whole_number(members["id"]),
        (moment - _EPOCH) // _MICROSECOND,
        tuple(plain_text(members[name]) if name in members else None for name in TEXT_COLUMNS),
        bytes.fromhex(plain_text(members["hash"])),
    )


def _moment(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")


def _members(text: str) -> Mapping[str, object]:
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):  # brackets without end, too
        return {}
    return members if isinstance(members, dict) else {}
