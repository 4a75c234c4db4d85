"""Logins in flight: whole after a restart, found by state or id, sealed, and bounded."""

from datetime import timedelta
from hashlib import sha256

import pytest

from authsome.errors import VaultDamaged
from authsome.models.connection import Connection, Kind, Status
from authsome.models.login import (
    AwaitingCallback,
    AwaitingDevice,
    AwaitingInput,
    Completed,
    Exchanging,
    Failed,
    Flow,
    LoginRequest,
)
from authsome.secret import Secret
from authsome.vault import logins


@pytest.fixture
def request_of(store, now):
    def made(login_id="login-1", age=timedelta(0)):
        return LoginRequest(
            id=login_id,
            vault_id=store.vault_id,
            identity="me",
            proof="the-jti-of-the-proof",
            provider="github",
            connection="default",
            flow=Flow.PKCE,
            scopes=("repo", "user"),
            force=True,
            verify=False,
            variables={"base_url": "https://git.example"},
            browser_key=Secret("canary-browser"),
            created_at=now - age,
            expires_at=now - age + timedelta(minutes=10),
        )

    return made


@pytest.fixture
def awaiting(request_of):
    def made(login_id="login-1", state="canary-state", **rest):
        return AwaitingCallback(
            request=request_of(login_id, **rest),
            state=Secret(state),
            code_verifier=Secret("canary-verifier"),
            redirect_uri="http://127.0.0.1:7998/auth/callback/oauth",
            authorization_url=f"https://git.example/authorize?state={state}",
            client_id="client",
            client_secret=Secret("canary-client"),
        )

    return made


@pytest.fixture
def device(request_of):
    def made(login_id="login-1", **changes):
        values = {
            "device_code": Secret("canary-device"),
            "user_code": "canary-user",
            "verification_uri": "https://git.example/device",
            "verification_uri_complete": "https://git.example/device?code=canary-user",
            "interval": timedelta(seconds=5.5),
            "client_id": "client",
            "client_secret": Secret("canary-client"),
        }
        return AwaitingDevice(request=request_of(login_id), **values | changes)

    return made


def put(store, login):
    with store.database.transaction() as transaction:
        logins.put(transaction, store.sealer, login)


def get(store, login_id="login-1"):
    with store.database.read() as reader:
        return logins.get(reader, store.sealer, login_id)


@pytest.fixture
def variants(request_of, awaiting, device, store, now):
    request = request_of()
    connection = Connection(
        vault_id=store.vault_id,
        provider="github",
        name="default",
        kind=Kind.OAUTH2,
        status=Status.CONNECTED,
        is_default=True,
        scopes=("repo",),
        account=None,
        expires_at=now,
        has_refresh_token=True,
        variables={},
        revision=7,
        created_at=now,
        updated_at=now,
    )
    callback = awaiting()
    return [
        AwaitingInput(request=request, problem=None),
        AwaitingInput(request=request, problem="that is no key"),
        callback,
        AwaitingCallback(**{name: getattr(callback, name) for name in callback.__slots__} | {"client_secret": None}),
        device(),
        device(verification_uri_complete=None, client_secret=None),
        Exchanging(request=request),
        Completed(request=request, connection=connection, unverified=None),
        Completed(request=request, connection=connection, unverified="no answer"),
        Failed(request=request, code="cancelled", message="cancelled", hint=None),
    ]


def test_every_stage_comes_back_whole(store, variants):
    for login in variants:
        put(store, login)
        assert get(store) == login
        with store.database.read() as reader:
            assert logins.find(reader, store.sealers, "login-1") == login
            assert reader.execute("SELECT count(*) FROM logins").fetchone() == (1,)
        assert b"canary" not in store.everything()


def test_login_survives_a_restart(store, awaiting, open_database):  # SEC-66
    put(store, awaiting())
    store.database.close()
    database = open_database()
    sealers = type(store.sealers)(database, store.sealers._kek)
    with database.read() as reader:
        assert logins.by_state(reader, sealers, "canary-state") == awaiting()


def test_state_finds_its_login_while_it_awaits_the_callback(store, awaiting, request_of):  # SEC-57, SEC-59
    put(store, awaiting("login-1", "state-1"))
    put(store, awaiting("login-2", "state-2"))
    with store.database.read() as reader:
        assert logins.by_state(reader, store.sealers, "state-2").request.id == "login-2"
        assert logins.by_state(reader, store.sealers, "state-1").request.id == "login-1"
        for unknown in ("", "state-3", "state-1 ", "é"):
            assert logins.by_state(reader, store.sealers, unknown) is None
    put(store, Exchanging(request=request_of("login-1")))
    with store.database.read() as reader:
        assert logins.by_state(reader, store.sealers, "state-1") is None


