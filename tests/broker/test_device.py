"""Device logins: the daemon asks until the code was entered, never faster than it may, and not once longer."""

import json
import threading
import time
from datetime import timedelta

import pytest

from authsome.broker.logins import Wanted
from authsome.errors import LoginNotFound
from authsome.models.audit import Event
from authsome.models.login import AwaitingDevice, AwaitingInput, Completed, Failed, Flow, Login
from authsome.secret import Secret
from fakes import endpoint, wire
from fakes.patience import PATIENCE, wait

PENDING = {"error": "authorization_pending"}
GIVEN = {
    "device_code": "the-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://acme.test/go",
    "expires_in": 600,
    "interval": 1,
}


class Acme:
    """A provider with a device flow: gives codes, and answers each question with the next of `answers`."""

    def __init__(self, hostile: endpoint.Endpoint) -> None:
        self.hostile = hostile
        self.given: dict[str, object] = dict(GIVEN)
        self.answers: list[endpoint.Script] = []
        self.asked: list[float] = []
        self.codes: list[str] = []
        self.again = endpoint.answer(json.dumps(PENDING).encode(), status=400)
        """What is answered once `answers` are used up."""
        hostile.script = self._play

    def _play(self):
        request: wire.Recorded = self.hostile.requests[-1]
        if request.path == "/device":
            return endpoint.answer(json.dumps(self.given).encode())()
        self.asked.append(time.monotonic())
        self.codes.append(request.body.decode())
        return (self.answers.pop(0) if self.answers else self.again)()

    def says(self, *answers: dict[str, object] | endpoint.Script) -> None:
        """Plan what is answered."""
        for each in answers:
            plain = isinstance(each, dict)
            self.answers.append(endpoint.answer(json.dumps(each).encode(), status=400) if plain else each)

    @property
    def gaps(self) -> list[float]:
        """Seconds between the questions."""
        return [later - sooner for sooner, later in zip(self.asked, self.asked[1:], strict=False)]


@pytest.fixture
def acme(house, hostile) -> Acme:
    """A house that knows acme, and acme itself."""
    house.oauth("acme", hostile.url(), device_authorization_url=hostile.url("/device"))
    return Acme(hostile)


def begin(house, **changes) -> Login:
    wanted = Wanted(provider="acme", flow=Flow.DEVICE_CODE, variables={}, **changes)
    login = house.broker.logins.begin(house.owner, wanted)
    if isinstance(login, AwaitingInput):
        login = house.broker.logins.submit(login, {"client_id": Secret("our-client")})
    return login


def end_of(house, login: Login, *, patience: float = PATIENCE) -> Login:
    """The login once it has ended."""
    return house.broker.logins.wait(
        house.owner,
        login.request.id,
        lambda each: isinstance(each, Completed | Failed),
        timedelta(seconds=patience),
        threading.Event(),
    )


def asking(login: Login) -> bool:
    """Whether some thread still asks about this login."""
    return any(login.request.id in thread.name for thread in threading.enumerate())


def test_from_the_code_to_the_stored_token(house, acme):
    """The client is asked for, the code is shown, questions keep their distance, the tokens are stored."""
    # SEC-69
    acme.says(PENDING, PENDING, endpoint.tokens(refresh_token="a-refresh-token", scope="read"))
    login = begin(house)
    assert isinstance(login, AwaitingDevice)
    assert (login.user_code, login.verification_uri) == ("WDJB-MJHT", "https://acme.test/go")
    assert isinstance(end_of(house, login), Completed)
    assert len(acme.asked) == 3
    assert min(acme.gaps) >= 1.0
    assert house.secrets("acme") == {"access_token": "an-access-token", "refresh_token": "a-refresh-token"}
    assert house.events(Event.LOGIN)[-1].entry.detail == "by device_code"
    assert isinstance(begin(house, connection="work"), AwaitingDevice)  # the client is known now


