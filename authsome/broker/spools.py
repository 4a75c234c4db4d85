"""What proxies have used of what they keep, taken from where they wrote it down into the audit log.

A proxy writes a use down before the credential leaves (`proxy/spool`). Here each becomes the entry that asking would
have made, with the time of the use, once: how far we are is committed with the entries.

Rules:
1. Lines are believed for their code alone, whoever could have written to their file, and the numbers of a run's lines
   follow one another. What is not so was done by somebody else who can write to this home, and the log says it.
2. While the proxy holds a file it writes no other: whatever lies behind that one by its name waits, and takes nothing
   away. It has us see the file before there is anything in it; from then on one that is gone was taken away.
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from authsome.broker.context import Context
from authsome.errors import StorageFailed, reason_of
from authsome.home import Home
from authsome.models.audit import Entry, Event
from authsome.models.run import Run
from authsome.models.use import KEY_BYTES, LONGEST, Codes, Use
from authsome.secret import Secret
from authsome.vault import audit, identities, runs, spools
from authsome.vault.columns import to_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.spools import Place

_PURPOSE: Final = "uses"
_NAME: Final = re.compile(r"([0-9a-f]{1,64})\.(0|[1-9][0-9]{0,14})")  # each file has one
_PIECE: Final = 64 * 1024  # bytes taken in by one transaction, some 400 uses: nobody waits longer for it than 10 ms
_NOT_OURS: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EINVAL, errno.EACCES, errno.EPERM})
"""What opening says of a link, a socket, a directory, or a file that was made unreadable: no proxy leaves any."""
_LARGEST: Final = 64 * 1024 * 1024  # bytes that are read of a file: many times what a proxy writes into one

_log: Final = logging.getLogger("authsome.broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """Whose uses they are."""

    run: Run
    principal: str | None


class Spools:
    """The use cases around uses."""

    def __init__(self, context: Context, home: Home) -> None:
        self._context = context
        self._directory = home.spool
        self._taking = threading.Lock()

    def key(self, run: str) -> Secret[bytes]:
        """What the lines of a run are known by; the same after each restart."""
        key = self._context.sealers.subkey(_PURPOSE).reveal()
        return Secret(hashlib.blake2b(run.encode(), key=key, digest_size=KEY_BYTES).digest())

    def next(self, run: str) -> int:
        """The number of a run's next use."""
        self.take(run)
        with self._context.database.read() as reader:
            return spools.place(reader, run).next

    def take_all(self) -> None:
        """Take in what all runs have used until now.

        Raises:
            StorageFailed: it cannot be read where it lies, or not be written into the log.
        """
        found = self._found()
        for run, segments in found.items():
            self._take(run, segments)
        with self._context.database.read() as reader:
            begun = spools.begun(reader)
        for run in begun - found.keys():
            self._miss(run)

    def take(self, run: str, *, count: int | None = None, is_last: bool = False) -> bool:
        """Take in what one run has used until now; whether all of it was there.

        Args:
            run: the run's id.
            count: how many uses its proxy has written down.
            is_last: it writes no more.

        Raises:
            StorageFailed: see `take_all`.
        """
        with self._taking:
            owner, place = self._take_held(run, self._found().get(run, []))
            if count is None:
                return True
            if owner is not None and (place.next < count or is_last):
                missing = [f"{_numbered(place.next, count)} missing"] if place.next < count else []
                self._commit(owner, [], missing, replace(place, next=max(place.next, count), is_closed=is_last))
        return owner is None or place.next >= count

    def _found(self) -> dict[str, list[int]]:
        """The files there are: for each run the numbers that they begin with, in order."""
        found: dict[str, list[int]] = {}
        try:
            names = os.listdir(self._directory)  # noqa: PTH208  # names alone
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise StorageFailed(
                f"{self._directory} cannot be read: {reason_of(error)}", hint="look what it is, then: authsome doctor"
            ) from error
        for name in names:
            if match := _NAME.fullmatch(name):
                found.setdefault(match[1], []).append(int(match[2]))
        return {run: sorted(numbers) for run, numbers in found.items()}

    def _take(self, run: str, segments: list[int]) -> None:
        with self._taking:
            self._take_held(run, segments)

    def _take_held(self, run: str, segments: list[int]) -> tuple[_Owner | None, Place]:
        """Take in a run's files, nobody else being at it; whose they are, and how far that is now."""
        with self._context.database.read() as reader:
            owner, place = _owner(reader, run), spools.place(reader, run)
        for number in segments:
            path = self._directory / f"{run}.{number}"
            if owner is None or number < place.segment:  # nobody's, or taken in already
                _remove(path)
                continue
            place, is_held = self._take_segment(owner, path, number, place)
            if is_held:
                break
        return owner, place

    def _miss(self, run: str) -> None:
        """Say that a file is gone of which there might be more: it is removed by us alone, once it is taken in."""
        with self._taking:
            if run in self._found():
                return
            with self._context.database.read() as reader:
                owner, place = _owner(reader, run), spools.place(reader, run)
            if owner is None or place.is_closed or not place.is_open:
                return
            doubt = "what its proxy had written down is gone"
            self._commit(owner, [], [doubt], replace(place, segment=place.next, position=0, is_open=False))

    def _take_segment(self, owner: _Owner, path: Path, number: int, place: Place) -> tuple[Place, bool]:
        """Take in the rest of a file; remove it, unless somebody still writes to it, which is told."""
        try:
            file = _open(path)
        except FileNotFoundError:
            return place, False
        except OSError as error:
            if error.errno not in _NOT_OURS:  # no descriptor is left, or the disk is faulty: later, and in order
                _log.warning("%s cannot be read: %s", path, error)
                return place, True
            place = replace(place, segment=number + 1, position=0, is_open=False)
            doubt = f"in the place of what its proxy writes is something that cannot be read: {reason_of(error)}"
            self._commit(owner, [], [doubt], place)
            _remove(path)
            return place, False
        try:
            is_left = _is_left(file)  # before it is read: so what was written until then is found
            if number != place.segment:
                place = replace(place, segment=number, position=0)
            place = self._take_lines(owner, file, place)
            if is_left:
                # A proxy goes on in another file before it leaves one; that may not have been there when we looked.
                is_followed = any(each > number for each in self._found().get(owner.run.id, []))
                doubts = [] if is_followed or place.is_closed else ["its proxy has ended without a word"]
                place = replace(place, segment=number + 1, position=0, is_open=False)
                self._commit(owner, [], doubts, place)
                _remove(path)
            elif not place.is_open:
                place = replace(place, is_open=True)
                self._commit(owner, [], [], place)
        finally:
            os.close(file)
        return place, not is_left

    def _take_lines(self, owner: _Owner, file: int, place: Place) -> Place:
        codes = Codes(self.key(owner.run.id))
        size = os.fstat(file).st_size
        if size < place.position:
            place = replace(place, position=size)
            self._commit(owner, [], ["what was written down has been shortened"], place)
        if place.position >= _LARGEST:
            return place
        while place.position < _LARGEST and (data := os.pread(file, _PIECE, place.position)):
            length = data.rfind(b"\n") + 1
            if not length and len(data) < LONGEST:
                break  # a line that is being written
            length = length or len(data)
            found, doubts, following = _read(codes, data[:length], place.next)
            place = replace(place, next=following, position=place.position + length)
            self._commit(owner, found, doubts, place)
        if place.position >= _LARGEST:
            self._commit(owner, [], ["more lies there than a proxy writes"], place)
        return place

    def _commit(self, owner: _Owner, found: list[Use], doubts: list[str], place: Place) -> None:
        now = self._context.clock()
        entries = [_entry(owner, use) for use in found]
        entries += [
            Entry(
                event=Event.USES_IN_DOUBT,
                at=now,
                vault_id=owner.run.vault_id,
                principal=owner.principal,
                identity=owner.run.identity,
                run=owner.run.id,
                detail=doubt,
            )
            for doubt in doubts
        ]

        def body(tx: Transaction) -> None:
            for entry in entries:
                audit.append(tx, entry)
            spools.put(tx, owner.run.id, place)

        self._context.database.combined(body)


