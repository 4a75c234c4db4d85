"""Logins in flight, so that a restart between question and answer loses none.

Rules:
1. A login is sealed whole: its verifier, state, browser key and authorization URL are nowhere in clear. Beside it lies
   only what finds it again: its id, its vault, its stage, the SHA-256 of its state, and when it expires.
2. Abandoned logins take little room: a vault has at most `MOST`, and the oldest makes way for the next.
"""

import hashlib
import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from authsome.errors import ProviderInvalid, VaultDamaged
from authsome.models.connection import AuthMethod, Connection, Kind, Status
from authsome.models.login import (
    AwaitingCallback,
    AwaitingDevice,
    AwaitingInput,
    Completed,
    Exchanging,
    Failed,
    Flow,
    Login,
    LoginRequest,
    Stage,
)
from authsome.models.oauth import AUTH_METHODS
from authsome.models.provider import Provider, definition_to_json, parse_definition
from authsome.secret import Secret
from authsome.vault.columns import from_moment, from_optional_moment, readable, to_moment, to_optional_moment
from authsome.vault.database import Reader, Transaction
from authsome.vault.vaults import Sealer, Sealers

MOST: Final = 64
"""More than anybody has open at once; a login is about 2 KB."""

_MICROSECOND: Final = timedelta(microseconds=1)
_Json = dict[str, object]


def put(transaction: Transaction, sealer: Sealer, login: Login) -> None:
    """Store a login in place of what it was before."""
    request = login.request
    text = Secret(json.dumps(_to_json(login)))
    state_hash = _hash(login.state) if isinstance(login, AwaitingCallback) else None
    transaction.execute(
        "INSERT INTO logins (id, vault_id, stage, state_hash, sealed, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET stage = excluded.stage,"
        " state_hash = excluded.state_hash, sealed = excluded.sealed, expires_at = excluded.expires_at",
        (
            request.id,
            request.vault_id,
            login.stage.value,
            state_hash,
            sealer.seal_login(request.id, text),
            from_moment(request.created_at),
            from_moment(request.expires_at),
        ),
    )
    transaction.execute(
        "DELETE FROM logins WHERE vault_id = ? AND id NOT IN"
        # this one is the newest, though a clock that was set back since says that others are
        " (SELECT id FROM logins WHERE vault_id = ? ORDER BY id = ? DESC, created_at DESC, id LIMIT ?)",
        (request.vault_id, request.vault_id, request.id, MOST),
    )


def get(reader: Reader, sealer: Sealer, login_id: str) -> Login | None:
    """The login of that id in the sealer's vault, or None.

    Raises:
        VaultDamaged: its record was changed.
    """
    row = reader.execute(
        "SELECT sealed FROM logins WHERE id = ? AND vault_id = ?", (login_id, sealer.vault_id)
    ).fetchone()
    return None if row is None else _open(sealer, login_id, row[0])


def find(reader: Reader, sealers: Sealers, login_id: str) -> Login | None:
    """The login of that id, in whichever vault, or None; whose it is, is the caller's to check."""
    row = reader.execute("SELECT vault_id, sealed FROM logins WHERE id = ?", (login_id,)).fetchone()
    return None if row is None else _open(sealers.for_vault(row[0]), login_id, row[1])


def stage(reader: Reader, login_id: str) -> Stage | None:
    """How far the login of that id has come, without opening it; None when there is none."""
    row = reader.execute("SELECT stage FROM logins WHERE id = ?", (login_id,)).fetchone()
    if row is None:
        return None
    with readable("a login"):
        return Stage(row[0])


def by_state(reader: Reader, sealers: Sealers, state: str) -> AwaitingCallback | None:
    """The login that awaits the callback with this `state` (RFC 6749 §10.12), or None."""
    row = reader.execute(
        "SELECT id, vault_id, sealed FROM logins WHERE state_hash = ?", (_hash(Secret(state)),)
    ).fetchone()
    if row is None:
        return None
    login = _open(sealers.for_vault(row[1]), row[0], row[2])
    return login if isinstance(login, AwaitingCallback) and login.state == Secret(state) else None


def any_left(reader: Reader) -> bool:
    """Whether there is a login that a daemon was at work on when it ended: what the two lists below would say."""
    stages = (Stage.EXCHANGING.value, Stage.DEVICE.value)
    return reader.execute("SELECT 1 FROM logins WHERE stage IN (?, ?) LIMIT 1", stages).fetchone() is not None


