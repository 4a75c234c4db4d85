"""The figures of a run and how they are told: medians, ratios, what was aimed at, whether it was met."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COLUMNS = ("measurement", "ours", "others", "target", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. A row without a target only tells."""

    name: str
    ours: str
    others: str = ""
    target: str = ""
    met: bool | None = None
    """None where there is no target, or nobody to compare with."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as texts, in the order of `COLUMNS`."""
        verdict = "" if not self.target else "?" if self.met is None else "yes" if self.met else "NO"
        return (self.name, self.ours, self.others, self.target, verdict)


@dataclass(slots=True)
class Samples:
    """Figures by who they are of, collected round by round."""

    by_name: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Note one figure."""
        self.by_name.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median of one's figures."""
        return statistics.median(self.by_name[name])

    def others(self, unit: str, *, but: str) -> str:
        """Everybody else's median, with the name before it."""
        return ", ".join(f"{name}: {self.median(name):,.0f} {unit}" for name in self.by_name if name != but)


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table that can be read as plain text, too."""
    lines = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def verdict(rows: Sequence[Row]) -> str:
    """How many targets were met."""
    judged = [row.met for row in rows if row.met is not None]
    return f"{sum(judged)} of {len(judged)} targets met"