def test_a_fault_of_ours_ends_the_login(house, acme):
    """Nobody waits for a code that nothing asks about any more."""
    login = begin(house)
    assert isinstance(login, AwaitingDevice)
    wait(lambda: acme.asked, "the first question")

    def broken(*_):
        raise RuntimeError("a fault")

    object.__setattr__(house.context, "send", broken)
    done = end_of(house, login)
    assert isinstance(done, Failed)
    assert done.message == "the login could not be finished"


@pytest.mark.usefixtures("acme")
def test_without_a_thread_that_asks_a_login_ends(house, open_house, no_threads):
    """Its user is told at once, and not when the code has expired; and the daemon starts."""
    login = begin(house)
    assert isinstance(login, AwaitingDevice)
    house = open_house()
    with no_threads():
        house.broker.logins.recover()
    done = house.broker.logins.get(house.owner, login.request.id)
    assert isinstance(done, Failed)
    assert done.code == "daemon_busy"


def test_slow_down_is_kept_also_over_a_restart(house, acme, open_house):
    """The wider interval is stored, and whoever asks next keeps it. # SEC-70 # SEC-66"""
    acme.says({"error": "slow_down"})
    login = begin(house)
    wait(lambda: acme.asked, "the first question")
    wait(
        lambda: house.broker.logins.get(house.owner, login.request.id).interval == timedelta(seconds=6),
        "the wider interval",
    )
    again = open_house()
    stored = again.broker.logins.get(again.owner, login.request.id)
    assert isinstance(stored, AwaitingDevice)
    assert stored.interval == timedelta(seconds=6)
    assert stored.device_code == Secret("the-device-code")


def test_a_restart_goes_on_asking(house, acme, open_house):
    """A daemon that was killed while it asked is followed by one that asks on. # SEC-66"""
    login = begin(house)
    wait(lambda: acme.asked, "the first question")
    again = open_house()
    acme.says(endpoint.tokens())
    again.broker.logins.recover()
    assert isinstance(end_of(again, login), Completed)
    assert again.secrets("acme")["access_token"] == "an-access-token"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"error": "access_denied"}, "endpoint_refused"),
        ({"error": "expired_token"}, "timed_out"),
        ({"error": "invalid_grant"}, "login_required"),
        ({"error": "surprise"}, "endpoint_refused"),
        (endpoint.SCRIPTS["html"], "endpoint_refused"),
        (endpoint.SCRIPTS["mac token"], "endpoint_refused"),
    ],
    ids=["denied", "expired", "invalid grant", "unknown", "html", "unusable token"],
)
def test_what_ends_it(house, acme, answer, code):
    """The attempt ends with the reason, nothing is stored, and nothing more is asked. # SEC-71 # SEC-92"""
    acme.says(answer)
    ended = end_of(house, begin(house))
    assert isinstance(ended, Failed)
    assert ended.code == code
    assert house.broker.credentials.list_all(house.owner) == []
    wait(lambda: not asking(ended), "the last question")
    assert len(acme.asked) == 1


def test_trouble_on_the_way_passes(house, acme):
    """A provider that breaks off or fails is asked again after a longer pause, until it answers. # SEC-73 # SEC-81"""
    acme.says(endpoint.SCRIPTS["half"], endpoint.tokens())
    assert isinstance(end_of(house, begin(house)), Completed)
    assert acme.gaps[0] >= 2.0


def test_the_time_runs_out(house, acme):
    """An attempt that nobody answers ends by its time, not by the interval. # SEC-72"""
    acme.given |= {"expires_in": 1, "interval": 1e9}
    login = begin(house)
    house.clock.advance(timedelta(seconds=1))
    ended = end_of(house, login)
    assert isinstance(ended, Failed)
    assert ended.code == "timed_out"
    assert acme.asked == []


