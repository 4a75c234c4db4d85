"""A check of the whole log by the daemon that keeps it, stretch by stretch, and by what this machine has seen of it."""

from collections.abc import Callable
from typing import NamedTuple

from authsome.cli.context import Context
from authsome.client import seen_logs
from authsome.client.seen_logs import Seen
from authsome.models.chain import Flaw

_ANEW = "if a backup was put back there, or the vault made anew: `authsome log verify --anew` takes it as it is"


class Walked(NamedTuple):
    """What was found."""

    first: int
    last: int
    """The last entry that is right."""
    checkpoints: int
    """How many were signed, and true."""
    before_chain: int
    """The last entry that is older than the chain."""
    key: str
    mark: str
    flaw: Flaw | None
    hint: str | None
    """What may be done about the flaw."""
    is_known: bool
    """Whether this machine had seen this log before."""

    @property
    def entries(self) -> int:
        """How many are right."""
        return max(0, self.last - self.first + 1)


def walk(
    context: Context, tell: Callable[[int, int], None], *, wanted: str | None = None, anew: bool = False
) -> Walked:
    """Check the chain from its beginning to its end, and that it goes on from what was seen.

    Args:
        context: where the daemon is.
        tell: told now and then how many entries of how many were checked.
        wanted: the key that has to have signed it, which is known from elsewhere.
        anew: do not ask what was seen.
    """
    seen = None if anew else seen_logs.recall(context.settings.home, name_of(context))
    query, known_mark = f"?known={seen.entry}" if seen else "", None
    checkpoints = 0
    while True:
        answer = context.daemon.call("GET", f"/audit/verification{query}", timeout=120)
        begins, reached, last = (number_of(answer, name) for name in ("begins_after", "reached", "last"))
        checkpoints += number_of(answer, "checkpoints")
        known_mark = known_mark or answer.get("known_mark")
        key, flaw, hint = str(answer.get("key")), answer.get("flaw"), None
        found = Flaw(number_of(flaw, "entry"), str(flaw["problem"])) if isinstance(flaw, dict) else None
        if wanted is not None and key != wanted:
            found, reached = Flaw(begins + 1, f"this server signs with {key}, not with that key"), begins
        elif wanted is None and seen is not None and key != seen.key:
            found, reached = Flaw(begins + 1, f"this server signs with {key}, and has signed with {seen.key}"), begins
            hint = _ANEW
        elif found is None and answer.get("done") and seen is not None and key == seen.key:
            found, hint = _strayed(seen, known_mark, begins, last), _ANEW
        if found is not None or answer.get("done"):
            break
        tell(reached - begins, last - begins)
        query = f"?after={reached}"
    return Walked(
        first=begins + 1,
        last=reached if found is None else min(reached, max(begins, found.entry - 1)),
        checkpoints=checkpoints,
        before_chain=number_of(answer, "before_chain"),
        key=key,
        mark=str(answer.get("mark")),
        flaw=found,
        hint=hint if found is not None else None,
        is_known=seen is not None and key == seen.key,
    )


def name_of(context: Context) -> str:
    """What the daemon is remembered by."""
    return seen_logs.OWN if context.daemon.is_supervised else context.daemon.url


def _strayed(seen: Seen, mark: object, begins: int, last: int) -> Flaw | None:
    """Where a log that is whole is not the one that was seen."""
    if seen.entry > last:
        first = last + 1
        gone = f"entry {first} is" if seen.entry == first else f"entries {first} to {seen.entry} are"
        return Flaw(first, f"{gone} missing from the end of the log, as this machine has seen it")
    if seen.entry >= begins and mark != seen.mark:
        return Flaw(seen.entry, f"the log up to entry {seen.entry} is not the one that this machine has seen")
    return None


def number_of(answer: object, name: str) -> int:
    """A number of the daemon's answer."""
    value = answer.get(name) if isinstance(answer, dict) else None
    return value if isinstance(value, int) else 0
