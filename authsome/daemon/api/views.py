"""What the API says of things, in JSON; never a secret, except where the endpoint exists for it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from authsome.broker.credentials import Resolved
from authsome.broker.explanation import Explanation
from authsome.broker.identities import Listed
from authsome.broker.questions import InputField
from authsome.errors import AuthsomeError
from authsome.identity import did
from authsome.models.audit import Recorded
from authsome.models.connection import Connection
from authsome.models.limits import Limits
from authsome.models.login import (
    AwaitingCallback,
    AwaitingDevice,
    AwaitingInput,
    Completed,
    Failed,
    Flow,
    Login,
    Stage,
)
from authsome.models.principal import Caller, Identity, Invitation, Principal
from authsome.models.provider import Provider
from authsome.models.route import RouteTable

JsonObject = Mapping[str, object]

TEXT: Final[JsonObject] = MappingProxyType({"type": "string"})
OPTIONAL_TEXT: Final[JsonObject] = MappingProxyType({"type": ["string", "null"]})
BOOLEAN: Final[JsonObject] = MappingProxyType({"type": "boolean"})
INTEGER: Final[JsonObject] = MappingProxyType({"type": "integer"})
NUMBER: Final[JsonObject] = MappingProxyType({"type": "number"})
TEXTS: Final[JsonObject] = MappingProxyType({"type": "array", "items": {"type": "string"}})
TEXT_MAP: Final[JsonObject] = MappingProxyType({"type": "object", "additionalProperties": {"type": "string"}})
PAIRS: Final[JsonObject] = MappingProxyType(
    {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}}
)
NAMES: Final[JsonObject] = MappingProxyType(
    {"type": ["object", "null"], "additionalProperties": {"type": "array", "items": {"type": "string"}}}
)


def shape(required: Mapping[str, object], optional: Mapping[str, object] | None = None) -> JsonObject:
    """The JSON Schema of an object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def array(item: object) -> JsonObject:
    """The JSON Schema of a list."""
    return {"type": "array", "items": item}


CONNECTION: Final = shape(
    {
        "provider": TEXT,
        "connection": TEXT,
        "kind": TEXT,
        "status": TEXT,
        "default": BOOLEAN,
        "scopes": TEXTS,
        "account": OPTIONAL_TEXT,
        "expires_at": OPTIONAL_TEXT,
        "created_at": TEXT,
        "updated_at": TEXT,
        "problem": OPTIONAL_TEXT,
        "variables": TEXT_MAP,
        "honeytoken": BOOLEAN,
        "used_at": OPTIONAL_TEXT,
    }
)
ERROR: Final = shape({"code": TEXT, "message": TEXT, "hint": OPTIONAL_TEXT})
KEPT: Final = shape({"connection": TEXT, "error": ERROR})
CLIENT_FATE: Final = shape({"given_back": BOOLEAN, "error": {"anyOf": [ERROR, {"type": "null"}]}})
FIELD: Final = shape({"name": TEXT, "label": TEXT, "secret": BOOLEAN, "required": BOOLEAN, "hint": OPTIONAL_TEXT})
DEVICE: Final = shape({"user_code": TEXT, "verification_uri": TEXT, "verification_uri_complete": OPTIONAL_TEXT})
SESSION: Final = shape(
    {
        "id": TEXT,
        "status": {"type": "string", "enum": list(Stage)},
        "provider": TEXT,
        "connection": TEXT,
        "flow": TEXT,
        "new_provider": BOOLEAN,
        "browser_url": TEXT,
        "authorization_url": OPTIONAL_TEXT,
        "docs_url": OPTIONAL_TEXT,
        "redirect_uri": OPTIONAL_TEXT,
        "flows": TEXTS,
        "fields": array(FIELD),
        "problem": OPTIONAL_TEXT,
        "device": {"anyOf": [DEVICE, {"type": "null"}]},
        "expires_at": TEXT,
        "error": {"anyOf": [ERROR, {"type": "null"}]},
        "connection_view": {"anyOf": [CONNECTION, {"type": "null"}]},
        "unverified": OPTIONAL_TEXT,
        "untried": OPTIONAL_TEXT,
        "unnamed": OPTIONAL_TEXT,
    }
)
IDENTITY: Final = shape({"handle": TEXT, "did": TEXT, "fingerprint": TEXT})
PRINCIPAL: Final = shape({"id": TEXT, "name": TEXT, "role": TEXT, "email": OPTIONAL_TEXT})
OPTIONAL_TEXTS: Final[JsonObject] = MappingProxyType({"type": ["array", "null"], "items": TEXT})
LIMITS: Final = shape({"connections": OPTIONAL_TEXTS, "methods": OPTIONAL_TEXTS, "expires_at": OPTIONAL_TEXT})
LISTED_IDENTITY: Final = shape(
    {
        "handle": TEXT,
        "did": TEXT,
        "fingerprint": TEXT,
        "principal": PRINCIPAL,
        "status": {"type": "string", "enum": ["active", "expired", "revoked"]},
        "limits": LIMITS,
        "created_at": TEXT,
        "last_used_at": OPTIONAL_TEXT,
        "revoked_at": OPTIONAL_TEXT,
    }
)
INVITATION: Final = shape(
    {"id": TEXT, "email": TEXT, "role": TEXT, "invited_by": TEXT, "created_at": TEXT, "expires_at": TEXT}
)
ROUTE: Final = shape(
    {
        "provider": TEXT,
        "connection": TEXT,
        "host": TEXT,
        "suffix": BOOLEAN,
        "port": INTEGER,
        "path_prefix": TEXT,
        "allow_private_addresses": BOOLEAN,
    }
)
EXPLANATION: Final = shape(
    {
        "outcome": {"type": "string", "enum": ["inject", "pass", "tunnel", "refuse"]},
        "unconnected": TEXTS,
        "headers": TEXTS,
        "companions": TEXTS,
        "query": TEXTS,
        "removes": TEXTS,
        "changes_path": BOOLEAN,
        "placeholders": TEXTS,
        "replaced_in": NAMES,
        "refreshes": BOOLEAN,
    },
    {
        **dict.fromkeys(("provider", "connection", "host", "path_prefix", "expires_at"), OPTIONAL_TEXT),
        "is_default": BOOLEAN,
        "problem": shape({"code": TEXT, "message": TEXT, "hint": OPTIONAL_TEXT}),
    },
)
EVENT: Final = shape(
    {"id": INTEGER, "at": TEXT, "event": TEXT},
    dict.fromkeys(
        ("principal", "identity", "proof", "provider", "connection", "method", "host", "path", "run", "detail", "hash"),
        TEXT,
    ),
)