def test_cancelling_stops_the_questions(house, acme):
    """Who gives up is asked for no more, and a late yes stores nothing. # SEC-75"""
    login = begin(house)
    wait(lambda: acme.asked, "the first question")
    house.broker.logins.cancel(house.owner, login.request.id)
    asked = len(acme.asked)
    acme.again = endpoint.tokens()
    wait(lambda: not asking(login), "the last question")
    assert len(acme.asked) == asked
    assert isinstance(house.broker.logins.get(house.owner, login.request.id), Failed)
    assert house.broker.credentials.list_all(house.owner) == []


def test_cancelling_while_a_question_is_under_way(house, acme):
    """The tokens of an answer that comes after the end are dropped. # SEC-75"""
    late, held = threading.Event(), threading.Event()

    def slow():
        late.set()
        assert held.wait(60)
        return endpoint.tokens()()

    acme.says(slow)
    login = begin(house)
    assert late.wait(60)
    house.broker.logins.cancel(house.owner, login.request.id)
    held.set()
    house.broker.logins.close()
    assert isinstance(house.broker.logins.get(house.owner, login.request.id), Failed)
    assert house.broker.credentials.list_all(house.owner) == []


def test_two_at_once(house, acme):
    """Each asks with its own code, and gets its own token. # SEC-76"""
    first = begin(house, connection="one")
    acme.given["device_code"] = "another-device-code"
    second = begin(house, connection="two")
    wait(lambda: len(acme.codes) >= 2, "two questions")
    asked = "\n".join(acme.codes)
    assert "device_code=the-device-code" in asked
    assert "device_code=another-device-code" in asked
    acme.again = endpoint.tokens()
    assert isinstance(end_of(house, first), Completed)
    assert isinstance(end_of(house, second), Completed)
    assert {each.name for each in house.broker.credentials.list_all(house.owner)} == {"one", "two"}


@pytest.mark.parametrize("given", [{"error": "unauthorized_client"}, {}, {**GIVEN, "user_code": "\x1b[2J"}], ids=str)
def test_no_usable_code(house, acme, given):
    """A provider that gives no code ends the attempt at once; the client is not kept."""
    acme.given = given
    assert isinstance(begin(house), Failed)
    assert acme.asked == []
    acme.given = GIVEN
    assert isinstance(
        house.broker.logins.begin(house.owner, Wanted(provider="acme", flow=Flow.DEVICE_CODE, variables={})),
        AwaitingInput,
    )


@pytest.mark.parametrize("where", ["/device", "/token"])
def test_rude_errors_are_one_line(house, acme, where):
    """Whatever the provider says of the end is one clean line, without the code. # SEC-97"""
    rude = {"error": "x\x1b[2J", "error_description": "<b>the-device-code</b>\r\n" + "a" * 100_000}
    if where == "/device":
        acme.given = rude
    else:
        acme.says(rude)
    ended = end_of(house, begin(house))
    assert isinstance(ended, Failed)
    assert ended.message.isprintable()
    assert len(ended.message) < 400
    assert where == "/device" or "the-device-code" not in ended.message


@pytest.mark.usefixtures("acme")
def test_nobody_else_sees_it(house):
    """No other browser gets to the code. # SEC-68"""
    login = begin(house)
    with pytest.raises(LoginNotFound):
        house.broker.logins.opened(login.request.id, Secret("guessed"))


def test_its_secrets_are_sealed(house, acme):
    """Device code, tokens and client secret are in no byte of the home, before and after. # SEC-126"""
    login = begin(house)
    assert isinstance(login, AwaitingDevice)
    hidden = ["the-device-code", "WDJB-MJHT", "an-access-token"]

    def found() -> list[str]:
        files = [path.read_bytes() for path in house.home.root.rglob("*") if path.is_file()]
        return [value for value in hidden for content in files if value.encode() in content]

    assert found() == []
    acme.again = endpoint.tokens()
    assert isinstance(end_of(house, login), Completed)
    assert found() == []
