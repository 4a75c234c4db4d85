"""A provider: how to log in to a service, where its credential may go, and how it is put on a request.

Rule: a definition is checked whole when it is read. What `parse_definition` returns can be used without a second look,
except for the values of its variables, which come with a connection.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from authsome.errors import ProviderInvalid
from authsome.models import injection, url, variable, verification
from authsome.models.api_key import ApiKey, KeyField
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind
from authsome.models.export import Export
from authsome.models.injection import OAUTH_NAMES, Injection, Names, Rules
from authsome.models.login import Flow
from authsome.models.oauth import OAuth, RefreshRules, ResponseShape
from authsome.models.replacement import Replacement
from authsome.models.route import HTTPS_PORT, HostPattern
from authsome.models.section import Section
from authsome.models.template import TOKEN, Template
from authsome.models.variable import Variable
from authsome.models.verification import Untried, Verify

__all__ = [
    "ApiKey",
    "Claim",
    "Export",
    "KeyField",
    "OAuth",
    "Place",
    "Provider",
    "RefreshRules",
    "ResponseShape",
    "Untried",
    "Variable",
    "Verify",
    "claim",
    "definition_digest",
    "definition_to_json",
    "parse_definition",
]

SCHEMA_VERSION: Final = 1
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z")
_BEGINNING: Final = re.compile(r"(?:https://)?\{[a-z][a-z0-9_]*\}\.(?=[A-Za-z0-9.-]+(?:[:/]|\Z))")
_SWITCH: Final = ("on", "off")


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of `api_url`: somewhere the credential may go."""

    entry: str
    """As written: `{variables}` and all."""
    fixed: HostPattern | None
    """What it names, unless that depends on a connection's variables."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an entry of `api_url` claims for its provider."""

    pattern: HostPattern
    is_open: bool = False
    """Whether a connection's variables may make any other host of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider definition, as bundled or written by a user."""

    name: str
    display_name: str
    description: str | None
    docs_url: str | None
    """Where a key or an OAuth client is made."""
    flow: Flow
    """How one logs in unless another flow is asked for."""
    places: tuple[Place, ...]
    variables: tuple[Variable, ...]
    oauth: OAuth | None
    api_key: ApiKey | None
    inject: tuple[Injection, ...]
    verify: tuple[Verify | Untried, ...]
    export: Export
    allow_private_addresses: bool
    """Whether its hosts may lie on this machine or a private network."""
    scrub: bool
    """Whether the credential is taken out of the answers of its hosts."""
    replace: Replacement
    """Where placeholders are replaced that a request has beside what is injected."""
    unverified: bool
    """Whether the definition was written from memory and never tried."""

    @property
    def api_url(self) -> tuple[str, ...]:
        """Where the credential may go, as written."""
        return tuple(place.entry for place in self.places)

    @property
    def auth_type(self) -> Kind:
        """The kind of login that the usual flow ends in."""
        return Kind.API_KEY if self.flow is Flow.API_KEY else Kind.OAUTH2

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Every flow that is offered, the usual one first."""
        offered = list(_oauth_flows(self.oauth)) if self.oauth else []
        if self.api_key:
            offered.append(Flow.API_KEY)
        return (self.flow, *(flow for flow in offered if flow is not self.flow))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every URL that logging in sends something to, as written."""
        asked = self.oauth.endpoints if self.oauth else ()
        return (*asked, *(url.text for each in self.verify if isinstance(each, Verify) for url in each.urls))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of login that there are."""
        return tuple(_names(self.oauth, self.api_key))

    def verifications(self, kind: Kind) -> tuple[Verify, ...]:
        """The requests for a login of this kind: the first proves it; a second one only names its account."""
        return tuple(each for each in self.verify if isinstance(each, Verify) and each.auth in {None, kind})

    def names_account(self, kind: Kind) -> bool:
        """Whether a login of this kind comes to know whose it is."""
        told = kind is Kind.OAUTH2 and self.oauth is not None and self.oauth.response.account is not None
        return told or any(each.names_account for each in self.verifications(kind))

    def untried(self, kind: Kind) -> str | None:
        """Why a login of this kind is not tried; None: it is, or nobody has looked into it."""
        found = (each for each in self.verify if isinstance(each, Untried) and each.auth in {None, kind})
        return next((each.reason for each in found), None)

    def unnamed(self, kind: Kind) -> str | None:
        """Why nobody says whose a login of this kind is; None: somebody does, or nobody has looked into it."""
        if self.names_account(kind):
            return None
        return next((each.unnamed for each in self.verifications(kind) if each.unnamed), None) or self.untried(kind)

    def checked_variables(
        self, given: Mapping[str, str], kind: Kind | None = None, *, partial: bool = False
    ) -> dict[str, str]:
        """A value for every variable that is asked for: the given one, else its default.

        Args:
            given: values by name.
            kind: of which login; None for the usual one.
            partial: leave those out that are missing.

        Raises:
            RequestInvalid: a value is not allowed or missing, or there is no such variable.
        """
        found = variable.of_kind(self.variables, kind or self.auth_type)
        return variable.checked(found, given, allow_private=self.allow_private_addresses, partial=partial)

    def missing_variables(self, kind: Kind, held: Mapping[str, str]) -> tuple[Variable, ...]:
        """What still has to be asked for a login of this kind."""
        found = variable.of_kind(self.variables, kind)
        return tuple(each for each in found if each.is_asked and each.name not in held)

    def optional_variables(self, kind: Kind) -> tuple[Variable, ...]:
        """What may be asked beside: those with a usual value. A base URL is an option of `login` already."""
        found = variable.of_kind(self.variables, kind)
        return tuple(each for each in found if each.default is not None and each.name != variable.BASE_URL)

    def told_variables(self, told: Mapping[str, str]) -> dict[str, str]:
        """The values that the provider itself said, checked like anybody's.

        Raises:
            ValueError: one is not allowed, in words that follow the provider's name.
        """
        found: dict[str, str] = {}
        for each in self.variables:
            if each.name in told:
                try:
                    found[each.name] = each.checked(told[each.name], allow_private=self.allow_private_addresses)
                except ValueError as error:
                    raise ValueError(f"said a {each.name} that {error}") from error
        return found

    def patterns(self, variables: Mapping[str, str], kind: Kind | None = None) -> tuple[HostPattern, ...]:
        """Where the credential of a connection with these variables may go.

        An entry of `api_url` is no place for a connection that lacks one of its variables, nor for a kind of login
        that nothing is injected for there.

        Raises:
            ProviderInvalid: the variables make something of an entry that is no such place.
        """
        return tuple(
            pattern
            for entry, pattern in self._places(variables)
            if kind is None or any(each.serves(kind, entry) and each.names for each in self.inject)
        )

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Every place that its credentials may go to, whatever the variables of a connection, as far as can be said."""
        samples = {each.name: each.sample for each in self.variables}
        return tuple(claim(each.entry, samples) for each in self.places)

    def injections(
        self, kind: Kind, variables: Mapping[str, str], *, host: str, path: str | None, port: int = HTTPS_PORT
    ) -> Rules:
        """What to do with a request that goes there with a login of this kind.

        Of several entries of `api_url` that name the place, the most specific one decides. There are no injections
        for a place that none names. Without a path: as on the most specific place of that host.
        """
        matching = [
            (pattern.specificity, entry)
            for entry, pattern in self._places(variables)
            if pattern.matches_address(host, port) and (path is None or pattern.matches_path(path))
        ]
        entry = max(matching)[1] if matching else None
        serving = tuple(each for each in self.inject if entry is not None and each.serves(kind, entry))
        return Rules(injections=serving, remove=injection.strippable(self.inject), scrubbed=self._scrubbed(kind))

    def trial_rules(self, kind: Kind, variables: Mapping[str, str], place: url.Url) -> Rules:
        """What to do with the request that tries a login.

        Beside a path that takes the credential the rest of its host is good for a trial, too: what it may be sent to
        says who it is for, and that is a host. There are no injections for a host that `api_url` does not name.
        """
        found = self.injections(kind, variables, host=place.host, port=place.port, path=place.path or "/")
        if found.injections:
            return found
        return self.injections(kind, variables, host=place.host, port=place.port, path=None)

    @property
    def replaced(self) -> Export:
        """The variables whose placeholders are replaced on requests."""
        return self.export if self.replace else Export()

    def _scrubbed(self, kind: Kind) -> frozenset[str]:
        if not self.scrub:
            return frozenset()
        if self.api_key is None or kind is not Kind.API_KEY:
            return OAUTH_NAMES
        fields = ((name, self.api_key.field(name)) for name in self.api_key.names)
        return frozenset(name for name, field in fields if field is not None and field.secret)

    def _places(self, variables: Mapping[str, str]) -> list[tuple[str, HostPattern]]:
        private = self.allow_private_addresses
        try:
            return [
                (each.entry, each.fixed or _pattern(each.entry, variables, private))
                for each in self.places
                if each.fixed or Template(each.entry).names <= variables.keys()
            ]
        except ValueError as error:
            raise ProviderInvalid(f"{self.name}: api_url: {error}") from error