def list_exchanging(reader: Reader, sealers: Sealers) -> list[Exchanging]:
    """The logins whose code was being exchanged when they were last heard of."""
    return [login for login in _list(reader, sealers, Stage.EXCHANGING) if isinstance(login, Exchanging)]


def list_devices(reader: Reader, sealers: Sealers) -> list[AwaitingDevice]:
    """The logins whose provider is to be asked whether their code was entered."""
    return [login for login in _list(reader, sealers, Stage.DEVICE) if isinstance(login, AwaitingDevice)]


def purge(transaction: Transaction, *, before: datetime) -> int:
    """Forget the logins that had expired by then; how many they were."""
    return transaction.execute("DELETE FROM logins WHERE expires_at <= ?", (from_moment(before),)).rowcount


def _list(reader: Reader, sealers: Sealers, stage: Stage) -> list[Login]:
    """Those of a stage that can be opened: one that was damaged tells whoever asks for it, and ends by its time."""
    rows = reader.execute("SELECT id, vault_id, sealed FROM logins WHERE stage = ?", (stage.value,)).fetchall()
    found: list[Login] = []
    for login_id, vault_id, sealed in rows:
        with suppress(VaultDamaged, ProviderInvalid):
            found.append(_open(sealers.for_vault(vault_id), login_id, sealed))
    return found


def _hash(state: Secret[str]) -> bytes:
    return hashlib.sha256(state.reveal().encode()).digest()  # random and long: a plain hash does


def _open(sealer: Sealer, login_id: str, sealed: bytes) -> Login:
    text = sealer.open_login(login_id, sealed)
    with readable("this login"):
        data = json.loads(text.reveal())
        return _from_json(data)


def _to_json(login: Login) -> _Json:
    """A login with all its secrets in clear, for sealing at once."""
    stage: _Json = {"stage": login.stage.value, "request": _request_to_json(login.request)}
    match login:
        case AwaitingInput():
            return stage | {"problem": login.problem}
        case AwaitingCallback():
            return stage | {
                "state": login.state.reveal(),
                "code_verifier": login.code_verifier.reveal(),
                "redirect_uri": login.redirect_uri,
                "authorization_url": login.authorization_url,
                "client_id": login.client_id,
                "client_secret": _reveal(login.client_secret),
                "client_method": login.client_method,
            }
        case AwaitingDevice():
            return stage | {
                "device_code": login.device_code.reveal(),
                "user_code": login.user_code,
                "verification_uri": login.verification_uri,
                "verification_uri_complete": login.verification_uri_complete,
                "interval": login.interval // _MICROSECOND,
                "client_id": login.client_id,
                "client_secret": _reveal(login.client_secret),
                "client_method": login.client_method,
            }
        case Exchanging():
            return stage
        case Completed():
            return stage | {"connection": _connection_to_json(login.connection), "unverified": login.unverified}
        case Failed():
            return stage | {"code": login.code, "message": login.message, "hint": login.hint}


def _from_json(data: _Json) -> Login:
    request = _request_from_json(_object(data["request"]))
    match data["stage"]:
        case Stage.INPUT:
            return AwaitingInput(request=request, problem=_text_or_none(data["problem"]))
        case Stage.CALLBACK:
            return _awaiting_callback(request, data)
        case Stage.DEVICE:
            return _awaiting_device(request, data)
        case Stage.EXCHANGING:
            return Exchanging(request=request)
        case Stage.COMPLETED:
            return Completed(
                request=request,
                connection=_connection_from_json(_object(data["connection"])),
                unverified=_text_or_none(data.get("unverified")),
            )
        case Stage.FAILED:
            return Failed(
                request=request,
                code=_text(data["code"]),
                message=_text(data["message"]),
                hint=_text_or_none(data["hint"]),
            )
        case _:
            raise ValueError("unknown stage")


def _awaiting_callback(request: LoginRequest, data: _Json) -> AwaitingCallback:
    return AwaitingCallback(
        request=request,
        state=Secret(_text(data["state"])),
        code_verifier=Secret(_text(data["code_verifier"])),
        redirect_uri=_text(data["redirect_uri"]),
        authorization_url=_text(data["authorization_url"]),
        client_id=_text(data["client_id"]),
        client_secret=_secret_or_none(data["client_secret"]),
        client_method=_method_or_none(data.get("client_method")),
    )