def test_what_a_daemon_has_to_take_up_is_found(store, awaiting, device, request_of):
    put(store, awaiting("login-1"))
    put(store, Exchanging(request=request_of("login-2")))
    put(store, device("login-3"))
    with store.database.read() as reader:
        assert [login.request.id for login in logins.list_exchanging(reader, store.sealers)] == ["login-2"]
        assert logins.list_devices(reader, store.sealers) == [device("login-3")]


def test_another_vaults_login_is_not_there(store, awaiting, now):  # SEC-68
    put(store, awaiting())
    with store.database.transaction() as transaction:
        other = store.sealers.create_vault(transaction, now=now)
        assert logins.get(transaction, other, "login-1") is None


def test_abandoned_logins_stay_few(store, awaiting, now):  # SEC-60
    """The newest are kept, so that a flood never shuts the one out that was just begun."""
    with store.database.transaction() as transaction:
        for number in range(500):
            login = awaiting(f"login-{number}", f"state-{number}", age=timedelta(seconds=500 - number))
            logins.put(transaction, store.sealer, login)
    with store.database.transaction() as transaction:
        assert transaction.execute("SELECT count(*) FROM logins").fetchone() == (logins.MOST,)
        assert logins.get(transaction, store.sealer, "login-499") is not None
        assert logins.get(transaction, store.sealer, "login-0") is None
        assert logins.purge(transaction, before=now + timedelta(minutes=9)) > 0
        assert logins.purge(transaction, before=now + timedelta(minutes=11)) > 0
        assert transaction.execute("SELECT count(*) FROM logins").fetchone() == (0,)


def test_a_new_login_is_kept_after_the_clock_was_set_back(store, awaiting):  # SEC-60 # SEC-84
    """Although as many as there may be are of a time that lies ahead."""
    with store.database.transaction() as transaction:
        for number in range(logins.MOST):
            logins.put(transaction, store.sealer, awaiting(f"login-{number}", f"state-{number}"))
        logins.put(transaction, store.sealer, awaiting("new", "new-state", age=timedelta(hours=1)))
        assert logins.get(transaction, store.sealer, "new") is not None
        assert transaction.execute("SELECT count(*) FROM logins").fetchone() == (logins.MOST,)


def test_purge_takes_what_has_expired_only(store, awaiting, now):
    put(store, awaiting())
    with store.database.transaction() as transaction:
        assert logins.purge(transaction, before=now + timedelta(minutes=10, microseconds=-1)) == 0
        assert logins.purge(transaction, before=now + timedelta(minutes=10)) == 1
        assert logins.get(transaction, store.sealer, "login-1") is None


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE logins SET sealed = (SELECT sealed FROM logins WHERE id = 'login-2') WHERE id = 'login-1'",
        "UPDATE logins SET sealed = zeroblob(100) WHERE id = 'login-1'",
        "UPDATE logins SET sealed = 3 WHERE id = 'login-1'",
    ],
)
def test_moved_or_changed_record_does_not_open(store, awaiting, sql):  # SEC-112, SEC-113
    put(store, awaiting("login-1", "state-1"))
    put(store, awaiting("login-2", "state-2"))
    with store.database.transaction() as transaction:
        transaction.execute(sql)
    with pytest.raises(VaultDamaged):
        get(store)
    assert get(store, "login-2") is not None


def test_moved_state_finds_nothing(store, awaiting):  # SEC-53
    """The hash beside the record only finds it; the sealed state decides."""
    put(store, awaiting("login-1", "state-1"))
    with store.database.transaction() as transaction:
        transaction.execute("UPDATE logins SET state_hash = ?", (sha256(b"planted").digest(),))
        assert logins.by_state(transaction, store.sealers, "planted") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"stage": "dancing", "request": {}}', "1e999"])
def test_record_of_another_shape_is_damage(store, awaiting, text):
    put(store, awaiting())
    with store.database.transaction() as transaction:
        sealed = store.sealer.seal_login("login-1", Secret(text))
        transaction.execute("UPDATE logins SET sealed = ?", (sealed,))
    with pytest.raises(VaultDamaged):
        get(store)
