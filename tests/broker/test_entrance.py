"""The ways into the dashboard: links that serve once, passwords that are counted before they are looked at."""

import secrets
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from authsome.broker import throttle
from authsome.broker.dashboard_sessions import IDLE
from authsome.broker.dashboard_sessions import LONGEST as LONGEST_SESSION
from authsome.broker.entrance import DEVICE_LIFETIME, FRESH, LINK_LIFETIME
from authsome.crypto import kdf
from authsome.crypto.kdf import Parameters
from authsome.errors import AuthenticationFailed, DaemonBusy, NotAllowed, NotFound, RequestInvalid, TooManyAttempts
from authsome.models import limits
from authsome.models.audit import Event
from authsome.models.principal import Caller, Role
from authsome.models.visit import Browser, Way
from authsome.secret import Secret
from authsome.vault import passwords, principals

HERE = Browser(name="Firefox on Linux", address="127.0.0.1")
ELSEWHERE = Browser(name="Chrome on Windows", address="192.0.2.7")
EMAIL = "ada@example.org"
GOOD = Secret("correct horse battery")
WRONG = Secret("correct horse batterz")


def account(house, password=GOOD, email=EMAIL):
    """The owner with a password; the session in which it was set."""
    opened = house.broker.entrance.enter(house.broker.entrance.offer_link(house.owner).key, HERE)
    house.broker.entrance.set_password(
        Caller(identity=None, principal=house.owner.principal), opened.session, email=email, new=password, present=None
    )
    return opened


def sign_in(house, password=GOOD, email=EMAIL, browser=ELSEWHERE, device=None):
    return house.broker.entrance.sign_in(email, password, browser, device)


def outcome(house, *args, **options):
    """How a try to sign in ends, in a word."""
    try:
        sign_in(house, *args, **options)
    except TooManyAttempts:
        return "wait"
    except AuthenticationFailed:
        return "no"
    return "yes"


def visit(house, opened):
    return house.broker.dashboard_sessions.visit(opened.key)


# ---- links -------------------------------------------------------------------------------------------------


def test_a_link_serves_once(house):
    """The first browser gets in, at twenty tries at once one of them; nobody else does. # SEC-45"""
    key = house.broker.entrance.offer_link(house.owner).key
    assert house.broker.entrance.offered_to(key)

    def enter(_):
        try:
            return house.broker.entrance.enter(key, HERE)
        except NotFound:
            return None

    with ThreadPoolExecutor(20) as pool:
        opened = [each for each in pool.map(enter, range(20)) if each is not None]
    assert len(opened) == 1
    assert not house.broker.entrance.offered_to(key)
    found = visit(house, opened[0])
    assert (found.caller.principal, found.caller.identity) == (house.owner.principal, None)
    assert (found.session.way, found.session.identity) == (Way.LINK, "owner")
    assert len(house.events(Event.SIGN_IN)) == 1


def test_a_link_is_not_for_long(house):
    """Five minutes, also after a restart. # SEC-45"""
    assert timedelta(minutes=5) >= LINK_LIFETIME
    key = house.broker.entrance.offer_link(house.owner).key
    house.clock.advance(LINK_LIFETIME)
    assert not house.broker.entrance.offered_to(key)
    with pytest.raises(NotFound):
        house.broker.entrance.enter(key, HERE)


def test_a_link_is_worth_what_its_identity_is(house):
    """A limited identity gets none; one that was limited or revoked meanwhile opens nothing, and is signed out."""
    narrow = limits.parse(connections=["github"])
    key = house.broker.entrance.offer_link(house.owner).key
    opened = house.broker.entrance.enter(house.broker.entrance.offer_link(house.owner).key, HERE)
    assert visit(house, opened)
    house.broker.identities.limit(house.owner, "owner", narrow, last=True)
    assert visit(house, opened) is None
    with pytest.raises(NotFound):
        house.broker.entrance.enter(key, HERE)
    with house.context.database.read() as reader:
        limited = house.broker.identities.caller(reader, "owner")
    with pytest.raises(NotAllowed, match="limited"):
        house.broker.entrance.offer_link(limited)
    with pytest.raises(NotAllowed):
        house.broker.entrance.offer_link(Caller(identity=None, principal=house.owner.principal))


def test_revoking_an_identity_closes_what_it_opened(house):
    """At the next request. # SEC-17"""
    opened = house.broker.entrance.enter(house.broker.entrance.offer_link(house.owner).key, HERE)
    house.broker.identities.revoke(house.owner, "owner", last=True)
    assert visit(house, opened) is None


