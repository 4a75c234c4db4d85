"""Runs: stored without their secret, ended once, forgotten later."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.errors import VaultDamaged
from authsome.models.run import Run
from authsome.vault import identities, runs


@pytest.fixture
def run(store, now):
    with store.database.transaction() as transaction:
        identities.add(transaction, handle="me", did="did:key:z1", now=now)
        stored = Run(
            id="run-1",
            secret_hash=bytes(range(32)),
            vault_id=store.vault_id,
            identity="me",
            pinned={"github": "work"},
            only=frozenset({"github", "openai"}),
            created_at=now,
            expires_at=now + timedelta(minutes=15),
            ended_at=None,
            command="git",
        )
        runs.create(transaction, stored)
    return stored


def get(store, run_id="run-1"):
    with store.database.read() as reader:
        return runs.get(reader, run_id)


def test_runs_in_a_run(store, run, now):
    """Those that were begun in it and have not ended are found, and no others."""
    inner, ended, other = (replace(run, id=name, inside="run-1") for name in ("inner", "ended", "other"))
    other = replace(other, inside="inner")
    with store.database.transaction() as transaction:
        for each in (inner, ended, other):
            runs.create(transaction, each)
        runs.end(transaction, "ended", now=now)
    with store.database.read() as reader:
        assert runs.begun_in(reader, "run-1") == [inner]
        assert runs.begun_in(reader, "inner") == [other]
        assert runs.begun_in(reader, "other") == []


def test_what_is_created_comes_back(store, run):
    assert get(store) == run
    assert get(store, "run-2") is None
    endless = replace(run, id="run-2", pinned={}, only=frozenset(), expires_at=None, command=None)
    with store.database.transaction() as transaction:
        runs.create(transaction, endless)
    assert get(store, "run-2") == endless


def test_run_ends_once(store, run, now):
    with store.database.transaction() as transaction:
        assert runs.end(transaction, run.id, now=now)
        assert not runs.end(transaction, run.id, now=now + timedelta(minutes=1))
        assert not runs.end(transaction, "run-2", now=now)
    assert get(store) == replace(run, ended_at=now)


def test_ended_and_expired_runs_are_forgotten_and_living_ones_are_not(store, run, now):
    with store.database.transaction() as transaction:
        runs.create(transaction, replace(run, id="endless", expires_at=None))
        runs.create(transaction, replace(run, id="ended", expires_at=None, ended_at=now))
        assert runs.purge(transaction, before=now) == 0
        assert runs.purge(transaction, before=now + timedelta(minutes=1)) == 1
        assert runs.purge(transaction, before=now + timedelta(minutes=16)) == 1
    assert get(store, "endless") is not None
    assert get(store, "ended") is None
    assert get(store) is None


@pytest.mark.parametrize("column", ["pinned", "only_providers", "created_at"])
def test_damaged_run_is_not_believed(store, run, column):
    """Least of all one whose limits have become unreadable."""
    with store.database.transaction() as transaction:
        transaction.execute(f"UPDATE runs SET {column} = '\"x\"' WHERE id = ?", (run.id,))
    with pytest.raises(VaultDamaged):
        get(store)
