"""The bundles: what is in them, when they are made, and when the authority is."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authsome.errors import UnsafeFile, UsageError
from authsome.home import Home
from authsome.proxy import authority, trust
from fakes.authority import Authority

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Home:
    """A home."""
    return Home(tmp_path / "home")


@pytest.fixture
def system(authority: Authority) -> dict[str, str]:
    """An environment whose system roots are one certificate."""
    return {"SSL_CERT_FILE": str(authority.certificate)}


def certificates(path: Path) -> set[str]:
    """The certificates of a bundle."""
    end = "-----END CERTIFICATE-----"
    return {part.strip() + "\n" + end for part in path.read_text().split(end) if part.strip()}


def own(home: Home) -> str:
    """Our authority's certificate."""
    return authority_of(home).certificate_pem().decode().strip()


def authority_of(home: Home) -> authority.Authority:
    """Our authority."""
    return authority.load(trust.authority_path(home).read_bytes())


def test_who_trusts_whom(place: Home, system, rogue: Authority, authority: Authority):
    """The child trusts the system's roots, the extra ones and us; the worker does not trust us."""
    # SEC-176
    found = trust.prepare(place, system, rogue.certificate, NOW)
    roots = {authority.certificate.read_text().strip(), rogue.certificate.read_text().strip()}
    assert certificates(found.child) == roots | {own(place)}
    assert certificates(found.upstream) == roots
    assert "PRIVATE" not in found.child.read_text() + found.upstream.read_text()


def test_a_companys_roots_stay_the_childs(place: Home, system, rogue: Authority):
    """Roots that single tools were told of by the caller are in the child's bundle, and not in the worker's."""
    found = trust.prepare(
        place, {**system, "NODE_EXTRA_CA_CERTS": str(rogue.certificate), "PIP_CERT": "/none"}, None, NOW
    )
    assert rogue.certificate.read_text().strip() in certificates(found.child)
    assert rogue.certificate.read_text().strip() not in certificates(found.upstream)


def test_our_own_bundle_is_nobodys_system(place: Home, system):
    """In a run within a run the outer bundle is what SSL_CERT_FILE names: the inner worker does not trust us for it."""
    outer = trust.prepare(place, system, None, NOW)
    inner = trust.prepare(place, {"SSL_CERT_FILE": str(outer.child)}, None, NOW)
    assert own(place) not in certificates(inner.upstream)


def test_bundles_are_made_once(place: Home, system, tmp_path: Path, authority: Authority):
    """The same roots are the same files, untouched; other roots are other files beside them."""
    first = trust.prepare(place, system, None, NOW)
    inodes = [path.stat().st_ino for path in (first.child, first.upstream)]
    again = trust.prepare(place, system, None, NOW + timedelta(days=1))
    assert again == first
    assert [path.stat().st_ino for path in (again.child, again.upstream)] == inodes
    changed = tmp_path / "changed.pem"
    changed.write_text(authority.certificate.read_text() + "\n# another\n")
    other = trust.prepare(place, {"SSL_CERT_FILE": str(changed)}, None, NOW)
    assert {other.child, other.upstream}.isdisjoint({first.child, first.upstream})
    assert first.child.exists()


def test_the_authority_is_renewed_in_time_and_its_predecessor_still_trusted(place: Home, system):
    """A week before its end there is a new one; children of now trust both, for the workers of then."""
    # SEC-175
    trust.prepare(place, system, None, NOW)
    old = own(place)
    trust.prepare(place, system, None, NOW + timedelta(days=22))
    assert own(place) == old
    found = trust.prepare(place, system, None, NOW + timedelta(days=24))
    assert own(place) != old
    assert certificates(found.child) >= {old, own(place)}


def test_a_damaged_or_lost_authority_is_made_anew(place: Home, system):
    """Nothing depends on it but what is made with it."""
    trust.prepare(place, system, None, NOW)
    path = trust.authority_path(place)
    for damage in (lambda: path.write_bytes(b"garbage"), path.unlink, (place.proxy / "authority.json").unlink):
        before = path.read_bytes() if path.exists() else b""
        damage()
        found = trust.prepare(place, system, None, NOW)
        assert own(place) in certificates(found.child)
        assert before != b"" or path.exists()


def test_a_foreign_authority_is_refused(place: Home, system):
    """A key file that others could read or write is not used."""
    # SEC-119
    trust.prepare(place, system, None, NOW)
    trust.authority_path(place).chmod(0o644)
    (place.proxy / "authority.json").unlink()
    with pytest.raises(UnsafeFile):
        trust.prepare(place, system, None, NOW)


def test_old_bundles_are_swept(place: Home, system, rogue: Authority):
    """A bundle that nobody has used for sixty days goes when a new one is made."""
    old = trust.prepare(place, system, None, NOW)
    long_ago = (NOW - timedelta(days=61)).timestamp()
    os.utime(old.child, (long_ago, long_ago))
    trust.prepare(place, {"SSL_CERT_FILE": str(rogue.certificate)}, None, NOW)
    assert not old.child.exists()
    assert old.upstream.exists()


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nabc\n"])
def test_extra_roots_must_be_there(place: Home, system, tmp_path: Path, content):
    """AUTHSOME_CA_BUNDLE names a file with certificates."""
    extra = tmp_path / "extra.pem"
    if content is not None:
        extra.write_text(content)
    with pytest.raises(UsageError, match=r"AUTHSOME_CA_BUNDLE|PEM"):
        trust.prepare(place, system, extra, NOW)


def test_first_runs_at_once_agree_on_one_authority(place: Home, system):
    """However many begin at the same time, all trust the same authority."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from datetime import datetime, UTC\n"
        "from authsome.home import Home; from authsome.proxy import trust\n"
        "print(trust.prepare(Home(Path(sys.argv[2])), os.environ, None, datetime.now(UTC)).child)"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(place.root)]
    running = [subprocess.Popen(command, env=system, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    bundles = {child.communicate(timeout=60)[0] for child in running}
    assert len(bundles) == 1
    assert own(place) in certificates(Path(bundles.pop().strip()))