# ---- sessions ----------------------------------------------------------------------------------------------


def test_a_session_ends_when_it_is_not_used(house):
    """An hour of rest, or half a day in all, end it; so does a restart not. # SEC-44 # SEC-203"""
    opened = account(house)
    for _ in range(4):
        house.clock.advance(IDLE - timedelta(minutes=1))
        assert visit(house, opened)
    house.clock.advance(IDLE)
    assert visit(house, opened) is None
    busy = sign_in(house).opened
    started = house.clock()
    while house.clock() - started < LONGEST_SESSION - timedelta(minutes=30):
        house.clock.advance(timedelta(minutes=30))
        assert house.clock() - started >= LONGEST_SESSION or visit(house, busy)
    house.clock.advance(timedelta(minutes=30))
    assert visit(house, busy) is None


def test_what_was_opened_by_a_clock_that_was_ahead_is_over(house):
    """A session and a link are as good as used up: else they would be good until that time has come. # SEC-84"""
    now = house.clock()
    house.clock.advance(timedelta(days=900))
    opened, link = account(house), house.broker.entrance.offer_link(house.owner)
    house.clock.moment = now
    assert visit(house, opened) is None
    assert house.broker.dashboard_sessions.page(house.owner, limit=9) == ([], 0)
    assert house.broker.entrance.offered_to(link.key) is None
    with pytest.raises(NotFound):
        house.broker.entrance.enter(link.key, HERE)
    house.broker.dashboard_sessions.purge(now)
    with house.context.database.read() as reader:
        for table in ("dashboard_sessions", "entry_links"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_a_session_rests_by_the_clock_as_it_is(house):
    """Set back while somebody is there, it is an hour of rest all the same that ends a session. # SEC-44 # SEC-84"""
    opened = account(house)
    for _ in range(9):
        house.clock.advance(timedelta(minutes=50))
        assert visit(house, opened)
    house.clock.advance(-timedelta(hours=6))
    assert visit(house, opened)
    house.clock.advance(IDLE)
    assert visit(house, opened) is None


def test_sessions_survive_a_restart_and_their_keys_are_not_stored(open_house):
    """Only a hash of the key is in the database, whatever its bytes hold. # SEC-44 # SEC-210"""
    house = open_house()
    opened, link = account(house), house.broker.entrance.offer_link(house.owner)
    device = sign_in(house).device
    house = open_house()
    assert visit(house, opened)
    assert house.broker.entrance.offered_to(link.key)
    stored = b"".join(path.read_bytes() for path in house.home.database.parent.glob("store.db*"))
    for secret in (opened.key, link.key, device, GOOD):
        assert secret.reveal().encode() not in stored


def test_sessions_are_listed_and_ended_by_their_own_principal(house):
    """A principal sees its own, ends any of them at once, and none of another's. # SEC-199 # SEC-203"""
    mine, other = account(house), sign_in(house).opened
    me = Caller(identity=None, principal=house.owner.principal)
    sessions = house.broker.dashboard_sessions
    found, number = sessions.page(me, limit=9)
    assert ({each.id for each in found}, number) == ({mine.session.id, other.session.id}, 2)
    (first,), (second,) = (sessions.page(me, limit=1, offset=place)[0] for place in (0, 1))
    assert {first.id, second.id} == {mine.session.id, other.session.id}
    stranger = house.broker.principals.add(house.owner, "stranger")
    them = Caller(identity=None, principal=stranger)
    assert sessions.page(them, limit=9) == ([], 0)
    with pytest.raises(NotFound):
        sessions.end(them, other.session.id)
    sessions.end(me, other.session.id)
    assert visit(house, other) is None
    assert visit(house, mine)
    with pytest.raises(NotFound):
        sessions.end(me, other.session.id)


def test_a_removed_principal_is_signed_out(house):
    """With everything else that is its own. # SEC-208"""
    invited = house.broker.principals.invite(house.owner, "bob@example.org", Role.USER)
    opened = house.broker.entrance.join(invited.token, name="Bob", password=GOOD, browser=HERE)
    assert visit(house, opened)
    house.broker.principals.remove(house.owner, "bob@example.org")
    assert visit(house, opened) is None
    assert outcome(house, email="bob@example.org") == "no"


def test_what_has_expired_is_forgotten(house):
    """Sessions, links, browsers and failures leave no rows."""
    account(house)
    sign_in(house)
    outcome(house, WRONG)
    house.broker.entrance.offer_link(house.owner)
    house.clock.advance(DEVICE_LIFETIME)
    house.broker.dashboard_sessions.purge(house.clock())
    with house.context.database.read() as reader:
        for table in ("dashboard_sessions", "entry_links", "devices", "attempts"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table


# ---- passwords ---------------------------------------------------------------------------------------------


def test_signing_in(house):
    """By address, in any case, and password; each time with a new key. # SEC-201 # SEC-203"""
    account(house)
    first, second = sign_in(house), sign_in(house, email=" ADA@example.org ")
    assert visit(house, first.opened).session.way is Way.PASSWORD
    assert first.opened.key != second.opened.key
    assert outcome(house, WRONG) == "no"
    assert outcome(house, email="bob@example.org") == "no"


@pytest.mark.parametrize("length", [15, 64, 1024])
def test_passwords_are_taken_whole(house, length):
    """Long ones to their last character, in whichever Unicode form they are typed. # SEC-201"""
    text = ("pässwörter " * 100)[:length]
    account(house, Secret(text))
    assert outcome(house, Secret(text[:-1] + "#")) == "no"
    assert outcome(house, Secret(unicodedata.normalize("NFD", text))) == "yes"


@pytest.mark.parametrize("text", ["", "short", "a" * 14, "a" * 40, "abab" * 10, EMAIL, "x1" * 513])
def test_weak_passwords(house, text):
    """Too short, too long, a key held down, the address itself. # SEC-201"""
    with pytest.raises(RequestInvalid):
        account(house, Secret(text))


def test_weaker_hashes_are_renewed(house, monkeypatch):
    """When more work is asked for than a password was given, signing in gives it; no parameter is code. # SEC-201"""
    account(house)
    monkeypatch.setattr("authsome.crypto.password._SHAPE", _stronger())
    with house.context.database.read() as reader:
        before = passwords.get(reader, house.owner.principal.id)
    assert before.is_outdated
    assert before.parameters.memory_kib >= 19 * 1024
    monkeypatch.setattr("authsome.crypto.kdf.new_parameters", _stronger)
    assert outcome(house) == "yes"
    with house.context.database.read() as reader:
        after = passwords.get(reader, house.owner.principal.id)
    assert after.parameters.time_cost == before.parameters.time_cost + 1
    assert after.parameters.salt != before.parameters.salt
    assert outcome(house) == "yes"


def _stronger():
    return Parameters(salt=secrets.token_bytes(16), time_cost=4)


def test_guessing_gets_slow(house):
    """After five failures the wait doubles, up to a quarter of an hour, for the right password too. # SEC-202"""
    account(house)
    assert [outcome(house, WRONG) for _ in range(5)] == ["no"] * 5
    assert outcome(house) == "wait"
    with pytest.raises(TooManyAttempts) as refused:
        sign_in(house)
    assert timedelta(0) < refused.value.retry_after <= timedelta(seconds=1)
    assert refused.value.hint == "wait 1 s, then try again"
    house.clock.advance(timedelta(seconds=1))
    assert outcome(house, WRONG) == "no"
    house.clock.advance(timedelta(seconds=1))
    assert outcome(house) == "wait"
    house.clock.advance(timedelta(seconds=1))
    assert outcome(house) == "yes"
    assert outcome(house, WRONG) == "no"  # and all is forgiven
    assert throttle.wait_after(100) == throttle.LONGEST
    assert throttle.wait_after(10) <= throttle.LONGEST


@pytest.mark.parametrize("back", [timedelta(minutes=2), timedelta(days=30)])
def test_nobody_waits_until_a_clock_that_was_set_back_has_caught_up(house, back):
    """What failed before is counted, and the next failure waits as long as ever. # SEC-84 # SEC-202"""
    account(house)
    for _ in range(8):
        outcome(house, WRONG)
        house.clock.advance(timedelta(seconds=20))
    assert [outcome(house, WRONG), outcome(house)] == ["no", "wait"]
    house.clock.advance(-back)
    assert [outcome(house, WRONG), outcome(house)] == ["no", "wait"]
    house.clock.advance(throttle.LONGEST)
    assert outcome(house) == "yes"


def test_a_clock_that_goes_a_little_back_spares_nobody_the_wait(house):
    """Tries are told in another order than they were begun. # SEC-202"""
    account(house)
    for _ in range(5):
        outcome(house, WRONG)
    house.clock.advance(-timedelta(seconds=30))
    assert outcome(house, WRONG) == "wait"
    house.clock.advance(timedelta(seconds=31))
    assert outcome(house) == "yes"


def test_guesses_of_names_wait_like_guesses_of_passwords(house):
    """What is tried on an account that is not there is counted just so, and from one address in all. # SEC-202"""
    account(house)
    assert [outcome(house, email="bob@example.org") for _ in range(6)] == ["no"] * 5 + ["wait"]
    tried = [outcome(house, email=f"{number}@example.org") for number in range(30)]
    assert tried == ["no"] * 15 + ["wait"] * 15
    elsewhere = Browser(name="x", address="192.0.2.8")
    assert outcome(house, browser=elsewhere) == "yes"


def test_nobody_is_locked_out_by_others(house):
    """A browser that signed in before goes on signing in while strangers guess, and counts for itself. # SEC-202"""
    account(house)
    device = sign_in(house, browser=HERE).device
    for number in range(40):
        outcome(house, WRONG, browser=Browser(name="x", address=f"192.0.2.{number}"))
    assert outcome(house) == "wait"
    assert outcome(house, browser=HERE, device=device) == "yes"
    assert [outcome(house, WRONG, device=device) for _ in range(6)] == ["no"] * 5 + ["wait"]
    assert outcome(house, device=Secret("forged")) == "wait"
    assert house.broker.entrance.offer_link(house.owner)  # nor is the way by link closed


def test_many_guesses_at_once(house):
    """Twenty at once are no more than five. # SEC-202"""
    account(house)
    with ThreadPoolExecutor(20) as pool:
        tried = list(pool.map(lambda _: outcome(house, WRONG), range(20)))
    assert sorted(tried) == ["no"] * 5 + ["wait"] * 15


def test_waits_survive_a_restart(open_house):
    """A lockout is in the database. # SEC-202"""
    house = open_house()
    account(house)
    for _ in range(5):
        outcome(house, WRONG)
    house = open_house()
    assert outcome(house) == "wait"


def test_an_unknown_account_takes_the_same_work(house, monkeypatch):
    """Argon2id runs once, whether there is such an account or not. # SEC-202"""
    account(house)
    derive, worked = kdf.derive, []

    def counted(master, parameters):
        worked.append((parameters.time_cost, parameters.memory_kib, parameters.lanes))
        return derive(master, parameters)

    monkeypatch.setattr(kdf, "derive", counted)
    outcome(house, WRONG)
    known = worked[:]
    worked.clear()
    outcome(house, WRONG, email="bob@example.org")
    assert worked == known
    assert len(known) == 1


def test_a_new_password_signs_the_others_out(house):
    """It needs the present one where a password opened the session, and leaves that session alone. # SEC-203"""
    account(house)
    mine, other = sign_in(house).opened, sign_in(house)
    me = Caller(identity=None, principal=house.owner.principal)
    change = house.broker.entrance.set_password
    new = Secret("another good password")
    for present in (None, WRONG):
        with pytest.raises(AuthenticationFailed):
            change(me, mine.session, email=EMAIL, new=new, present=present)
    change(me, mine.session, email=EMAIL, new=new, present=GOOD)
    assert visit(house, mine)
    assert visit(house, other.opened) is None
    assert outcome(house) == "no"
    assert outcome(house, new) == "yes"
    for _ in range(6):
        outcome(house, WRONG)
    assert outcome(house, new, device=other.device) == "wait"  # its browser is a stranger's by now
    assert [each.entry.detail for each in house.events(Event.SET_PASSWORD)] == [
        f"set by a link for {house.owner.handle}",
        "changed by the present one",
    ]


def test_a_link_stands_for_the_password_for_a_moment(house):
    """Just come by a link, one may have forgotten it; later the present one is asked for, or another link. # SEC-203"""
    me = Caller(identity=None, principal=house.owner.principal)
    change, new = house.broker.entrance.set_password, Secret("another good password")
    opened = house.broker.entrance.enter(house.broker.entrance.offer_link(house.owner).key, HERE)
    house.clock.advance(FRESH)
    with pytest.raises(NotAllowed, match="come by a link"):  # it would outlive the browser that somebody left open
        change(me, opened.session, email=EMAIL, new=GOOD, present=None)
    mine = account(house)
    house.clock.advance(FRESH)
    for present in (None, WRONG):
        with pytest.raises(AuthenticationFailed):
            change(me, mine.session, email="eve@example.org", new=new, present=present)
    change(me, mine.session, email=EMAIL, new=new, present=GOOD)
    again = account(house, GOOD)
    assert visit(house, mine) is None
    assert visit(house, again)
    house.clock.advance(-FRESH)  # set back
    with pytest.raises(AuthenticationFailed):
        change(me, again.session, email=EMAIL, new=new, present=None)
    assert [each.entry.detail for each in house.events(Event.SET_PASSWORD)] == [
        f"set by a link for {house.owner.handle}",
        "changed by the present one",
        f"changed by a link for {house.owner.handle}",
    ]


def test_an_address_is_one_principals(house):
    """Nobody takes the address of another."""
    account(house)
    invited = house.broker.principals.invite(house.owner, "bob@example.org")
    opened = house.broker.entrance.join(invited.token, name="Bob", password=GOOD, browser=HERE)
    bob = visit(house, opened)
    with pytest.raises(NotAllowed, match="already"):
        house.broker.entrance.set_password(bob.caller, bob.session, email=EMAIL, new=GOOD, present=GOOD)


# ---- being new ---------------------------------------------------------------------------------------------


@pytest.fixture
def empty(house):
    """A daemon that nobody owns."""
    with house.context.database.transaction() as tx:
        tx.execute("DELETE FROM identities")
        tx.execute("DELETE FROM principals")
    house.broker.identities.offer_bootstrap()
    return house


def test_the_first_account_is_made_once(empty):
    """Of twenty at once one becomes an admin; and only who can read the home is among them. # SEC-206"""
    code = Secret(empty.home.bootstrap.read_text())
    assert empty.broker.entrance.awaits_first()
    with pytest.raises(NotAllowed, match="code"):
        first(empty, Secret("guessed"), 0)
    gate = threading.Barrier(20)

    def race(number):
        gate.wait()
        try:
            return first(empty, code, number)
        except (DaemonBusy, NotAllowed, TooManyAttempts):  # busy: on a slow machine they wait for Argon2id too long
            return None

    with ThreadPoolExecutor(20) as pool:
        made = [each for each in pool.map(race, range(20)) if each is not None]
    assert len(made) == 1
    assert visit(empty, made[0]).caller.principal.role is Role.ADMIN
    with empty.context.database.read() as reader:
        assert principals.count(reader) == 1
    assert not empty.home.bootstrap.exists()
    assert not empty.broker.entrance.awaits_first()


def first(house, code, number):
    browser = Browser(name="x", address=f"192.0.2.{number}")
    return house.broker.entrance.first(
        code=code, email=f"{number}@example.org", name="First", password=GOOD, browser=browser
    )


def test_codes_are_not_guessed(empty):
    """Five tries from an address, then it waits. # SEC-206"""
    for _ in range(5):
        with pytest.raises(NotAllowed):
            first(empty, Secret("guessed"), 1)
    with pytest.raises(TooManyAttempts):
        first(empty, Secret(empty.home.bootstrap.read_text()), 1)


def test_then_by_invitation_only(house):
    """An invitation makes one account with the address and role that it names. # SEC-206"""
    invited = house.broker.principals.invite(house.owner, "Bob@example.org", Role.USER)

    def join(_):
        try:
            return house.broker.entrance.join(invited.token, name="Bob", password=GOOD, browser=HERE)
        except NotFound:
            return None

    with ThreadPoolExecutor(8) as pool:
        joined = [each for each in pool.map(join, range(8)) if each is not None]
    assert len(joined) == 1
    bob = visit(house, joined[0]).caller.principal
    assert (bob.email, bob.role) == ("bob@example.org", Role.USER)
    assert outcome(house, email="bob@example.org") == "yes"
    with pytest.raises(NotFound):
        house.broker.entrance.join(Secret("x"), name="Eve", password=GOOD, browser=HERE)


def test_whoever_has_a_network_waits_like_whoever_has_an_address(house):
    """Of IPv6 everybody has 2^64 addresses: names guessed from all over one network wait; from the next they do not.

    # SEC-202
    """

    def guess(number, network="2001:db8:0:1"):
        browser = Browser(name="x", address=f"{network}:{number:x}::1")
        return outcome(house, WRONG, email=f"nobody-{network}-{number}@example.org", browser=browser)

    outcomes = [guess(number) for number in range(30)]
    assert outcomes.index("wait") <= 21
    assert guess(0, "2001:db8:0:2") == "no"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", False),
    ],
)
def test_whose_tries_are_counted_together(one, other, together):
    buckets = {throttle.Bucket.of_address("x", each, free=1).name for each in (one, other)}
    assert len(buckets) == (1 if together else 2)
