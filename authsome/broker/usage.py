"""How much is used, and when last, for people who look; counted beside the work and not by it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from authsome.broker.context import Context
from authsome.models.connection import Connection
from authsome.models.principal import Caller
from authsome.models.run import Run
from authsome.vault import usage
from authsome.vault.usage import LastUse


@dataclass(frozen=True, slots=True)
class Day:
    """One day, in UTC."""

    on: date
    uses: int


class Usage:
    """The use cases of looking back."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def days(self, caller: Caller, number: int, connection: Connection | None = None) -> list[Day]:
        """How often the caller's connections, or one of them, were used on each of the last days, oldest first."""
        today = self._context.clock().date()
        since = today - timedelta(days=number - 1)
        with self._context.database.read() as reader:
            found = usage.per_day(
                reader,
                caller.vault_id,
                since=since,
                provider=connection.provider if connection else None,
                connection=connection.name if connection else None,
            )
        return [Day(on, found.get(on, 0)) for on in (since + timedelta(days=place) for place in range(number))]

    def last(self, caller: Caller, providers: Collection[str]) -> Mapping[tuple[str, str], LastUse]:
        """When each of the caller's connections of these providers was last used, by provider and name."""
        with self._context.database.read() as reader:
            return usage.last_uses(reader, caller.vault_id, providers)

    def of_runs(self, caller: Caller, runs: Collection[Run]) -> Mapping[str, Mapping[tuple[str, str], int]]:
        """How often each of the caller's runs used which connections, by run's id, then by provider and name."""
        with self._context.database.read() as reader:
            return usage.of_runs(reader, caller.vault_id, [run.id for run in runs])

    def count_up(self) -> None:
        """Count what the log has gained."""
        more = True
        while more:
            with self._context.database.transaction(durable=False) as tx:
                more = usage.count_up(tx)
        with self._context.database.transaction(durable=False) as tx:
            usage.forget(tx, self._context.clock())
