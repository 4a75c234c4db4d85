"""Which connection a request gets: the default, the pinned, or the one it asks for; and what is told of that."""

from datetime import timedelta

import pytest

from authsome.broker.credentials import Claimant, Question, Resolved, Target
from authsome.broker.routing import DEFAULT_CHOICE, Choice
from authsome.daemon.api import views
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    ConnectionNotFound,
    NotAllowed,
    NotFound,
    RouteAmbiguous,
)
from authsome.models.audit import Event
from authsome.models.connection import Status
from authsome.models.run import Run
from broker.conftest import House

HOST = "forge.example.localhost"


def target(path: str = "/", host: str = HOST) -> Target:
    """A request."""
    return Target(method="GET", host=host, port=443, path=path)


@pytest.fixture
def forge(house: House) -> House:
    """Two connections of one provider, and another provider below a path of another host."""
    house.oauth("forge", "https://forge.example.localhost/token")
    house.connect("forge", lifetime=timedelta(hours=1))
    house.connect("forge", lifetime=timedelta(hours=1), name="work")
    return house


def resolve(house: House, choice: Choice, wanted: Target) -> Resolved:
    """The credential for one request of a run with that choice."""
    claimant = Claimant(caller=house.owner, choice=choice, run="run-1")
    return house.broker.credentials.resolve(Question(admit=lambda _: claimant, target=wanted, rejected=False))


@pytest.mark.parametrize(
    ("pinned", "named", "chosen"),
    [
        ({}, None, "default"),
        ({}, "work", "work"),
        ({}, "default", "default"),
        ({"forge": "work"}, None, "work"),
        ({"forge": "work"}, "work", "work"),
    ],
)
def test_a_request_may_ask_for_a_connection(forge: House, pinned, named, chosen):
    """It gets that one, and the record says which it was."""
    # SEC-171
    found = resolve(forge, Choice(pinned=pinned, named=named), target())
    assert found.connection.name == chosen
    assert forge.events(Event.RESOLVE)[-1].entry.connection == chosen


@pytest.mark.parametrize(
    ("choice", "error"),
    [
        (Choice(pinned={}, named="nosuch"), ConnectionNotFound),
        (Choice(pinned={"forge": "work"}, named="default"), NotAllowed),
        (Choice(pinned={}, only=frozenset({"other"}), named="work"), ConnectionNotFound),
        (Choice(pinned={}, only=frozenset({"other"})), NotFound),
    ],
)
def test_what_the_run_is_narrowed_to_holds(forge: House, choice, error):
    """A header of the child's chooses among what the run may use, and widens nothing; the refusal is on record."""
    with pytest.raises(error):
        resolve(forge, choice, target())
    assert forge.events(Event.RESOLVE) == []
    assert len(forge.events(Event.DENIED)) == 1


def test_a_new_default_counts_from_the_next_request(forge: House):
    """Nothing of a decision is kept."""
    # SEC-169
    assert resolve(forge, Choice(pinned={}), target()).connection.name == "default"
    forge.broker.credentials.set_default(forge.owner, "forge", "work")
    assert resolve(forge, Choice(pinned={}), target()).connection.name == "work"
    forge.broker.credentials.logout(forge.owner, "forge", "work")
    forge.broker.credentials.logout(forge.owner, "forge", "default")
    with pytest.raises(NotFound):
        resolve(forge, Choice(pinned={}), target())


def test_a_tie_is_told_with_the_names(forge: House):
    """Two providers with equal claims: nothing is put on, and the answer says who they are."""
    # SEC-171
    forge.define({**forge_twin(), "name": "twin"})
    forge.key("twin", "k" * 20)
    with pytest.raises(RouteAmbiguous, match=r"forge \(default\), twin \(default\)"):
        resolve(forge, Choice(pinned={}), target())
    assert resolve(forge, Choice(pinned={}, named="work"), target()).connection.provider == "forge"


def forge_twin() -> dict[str, object]:
    """A provider of API keys at the same host."""
    return {
        "schema_version": 1,
        "name": "twin",
        "auth_type": "api_key",
        "api_url": f"https://{HOST}",
        "allow_private_addresses": True,
        "api_key": {},
        "inject": {"header": "X-Key", "template": "{api_key}"},
    }


# ---- what is told beforehand -------------------------------------------------------------------------------


def explain(house: House, wanted: Target, choice: Choice | None = None) -> dict[str, object]:
    """What the daemon answers."""
    return views.explanation(house.broker.credentials.explain(house.owner, choice or Choice(pinned={}), wanted))


def test_an_explanation_says_what_would_be_done_and_does_none_of_it(forge: House):
    """Names of headers and no values; nothing is put on record, and nothing refreshed."""
    told = explain(forge, target())
    assert told["outcome"] == "inject"
    assert (told["provider"], told["connection"], told["is_default"]) == ("forge", "default", True)
    assert (told["host"], told["path_prefix"], told["headers"]) == (HOST, "/", ["Authorization"])
    assert "old-access" not in str(told)
    assert explain(forge, target(), Choice(pinned={"forge": "work"}))["connection"] == "work"
    forge.clock.advance(timedelta(hours=2))
    assert explain(forge, target())["refreshes"] is True
    assert forge.events(Event.RESOLVE) == forge.events(Event.DENIED) == forge.sent == []


