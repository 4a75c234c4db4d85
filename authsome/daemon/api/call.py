"""One call of the API: the request, the values in its path, and who makes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authsome.daemon.authentication import Admit, Admitted
from authsome.daemon.messages import Request, Response
from authsome.errors import NotAllowed
from authsome.models.principal import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a handler is given."""

    request: Request
    values: Mapping[str, str]
    admitted: Admitted | None = None
    admit: Admit | None = None
    """For the endpoint that admits its caller in its own transaction."""

    @property
    def caller(self) -> Caller:
        """Whom the call acts for; only for endpoints that demand it."""
        if self.admitted is None:
            raise NotAllowed("this endpoint needs a caller")
        return self.admitted.caller


Handler = Callable[[Call], Response]
