"""A provider's OAuth side, as its definition says it: endpoints and every way in which it departs from the RFCs.

Rule: an oddity of a provider is a field here, never a name in code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import parse_qs

from authsome.errors import ProviderInvalid
from authsome.models import url, variable
from authsome.models.connection import AuthMethod, Kind
from authsome.models.section import Section
from authsome.models.template import Template
from authsome.models.variable import Variable, fill

Pkce = Literal["required", "supported", "unsupported"]
TokenBody = Literal["form", "json"]
ClientSecret = Literal["required", "optional", "none"]

_PKCE: Final[tuple[Pkce, ...]] = ("required", "supported", "unsupported")
AUTH_METHODS: Final[tuple[AuthMethod, ...]] = ("client_secret_basic", "client_secret_post", "none")
_TOKEN_BODIES: Final[tuple[TokenBody, ...]] = ("form", "json")
_CLIENT_SECRETS: Final[tuple[ClientSecret, ...]] = ("required", "optional", "none")
_SEPARATORS: Final = (" ", ",")

_ENDPOINTS: Final = (
    "authorization_url",
    "token_url",
    "revocation_url",
    "device_authorization_url",
    "registration_endpoint",
    "issuer",
)
# What the flow itself says; a definition that could say it too could undo PKCE or send the code elsewhere.
_FLOW_PARAMETERS: Final = frozenset(
    {
        "client_assertion",
        "client_id",
        "client_secret",
        "code",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "grant_type",
        "redirect_uri",
        "refresh_token",
        "resource",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
_RENAMEABLE: Final = frozenset({"client_id", "client_secret", "redirect_uri", "scope"})
_WITH_QUERY: Final = frozenset({"authorization_url", "token_url", "url", "refresh.url"})
_HEAD: Final = re.compile(r"(?:https?://)?[^/]+")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_OWN_TOKEN_HEADERS: Final = frozenset({"authorization", "content-type", "content-encoding", "accept-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseShape:
    """Where in the token endpoint's answer things lie: member names joined by dots."""

    access_token: str = "access_token"  # noqa: S105  # a member's name
    refresh_token: str = "refresh_token"  # noqa: S105  # a member's name
    expires_in: str = "expires_in"
    expires_at: str | None = None
    """When the token ends, where that is said as a time: seconds since 1970, or ISO 8601."""
    scope: str = "scope"
    error: str = "error"
    ok: str | None = None
    """A member that must be true, where errors come with status 200."""
    account: str | None = None
    """What names the account that was logged in to."""

    @classmethod
    def from_json(cls, section: Section) -> "ResponseShape":
        """Read `oauth.response`."""
        normal = cls()
        found = cls(
            access_token=section.json_path("access_token") or normal.access_token,
            refresh_token=section.json_path("refresh_token") or normal.refresh_token,
            expires_in=section.json_path("expires_in") or normal.expires_in,
            expires_at=section.json_path("expires_at"),
            scope=section.json_path("scope") or normal.scope,
            error=section.json_path("error") or normal.error,
            ok=section.json_path("ok"),
            account=section.json_path("account"),
        )
        section.close()
        return found

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads, without what is usual."""
        found = {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "expires_in": self.expires_in,
            "scope": self.scope,
            "error": self.error,
        }
        odd: dict[str, object] = {name: path for name, path in found.items() if path != name}
        others = {"expires_at": self.expires_at, "ok": self.ok, "account": self.account}
        return odd | {name: path for name, path in others.items() if path}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRules:
    """How a refresh differs from the first token request."""

    url: str | None = None
    """Another endpoint than `token_url`."""
    rotates: bool = False
    """Whether each refresh token serves once."""
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """The OAuth 2 side of a provider; its URLs may hold `{variables}` until `resolved`."""

    authorization_url: str = ""
    """Empty until discovery has found it (`needs_discovery`), and where no flow uses it."""
    token_url: str = ""
    revocation_url: str | None = None
    device_authorization_url: str | None = None
    registration_endpoint: str | None = None
    issuer: str | None = None
    iss_required: bool = False
    """Whether each authorization response names the issuer, so that one without it is forged (RFC 9207 §2.3)."""
    resource: str | None = None
    """The API that tokens are asked for, by its identifier (RFC 8707 §2)."""
    client_id_metadata_document: bool = False
    """Whether the URL of a document about us serves as our client id."""
    client_credentials: bool = False
    """Whether a client gets tokens for itself (RFC 6749 §4.4)."""
    scopes: tuple[str, ...] = ()
    """Asked for when nobody asks for others."""
    scope_separator: str = " "
    pkce: Pkce = "supported"
    parameter_names: Mapping[str, str] = field(default_factory=dict)
    """What the provider calls a parameter that RFC 6749 calls otherwise."""
    authorization_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    token_headers: Mapping[str, str] = field(default_factory=dict)
    token_endpoint_auth_method: AuthMethod = "client_secret_post"  # noqa: S105  # a setting
    token_body: TokenBody = "form"  # noqa: S105  # a form of body
    client_secret: ClientSecret = "optional"  # noqa: S105  # a setting
    """Whether logging in takes a client secret."""
    response: ResponseShape = field(default_factory=ResponseShape)
    refresh: RefreshRules = field(default_factory=RefreshRules)
    expires_in_default: int | None = None
    """Seconds, for an answer that does not say."""
    token_variables: Mapping[str, str] = field(default_factory=dict)
    """The definition's variables that an answer of the token endpoint says: where in it, by name."""
    callback_variables: Mapping[str, str] = field(default_factory=dict)
    """Those that the callback says: its parameter, by name."""
    allow_private_addresses: bool = False
    """The provider's: whether these URLs may lead to this machine or a private network."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every URL that the definition names, as written."""
        named = (
            self.authorization_url,
            self.token_url,
            self.refresh.url,
            self.revocation_url,
            self.device_authorization_url,
            self.registration_endpoint,
            self.issuer,
        )
        return tuple(dict.fromkeys(url for url in named if url))

    @property
    def needs_discovery(self) -> bool:
        """Whether the issuer's metadata is to say where the endpoints are (RFC 8414)."""
        return not self.token_url

    def server(self, variables: Mapping[str, str]) -> str | None:
        """Which of the provider's authorization servers is meant, in words that tell them apart.

        Empty where the definition knows one only; None while a variable is missing that decides. What stands in a path
        (a tenant) does not count: a client of ours is known to a server, and its secret goes to a host.
        """
        for written in (self.issuer, self.token_url):
            found = _HEAD.match(written or "")
            if found is not None and "{" in found[0]:
                names = Template.parse(found[0]).names
                return fill(found[0], variables) if names <= variables.keys() else None
        return ""

    def with_method(self, method: AuthMethod) -> "OAuth":
        """The same for a client that was registered with this way of authentication."""
        return replace(self, token_endpoint_auth_method=method, client_secret=_usual_secret(method))

    def resolved(self, variables: Mapping[str, str]) -> "OAuth":
        """The same with every `{variable}` of its URLs replaced, and every URL checked.

        Raises:
            ProviderInvalid: a URL is none that may be used.
        """

        def at(name: str, written: str) -> str:
            try:
                return _resolve(name, written, variables, allow_private=self.allow_private_addresses)
            except ValueError as error:
                raise ProviderInvalid(f"oauth.{name}: {error}") from error

        def at_optional(name: str, written: str | None) -> str | None:
            return None if written is None else at(name, written)

        return replace(
            self,
            authorization_url=at("authorization_url", self.authorization_url) if self.authorization_url else "",
            token_url=at("token_url", self.token_url) if self.token_url else "",
            revocation_url=at_optional("revocation_url", self.revocation_url),
            device_authorization_url=at_optional("device_authorization_url", self.device_authorization_url),
            registration_endpoint=at_optional("registration_endpoint", self.registration_endpoint),
            issuer=at_optional("issuer", self.issuer),
            resource=at_optional("resource", self.resource),
            refresh=replace(self.refresh, url=at_optional("refresh.url", self.refresh.url)),
        )

    @classmethod
    def from_json(cls, section: Section, variables: tuple[Variable, ...], *, allow_private: bool) -> "OAuth":
        """Read the section `oauth`."""
        urls = {name: _url(section, name, variables, allow_private=allow_private) for name in _ENDPOINTS}
        _check_endpoints(section, urls)
        method = section.choice("token_endpoint_auth_method", AUTH_METHODS, _default_method(section))
        secret = section.choice("client_secret", _CLIENT_SECRETS, _usual_secret(method))
        if "none" in {method, secret} and method != secret:
            raise section.error("client_secret", f"is {secret}, but token_endpoint_auth_method is {method}")
        found = cls(
            authorization_url=urls["authorization_url"] or "",
            token_url=urls["token_url"] or "",
            revocation_url=urls["revocation_url"],
            device_authorization_url=urls["device_authorization_url"],
            registration_endpoint=urls["registration_endpoint"],
            issuer=urls["issuer"],
            iss_required=section.boolean("iss_required"),
            resource=_url(section, "resource", variables, allow_private=allow_private),
            client_id_metadata_document=section.boolean("client_id_metadata_document"),
            client_credentials=section.boolean("client_credentials"),
            scopes=_scopes(section),
            scope_separator=_separator(section),
            pkce=section.choice("pkce", _PKCE, "supported"),
            parameter_names=_names(section),
            authorization_params=_params(section, "authorization_params"),
            token_params=_params(section, "token_params"),
            token_headers=_token_headers(section),
            token_endpoint_auth_method=method,
            token_body=section.choice("token_body", _TOKEN_BODIES, "form"),
            client_secret=secret,
            response=ResponseShape.from_json(section.section("response")),
            refresh=_refresh(section.section("refresh"), variables, allow_private=allow_private),
            expires_in_default=section.seconds("expires_in_default"),
            token_variables={each.name: each.from_token for each in variables if each.from_token},
            callback_variables={each.name: each.from_callback for each in variables if each.from_callback},
            allow_private_addresses=allow_private,
        )
        section.close()
        return found

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads, without what is usual."""
        usual_secret = _usual_secret(self.token_endpoint_auth_method)
        refresh = {"url": self.refresh.url, "rotates": self.refresh.rotates, "params": dict(self.refresh.params)}
        written: dict[str, object] = {
            "authorization_url": self.authorization_url,
            "token_url": self.token_url,
            "revocation_url": self.revocation_url,
            "device_authorization_url": self.device_authorization_url,
            "registration_endpoint": self.registration_endpoint,
            "issuer": self.issuer,
            "iss_required": self.iss_required,
            "resource": self.resource,
            "client_id_metadata_document": self.client_id_metadata_document,
            "client_credentials": self.client_credentials,
            "scopes": list(self.scopes),
            "scope_separator": None if self.scope_separator == " " else self.scope_separator,
            "pkce": self.pkce,
            "parameter_names": dict(self.parameter_names),
            "authorization_params": dict(self.authorization_params),
            "token_params": dict(self.token_params),
            "token_headers": dict(self.token_headers),
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
            "token_body": None if self.token_body == "form" else self.token_body,  # noqa: S105  # a form of body
            "client_secret": None if self.client_secret == usual_secret else self.client_secret,
            "response": self.response.to_json(),
            "refresh": {key: value for key, value in refresh.items() if value},
            "expires_in_default": self.expires_in_default,
        }
        return {key: value for key, value in written.items() if value}


def check_endpoint(text: str, *, allow_private: bool) -> None:
    """Refuse what is no URL of an authorization or a token endpoint, which may have a query (RFC 6749 §3.1, §3.2).

    Raises:
        ValueError: it may not be used, in words that follow the field's name.
    """
    url.parse_with_query(text, allow_private=allow_private)
    for name in parse_qs(text.partition("?")[2], keep_blank_values=True):
        if name in _FLOW_PARAMETERS:
            raise ValueError(f"has a query with {name}, which is set by the flow itself")


def _resolve(name: str, written: str, variables: Mapping[str, str], *, allow_private: bool) -> str:
    """An endpoint's URL with its variables replaced, otherwise as written, once it is known that it may be used.

    Raises:
        ValueError: it may not, in words that follow the field's name.
    """
    base, mark, query = written.partition("?")
    found = fill(base, variables) + mark + query
    if name in _WITH_QUERY:
        check_endpoint(found, allow_private=allow_private)
    else:
        url.parse(found, allow_private=allow_private)
    return found


def _url(section: Section, key: str, variables: tuple[Variable, ...], *, allow_private: bool) -> str | None:
    written = section.optional_text(key)
    if written is not None:
        asked = [each for each in variable.of_kind(variables, Kind.OAUTH2) if each.is_asked]  # known from the start
        try:
            _resolve(key, written, {each.name: each.sample for each in asked}, allow_private=allow_private)
        except ValueError as error:
            raise section.error(key, str(error)) from error
    return written


def _check_endpoints(section: Section, urls: Mapping[str, str | None]) -> None:
    """Either the endpoints are named, or only the issuer, which knows them."""
    if urls["token_url"] is None and (urls["issuer"] is None or urls["authorization_url"] is not None):
        raise section.error("token_url", "is missing", hint="or name only the issuer, whose metadata has the endpoints")
    if urls["token_url"] is not None and urls["authorization_url"] is None and _is_for_browsers(section, urls):
        raise section.error("authorization_url", "is missing")


def _is_for_browsers(section: Section, urls: Mapping[str, str | None]) -> bool:
    """Whether some flow needs the authorization endpoint."""
    return urls["device_authorization_url"] is None and section.raw("client_credentials") is not True


def _usual_secret(method: AuthMethod) -> ClientSecret:
    return "none" if method == "none" else "optional"


def _default_method(section: Section) -> AuthMethod:
    return "none" if section.raw("client_secret") == "none" else "client_secret_post"


def _scopes(section: Section) -> tuple[str, ...]:
    found = section.texts("scopes")
    for index, scope in enumerate(found):
        if not scope.isascii() or set(scope) & set(' "\\'):  # RFC 6749 §3.3, scope-token
            raise section.error(f"scopes[{index}]", "is not a scope", hint="one entry for each scope")
    return found


def _separator(section: Section) -> str:
    found = section.raw("scope_separator")
    if found is None:
        return " "
    if not isinstance(found, str) or found not in _SEPARATORS:
        raise section.error("scope_separator", "must be a space or a comma")
    return found


def _params(section: Section, key: str) -> dict[str, str]:
    found = section.pairs(key)
    for name in found:
        if name in _FLOW_PARAMETERS:
            raise section.error(f"{key}.{name}", "is set by the flow itself")
    return found


def _names(section: Section) -> dict[str, str]:
    found = section.pairs("parameter_names")
    for name, written in found.items():
        where = f"parameter_names.{name}"
        if name not in _RENAMEABLE:
            raise section.error(where, "cannot be renamed", hint=f"one of: {', '.join(sorted(_RENAMEABLE))}")
        if not _PARAMETER.match(written) or written in _FLOW_PARAMETERS:
            raise section.error(where, f"{written!r} is not a name that is free")
    if len(set(found.values())) != len(found):
        raise section.error("parameter_names", "gives two parameters one name")
    return found


def _token_headers(section: Section) -> dict[str, str]:
    found = section.headers("token_headers")
    for name in found:
        if name.lower() in _OWN_TOKEN_HEADERS:
            raise section.error(f"token_headers.{name}", "is set by the request itself")
    return found


def _refresh(section: Section, variables: tuple[Variable, ...], *, allow_private: bool) -> RefreshRules:
    found = RefreshRules(
        url=_url(section, "url", variables, allow_private=allow_private),
        rotates=section.boolean("rotates"),
        params=_params(section, "params"),
    )
    section.close()
    return found