def time(moment: datetime) -> str:
    """RFC 3339, in UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def connection(
    value: Connection, now: datetime, used_at: datetime | None = None, *, tells_decoys: bool = True
) -> JsonObject:
    """A connection without its secrets; `used_at` is for honeytokens, of which not everybody is told."""
    return {
        "provider": value.provider,
        "connection": value.name,
        "kind": value.kind,
        "status": value.status_at(now),
        "default": value.is_default,
        "scopes": list(value.scopes),
        "account": value.account,
        "expires_at": time(value.expires_at) if value.expires_at else None,
        "created_at": time(value.created_at),
        "updated_at": time(value.updated_at),
        "problem": value.problem,
        "variables": dict(value.variables),
        "honeytoken": tells_decoys and value.is_honeytoken,
        "used_at": time(used_at) if tells_decoys and used_at is not None else None,
    }


def error(value: AuthsomeError) -> JsonObject:
    """What went wrong, as `--json` says it."""
    return {"code": value.code, "message": value.message, "hint": value.hint}


def session(  # noqa: PLR0913  # each by name
    login: Login,
    fields: Iterable[InputField],
    provider: Provider,
    *,
    browser_url: str,
    redirect_uri: str,
    now: datetime,
) -> JsonObject:
    """A login, for the one who began it; `redirect_uri` is ours, which an OAuth client has to know."""
    request = login.request
    untried, unnamed = silence(login, provider)
    return {
        "id": request.id,
        "status": login.stage,
        "provider": request.provider,
        "connection": request.connection,
        "flow": request.flow,
        "new_provider": request.is_new_provider,
        "browser_url": browser_url,
        "authorization_url": login.authorization_url if isinstance(login, AwaitingCallback) else None,
        "docs_url": provider.docs_url,
        "redirect_uri": redirect_uri if request.flow in {Flow.PKCE, Flow.DCR_PKCE} else None,
        "flows": list(provider.flows),
        "fields": [
            {
                "name": field.name,
                "label": field.label,
                "secret": field.secret,
                "required": field.required,
                "hint": field.hint,
            }
            for field in fields
        ],
        "problem": login.problem if isinstance(login, AwaitingInput) else None,
        "device": _device(login) if isinstance(login, AwaitingDevice) else None,
        "expires_at": time(request.expires_at),
        "error": (
            {"code": login.code, "message": login.message, "hint": login.hint} if isinstance(login, Failed) else None
        ),
        "connection_view": connection(login.connection, now) if isinstance(login, Completed) else None,
        "unverified": login.unverified if isinstance(login, Completed) else None,
        "untried": untried,
        "unnamed": unnamed,
    }


def silence(login: Login, provider: Provider) -> tuple[str | None, str | None]:
    """Why a login's credential was not tried, and why nobody said whose it is, where the definition knows that."""
    if not isinstance(login, Completed) or login.connection.account is not None or not login.request.verify:
        return None, None
    kind = login.connection.kind
    untried = provider.untried(kind)
    return untried, None if untried or login.unverified else provider.unnamed(kind)


def _device(login: AwaitingDevice) -> JsonObject:
    return {
        "user_code": login.user_code,
        "verification_uri": login.verification_uri,
        "verification_uri_complete": login.verification_uri_complete,
    }


def identity(value: Identity) -> JsonObject:
    """An identity, with what people compare."""
    return {"handle": value.handle, "did": value.did, "fingerprint": did.fingerprint(value.did)}


