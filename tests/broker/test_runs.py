"""Runs stopped from outside: by whom, and what ends with them."""

from dataclasses import replace

import pytest

from authsome.broker import routing
from authsome.errors import AuthenticationFailed, NotAllowed, NotFound
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.principal import Caller


def proven(house, begun):
    """Whether a run may still get credentials."""
    with house.context.database.read() as reader:
        try:
            house.broker.runs.prove(reader, begun.run.id, begun.secret)
        except AuthenticationFailed:
            return False
    return True


def test_stopping_ends_what_is_within(house):
    """A run and those that were begun in it, at once; each is in the log, as done by who stopped it."""
    runs = house.broker.runs
    outer = runs.begin(house.owner, routing.DEFAULT_CHOICE)
    inner = runs.begin(house.owner, routing.DEFAULT_CHOICE, inside=outer.run.id)
    beside = runs.begin(house.owner, routing.DEFAULT_CHOICE)
    signed_in = Caller(identity=None, principal=house.owner.principal)
    assert runs.count_live(signed_in) == 3
    assert runs.stop(signed_in, outer.run.id) == outer.run
    assert [proven(house, each) for each in (outer, inner, beside)] == [False, False, True]
    assert runs.count_live(signed_in) == 1
    ended = [each.entry for each in house.events(Event.RUN_ENDED)]
    assert {(each.run, each.identity) for each in ended} == {(outer.run.id, None), (inner.run.id, None)}
    with pytest.raises(NotFound):
        runs.stop(signed_in, outer.run.id)


def test_stopping_ends_what_is_within_however_deep(house):
    """A child that begins run in run cannot make the outermost one go on."""
    runs = house.broker.runs
    outer = inner = runs.begin(house.owner, routing.DEFAULT_CHOICE)
    for _ in range(1100):
        inner = runs.begin(house.owner, routing.DEFAULT_CHOICE, inside=inner.run.id)
    runs.stop(house.owner, outer.run.id)
    assert runs.count_live(house.owner) == 0
    assert not proven(house, inner)


def test_whose_runs_one_may_stop(house):
    """Nobody another vault's; a limited identity its own alone. # SEC-199"""
    runs = house.broker.runs
    begun = runs.begin(house.owner, routing.DEFAULT_CHOICE)
    foreign = Caller(identity=None, principal=replace(house.owner.principal, id="principal_b", vault_id="vault_b"))
    for run_id in (begun.run.id, "none"):
        with pytest.raises(NotFound, match="has ended, or there is none"):
            runs.stop(foreign, run_id)
    narrow = limits.parse(connections=["github"])
    own = replace(house.owner, identity=replace(house.owner.identity, limits=narrow))
    other = replace(house.owner, identity=replace(house.owner.identity, handle="agent", limits=narrow))
    with pytest.raises(NotAllowed, match="is limited"):
        runs.stop(other, begun.run.id)
    for look in (runs.count_live, lambda caller: runs.list_live(caller, limit=9)):
        with pytest.raises(NotAllowed, match="is limited"):
            look(other)
    assert proven(house, begun)
    runs.stop(own, begun.run.id)
    assert not proven(house, begun)
