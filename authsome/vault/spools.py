"""How far each run's uses, which its proxy writes down, have been taken into the log."""

from dataclasses import dataclass

from authsome.vault.database import Reader, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the next use of a run is to be found."""

    next: int = 0
    """Its number."""
    segment: int = 0
    """The number that the file begins with, or a later file does."""
    position: int = 0
    """In that file."""
    is_open: bool = False
    """Whether its proxy was seen to hold that file, which nobody but us may remove."""
    is_closed: bool = False
    """Whether its proxy has said that no more will come."""


def place(reader: Reader, run: str) -> Place:
    """How far a run's uses have been taken in."""
    query = "SELECT next, segment, position, is_open, is_closed FROM spools WHERE run = ?"
    row = reader.execute(query, (run,)).fetchone()
    if row is None:
        return Place()
    return Place(
        next=int(row[0]), segment=int(row[1]), position=int(row[2]), is_open=bool(row[3]), is_closed=bool(row[4])
    )


def begun(reader: Reader) -> set[str]:
    """The runs whose proxies hold a file, as far as is known, and have not said that no more will come."""
    return {str(run) for (run,) in reader.execute("SELECT run FROM spools WHERE is_open = 1 AND is_closed = 0")}


def put(transaction: Transaction, run: str, place: Place) -> None:
    """Note how far they have been; commit it with their entries, so that each is taken in once."""
    transaction.execute(
        "INSERT INTO spools (run, next, segment, position, is_open, is_closed) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run) DO UPDATE SET next = excluded.next, segment = excluded.segment,"
        " position = excluded.position, is_open = excluded.is_open, is_closed = excluded.is_closed",
        (run, place.next, place.segment, place.position, int(place.is_open), int(place.is_closed)),
    )


def purge(transaction: Transaction) -> None:
    """Forget the runs that are forgotten."""
    transaction.execute("DELETE FROM spools WHERE run NOT IN (SELECT id FROM runs)")
