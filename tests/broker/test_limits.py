"""What a limited identity may do: use what it was given, in the ways it was given, and change nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.broker import routing
from authsome.broker.credentials import Claimant, Question, Target
from authsome.broker.logins import Wanted
from authsome.broker.scan import Candidate
from authsome.errors import AuthsomeError, ConnectionNotFound, LoginNotFound, NotAllowed, NotFound
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.limits import UNLIMITED, Limits
from authsome.models.principal import Caller
from authsome.secret import Secret
from authsome.vault import identities
from broker.conftest import House
from fakes.endpoint import Endpoint

HOUR = timedelta(hours=1)


@pytest.fixture
def acme(house: House, hostile: Endpoint) -> House:
    """Two logins at acme, and one at other."""
    for provider in ("acme", "other"):
        house.oauth(provider, hostile.url(), revocation_url=hostile.url("/revoke"))
        house.connect(provider, lifetime=HOUR)
    house.connect("acme", lifetime=HOUR, name="work")
    return house


def limited(house: House, given: Limits = UNLIMITED, **words: object) -> Caller:
    """An identity of the owner's, so limited."""
    given = limits.parse(**words) if words else given
    with house.context.database.transaction() as tx:
        if identities.by_handle(tx, "agent") is None:
            identities.add(tx, handle="agent", did="did:key:zAgent", now=house.clock())
            identities.claim(tx, handle="agent", principal_id=house.owner.principal.id)
        identities.limit(tx, handle="agent", limits=given)
        found = house.broker.identities.caller(tx, "agent")
    assert found is not None
    return found


def resolve(house: House, agent: Caller, host: str, *, method: str = "GET", named: str | None = None) -> str:
    """The connection that a request gets, or the error's code."""
    choice = routing.Choice(pinned={}, named=named, limits=agent.limits)
    question = Question(
        admit=lambda _: Claimant(caller=agent, choice=choice),
        target=Target(method=method, host=f"{host}.example.localhost", port=443, path="/"),
        rejected=False,
    )
    try:
        return house.broker.credentials.resolve(question).connection.name
    except AuthsomeError as error:
        return error.code


def reached(house: House, agent: Caller) -> set[str]:
    return {f"{each.provider}/{each.name}" for each in house.broker.credentials.list_all(agent)}


@pytest.mark.parametrize(
    ("patterns", "default", "work", "other"),
    [
        (["acme"], "default", "work", "not_found"),
        (["acme/work"], "not_found", "work", "not_found"),
        (["*/default"], "default", "connection_not_found", "default"),
        (["other"], "not_found", "connection_not_found", "default"),
        (["none"], "not_found", "connection_not_found", "not_found"),
    ],
)
def test_what_is_out_of_reach_is_not_there(acme: House, patterns, default, work, other):
    """Neither for requests, nor by name, nor in lists, nor in routes and placeholders of a run."""
    agent = limited(acme, connections=patterns)
    assert resolve(acme, agent, "acme") == default
    assert resolve(acme, agent, "acme", named="work") == work
    assert resolve(acme, agent, "other") == other
    expected = {
        name
        for name, found in (("acme/default", default), ("acme/work", work), ("other/default", other))
        if found in name
    }
    assert reached(acme, agent) == expected
    begun = acme.broker.runs.begin(agent, routing.DEFAULT_CHOICE)
    assert {route.provider for route in begun.routes.routes} == {
        name for name, found in (("acme", default), ("other", other)) if found == "default"
    }
    assert acme.broker.runs.routes(agent, begun.run) == begun.routes
    assert acme.broker.runs.routes(agent, None) == begun.routes
    for provider, name in (("acme", "default"), ("acme", "work"), ("other", "default")):
        if f"{provider}/{name}" in expected:
            assert acme.broker.credentials.get(agent, provider, name).name == name
            assert acme.broker.credentials.reveal(agent, provider, name, Event.EXPORT).connection.name == name
            acme.broker.runs.begin(agent, routing.Choice(pinned={provider: name}))
            continue
        for act in (
            lambda provider=provider, name=name: acme.broker.credentials.get(agent, provider, name),
            lambda provider=provider, name=name: acme.broker.credentials.reveal(agent, provider, name, Event.EXPORT),
            lambda provider=provider, name=name: acme.broker.runs.begin(agent, routing.Choice(pinned={provider: name})),
        ):
            with pytest.raises(ConnectionNotFound) as refused:
                act()
            assert name not in (refused.value.hint or "").partition("it has: ")[2]


def test_what_is_not_there_and_what_is_out_of_reach_are_told_alike(acme: House):
    """One sentence for both, so that a limited identity cannot list what it may not use. # SEC-199"""
    agent = limited(acme, connections=["acme/default"])
    said = []
    for provider, name in (("acme", "work"), ("acme", "nosuch"), ("other", "-"), ("github", "-")):
        with pytest.raises(ConnectionNotFound) as refused:
            acme.broker.credentials.get(agent, provider, name)
        said.append(f"{refused.value.message}; {refused.value.hint}".replace(name, "N").replace(provider, "P"))
    assert said[0] == said[1]
    assert said[2] == said[3]


