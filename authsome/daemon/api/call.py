"""One call of the API: the request, the values in its path, and who makes it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authsome.broker.broker import Broker
from authsome.daemon.authentication import Admit, Admitted
from authsome.daemon.messages import Request, Response
from authsome.daemon.router import Endpoint
from authsome.errors import NotAllowed
from authsome.models.principal import Caller, Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a handler is given."""

    request: Request
    values: Mapping[str, str]
    admitted: Admitted | None = None
    identity: Identity | None = None
    """The key's holder, where an endpoint asks for no more than that."""
    admit: Admit | None = None
    """For the endpoint that admits its caller in its own transaction."""

    @property
    def caller(self) -> Caller:
        """Whom the call acts for; only for endpoints that demand it."""
        if self.admitted is None:
            raise NotAllowed("this endpoint needs a caller")
        return self.admitted.caller

    @property
    def holder(self) -> Identity:
        """The identity that calls, claimed or not; only for endpoints that demand it."""
        if self.identity is None:
            raise NotAllowed("this endpoint needs an identity")
        return self.identity


Handler = Callable[[Call], Response]


class Endpoints(ABC):
    """Endpoints that belong together, and the use cases behind them."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @abstractmethod
    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """The table's rows."""