def test_what_is_explained_is_what_happens(forge: House):
    """For every kind of request the outcome is the one that `resolve` has."""
    forge.define({**forge_twin(), "api_url": f"https://{HOST}/twin"})
    forge.key("twin", "k" * 20)
    for wanted, choice in (
        (target(), Choice(pinned={})),
        (target("/twin/x"), Choice(pinned={})),
        (target("/twin/../x"), Choice(pinned={})),
        (target(host="elsewhere.example.localhost"), Choice(pinned={})),
        (target(), Choice(pinned={}, only=frozenset({"twin"}))),
        (target("/twin"), Choice(pinned={}, only=frozenset({"twin"}))),
        (target(), Choice(pinned={}, named="nosuch")),
    ):
        told = explain(forge, wanted, choice)
        if told["outcome"] == "inject":
            resolved = resolve(forge, choice, wanted)
            assert (told["provider"], told["connection"]) == (resolved.connection.provider, resolved.connection.name)
            assert told["headers"] == [name for name, _ in resolved.injected.headers]
            continue
        with pytest.raises(AuthsomeError) as raised:
            resolve(forge, choice, wanted)
        error = raised.value
        if told["outcome"] == "refuse":
            assert told["problem"] == {"code": error.code, "message": error.message, "hint": error.hint}
        else:
            assert type(error) is NotFound
    assert explain(forge, target(), Choice(pinned={}, only=frozenset({"twin"})))["outcome"] == "pass"


def test_who_would_have_to_log_in_is_named(house: House):
    """A provider that names the host and has no connection; a login that is no longer accepted."""
    house.oauth("forge", "https://forge.example.localhost/token")
    told = explain(house, target())
    assert (told["outcome"], told["unconnected"]) == ("tunnel", ["forge"])
    house.connect("forge", lifetime=timedelta(hours=1))
    with house.context.database.transaction() as tx:
        tx.execute("UPDATE connections SET status = ?", (Status.INVALID.value,))
    told = explain(house, target())
    assert told["outcome"] == "refuse"
    assert told["problem"]["hint"] == "log in again: authsome login forge"  # type: ignore[index]


# ---- runs in runs ------------------------------------------------------------------------------------------


def begin(house: House, choice: Choice | None = None, **more: object) -> Run:
    """Begin a run."""
    return house.broker.runs.begin(house.owner, choice or Choice(pinned={}), **more).run  # type: ignore[arg-type]


def test_a_run_in_a_run_gets_no_more_than_that_one(forge: House):
    """Providers, connections and end are the outer one's, or narrower."""
    forge.define(forge_twin())
    forge.key("twin", "k" * 20)
    outer = begin(forge, Choice(pinned={"forge": "work"}, only=frozenset({"forge"})), lifetime=timedelta(minutes=15))
    inner = begin(forge, inside=outer.id)
    assert (inner.pinned, inner.only, inner.expires_at) == (outer.pinned, outer.only, outer.expires_at)
    shorter = begin(forge, inside=outer.id, lifetime=timedelta(minutes=5))
    assert shorter.expires_at == forge.clock() + timedelta(minutes=5)
    free = begin(forge, inside=begin(forge).id)
    assert (free.pinned, free.only) == ({}, frozenset())
    narrower = begin(forge, Choice(pinned={"forge": "default"}, only=frozenset({"forge"})), inside=free.id)
    assert (narrower.pinned, narrower.only) == ({"forge": "default"}, {"forge"})


@pytest.mark.parametrize(
    "choice",
    [
        Choice(pinned={"forge": "default"}),
        Choice(pinned={}, only=frozenset({"forge", "twin"})),
        Choice(pinned={"twin": "default"}),
    ],
)
def test_a_run_that_would_outgrow_the_one_around_it_is_refused(forge: House, choice):
    forge.define(forge_twin())
    forge.key("twin", "k" * 20)
    outer = begin(forge, Choice(pinned={"forge": "work"}, only=frozenset({"forge"})))
    with pytest.raises(NotAllowed, match="the run around this one"):
        begin(forge, choice, inside=outer.id)


def test_a_run_ends_with_the_one_around_it(forge: House):
    """Its secret is worthless from then on, on record once, and so it is for a run in it; no other run's is."""
    # SEC-138
    runs = forge.broker.runs
    begun = {"outer": runs.begin(forge.owner, DEFAULT_CHOICE)}
    for name, around in (("inner", "outer"), ("innermost", "inner"), ("ended", "inner")):
        begun[name] = runs.begin(forge.owner, DEFAULT_CHOICE, inside=begun[around].run.id)
    begun["other"] = runs.begin(forge.owner, DEFAULT_CHOICE)
    runs.end(begun["ended"].run, forge.owner)
    runs.end(begun["outer"].run, forge.owner)
    with forge.context.database.read() as reader:
        for name, each in begun.items():
            if name == "other":
                assert runs.prove(reader, each.run.id, each.secret)[0] == each.run
            else:
                with pytest.raises(AuthenticationFailed):
                    runs.prove(reader, each.run.id, each.secret)
    ended = [entry.entry.run for entry in forge.events(Event.RUN_ENDED)]
    assert sorted(ended) == sorted(each.run.id for name, each in begun.items() if name != "other")


def test_a_run_in_one_that_is_over_is_refused(forge: House):
    """Ended, out of time, or unknown: what it might use cannot be said."""
    ended, late = begin(forge), begin(forge, lifetime=timedelta(minutes=1))
    forge.broker.runs.end(ended, forge.owner)
    forge.clock.advance(timedelta(minutes=2))
    for run_id in (ended.id, late.id, "0123456789abcdef"):
        with pytest.raises(NotAllowed, match="is over"):
            begin(forge, inside=run_id)
