"""One call of the API: the request, the values in its path, and who makes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from authsome.daemon.authentication import Admission
from authsome.daemon.messages import Request, Response
from authsome.errors import NotAllowed
from authsome.models.principal import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a handler is given."""

    request: Request
    values: Mapping[str, str]
    admission: Admission | None = None

    @property
    def caller(self) -> Caller:
        """Whom the call acts for; only for endpoints that demand it."""
        if self.admission is None:
            raise NotAllowed("this endpoint needs a caller")
        return self.admission.caller


Handler = Callable[[Call], Response]
