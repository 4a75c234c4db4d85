"""Connections: what is stored comes back, defaults are never guessed, and no late or moved row is believed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.errors import ConnectionNotFound, VaultDamaged
from authsome.models.audit import Entry, Event
from authsome.models.connection import HONEYTOKEN, Kind, Status
from authsome.secret import Secret
from authsome.vault import audit, connections

TOKENS = {"access_token": Secret("canary-access-1"), "refresh_token": Secret("canary-refresh-1")}
KEY = {"api_key": Secret("canary-key-1")}


@pytest.fixture
def put(store, now):
    """Store a connection in a transaction of its own."""

    def stored(provider="github", name="default", secrets=TOKENS, **rest):
        with store.database.transaction() as transaction:
            kind = Kind.API_KEY if secrets is KEY else Kind.OAUTH2
            return connections.put(
                transaction, store.sealer, provider=provider, name=name, kind=kind, secrets=secrets, now=now, **rest
            )

    return stored


@pytest.fixture
def tampered(store):
    """Change rows behind the vault's back."""

    def execute(sql, *parameters):
        with store.database.transaction() as transaction:
            assert transaction.execute(sql, parameters).rowcount > 0

    return execute


def get(store, provider="github", name="default"):
    with store.database.read() as reader:
        return connections.get(reader, store.vault_id, provider, name)


def secrets(store, connection, **rest):
    with store.database.read() as reader:
        return connections.secrets(reader, store.sealer, connection, **rest)


def test_what_is_put_comes_back(store, put, now):
    stored = put(
        scopes=("repo", 'od"d, one'),
        account="octocat",
        expires_at=now + timedelta(hours=8, microseconds=1),
        variables={"base_url": "https://git.example"},
    )
    assert get(store) == stored
    assert secrets(store, stored) == TOKENS
    assert secrets(store, stored, fields={"access_token"}) == {"access_token": TOKENS["access_token"]}
    assert stored.has_refresh_token
    assert not put("openai", secrets=KEY).has_refresh_token


def test_what_is_not_there_is_none_or_an_error(store):
    assert get(store) is None
    with store.database.read() as reader:
        assert connections.default_name(reader, store.vault_id, "github") is None
        with pytest.raises(ConnectionNotFound, match="not connected") as caught:
            connections.require(reader, store.vault_id, "github", None)
    assert "authsome login github" in caught.value.hint


def test_first_connection_is_the_default_and_stays_it(store, put):
    assert put(name="work").is_default
    assert not put(name="home").is_default
    assert put(name="work").is_default
    with store.database.read() as reader:
        assert connections.default_name(reader, store.vault_id, "github") == "work"
        assert connections.require(reader, store.vault_id, "github", None).name == "work"
        assert connections.require(reader, store.vault_id, "github", "home").name == "home"
        with pytest.raises(ConnectionNotFound, match="named other") as caught:
            connections.require(reader, store.vault_id, "github", "other")
        assert "home, work" in caught.value.hint
        assert [each.name for each in connections.list_of(reader, store.vault_id, "github")] == ["home", "work"]


def test_default_is_moved_by_hand(store, put):
    put(name="work")
    home = put(name="home")
    put("openai", secrets=KEY)
    with store.database.transaction() as transaction:
        assert connections.set_default(transaction, home).is_default
    with store.database.read() as reader:
        defaults = [
            (each.provider, each.name) for each in connections.list_all(reader, store.vault_id) if each.is_default
        ]
    assert defaults == [("github", "home"), ("openai", "default")]


def test_default_of_what_is_gone_is_refused_and_changes_nothing(store, put):
    put(name="work")
    home = put(name="home")
    with store.database.transaction() as transaction:
        assert connections.delete(transaction, home)
    with pytest.raises(ConnectionNotFound), store.database.transaction() as transaction:
        connections.set_default(transaction, home)
    assert get(store, name="work").is_default


def test_deleted_default_is_replaced_only_where_there_is_no_choice(store, put):
    one, two, three = put(name="one"), put(name="two"), put(name="three")
    with store.database.transaction() as transaction:
        connections.delete(transaction, one)
        assert connections.default_name(transaction, store.vault_id, "github") is None
        with pytest.raises(ConnectionNotFound, match="no default") as caught:
            connections.require(transaction, store.vault_id, "github", None)
        assert "three, two" in caught.value.hint
        connections.delete(transaction, two)
        assert connections.default_name(transaction, store.vault_id, "github") == "three"
        connections.delete(transaction, three)
        assert not connections.delete(transaction, three)
        assert connections.list_all(transaction, store.vault_id) == []


