"""Identity keys: private on disk, made once, or taken from the environment."""

import base64
import os
import stat

import pytest

from authsome.client import keys
from authsome.errors import UnsafeFile, UsageError
from authsome.home import Settings, read_config, settings_from, write_config
from authsome.identity.key import generate


def test_a_home_begins_without_an_identity(settings: Settings):
    assert keys.active(settings) is None


def test_what_was_made_is_found_again(settings: Settings):
    made = keys.create(settings)
    found = keys.active(settings)
    assert found is not None
    assert (found.handle, found.key.did) == (made.handle, made.key.did)
    assert read_config(settings.home)["identity"] == made.handle


def test_the_only_key_acts_where_no_settings_say_otherwise(settings: Settings):
    """Whoever writes config.json anew goes on as who he was; among several nobody is chosen for him."""
    made = keys.create(settings)
    write_config(settings.home, {"users": ["www-data"]})
    found = keys.active(settings)
    assert found is not None
    assert (found.handle, found.key.did) == (made.handle, made.key.did)
    keys.create(settings, "second", use=False)
    with pytest.raises(UsageError, match=f"which identity acts: {made.handle}, second") as refused:
        keys.active(settings)
    assert refused.value.hint == "choose one: authsome identity use HANDLE"
    keys.choose(settings.home, "second")
    chosen = keys.active(settings)
    assert chosen is not None
    assert chosen.handle == "second"


def test_files_are_private_whatever_the_umask(settings: Settings):
    # SEC-26, SEC-118
    before = os.umask(0)
    try:
        made = keys.create(settings)
    finally:
        os.umask(before)
    assert made.path is not None
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700


def test_other_settings_survive(settings: Settings):
    keys.create(settings)
    write_config(settings.home, {**read_config(settings.home), "master_key": "keyring"})
    made = keys.create(settings)
    assert read_config(settings.home) == {"identity": made.handle, "master_key": "keyring"}


def test_a_key_that_others_may_read_is_refused(settings: Settings):
    made = keys.create(settings)
    assert made.path is not None
    made.path.chmod(0o644)
    with pytest.raises(UnsafeFile):
        keys.active(settings)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o722, True), (0o755, False), (0o700, False)])
def test_keys_in_a_directory_that_others_may_write_to_are_refused(settings: Settings, mode, is_refused):
    """They may have been planted; one that others may only read is closed to them. # SEC-26 # SEC-119"""
    made = keys.create(settings)
    settings.home.identities.chmod(mode)
    if is_refused:
        with pytest.raises(UnsafeFile, match="identities can be written by others"):
            keys.active(settings)
        return
    found = keys.active(settings)
    assert found is not None
    assert found.handle == made.handle
    assert stat.S_IMODE(settings.home.identities.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"short", b"\xff\xfe", b"A" * 100])
def test_a_damaged_key_is_refused_without_its_content(settings: Settings, content):
    made = keys.create(settings)
    assert made.path is not None
    made.path.write_bytes(content)
    with pytest.raises(UnsafeFile) as caught:
        keys.active(settings)
    assert str(made.path) in caught.value.message
    assert content.decode("latin-1") not in caught.value.message or not content


def test_a_missing_key_is_not_replaced(settings: Settings):
    """config.json names an identity whose key has gone: a new one would be somebody else."""
    made = keys.create(settings)
    assert made.path is not None
    made.path.unlink()
    with pytest.raises(UsageError, match="no key"):
        keys.active(settings)


@pytest.mark.parametrize("name", ["../x", "A", "a" * 64, "a/b", ".", "-a"])
def test_a_handle_never_leads_elsewhere(settings: Settings, name):
    keys.create(settings)
    write_config(settings.home, {"identity": name})
    with pytest.raises(UsageError):
        keys.active(settings)


def test_the_environment_names_an_identity_that_is_not_here(home):
    """Whoever forgot the key beside the name is told of the variables, not of a file that was never meant to be."""
    with pytest.raises(UsageError, match="AUTHSOME_IDENTITY names ci-1") as caught:
        keys.active(settings_from({"AUTHSOME_HOME": str(home), "AUTHSOME_IDENTITY": "ci-1"}))
    assert "AUTHSOME_IDENTITY_KEY" in (caught.value.hint or "")


def test_the_environment_brings_an_identity_with_nothing_on_disk(home):
    seed = generate().seed
    environ = {
        "AUTHSOME_HOME": str(home),
        "AUTHSOME_IDENTITY": "ci-1",
        "AUTHSOME_IDENTITY_KEY": base64.b64encode(seed.reveal()).decode(),
    }
    settings = settings_from(environ)
    found = keys.active(settings)
    assert found is not None
    assert (found.handle, found.key.seed == seed, found.path) == ("ci-1", True, None)
    assert not home.exists()
    with pytest.raises(UsageError, match="whose key"):
        keys.active(settings._replace(identity=None))
