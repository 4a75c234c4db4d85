"""Requests that are answered together: one transaction for as many as have come.

Under load a resolve costs less to decide than its transaction costs to begin and to commit; so those that have come
share one (docs/decisions/0013-few-workers.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

from authsome.broker.credentials import Outcome, Resolved
from authsome.daemon.authentication import Admit
from authsome.daemon.messages import Response
from authsome.vault.database import Transaction

Told = dict[Resolved, Response]
"""A group's answers, the same for whoever was resolved alike; forgotten with it, for they hold credentials."""


@dataclass(frozen=True, slots=True)
class Joint:
    """A request that may share its transaction."""

    admit: Admit
    """Settles who asks; what it takes of a processor's time may be spent before."""
    body: Callable[[Transaction], Outcome]
    """For `Database.combined_all`."""
    answer: Callable[[Outcome, Told], Response]
    """The answer to what came of it, which may be told already; raises what is to be answered as a problem.

    For anything but `Resolved` it may wait for a provider.
    """