def principal(value: Principal) -> JsonObject:
    """A principal."""
    return {"id": value.id, "name": value.name, "role": value.role, "email": value.email}


def limits(value: Limits) -> JsonObject:
    """What an identity is limited to; null limits nothing."""
    return {
        "connections": None if value.connections is None else list(value.connections),
        "methods": None if value.methods is None else sorted(value.methods),
        "expires_at": time(value.expires_at) if value.expires_at else None,
    }


def listed_identity(value: Listed, now: datetime) -> JsonObject:
    """An identity as its principal sees it."""
    known = value.identity
    status = "revoked" if known.revoked_at else "expired" if known.limits.has_ended(now) else "active"
    return {
        **identity(known),
        "principal": principal(value.principal),
        "status": status,
        "limits": limits(known.limits),
        "created_at": time(known.created_at),
        "last_used_at": time(value.last_used_at) if value.last_used_at else None,
        "revoked_at": time(known.revoked_at) if known.revoked_at else None,
    }


def invitation(value: Invitation) -> JsonObject:
    """An invitation; its link is told once, and is not here."""
    return {
        "id": value.id,
        "email": value.email,
        "role": value.role,
        "invited_by": value.invited_by,
        "created_at": time(value.created_at),
        "expires_at": time(value.expires_at),
    }


def caller(value: Caller) -> JsonObject:
    """Who is calling, and whom that acts for."""
    assert value.identity is not None  # whoever proves itself is one
    return {
        "identity": identity(value.identity),
        "principal": principal(value.principal),
        "limits": limits(value.limits),
    }


def routes(table: RouteTable) -> list[JsonObject]:
    """The routes of a run."""
    return [
        {
            "provider": route.provider,
            "connection": route.connection,
            "host": route.pattern.host,
            "suffix": route.pattern.is_suffix,
            "port": route.pattern.port,
            "path_prefix": route.pattern.path_prefix,
            "allow_private_addresses": route.allow_private_addresses,
        }
        for route in table.routes
    ]


def resolved(found: Resolved, path: str) -> JsonObject:
    """What to put on one request for `path`. This answer holds the credential."""
    stored, injected, rewritten = found.connection, found.injected, path
    for text, value in injected.path:
        rewritten = rewritten.replace(text, value.reveal())
    return {
        "provider": stored.provider,
        "connection": stored.name,
        "set": [[name, value.reveal()] for name, value in injected.headers],
        "default": [list(pair) for pair in injected.defaults],
        "remove": list(injected.remove),
        "query": [[name, value.reveal()] for name, value in injected.query],
        "path": rewritten if rewritten != path else None,
        "placeholders": [[text, value.reveal()] for text, value in found.stand_ins],
        "replaced_in": found.replacement.named,
        "secrets": [secret.reveal() for secret in injected.secrets],
        "expires_at": time(stored.expires_at) if stored.expires_at else None,
        "credential_id": f"{stored.provider}/{stored.name}/{stored.revision}",
        "reusable_seconds": found.reusable.total_seconds(),
        "any_path": found.is_for_any_path,
    }


def explanation(told: Explanation) -> JsonObject:
    """What would become of a request: names, and nothing that is secret."""
    route, connection, problem = told.route, told.connection, told.problem
    passing = "pass" if told.opens else "tunnel"
    answer: dict[str, object] = {
        "outcome": "refuse" if problem else passing if route is None else "inject",
        "unconnected": list(told.unconnected),
        "headers": list(told.headers),
        "companions": list(told.companions),
        "query": list(told.query),
        "removes": list(told.rules.remove) if told.rules else [],
        "changes_path": told.changes_path,
        "placeholders": list(told.placeholders),
        "replaced_in": told.replacement.named,
        "refreshes": told.refreshes,
    }
    if route is not None and connection is not None:
        pattern = route.pattern
        answer["provider"], answer["connection"] = route.provider, route.connection
        answer["is_default"] = connection.is_default
        answer["host"] = f"*.{pattern.host}" if pattern.is_suffix else pattern.host
        answer["path_prefix"] = pattern.path_prefix
        answer["expires_at"] = time(connection.expires_at) if connection.expires_at else None
    if problem is not None:
        answer["problem"] = {"code": problem.code, "message": problem.message, "hint": problem.hint}
    return answer


def event(recorded: Recorded) -> JsonObject:
    """An entry of the audit; members that say nothing are left out."""
    entry = recorded.entry
    members = {
        "principal": entry.principal,
        "identity": entry.identity,
        "proof": entry.proof,
        "provider": entry.provider,
        "connection": entry.connection,
        "method": entry.method,
        "host": entry.host,
        "path": entry.path,
        "run": entry.run,
        "detail": entry.detail,
        "hash": recorded.hash.hex() if recorded.hash is not None else None,
    }
    said = {name: value for name, value in members.items() if value is not None}
    at = entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"id": recorded.id, "at": at, "event": entry.event, **said}