def _awaiting_device(request: LoginRequest, data: _Json) -> AwaitingDevice:
    return AwaitingDevice(
        request=request,
        device_code=Secret(_text(data["device_code"])),
        user_code=_text(data["user_code"]),
        verification_uri=_text(data["verification_uri"]),
        verification_uri_complete=_text_or_none(data["verification_uri_complete"]),
        interval=_number(data["interval"]) * _MICROSECOND,
        client_id=_text(data["client_id"]),
        client_secret=_secret_or_none(data["client_secret"]),
        client_method=_method_or_none(data.get("client_method")),
    )


def _request_to_json(request: LoginRequest) -> _Json:
    return {
        "id": request.id,
        "vault_id": request.vault_id,
        "identity": request.identity,
        "proof": request.proof,
        "provider": request.provider,
        "connection": request.connection,
        "flow": request.flow.value,
        "scopes": list(request.scopes),
        "force": request.force,
        "verify": request.verify,
        "variables": dict(request.variables),
        "definition": None if request.definition is None else definition_to_json(request.definition),
        "is_new_provider": request.is_new_provider,
        "begun_by": request.begun_by,
        "browser_key": request.browser_key.reveal(),
        "created_at": from_moment(request.created_at),
        "expires_at": from_moment(request.expires_at),
    }


def _request_from_json(data: _Json) -> LoginRequest:
    return LoginRequest(
        id=_text(data["id"]),
        vault_id=_text(data["vault_id"]),
        identity=_text_or_none(data["identity"]),
        proof=_text_or_none(data.get("proof")),
        provider=_text(data["provider"]),
        connection=_text(data["connection"]),
        flow=Flow(_text(data["flow"])),
        scopes=_texts(data["scopes"]),
        force=bool(data["force"]),
        verify=bool(data.get("verify", True)),
        variables={name: _text(value) for name, value in _object(data["variables"]).items()},
        definition=_definition_or_none(data.get("definition")),
        is_new_provider=data.get("is_new_provider") is True,
        begun_by=_text_or_none(data.get("begun_by")),
        browser_key=Secret(_text(data["browser_key"])),
        created_at=to_moment(_number(data["created_at"])),
        expires_at=to_moment(_number(data["expires_at"])),
    )


def _definition_or_none(data: object) -> Provider | None:
    return None if data is None else parse_definition(data, source="this login's provider")


def _connection_to_json(connection: Connection) -> _Json:
    return {
        "vault_id": connection.vault_id,
        "provider": connection.provider,
        "name": connection.name,
        "kind": connection.kind.value,
        "status": connection.status.value,
        "is_default": connection.is_default,
        "scopes": list(connection.scopes),
        "account": connection.account,
        "expires_at": from_optional_moment(connection.expires_at),
        "has_refresh_token": connection.has_refresh_token,
        "variables": dict(connection.variables),
        "revision": connection.revision,
        "created_at": from_moment(connection.created_at),
        "updated_at": from_moment(connection.updated_at),
    }


def _connection_from_json(data: _Json) -> Connection:
    expires_at = data["expires_at"]
    return Connection(
        vault_id=_text(data["vault_id"]),
        provider=_text(data["provider"]),
        name=_text(data["name"]),
        kind=Kind(_text(data["kind"])),
        status=Status(_text(data["status"])),
        is_default=bool(data["is_default"]),
        scopes=_texts(data["scopes"]),
        account=_text_or_none(data["account"]),
        expires_at=to_optional_moment(None if expires_at is None else _number(expires_at)),
        has_refresh_token=bool(data["has_refresh_token"]),
        variables={name: _text(value) for name, value in _object(data["variables"]).items()},
        revision=_number(data["revision"]),
        created_at=to_moment(_number(data["created_at"])),
        updated_at=to_moment(_number(data["updated_at"])),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _reveal(value: Secret[str] | None) -> str | None:
    return None if value is None else value.reveal()


def _secret_or_none(value: object) -> Secret[str] | None:
    return None if value is None else Secret(_text(value))


def _method_or_none(value: object) -> AuthMethod | None:
    return next((method for method in AUTH_METHODS if method == value), None)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(_text(each) for each in value)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a number")
    return value


def _object(value: object) -> _Json:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value
