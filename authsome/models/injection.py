"""Injections: how a credential is put on a request, and what the child may not put there itself.

Rule: a value that could change the request around it (a line break in a header, a slash in a path) is never put on
one; and every header by which this provider takes a credential is taken off first, whichever one is put on.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from authsome.errors import CredentialUnavailable
from authsome.models.connection import ACCESS_TOKEN, Kind, Secrets
from authsome.models.section import Section
from authsome.models.template import TOKEN, Template
from authsome.secret import Secret

AUTHORIZATION: Final = "Authorization"
OAUTH_NAMES: Final = frozenset({ACCESS_TOKEN, TOKEN})
"""What templates may use of an OAuth login; a refresh token goes to nobody but the token endpoint."""

Names = Mapping[Kind, frozenset[str]]
"""What templates may use, for each kind of login that a provider offers."""

_NO_FIELD: Final = "holds no {field} of a login"
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}\Z")
_PATH_TEXT: Final = re.compile(r"[A-Za-z0-9_.~:-]{8,128}\Z")
"""At 8 characters it is nothing that a path holds by chance."""
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # controls, and halves of characters
_UNFIT_IN_HEADER: Final = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")  # RFC 9110 §5.5, and what Latin-1 cannot carry
_RESERVED: Final = re.compile(r"[^A-Za-z0-9._~:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A header; one that is set `if_absent` is a companion without a secret, and leaves the child's own alone."""

    name: str
    value: Template
    if_absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parameter of the query."""

    name: str
    value: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """HTTP Basic authentication (RFC 7617)."""

    username: Template
    password: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class PathText:
    """A text in the path, the placeholder that the child was given, that the value takes the place of."""

    text: str
    value: Template


Form = Header | Query | Basic | PathText


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One form, and the requests it is for."""

    form: Form
    auth: Kind | None = None
    """The kind of login it is for; None for each."""
    hosts: tuple[str, ...] = ()
    """Entries of the provider's `api_url`; empty for all."""

    @property
    def names(self) -> frozenset[str]:
        """What the templates need."""
        form = self.form
        return form.username.names | form.password.names if isinstance(form, Basic) else form.value.names

    @property
    def target(self) -> tuple[type[Form], str]:
        """What is set: no two injections may set the same thing on one request."""
        form = self.form
        if isinstance(form, Basic):
            return Header, AUTHORIZATION.lower()
        if isinstance(form, PathText):
            return PathText, form.text
        return type(form), form.name.lower() if isinstance(form, Header) else form.name

    def serves(self, kind: Kind, entry: str) -> bool:
        """Whether it is for this kind of login and this entry of `api_url`."""
        return self.auth in {None, kind} and (not self.hosts or entry in self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What to do with one request."""

    injections: tuple[Injection, ...]
    remove: tuple[str, ...]
    """The headers, in lower case, by which the provider takes credentials at all."""
    scrubbed: frozenset[str]
    """The names of what an answer must not bring back; none where the definition says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """What a credential puts on a request; to be done in the order of the fields."""

    remove: tuple[str, ...]
    """Names of headers, in lower case, that the child's request must lose, every one of them."""
    headers: tuple[tuple[str, Secret[str]], ...]
    """Headers to set, in place of any that are there."""
    defaults: tuple[tuple[str, str], ...]
    """Headers to add unless the child sent its own."""
    query: tuple[tuple[str, Secret[str]], ...]
    """Parameters to set in the query, in place of any of that name; plain, so to be percent-encoded there."""
    path: tuple[tuple[str, Secret[str]], ...]
    """Texts in the path and what takes their place, which is percent-encoded already."""
    secrets: tuple[Secret[str], ...]
    """What the above is made of and an answer must not bring back, plain."""


def strippable(injections: Iterable[Injection]) -> tuple[str, ...]:
    """The headers, in lower case, that carry a credential in any of these injections; Authorization always."""
    found = {AUTHORIZATION.lower()}
    found.update(
        each.form.name.lower() for each in injections if isinstance(each.form, Header) and each.form.value.names
    )
    return tuple(sorted(found))


def apply(rules: Rules, secrets: Secrets, *, also: frozenset[str] = frozenset()) -> Injected:
    """Fill the rules' templates with a connection's secrets.

    Args:
        rules: what to do.
        secrets: the connection's fields.
        also: those that may go out besides, for placeholders, and must not come back either.

    Raises:
        CredentialUnavailable: a value is missing, or cannot stand where it is wanted.
    """
    values = plain_values(secrets)
    headers: list[tuple[str, Secret[str]]] = []
    defaults: list[tuple[str, str]] = []
    query: list[tuple[str, Secret[str]]] = []
    path: list[tuple[str, Secret[str]]] = []
    for injection in rules.injections:
        form = injection.form
        if isinstance(form, Header) and form.if_absent:
            defaults.append((form.name, form.value.text))
        elif isinstance(form, Header):
            headers.append((form.name, Secret(_render(form.value, values, _UNFIT_IN_HEADER))))
        elif isinstance(form, Basic):
            headers.append((AUTHORIZATION, Secret(_basic(form, values))))
        elif isinstance(form, Query):
            query.append((form.name, Secret(_render(form.value, values))))
        else:
            path.append((form.text, Secret(_path_value(form, values))))
    used = also.union(*(injection.names for injection in rules.injections)) & rules.scrubbed & values.keys()
    return Injected(
        remove=rules.remove,
        headers=tuple(headers),
        defaults=tuple(defaults),
        query=tuple(query),
        path=tuple(path),
        secrets=tuple(Secret(text) for text in sorted({values[name] for name in used})),
    )


def plain_values(secrets: Secrets) -> dict[str, str]:
    """A connection's fields as templates name them, `token` among them where there is one."""
    values = {name: secret.reveal() for name, secret in secrets.items()}
    if ACCESS_TOKEN in values:
        values[TOKEN] = values[ACCESS_TOKEN]
    elif len(values) == 1:
        values[TOKEN] = next(iter(values.values()))
    return values


def is_fit(value: str) -> bool:
    """Whether a request can carry it: it is not empty, and holds no control character and no half of a character."""
    return bool(value) and not _UNFIT.search(value)


def kinds_for(template_names: frozenset[str], names: Names) -> list[Kind]:
    """The kinds of login that have everything that a template names.

    Raises:
        ValueError: none has, in words that follow the field's name.
    """
    fitting = [kind for kind, known in names.items() if template_names <= known]
    if not fitting:
        known = sorted(frozenset[str]().union(*names.values()))
        raise ValueError("uses a name that no login has; there are " + ", ".join(f"{{{name}}}" for name in known))
    return fitting


def from_json(section: Section, names: Names) -> Injection:
    """Read one entry of `inject`."""
    form = _form(section)
    hosts = section.texts("hosts")
    auth = section.choice("auth", tuple(Kind), Kind.OAUTH2) if section.has("auth") else None
    section.close()
    try:
        fitting = kinds_for(Injection(form=form).names, names)
    except ValueError as error:
        raise section.error("template", str(error)) from error
    if auth is not None and auth not in fitting:
        raise section.error("auth", f"is {auth.value}, and such a login does not have what the template uses")
    return Injection(form=form, auth=fitting[0] if len(fitting) == 1 else auth, hosts=hosts)


def bearer(names: Names) -> Injection:
    """What is meant where a definition says nothing: a bearer token (RFC 6750 §2.1)."""
    auth = next(iter(names)) if len(names) == 1 else None
    return Injection(form=Header(name=AUTHORIZATION, value=Template(f"Bearer {{{TOKEN}}}")), auth=auth)


def to_json(injection: Injection, names: Names) -> dict[str, object]:
    """What `from_json` reads, without what follows from the template."""
    form = injection.form
    written: dict[str, object]
    if isinstance(form, Header):
        written = {"header": form.name, "template": form.value.text}
        if form.if_absent:
            written["if_absent"] = True
    elif isinstance(form, Query):
        written = {"query": form.name, "template": form.value.text}
    elif isinstance(form, Basic):
        parts = {"username": form.username.text, "password": form.password.text}
        written = {"basic": {key: text for key, text in parts.items() if text}}
    else:
        written = {"path": form.text, "template": form.value.text}
    if injection.auth is not None and len(kinds_for(injection.names, names)) > 1:
        written["auth"] = injection.auth.value
    if injection.hosts:
        written["hosts"] = list(injection.hosts)
    return written


def read_template(section: Section, key: str, *, default: str | None = None) -> Template:
    """A template; required unless there is a default."""
    try:
        return Template.parse(section.text(key, default))
    except ValueError as error:
        raise section.error(key, str(error)) from error


def _form(section: Section) -> Form:
    places = [place for place in ("header", "query", "basic", "path") if section.has(place)]
    if len(places) != 1:
        raise section.error("", "must say one of header, query, basic, path")
    if places == ["basic"]:
        return _basic_form(section.section("basic"))
    name, value = section.text(places[0]), read_template(section, "template")
    if places == ["header"]:
        section.check_header("header", name, value.text)
        if_absent = section.boolean("if_absent")
        if if_absent and value.names:
            raise section.error("if_absent", "is for a header without a secret: a credential replaces what is there")
        return Header(name=name, value=value, if_absent=if_absent)
    if not value.names:
        raise section.error("template", _NO_FIELD)
    if places == ["query"]:
        if not _PARAMETER.match(name):
            raise section.error("query", f"{name[:64]!r} is not the name of a parameter")
        return Query(name=name, value=value)
    if not _PATH_TEXT.match(name):
        raise section.error("path", "must be a placeholder of 8 or more letters, digits and `_.~:-`")
    return PathText(text=name, value=value)


def _basic_form(section: Section) -> Basic:
    found = Basic(
        username=read_template(section, "username", default=""), password=read_template(section, "password", default="")
    )
    section.close()
    if not found.username.names | found.password.names:
        raise section.error("", _NO_FIELD)
    if ":" in found.username.text:
        raise section.error("username", "cannot hold a colon")
    return found


def _render(template: Template, values: dict[str, str], unfit: re.Pattern[str] = _UNFIT) -> str:
    for name in sorted(template.names):
        if not values.get(name):
            raise CredentialUnavailable(f"the login holds no {name}", hint="log in again")
    found = template.render(values)
    if unfit.search(found):
        raise CredentialUnavailable(
            "the stored credential holds a character that a request cannot carry", hint="log in again"
        )
    return found


def _basic(form: Basic, values: dict[str, str]) -> str:
    username, password = _render(form.username, values), _render(form.password, values)
    if ":" in username:  # RFC 7617 §2: the server would split it there
        raise CredentialUnavailable("the stored user name holds a colon", hint="log in again")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _path_value(form: PathText, values: dict[str, str]) -> str:
    found = _render(form.value, values)
    if found in {".", ".."}:
        raise CredentialUnavailable("the stored credential cannot stand in a path", hint="log in again")
    return _RESERVED.sub(lambda part: "".join(f"%{byte:02X}" for byte in part[0].encode()), found)
