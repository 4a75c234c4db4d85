"""The schema: the only DDL there is.

Rule: a released migration is never edited; a change is a further one at the end of `MIGRATIONS`.

Times are microseconds since the epoch, in UTC. `STRICT` tables and `RETURNING` are left out: Python 3.11 may be
linked with an SQLite of 2019.
"""

from dataclasses import dataclass
from typing import Final

LEDGER: Final = """
    CREATE TABLE migrations (
        version BIGINT PRIMARY KEY,
        name TEXT NOT NULL,
        applied_at BIGINT NOT NULL
    )"""
"""Which migrations this database has seen; made with the database itself."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, applied whole or not at all."""

    name: str
    statements: tuple[str, ...]


MIGRATIONS: Final = (
    Migration(
        "foundation",
        (
            # which store this is: names its key in the keyring
            """
            CREATE TABLE store (
                id TEXT PRIMARY KEY
            )""",
            # where the master key comes from, and how the key-encryption key is derived from it: one row
            """
            CREATE TABLE master_key (
                id BIGINT PRIMARY KEY CHECK (id = 1),
                source TEXT NOT NULL,
                salt BLOB NOT NULL,
                time_cost BIGINT NOT NULL,
                memory_kib BIGINT NOT NULL,
                lanes BIGINT NOT NULL,
                check_value BLOB NOT NULL,
                created_at BIGINT NOT NULL
            )""",
            # `revision` counts the writes of secrets: no two ever share one, not even a row's after it was made anew
            """
            CREATE TABLE vaults (
                id TEXT PRIMARY KEY,
                wrapped_key BLOB NOT NULL,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL
            )""",
            """
            CREATE TABLE principals (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                role TEXT NOT NULL,
                vault_id TEXT NOT NULL UNIQUE REFERENCES vaults (id),
                created_at BIGINT NOT NULL
            )""",
            """
            CREATE TABLE identities (
                handle TEXT PRIMARY KEY,
                did TEXT NOT NULL UNIQUE,
                principal_id TEXT REFERENCES principals (id),
                created_at BIGINT NOT NULL,
                revoked_at BIGINT
            )""",
            """
            CREATE TABLE connections (
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                provider TEXT NOT NULL,
                name TEXT NOT NULL,
                kind TEXT NOT NULL,
                status TEXT NOT NULL,
                is_default BIGINT NOT NULL CHECK (is_default IN (0, 1)),
                scopes TEXT NOT NULL,
                account TEXT,
                expires_at BIGINT,
                has_refresh_token BIGINT NOT NULL,
                variables TEXT NOT NULL,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                PRIMARY KEY (vault_id, provider, name)
            )""",
            "CREATE UNIQUE INDEX connections_default ON connections (vault_id, provider) WHERE is_default = 1",
            """
            CREATE TABLE secrets (
                vault_id TEXT NOT NULL,
                provider TEXT NOT NULL,
                connection TEXT NOT NULL,
                field TEXT NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY (vault_id, provider, connection, field),
                FOREIGN KEY (vault_id, provider, connection)
                    REFERENCES connections (vault_id, provider, name) ON DELETE CASCADE
            )""",
            """
            CREATE TABLE clients (
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                provider TEXT NOT NULL,
                client_id TEXT NOT NULL,
                client_secret BLOB,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (vault_id, provider)
            )""",
            # a login is sealed whole; beside it only what finds it again
            """
            CREATE TABLE logins (
                id TEXT PRIMARY KEY,
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                stage TEXT NOT NULL,
                state_hash BLOB UNIQUE,
                sealed BLOB NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL
            )""",
            "CREATE INDEX logins_vault ON logins (vault_id, created_at)",
            "CREATE INDEX logins_expiry ON logins (expires_at)",
            """
            CREATE TABLE runs (
                id TEXT PRIMARY KEY,
                secret_hash BLOB NOT NULL,
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                identity TEXT NOT NULL REFERENCES identities (handle),
                pinned TEXT NOT NULL,
                only_providers TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT,
                ended_at BIGINT
            )""",
            # led by the expiry, so that new rows lie together at one end and old ones at the other
            """
            CREATE TABLE replay (
                expires_at BIGINT NOT NULL,
                jti_hash BLOB NOT NULL,
                PRIMARY KEY (expires_at, jti_hash)
            ) WITHOUT ROWID""",
            # SQLite gives INTEGER PRIMARY KEY its next number; elsewhere it is GENERATED ALWAYS AS IDENTITY
            """
            CREATE TABLE audit (
                id INTEGER PRIMARY KEY,
                at BIGINT NOT NULL,
                event TEXT NOT NULL,
                vault_id TEXT,
                principal TEXT,
                identity TEXT,
                provider TEXT,
                connection TEXT,
                method TEXT,
                host TEXT,
                path TEXT,
                run TEXT,
                detail TEXT
            )""",
            # nearly every row is a resolve: the others are found without reading those, which pay nothing for it
            "CREATE INDEX audit_rare ON audit (event, id) WHERE event <> 'resolve'",
        ),
    ),
    Migration(
        "refreshes",
        (
            # a refresh under way, and one whose answer was lost: see vault/refreshes.py
            """
            CREATE TABLE refreshes (
                vault_id TEXT NOT NULL,
                provider TEXT NOT NULL,
                connection TEXT NOT NULL,
                revision BIGINT NOT NULL,
                owner TEXT,
                began_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                lost_at BIGINT,
                lost_how TEXT,
                PRIMARY KEY (vault_id, provider, connection),
                FOREIGN KEY (vault_id, provider, connection)
                    REFERENCES connections (vault_id, provider, name) ON DELETE CASCADE
            )""",
            # one line for people: why it is invalid, or what the last refresh failed with
            "ALTER TABLE connections ADD COLUMN problem TEXT",
        ),
    ),
    Migration(
        "registrations",
        (
            # sealed JSON: how the client was registered, and the token that ends that (RFC 7591, RFC 7592)
            "ALTER TABLE clients ADD COLUMN registration BLOB",
        ),
    ),
    Migration(
        "principals",
        (
            # what a person signs in with, in small letters; principals of programs have none
            "ALTER TABLE principals ADD COLUMN email TEXT",
            "CREATE UNIQUE INDEX principals_email ON principals (email)",
            # limits: NULL limits nothing; the lists are JSON arrays
            "ALTER TABLE identities ADD COLUMN connections TEXT",
            "ALTER TABLE identities ADD COLUMN methods TEXT",
            "ALTER TABLE identities ADD COLUMN expires_at BIGINT",
            "CREATE INDEX identities_principal ON identities (principal_id)",
            "CREATE INDEX runs_identity ON runs (identity)",
            # when an identity last acted, to the minute: apart from it, as nobody's rights hang on it
            """
            CREATE TABLE uses (
                handle TEXT PRIMARY KEY REFERENCES identities (handle) ON DELETE CASCADE,
                at BIGINT NOT NULL
            )""",
            # an identity asks to be claimed: one question at a time, answered once
            """
            CREATE TABLE claims (
                handle TEXT PRIMARY KEY REFERENCES identities (handle) ON DELETE CASCADE,
                did TEXT NOT NULL,
                token_hash BLOB NOT NULL UNIQUE,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                refused_at BIGINT
            )""",
            """
            CREATE TABLE invitations (
                id TEXT PRIMARY KEY,
                token_hash BLOB NOT NULL UNIQUE,
                email TEXT NOT NULL UNIQUE,
                role TEXT NOT NULL,
                invited_by TEXT NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL
            )""",
        ),
    ),
    Migration(
        "dashboard",
        (
            # what Argon2id was told lies beside what it said
            """
            CREATE TABLE passwords (
                principal_id TEXT PRIMARY KEY REFERENCES principals (id) ON DELETE CASCADE,
                salt BLOB NOT NULL,
                time_cost BIGINT NOT NULL,
                memory_kib BIGINT NOT NULL,
                lanes BIGINT NOT NULL,
                digest BLOB NOT NULL,
                changed_at BIGINT NOT NULL
            )""",
            # browsers that are signed in: the hash of the cookie's key, never the key
            """
            CREATE TABLE dashboard_sessions (
                key_hash BLOB PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                principal_id TEXT NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
                identity TEXT,
                way TEXT NOT NULL,
                browser TEXT NOT NULL,
                address TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                seen_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                note TEXT
            )""",
            "CREATE INDEX dashboard_sessions_principal ON dashboard_sessions (principal_id)",
            """
            CREATE TABLE entry_links (
                token_hash BLOB PRIMARY KEY,
                identity TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL
            )""",
            # browsers that have signed in before: strangers' guesses do not count against them
            """
            CREATE TABLE devices (
                token_hash BLOB PRIMARY KEY,
                principal_id TEXT NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
                expires_at BIGINT NOT NULL
            )""",
            """
            CREATE TABLE attempts (
                bucket BLOB PRIMARY KEY,
                failures BIGINT NOT NULL,
                last_at BIGINT NOT NULL
            )""",
        ),
    ),
    Migration(
        "spools",
        (
            # how far the uses that a run's proxy wrote down have been taken into the log: see broker/spools.py
            """
            CREATE TABLE spools (
                run TEXT PRIMARY KEY,
                next BIGINT NOT NULL,
                segment BIGINT NOT NULL,
                position BIGINT NOT NULL,
                is_closed BIGINT NOT NULL
            )""",
        ),
    ),
    Migration(
        "servers",
        (
            # A client is known to one authorization server, of which a provider may have many (a GitLab of one's own).
            # Those from before are kept without one: their fields are sealed so, and no key is at hand here.
            """
            CREATE TABLE clients_of_servers (
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                provider TEXT NOT NULL,
                server TEXT NOT NULL,
                client_id TEXT NOT NULL,
                client_secret BLOB,
                registration BLOB,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (vault_id, provider, server)
            )""",
            """
            INSERT INTO clients_of_servers
                (vault_id, provider, server, client_id, client_secret, registration, revision, created_at)
                SELECT vault_id, provider, '', client_id, client_secret, registration, revision, created_at
                FROM clients""",
            "DROP TABLE clients",
            "ALTER TABLE clients_of_servers RENAME TO clients",
            # what an issuer says of itself, sealed whole, for a while: see vault/issuers.py
            """
            CREATE TABLE issuers (
                vault_id TEXT NOT NULL REFERENCES vaults (id),
                issuer TEXT NOT NULL,
                sealed BLOB NOT NULL,
                fetched_at BIGINT NOT NULL,
                PRIMARY KEY (vault_id, issuer)
            )""",
            # by which flow somebody logged in; NULL: nobody knows, for connections from before
            "ALTER TABLE connections ADD COLUMN flow TEXT",
        ),
    ),
    Migration(
        "runs in runs",
        (
            "ALTER TABLE runs ADD COLUMN inside TEXT",
            "CREATE INDEX runs_inside ON runs (inside) WHERE inside IS NOT NULL",
        ),
    ),
    Migration(
        "audit_chain",
        (
            # the jti of the caller's proof; the entry's hash (models/chain.py); what only the server can make of that
            "ALTER TABLE audit ADD COLUMN proof TEXT",
            "ALTER TABLE audit ADD COLUMN hash BLOB",
            "ALTER TABLE audit ADD COLUMN seal BLOB",
            # each filter finds its rows, newest first, however rare they are; events have audit_rare
            "CREATE INDEX audit_vault ON audit (vault_id, id) WHERE vault_id IS NOT NULL",
            "CREATE INDEX audit_provider ON audit (provider, id) WHERE provider IS NOT NULL",
            "CREATE INDEX audit_identity ON audit (identity, id) WHERE identity IS NOT NULL",
            """
            CREATE TABLE audit_checkpoints (
                number INTEGER PRIMARY KEY,
                begins_after BIGINT NOT NULL,
                begins_hash BLOB NOT NULL,
                ends_at BIGINT NOT NULL,
                ends_hash BLOB NOT NULL,
                latest BIGINT NOT NULL,
                taken_at BIGINT NOT NULL,
                reason TEXT NOT NULL,
                signature BLOB NOT NULL
            )""",
            "CREATE INDEX audit_checkpoints_end ON audit_checkpoints (ends_at)",
            "CREATE INDEX audit_checkpoints_reason ON audit_checkpoints (reason, ends_at)",
            # the server's secret, sealed with the key-encryption key: one row
            """
            CREATE TABLE server_key (
                id BIGINT PRIMARY KEY CHECK (id = 1),
                sealed BLOB NOT NULL,
                created_at BIGINT NOT NULL
            )""",
            # append-only: a row from before the chain gets its hash once, and retention removes what it has signed for
            """
            CREATE TRIGGER audit_stays BEFORE UPDATE ON audit WHEN OLD.hash IS NOT NULL
            BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
            """
            CREATE TRIGGER audit_remains BEFORE DELETE ON audit WHEN NOT EXISTS (
                SELECT 1 FROM audit_checkpoints WHERE reason = 'retention' AND ends_at >= OLD.id
            )
            BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
            """
            CREATE TRIGGER audit_checkpoints_stay BEFORE UPDATE ON audit_checkpoints
            BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END""",
            """
            CREATE TRIGGER audit_checkpoints_remain BEFORE DELETE ON audit_checkpoints
            BEGIN SELECT RAISE(ABORT, 'checkpoints are append-only'); END""",
        ),
    ),
    Migration(
        "usage",
        (
            # counted from the log afterwards (vault/usage.py): nothing is written here by a request
            """
            CREATE TABLE usage_days (
                vault_id TEXT NOT NULL,
                day BIGINT NOT NULL,
                provider TEXT NOT NULL,
                connection TEXT NOT NULL,
                uses BIGINT NOT NULL,
                PRIMARY KEY (vault_id, day, provider, connection)
            )""",
            """
            CREATE TABLE last_uses (
                vault_id TEXT NOT NULL,
                provider TEXT NOT NULL,
                connection TEXT NOT NULL,
                identity TEXT,
                at BIGINT NOT NULL,
                PRIMARY KEY (vault_id, provider, connection)
            )""",
            # the last entry of the log that is counted: one row
            """
            CREATE TABLE usage_mark (
                id BIGINT PRIMARY KEY CHECK (id = 1),
                audit_id BIGINT NOT NULL
            )""",
        ),
    ),
    Migration(
        "rekey",
        (
            # the source that still holds the key before this one, until it is dropped there
            "ALTER TABLE master_key ADD COLUMN former TEXT",
            # the key before this one, wrapped, while there may be something left that it sealed
            "ALTER TABLE vaults ADD COLUMN retired_key BLOB",
            "ALTER TABLE vaults ADD COLUMN renewed_at BIGINT",
            # how often a key may be used is counted from here
            "ALTER TABLE vaults ADD COLUMN renewed_revision BIGINT NOT NULL DEFAULT 0",
        ),
    ),
    Migration(
        "use of runs",
        (
            # counted as the days are (vault/usage.py), for runs that there are
            """
            CREATE TABLE run_uses (
                run TEXT NOT NULL,
                provider TEXT NOT NULL,
                connection TEXT NOT NULL,
                uses BIGINT NOT NULL,
                PRIMARY KEY (run, provider, connection)
            )""",
        ),
    ),
    Migration("commands of runs", ("ALTER TABLE runs ADD COLUMN command TEXT",)),
    Migration(
        "open spools",
        (
            # whether the run's proxy was seen to hold a file; one that was taken in in part was held
            "ALTER TABLE spools ADD COLUMN is_open BIGINT NOT NULL DEFAULT 0",
            "UPDATE spools SET is_open = 1 WHERE position > 0",
        ),
    ),
)