def test_methods_are_limited(acme: House):
    """A method that was not given gets no credential; and nothing leaves in clear, for that could be sent with any."""
    agent = limited(acme, methods=["get", "head"])
    found = [resolve(acme, agent, "acme", method=each) for each in ("GET", "HEAD", "POST", "get", "BREW")]
    assert found == ["default", "default", "not_allowed", "not_allowed", "not_allowed"]
    denied = acme.events(Event.DENIED)[0].entry
    assert (denied.method, denied.identity) == ("POST", "agent")
    assert "may not send POST" in (denied.detail or "")
    for act in (
        lambda: acme.broker.credentials.reveal(agent, "acme", "default", Event.EXPORT),
        lambda: acme.broker.credentials.reveal(agent, "acme", "default", Event.SHOW),
        lambda: acme.broker.scan.compare(agent, b"k" * 32, [Candidate("acme", "00")]),
    ):
        with pytest.raises(NotAllowed, match="no secret in clear"):
            act()
    told = acme.broker.credentials.explain(
        agent, routing.DEFAULT_CHOICE, Target(method="POST", host="acme.example.localhost", port=443, path="/")
    )
    assert isinstance(told.problem, NotAllowed)


def test_a_scan_compares_what_is_in_reach(acme: House):
    """What is out of reach is neither the same as anything nor different."""
    agent = limited(acme, connections=["acme/work"])
    mine, others = acme.broker.scan.compare(agent, b"k" * 32, [Candidate("acme", "00"), Candidate("other", "00")])
    assert (mine.others, others.others) == (("work",), ())


def test_a_limited_identity_changes_nothing(acme: House):
    """It begins no login, forgets, revokes and chooses nothing, and registers no provider."""
    for words in ({"connections": ["*"]}, {"methods": ["GET", "POST"]}):
        agent = limited(acme, **words)
        for act in (
            lambda agent: acme.broker.logins.begin(agent, Wanted(provider="acme", force=True, variables={})),
            lambda agent: acme.broker.credentials.logout(agent, "acme", "default"),
            lambda agent: acme.broker.credentials.set_default(agent, "acme", "work"),
            lambda agent: acme.broker.revocations.revoke(agent, "acme", None),
            lambda agent: acme.broker.providers.remove(agent, "acme", forget=True),
            lambda agent: acme.broker.providers.register(agent, b"{}"),
        ):
            with pytest.raises(NotAllowed):
                act(agent)
    assert reached(acme, acme.owner) == {"acme/default", "acme/work", "other/default"}


def test_a_time_limits_nothing_but_the_time(acme: House):
    """Until its end such an identity uses and changes what its principal may; its runs end with it."""
    agent = limited(acme, expires_at=acme.clock() + HOUR)
    assert acme.broker.credentials.set_default(agent, "acme", "work").is_default
    begun = acme.broker.runs.begin(agent, routing.DEFAULT_CHOICE, lifetime=2 * HOUR)
    assert begun.run.expires_at == acme.clock() + HOUR
    with pytest.raises(NotAllowed):
        acme.broker.providers.remove(agent, "acme", forget=True)


def test_a_login_ends_with_the_right_to_finish_it(acme: House):
    """Revoked, limited or out of time meanwhile: the login that it began stores nothing. # SEC-17"""
    for number, take_away in enumerate(
        (
            lambda: limited(acme, methods=["GET"]),
            lambda: acme.broker.identities.limit(acme.owner, "agent", limits.parse(expires_at=acme.clock())),
            lambda: acme.broker.identities.revoke(acme.owner, "agent"),
        )
    ):
        login = acme.broker.logins.begin(
            limited(acme), Wanted(provider="openai", connection=f"n{number}", verify=False, variables={})
        )
        take_away()
        failed = acme.broker.logins.submit(login, {"api_key": Secret("sk-" + "a1B2" * 12)})
        assert failed.code == "not_allowed"
    assert not any(each.startswith("openai") for each in reached(acme, acme.owner))


def test_a_login_is_not_seen_by_a_limited_identity(acme: House):
    """Nor finished or ended by one: it could store what it may not use."""
    login = acme.broker.logins.begin(acme.owner, Wanted(provider="openai", verify=False, variables={}))
    agent = limited(acme, connections=["*"])
    with pytest.raises(LoginNotFound):
        acme.broker.logins.get(agent, login.request.id)
    with pytest.raises(LoginNotFound):
        acme.broker.logins.cancel(agent, login.request.id)


def test_limits_change_at_once(acme: House):
    """What was recalled under other limits is not given: on the next request of a run, too."""
    agent = limited(acme)
    begun = acme.broker.runs.begin(agent, routing.DEFAULT_CHOICE)

    def asked() -> str:
        def admit(tx):
            run, caller = acme.broker.runs.prove(tx, begun.run.id, begun.secret)
            return Claimant(caller=caller, choice=routing.choice_of(run, caller.limits), run=run.id)

        target = Target(method="GET", host="acme.example.localhost", port=443, path="/")
        try:
            return acme.broker.credentials.resolve(Question(admit=admit, target=target, rejected=False)).connection.name
        except (NotFound, NotAllowed) as error:
            return error.code

    assert asked() == asked() == "default"
    limited(acme, connections=["other"])
    assert asked() == "not_found"
    limited(acme, methods=["POST"])
    assert asked() == "not_allowed"
    limited(acme)
    assert asked() == "default"


def test_a_run_inside_another_keeps_its_limits(acme: House):
    """What the outer run may not, the inner one may not either, nor by the identity's own limits."""
    agent = limited(acme, connections=["acme"])
    outer = acme.broker.runs.begin(agent, routing.Choice(pinned={}, only=frozenset({"acme"})))
    inner = acme.broker.runs.begin(agent, routing.DEFAULT_CHOICE, inside=outer.run.id)
    assert {route.provider for route in inner.routes.routes} == {"acme"}
    with pytest.raises(ConnectionNotFound):
        acme.broker.runs.begin(agent, replace(routing.DEFAULT_CHOICE, only=frozenset({"other"})))