def test_deleted_connection_takes_its_secrets_along(store, put):
    connection = put()
    with store.database.transaction() as transaction:
        connections.delete(transaction, connection)
        assert transaction.execute("SELECT count(*) FROM secrets").fetchone() == (0,)


def test_vaults_do_not_see_each_other(store, put, now):
    put()
    with store.database.transaction() as transaction:
        other = store.sealers.create_vault(transaction, now=now)
        assert connections.list_all(transaction, other.vault_id) == []
        assert connections.get(transaction, other.vault_id, "github", "default") is None


# ---- refresh -----------------------------------------------------------------------------------------------


def refresh(store, connection, now, token="canary-access-2"):
    with store.database.transaction() as transaction:
        return connections.update_tokens(
            transaction,
            store.sealer,
            connection,
            {**TOKENS, "access_token": Secret(token)},
            scopes=("repo",),
            expires_at=now + timedelta(hours=1),
            now=now,
        )


def test_refresh_replaces_the_secrets_and_keeps_the_rest(store, put, now):
    stored = put(account="octocat", variables={"base_url": "https://git.example"})
    updated = refresh(store, stored, now + timedelta(minutes=5))
    assert get(store) == updated
    assert secrets(store, updated)["access_token"].reveal() == "canary-access-2"
    assert updated == replace(
        stored,
        revision=stored.revision + 1,
        scopes=("repo",),
        expires_at=now + timedelta(minutes=65),
        updated_at=now + timedelta(minutes=5),
    )


def test_late_refresh_changes_nothing(store, put, now):  # SEC-90
    """Not after another refresh, not after a logout, and not after a logout and a new login either."""
    stored = put()
    first = refresh(store, stored, now)
    assert refresh(store, stored, now, "late") is None
    with store.database.transaction() as transaction:
        connections.delete(transaction, first)
    assert refresh(store, first, now, "late") is None
    assert get(store) is None
    anew = put()
    assert refresh(store, first, now, "late") is None
    assert refresh(store, stored, now, "late") is None
    with store.database.transaction() as transaction:
        assert not connections.mark_invalid(transaction, stored, problem="revoked there", now=now)
    assert get(store) == anew
    assert secrets(store, anew) == TOKENS


def test_invalid_mark_stays_until_new_secrets_come(store, put, now):  # SEC-80
    stored = put()
    with store.database.transaction() as transaction:
        assert connections.mark_invalid(transaction, stored, problem="revoked there", now=now)
    assert get(store).status is Status.INVALID
    assert secrets(store, get(store)) == TOKENS
    assert put().status is Status.CONNECTED


# ---- damage ------------------------------------------------------------------------------------------------


def damaged(store, provider="github", name="default"):
    with pytest.raises(VaultDamaged) as caught:
        secrets(store, get(store, provider, name))
    assert provider in caught.value.message
    assert f"authsome login {provider}" in caught.value.hint
    assert "canary" not in caught.value.message


def test_flipped_bit_damages_one_record(store, put, tampered):  # SEC-112
    put()
    other = put("openai", secrets=KEY)
    with store.database.read() as reader:
        (sealed,) = reader.execute("SELECT sealed FROM secrets WHERE field = 'access_token'").fetchone()
    for bit in range(0, len(sealed) * 8, 31):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        tampered("UPDATE secrets SET sealed = ? WHERE field = 'access_token'", bytes(changed))
        damaged(store)
        assert secrets(store, other) == KEY
    tampered("UPDATE secrets SET sealed = ? WHERE field = 'access_token'", sealed)
    assert secrets(store, get(store)) == TOKENS


HERE = "connection = 'default' AND provider = 'github'"
WORK = "(SELECT s.sealed FROM secrets s WHERE s.connection = 'work' AND s.field = secrets.field)"
GITLAB = "(SELECT s.sealed FROM secrets s WHERE s.provider = 'gitlab' AND s.field = secrets.field)"


@pytest.mark.parametrize(
    "statements",
    [
        (
            "UPDATE secrets SET field = 'x' WHERE field = 'access_token' AND " + HERE,
            "UPDATE secrets SET field = 'access_token' WHERE field = 'refresh_token' AND " + HERE,
            "UPDATE secrets SET field = 'refresh_token' WHERE field = 'x' AND " + HERE,
        ),
        (f"UPDATE secrets SET sealed = {WORK} WHERE {HERE}",),
        (f"UPDATE secrets SET sealed = {GITLAB} WHERE {HERE}",),
        ("UPDATE connections SET revision = revision + 1 WHERE name = 'default' AND provider = 'github'",),
        ("UPDATE secrets SET sealed = 7 WHERE " + HERE,),
        ("UPDATE secrets SET sealed = '' WHERE " + HERE,),
        ("DELETE FROM secrets WHERE " + HERE,),
    ],
)
def test_moved_rows_do_not_open(store, put, tampered, statements):  # SEC-113
    put()
    put(name="work", secrets={"access_token": Secret("w1"), "refresh_token": Secret("w2")})
    put("gitlab", secrets={"access_token": Secret("l1"), "refresh_token": Secret("l2")})
    for sql in statements:
        tampered(sql)
    damaged(store)


