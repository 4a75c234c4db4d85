"""What would become of a request, told without doing any of it: nothing is opened, refreshed or written down."""

from dataclasses import dataclass
from typing import Final

from authsome.errors import AuthsomeError
from authsome.models.connection import Connection
from authsome.models.injection import Basic, Header, PathText, Query, Rules
from authsome.models.replacement import NOWHERE, Replacement
from authsome.models.route import Route

AUTHORIZATION: Final = "Authorization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would become of one request; without a route it passes as it is."""

    route: Route | None = None
    connection: Connection | None = None
    rules: Rules | None = None
    placeholders: tuple[str, ...] = ()
    """The variables whose placeholders would be replaced."""
    replacement: Replacement = NOWHERE
    """Where they would be."""
    opens: bool = False
    """Whether TLS to this host would be opened, for this path or another."""
    unconnected: tuple[str, ...] = ()
    """Providers that name this host, and have no connection."""
    refreshes: bool = False
    """Whether the credential would be refreshed first."""
    problem: AuthsomeError | None = None
    """Why the request would not be sent."""

    @property
    def headers(self) -> tuple[str, ...]:
        """The headers that would be put on it."""
        forms = [each.form for each in self.rules.injections] if self.rules else []
        return tuple(
            AUTHORIZATION if isinstance(form, Basic) else form.name
            for form in forms
            if isinstance(form, Basic) or (isinstance(form, Header) and not form.if_absent)
        )

    @property
    def companions(self) -> tuple[str, ...]:
        """The headers that would be added unless the child sends its own."""
        forms = [each.form for each in self.rules.injections] if self.rules else []
        return tuple(form.name for form in forms if isinstance(form, Header) and form.if_absent)

    @property
    def query(self) -> tuple[str, ...]:
        """The parameters that would be put into its query."""
        forms = [each.form for each in self.rules.injections] if self.rules else []
        return tuple(form.name for form in forms if isinstance(form, Query))

    @property
    def changes_path(self) -> bool:
        """Whether a placeholder in its path would be replaced."""
        return any(isinstance(each.form, PathText) for each in (self.rules.injections if self.rules else ()))
