"""Rekeying as an admin asks for it: what is told of it is true, whatever befalls it."""

from contextlib import ExitStack

import pytest

from authsome.errors import NotAllowed
from authsome.vault import master_key, rekeying
from authsome.vault.key_sources.file import FileKey
from authsome.vault.key_sources.source import Source
from fakes.patience import wait


@pytest.fixture(autouse=True)
def with_a_key(house):
    """The house's master key lies in a file."""
    record, kek = master_key.derived(Source.FILE, FileKey(house.home).create(), now=house.clock())
    with ExitStack() as held, house.context.database.transaction() as tx:
        held.enter_context(house.context.sealers.change_kek(tx, kek))
        master_key.keep(tx, record)


def begin(house):
    return house.broker.rekeying.begin(house.owner, source=None, key=None, passphrase=None, master_only=False)


def over(house):
    """How it ended."""
    wait(lambda: not house.broker.rekeying.state(house.owner).is_running, "the rekey's end")
    return house.broker.rekeying.state(house.owner)


def test_without_a_thread_a_rekey_is_not_under_way(house, no_threads):
    """It says what was not done, and is begun again as soon as there is one."""
    with no_threads():
        told = begin(house)
    assert not told.is_running
    assert "rekey once more" in told.problem
    assert house.broker.rekeying.state(house.owner) == told
    begin(house)
    assert over(house).problem is None


def test_a_daemon_without_a_thread_starts_and_rekeys_later(house, no_threads):
    """What was cut off is gone on with by the next rekey, at the latest."""
    with house.context.database.transaction() as tx:
        house.context.sealers.renew_vault(tx, house.owner.vault_id, now=house.clock())
    with no_threads():
        house.broker.rekeying.resume()
    assert not house.broker.rekeying.state(house.owner).is_running
    begin(house)
    assert over(house).problem is None
    with house.context.database.read() as reader:
        assert rekeying.unfinished(reader) == []


def test_one_at_a_time(house, monkeypatch):
    """The second is told that there is a first."""
    monkeypatch.setattr(house.broker.rekeying, "_work", lambda _: None)
    begin(house)
    with pytest.raises(NotAllowed, match="under way"):
        begin(house)