def test_rolled_back_row_does_not_open(store, put, tampered, now):  # SEC-113
    """An old ciphertext put back, and the connection's old revision with it, into a connection made anew."""
    stored = put()
    with store.database.read() as reader:
        old = reader.execute("SELECT field, sealed FROM secrets").fetchall()
    refresh(store, stored, now)
    for field, sealed in old:
        tampered("UPDATE secrets SET sealed = ? WHERE field = ?", sealed, field)
    damaged(store)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "oauth3"),
        ("status", ""),
        ("scopes", "repo"),
        ("scopes", "{}"),
        ("scopes", "[1]"),
        ("variables", "[]"),
        ("variables", '{"a": 1}'),
        ("expires_at", "soon"),
        ("expires_at", 2**62),
        ("created_at", b"\xff"),
    ],
)
def test_damaged_columns_damage_one_record(store, put, tampered, column, value):  # SEC-112
    put()
    put("openai", secrets=KEY)
    tampered(f"UPDATE connections SET {column} = ? WHERE provider = 'github'", value)
    with pytest.raises(VaultDamaged, match="github/default"):
        get(store)
    assert get(store, "openai") is not None


def test_no_secret_is_in_clear_on_disk(store, put, now):  # SEC-126
    """Not before, not after a refresh, not after it was deleted; not in the log either."""
    stored = put()
    put("openai", secrets=KEY)
    assert b"canary" not in store.everything()
    refresh(store, stored, now)
    with store.database.transaction() as transaction:
        connections.delete(transaction, stored)
    assert b"canary" not in store.everything()
    store.database.close()
    assert b"canary" not in store.everything()


def test_searching(store, put, now):
    """By words of provider, name and account, and by whether somebody should do something; a piece at a time."""
    soon = now + timedelta(days=7)
    token = {"access_token": Secret("canary-access-2")}
    put(name="good", secrets=token, account="ada_%@example.org")
    put(name="renewed", expires_at=now)
    put(name="ends", secrets=token, expires_at=soon)
    put(name="later", secrets=token, expires_at=soon + timedelta(seconds=1))
    broken = put(provider="gitlab", name="broken")
    put(name="zz-decoy", secrets=token, flow=HONEYTOKEN)
    with store.database.transaction() as transaction:
        connections.mark_invalid(transaction, broken, problem="revoked", now=now)

    def found(*, limit=10, offset=0, **wanted):
        search = connections.Search(soon=soon, **wanted)
        with store.database.read() as reader:
            rows = connections.search(reader, store.vault_id, search, limit=limit, offset=offset)
            assert connections.count(reader, store.vault_id, search) >= len(rows)
            assert connections.search(reader, "vault_other", search, limit=limit) == []
        return [each.name for each in rows]

    assert found() == ["ends", "good", "later", "renewed", "zz-decoy", "broken"]
    assert found(decoys=True) == ["zz-decoy"]
    assert found(decoys=False, wanting=False) == ["good", "later", "renewed"]
    assert found(limit=3, offset=3) == ["renewed", "zz-decoy", "broken"]
    assert found(wanting=True) == ["ends", "broken"]
    assert found(wanting=False) == ["good", "later", "renewed", "zz-decoy"]
    with store.database.transaction() as transaction:
        use = Entry(
            event=Event.HONEYTOKEN, at=now, vault_id=store.vault_id, provider="github", connection="zz-decoy",
        )  # fmt: skip
        audit.append(transaction, replace(use, at=now - timedelta(seconds=1)))
        assert found(wanting=True) == ["ends", "broken"], "used before it was planted"
        audit.append(transaction, replace(use, connection="good"))
    assert found(wanting=True) == ["ends", "broken"]
    with store.database.transaction() as transaction:
        audit.append(transaction, use)
    assert found(wanting=True) == ["zz-decoy", "ends", "broken"], "the alarm comes first"
    assert found(words="ADA_%") == ["good"]
    assert found(words="a_a") == []
    assert found(words="lab") == ["broken"]
    assert found(words="nothing", providers=["gitlab"]) == ["broken"]
    with store.database.read() as reader:
        assert connections.count_by_provider(reader, store.vault_id) == {"github": 4, "gitlab": 1}
        assert len(connections.list_recent(reader, store.vault_id, limit=3)) == 3