def claim(entry: str, samples: Mapping[str, str]) -> Claim:
    """What an entry of `api_url` claims, whatever the values of the variables in it.

    For a variable that stands for the first labels of a host that is every name below the rest of it. For one that
    makes up more, it is the host that the samples make, and maybe any other.

    Raises:
        ValueError: it is no such entry.
    """
    if "{" not in entry:
        return Claim(url.host_pattern(entry, allow_private=True))
    beginning = _BEGINNING.match(entry)
    if beginning is not None:
        rest = "https://*." + entry[beginning.end() :]
        found = url.suffix_pattern(variable.fill(rest, samples) if "{" in rest else rest)
        return Claim(found)
    return Claim(url.host_pattern(variable.fill(entry, samples), allow_private=True), is_open=True)


def parse_definition(data: object, *, source: str) -> Provider:
    """Read a provider definition.

    Args:
        data: the parsed JSON.
        source: the file's name, for errors.

    Raises:
        ProviderInvalid: names the file, the field and, where there is one, the fix.
    """
    section = Section(data, source=source)
    _check_version(section)
    name = section.text("name")
    if not NAME.match(name):
        raise section.error("name", f"{name[:64]!r} is not a provider name", hint="small letters, digits, - and _")
    allow_private = section.boolean("allow_private_addresses")
    variables = variable.from_json(section, allow_private=allow_private)
    oauth = _oauth(section, variables, allow_private=allow_private)
    api_key = ApiKey.from_json(section.section("api_key")) if section.has("api_key") else None
    flow = _flow(section, oauth, api_key)
    _check_variable_names(section, variables, api_key)
    names = _names(oauth, api_key)
    provider = Provider(
        name=name,
        display_name=section.text("display_name", name),
        description=section.optional_text("description"),
        docs_url=_docs_url(section, allow_private=allow_private),
        flow=flow,
        places=_read_places(section, variables, oauth, allow_private=allow_private),
        variables=variables,
        oauth=oauth,
        api_key=api_key,
        inject=_inject(section, names),
        verify=tuple(verification.from_json(each, variables, api_key) for each in section.sections("verify")),
        export=Export.from_json(
            section.section("export"), name, names, api_key, {each.name: each.auth for each in variables}
        ),
        allow_private_addresses=allow_private,
        scrub=section.choice("scrub", _SWITCH, "on") == "on",
        replace=Replacement.from_json(section, "replace"),
        unverified=section.boolean("unverified"),
    )
    section.close()
    _check_variables_used(section, provider)
    _check_injections(section, provider)
    _check_verify(section, provider)
    return provider


