"""What is resolved in one transaction: opened once for all, judged and written down for each."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from authsome.broker.credentials import Claimant, Denied, Question, Resolved, Target
from authsome.daemon.api.call import Call
from authsome.daemon.api.runs import RunsApi
from authsome.daemon.authentication import Admitted
from authsome.daemon.messages import Request
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.notice import Occasion
from authsome.models.principal import Caller, Identity
from authsome.vault.vaults import Sealer
from broker.conftest import House

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
BOT = "0000000000:AuthsomePlaceholder0000000000000000"
TOKEN = "1234567890:" + "a1B2c" * 7


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fields that were opened, in turn."""
    found: list[str] = []
    really = Sealer.open

    def noting(self: Sealer, provider: str, *rest: object) -> object:
        found.append(provider)
        return really(self, provider, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Sealer, "open", noting)
    return found


def agent(house: House, handle: str, **words: object) -> Caller:
    """An identity of the owner's, limited as the words say."""
    owner = house.owner.identity
    assert owner is not None
    identity: Identity = replace(owner, handle=handle, limits=limits.parse(**words))  # type: ignore[arg-type]
    return replace(house.owner, identity=identity, proof=f"proof-of-{handle}")


def question(caller: Caller, host: str = "api.openai.com", *, method: str = "POST") -> Question:
    claimant = Claimant(caller=caller)
    claimant = replace(claimant, choice=replace(claimant.choice, limits=caller.limits))
    return Question(
        admit=lambda _: claimant, target=Target(method=method, host=host, port=443, path="/v1/x"), rejected=False
    )


def together(house: House, *questions: Question) -> list[object]:
    credentials = house.broker.credentials
    return list(house.context.database.combined_all([credentials.attempt(each) for each in questions]))


def test_a_secret_is_opened_once_for_all_who_get_it_together(house: House, opened: list[str]):
    """Each has an entry of its own; the next transaction opens it anew, for nothing opened is kept."""
    house.key("openai", KEY)
    callers = [agent(house, f"agent-{number}") for number in range(4)]
    opened.clear()
    for count in (1, 2):
        outcomes = together(house, *(question(each) for each in callers))
        assert len({id(each) for each in outcomes}) == 1
        assert isinstance(outcomes[0], Resolved)
        assert [value.reveal() for _, value in outcomes[0].injected.headers] == [f"Bearer {KEY}"]
        assert opened == ["openai"] * count
    entries = [recorded.entry for recorded in house.events(Event.RESOLVE)]
    assert [each.identity for each in entries] == [each.handle for each in callers] * 2
    assert [each.proof for each in entries] == [each.proof for each in callers] * 2


def test_each_is_judged_by_its_own_limits(house: House):
    """Who is resolved beside somebody with more rights has no more for that."""
    house.key("openai", KEY)
    reader = agent(house, "reader", methods=["GET"])
    elsewhere = agent(house, "elsewhere", connections=["github"])
    soon = agent(house, "soon", expires_at=house.clock() + timedelta(seconds=2))
    outcomes = together(house, *(question(each) for each in (house.owner, reader, elsewhere, soon, house.owner)))
    whole, refused, absent, short, again = outcomes
    assert whole is again
    assert isinstance(whole, Resolved)
    assert isinstance(refused, Denied)
    assert isinstance(absent, Denied)
    assert (refused.error.code, absent.error.code) == ("not_allowed", "not_found")
    assert isinstance(short, Resolved)
    assert (whole.reusable, short.reusable) == (timedelta(seconds=5), timedelta(seconds=2))
    assert len(house.events(Event.DENIED)) == 2


def test_each_use_of_a_decoy_is_told_with_its_own_user(house: House):
    """Two who use it together raise two alarms."""
    house.broker.honeytokens.plant(house.owner, "openai", "default")
    questions = [question(agent(house, name)) for name in ("one", "two")]
    for asked, outcome in zip(questions, together(house, *questions), strict=True):
        assert isinstance(outcome, Resolved)
        house.broker.credentials.settle(asked, outcome)
    alarms = [each for each in house.notices if each.occasion is Occasion.HONEYTOKEN]
    assert len(alarms) == 2
    assert [recorded.entry.identity for recorded in house.events(Event.HONEYTOKEN)] == ["one", "two"]
    for alarm, name in zip(alarms, ("one", "two"), strict=True):
        assert name in str(alarm)


def test_an_answer_is_made_once_unless_the_path_is_in_it(house: House):
    """Whoever asks for another path gets that one, with the credential in it."""
    house.key("telegram", TOKEN)
    house.key("openai", KEY)
    api = RunsApi(house.broker)

    def call(host: str, path: str) -> Call:
        body = json.dumps({"method": "GET", "host": host, "path": path}).encode()
        request = Request(
            method="POST", path="/proxy/resolve", query="", target="/proxy/resolve", body=body, peer="",
            received_over="", headers={"content-type": ("application/json",)},
            stopping=None,  # type: ignore[arg-type]  # nobody waits
        )  # fmt: skip
        return Call(request=request, values={}, admit=lambda _: Admitted(house.owner, None))

    paths = [f"/bot{BOT}/getMe", f"/bot{BOT}/sendMessage"]
    calls = [call("api.telegram.org", path) for path in paths] + [call("api.openai.com", path) for path in ("/a", "/b")]
    joints = [api.begin_resolve(each) for each in calls]
    outcomes = house.context.database.combined_all([each.body for each in joints])
    told: dict[Resolved, object] = {}
    answers = [joint.answer(outcome, told) for joint, outcome in zip(joints, outcomes, strict=True)]  # type: ignore[arg-type]
    assert [json.loads(each.body)["path"] for each in answers[:2]] == [path.replace(BOT, TOKEN) for path in paths]
    assert answers[2] is answers[3]