def _owner(reader: Reader, run_id: str) -> _Owner | None:
    run = runs.get(reader, run_id)
    if run is None:
        return None
    _, principal = identities.caller(reader, run.identity) or (None, None)
    return _Owner(run=run, principal=principal.id if principal else None)


def _read(codes: Codes, data: bytes, expected: int) -> tuple[list[Use], list[str], int]:
    """The uses in whole lines, what is wrong with them, and the number of the next one."""
    found: list[Use] = []
    doubts: list[str] = []
    *lines, rest = data.split(b"\n")
    foreign, repeated = int(bool(rest)), 0
    for line in lines:
        use = codes.read(line)
        if use is None:
            foreign += 1
        elif use.number < expected:
            repeated += 1
        else:
            if use.number > expected:
                doubts.append(f"{_numbered(expected, use.number)} missing")
            found.append(use)
            expected = use.number + 1
    if foreign:
        doubts.append(
            "1 line was not written by its proxy" if foreign == 1 else f"{foreign} lines were not written by its proxy"
        )
    if repeated:
        doubts.append(f"{repeated} use{'s' if repeated > 1 else ''} came once more, or late")
    return found, doubts, expected


def _numbered(first: int, end: int) -> str:
    return f"use {first} is" if end - first == 1 else f"uses {first} to {end - 1} are"


def _entry(owner: _Owner, use: Use) -> Entry:
    return Entry(
        event=Event.RESOLVE,
        at=to_moment(use.at),
        vault_id=owner.run.vault_id,
        principal=owner.principal,
        identity=owner.run.identity,
        provider=use.provider,
        connection=use.connection,
        method=use.method,
        host=use.host,
        path=use.path,
        run=owner.run.id,
    )


def _open(path: Path) -> int:
    """A descriptor of a spool's file, whatever its mode and owner say: what is in it shows whose it is.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "not a regular file")


def _remove(path: Path) -> None:
    """Remove what was taken in; where that cannot be done, it is left, and taken in no more."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _is_left(file: int) -> bool:
    """Whether nobody writes to a file any more: who does holds its lock, which ends with the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