def definition_digest(provider: Provider) -> str:
    """The same for definitions that say the same, however they are written."""
    return hashlib.sha256(json.dumps(definition_to_json(provider), sort_keys=True).encode()).hexdigest()


def definition_to_json(provider: Provider) -> dict[str, object]:
    """The definition that `parse_definition` reads, in the order of the contract and without what is usual."""
    names = _names(provider.oauth, provider.api_key)
    inject = [injection.to_json(each, names) for each in provider.inject]
    verify = [verification.to_json(each, provider.variables) for each in provider.verify]
    written: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "name": provider.name,
        "display_name": provider.display_name,
        "description": provider.description,
        "docs_url": provider.docs_url,
        "auth_type": provider.auth_type.value,
        "flow": provider.flow.value,
        "api_url": provider.api_url[0] if len(provider.api_url) == 1 else list(provider.api_url),
        **variable.to_json(provider.variables),
        "oauth": provider.oauth.to_json() if provider.oauth else None,
        "api_key": provider.api_key.to_json() if provider.api_key else None,
        "inject": inject[0] if len(inject) == 1 else inject,
        "verify": (verify[0] if len(verify) == 1 else verify) or None,
        "export": provider.export.to_json(provider.name) or None,
        "allow_private_addresses": provider.allow_private_addresses or None,
        "scrub": None if provider.scrub else "off",
        "replace": provider.replace.to_json(),
        "unverified": provider.unverified or None,
    }
    return {key: value for key, value in written.items() if value is not None}


def _check_version(section: Section) -> None:
    version = section.raw("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        hint = "a newer authsome may read it" if isinstance(version, int) and version > SCHEMA_VERSION else None
        raise section.error("schema_version", f"must be {SCHEMA_VERSION}", hint=hint)


def _docs_url(section: Section, *, allow_private: bool) -> str | None:
    written = section.optional_text("docs_url")
    if written is not None:
        try:
            url.parse(written.partition("#")[0].partition("?")[0], allow_private=allow_private)
        except ValueError as error:
            raise section.error("docs_url", str(error)) from error
    return written


def _oauth(section: Section, variables: tuple[Variable, ...], *, allow_private: bool) -> OAuth | None:
    if not section.has("oauth"):
        return None
    return OAuth.from_json(section.section("oauth"), variables, allow_private=allow_private)


def _oauth_flows(oauth: OAuth) -> Iterator[Flow]:
    """What the endpoints make possible; of an issuer's, which are still to be found, all that they may."""
    if oauth.authorization_url or oauth.needs_discovery:
        yield Flow.PKCE
    if oauth.registration_endpoint or oauth.client_id_metadata_document or oauth.needs_discovery:
        yield Flow.DCR_PKCE
    if oauth.device_authorization_url or oauth.needs_discovery:
        yield Flow.DEVICE_CODE
    if oauth.client_credentials:
        yield Flow.CLIENT_CREDENTIALS


def _flow(section: Section, oauth: OAuth | None, api_key: ApiKey | None) -> Flow:
    """The usual flow: `flow`, or what `auth_type` implies, or the only one there is."""
    if oauth is None and api_key is None:
        raise section.error("", "says no way to log in", hint='add `oauth`, or for a key `"api_key": {}`')
    usual = Kind.OAUTH2 if oauth else Kind.API_KEY
    kind = section.choice("auth_type", tuple(Kind), usual)
    flow = section.choice("flow", tuple(Flow), Flow.API_KEY if kind is Kind.API_KEY else _usual_flow(oauth))
    if (flow is Flow.API_KEY) != (kind is Kind.API_KEY):
        raise section.error("flow", f"is {flow.value}, but auth_type is {kind.value}")
    if kind is Kind.OAUTH2 and oauth is None:
        raise section.error("oauth", "is missing")
    if oauth is not None and kind is Kind.OAUTH2 and flow not in _oauth_flows(oauth):
        raise section.error("flow", f"is {flow.value}, and oauth does not say what that needs")
    if kind is Kind.API_KEY and api_key is None:
        raise section.error("api_key", "is missing", hint='an empty object will do: "api_key": {}')
    return flow


def _usual_flow(oauth: OAuth | None) -> Flow:
    return next(_oauth_flows(oauth), Flow.PKCE) if oauth else Flow.PKCE


def _read_places(
    section: Section, variables: Iterable[Variable], oauth: OAuth | None, *, allow_private: bool
) -> tuple[Place, ...]:
    samples = {each.name: each.sample for each in variables}
    found: dict[HostPattern, Place] = {}
    for entry in section.texts("api_url"):
        try:
            pattern = _pattern(entry, samples, allow_private)
        except ValueError as error:
            hint = _safe_form(entry, oauth) if entry.lower().startswith("regex:") else None
            raise section.error("api_url", f"{entry!r}: {error}", hint=hint) from error
        if pattern in found:
            raise section.error("api_url", f"{entry!r}: names the same place as {found[pattern].entry!r}")
        found[pattern] = Place(entry, None if "{" in entry else pattern)
    if not found:
        raise section.error("api_url", "is missing", hint="the hosts that the credential may be sent to")
    return tuple(found.values())


def _safe_form(entry: str, oauth: OAuth | None) -> str:
    known = [each.split("/")[2].partition(":")[0].lower() for each in oauth.endpoints if "://" in each] if oauth else []
    safe = url.safe_form(entry, known)
    return f"say {safe!r}" if safe else "name each host, or *.example.com for every name below one"


def _pattern(entry: str, variables: Mapping[str, str], allow_private: bool) -> HostPattern:  # noqa: FBT001
    if entry.lower().startswith("regex:"):
        return url.host_pattern(entry, allow_private=allow_private)  # raises
    return url.host_pattern(variable.fill(entry, variables), allow_private=allow_private)


def _names(oauth: OAuth | None, api_key: ApiKey | None) -> Names:
    found: dict[Kind, frozenset[str]] = {}
    if oauth is not None:
        found[Kind.OAUTH2] = OAUTH_NAMES
    if api_key is not None:
        found[Kind.API_KEY] = api_key.names
    return found


def _inject(section: Section, names: Names) -> tuple[Injection, ...]:
    found = tuple(injection.from_json(each, names) for each in section.sections("inject"))
    if found:
        return found
    if not all(TOKEN in known for known in names.values()):
        raise section.error("inject", "is missing", hint="say how the key's fields are put on a request")
    return (injection.bearer(names),)


def _check_variable_names(section: Section, variables: Iterable[Variable], api_key: ApiKey | None) -> None:
    taken = {"client_id", "client_secret", ACCESS_TOKEN, REFRESH_TOKEN, TOKEN}
    if api_key is not None:
        taken.update(field.name for field in api_key.fields)
    for each in variables:
        if each.name in taken:
            raise section.error("variables", f"{each.name} means something else already")


def _check_variables_used(section: Section, provider: Provider) -> None:
    used = frozenset[str]().union(*(Template.parse(entry).names for entry in provider.api_url))
    used = used.union(*(each.value.names for each in provider.export.env))
    used = used.union(*(each.names for each in provider.verify if isinstance(each, Verify)))
    if provider.oauth is not None:
        written = provider.oauth.to_json().values()
        used = used.union(*(Template.parse(each).names for each in written if isinstance(each, str)))
    for each in provider.variables:
        if each.name not in used:
            raise section.error("variables", f"{each.name} is used nowhere")
        if each.auth is not None and each.auth not in provider.kinds:
            raise section.error(f"variables.{each.name}.auth", f"is {each.auth.value}, which nobody can log in with")


def _check_injections(section: Section, provider: Provider) -> None:
    """Every place takes some kind of login, each kind has its place, and no two ways contradict each other."""
    for index, each in enumerate(provider.inject):
        for host in each.hosts:
            if host not in provider.api_url:
                raise section.error(f"inject[{index}].hosts", f"{host!r} is no entry of api_url")
    served: set[str] = set()
    for entry, kind in product(provider.api_url, provider.kinds):
        serving = [each for each in provider.inject if each.serves(kind, entry)]
        if any(each.names for each in serving):
            served |= {entry, kind}
        if len({each.target for each in serving}) != len(serving):
            raise section.error("inject", f"sets something twice for {entry} with {kind.value}")
    for wanted in (*provider.api_url, *provider.kinds):
        if wanted not in served:
            raise section.error("inject", f"says nothing for {wanted}")


def _check_verify(section: Section, provider: Provider) -> None:
    """The credential is sent to that URL, so it must lie on a host where the credential may go."""
    places = ["verify"] if len(provider.verify) == 1 else [f"verify[{index}]" for index in range(len(provider.verify))]
    verification.check(zip(places, provider.verify, strict=True), section, provider.kinds)
    for where, each in zip(places, provider.verify, strict=True):
        if isinstance(each, Verify):
            for kind, written in product((each.auth,) if each.auth is not None else provider.kinds, each.urls):
                _check_verify_url(section, f"{where}.url", provider, kind, written)


def _check_verify_url(section: Section, where: str, provider: Provider, kind: Kind, written: Template) -> None:
    samples = {each.name: each.sample for each in variable.of_kind(provider.variables, kind)}
    fields = {each.name: "x" for each in provider.api_key.fields} if provider.api_key and kind is Kind.API_KEY else {}
    private = provider.allow_private_addresses
    try:
        _, place = verification.target(written, {**fields, **samples}, allow_private=private)
    except ValueError as error:
        raise section.error(where, str(error)) from error
    host_and_port = written.text.removeprefix("https://").partition("/")[0]
    if any(f"{{{name}}}" in host_and_port for name in fields):
        raise section.error(where, "a field may stand in the path only")
    if not provider.trial_rules(kind, samples, place).injections:
        raise section.error(where, "lies where the credential may not go", hint="name its host in api_url")
