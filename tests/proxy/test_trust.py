"""The bundles: what is in them, when they are made, and when the authority is."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authsome.errors import UnsafeFile, UsageError
from authsome.home import Home
from authsome.proxy import authority, bundles, trust
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
    return authority.load(bundles.authority_path(home).read_bytes())


def test_who_trusts_whom(place: Home, system, rogue: Authority, authority: Authority):
    """The child trusts the system's roots, the extra ones and us; the worker does not trust us."""
    # SEC-176
    found = bundles.prepare(place, system, rogue.certificate, NOW)
    roots = {authority.certificate.read_text().strip(), rogue.certificate.read_text().strip()}
    assert certificates(Path(found.child)) == roots | {own(place)}
    assert certificates(Path(found.upstream)) == roots
    assert "PRIVATE" not in Path(found.child).read_text() + Path(found.upstream).read_text()


def test_a_companys_roots_stay_the_childs(place: Home, system, rogue: Authority):
    """Roots that single tools were told of by the caller are in the child's bundle, and not in the worker's."""
    found = bundles.prepare(
        place, {**system, "NODE_EXTRA_CA_CERTS": str(rogue.certificate), "PIP_CERT": "/none"}, None, NOW
    )
    assert rogue.certificate.read_text().strip() in certificates(Path(found.child))
    assert rogue.certificate.read_text().strip() not in certificates(Path(found.upstream))


def test_our_own_bundle_is_nobodys_system(place: Home, system):
    """In a run within a run the outer bundle is what SSL_CERT_FILE names: the inner worker does not trust us for it."""
    outer = bundles.prepare(place, system, None, NOW)
    inner = bundles.prepare(place, {"SSL_CERT_FILE": outer.child}, None, NOW)
    assert own(place) not in certificates(Path(inner.upstream))


def test_bundles_are_made_once(place: Home, system, tmp_path: Path, authority: Authority):
    """The same roots are the same files, untouched; other roots are other files beside them."""
    first = bundles.prepare(place, system, None, NOW)
    inodes = [Path(path).stat().st_ino for path in (first.child, first.upstream)]
    again = bundles.prepare(place, system, None, NOW + timedelta(days=1))
    assert (again.child, again.upstream, again.authority) == (first.child, first.upstream, first.authority)
    assert [Path(path).stat().st_ino for path in (again.child, again.upstream)] == inodes
    changed = tmp_path / "changed.pem"
    changed.write_text(authority.certificate.read_text() + "\n# another\n")
    other = bundles.prepare(place, {"SSL_CERT_FILE": str(changed)}, None, NOW)
    assert {other.child, other.upstream}.isdisjoint({first.child, first.upstream})
    assert Path(first.child).exists()


def test_what_is_made_is_found_without_making(place: Home, system, rogue: Authority):
    """The short road finds exactly what the long one made, and nothing when something is to be made or told."""

    def find(environ: dict[str, str], extra: str, now: datetime = NOW) -> tuple[str, str] | None:
        found = trust.find(str(place.proxy), environ, extra, int(now.timestamp()))
        return (found.child, found.upstream) if found is not None else None

    company = {**system, "PIP_CERT": str(rogue.certificate)}
    for environ, extra in ((system, None), (company, None), (system, rogue.certificate)):
        named = str(extra or "")
        assert find(environ, named) is None
        made = bundles.prepare(place, environ, extra, NOW)
        assert find(environ, named) == (made.child, made.upstream)
        assert find(environ, named, NOW + timedelta(days=30)) is None
    assert find(system, "/no/such/file") is None
    bundles.authority_path(place).write_bytes(b"another")
    assert find(system, "") is None


def test_the_authority_is_renewed_in_time_and_its_predecessor_still_trusted(place: Home, system):
    """To the second, by both roads; children of then trust both, for the workers of before."""
    # SEC-175
    first = bundles.prepare(place, system, None, NOW)
    old, renewal = own(place), authority_of(place).renew_at
    before = bundles.prepare(place, system, None, renewal - timedelta(seconds=1))
    assert (own(place), before.child) == (old, first.child)
    assert trust.find(str(place.proxy), system, "", int(renewal.timestamp()) - 1) is not None
    assert trust.find(str(place.proxy), system, "", int(renewal.timestamp())) is None
    after = bundles.prepare(place, system, None, renewal)
    assert own(place) != old
    assert after.authority != before.authority, "its workers are others"
    assert certificates(Path(after.child)) >= {old, own(place)}


def test_what_a_running_child_trusts_stays(place: Home, system):
    """After a renewal the bundle of before lies where it was, untouched, for as long as any run may last."""
    # SEC-175
    before = bundles.prepare(place, system, None, NOW)
    content = Path(before.child).read_bytes()
    renewal = authority_of(place).renew_at
    os.utime(before.child, (renewal.timestamp(), renewal.timestamp()))  # the last run that began with it
    for days in (0, 15, 30):
        bundles.prepare(place, {**system, "PIP_CERT": f"/none/{days}"}, None, renewal + timedelta(days=days))
        assert Path(before.child).read_bytes() == content


def test_a_clock_that_was_ahead_does_no_lasting_harm(place: Home, system):
    """An authority that is of a time to come is replaced, by both roads."""
    # SEC-175
    bundles.prepare(place, system, None, NOW + timedelta(days=365))
    ahead = own(place)
    assert trust.find(str(place.proxy), system, "", int(NOW.timestamp())) is None
    found = bundles.prepare(place, system, None, NOW)
    assert own(place) != ahead
    assert own(place) in certificates(Path(found.child))
    assert authority_of(place).serves(NOW)


def test_a_damaged_or_lost_authority_is_made_anew(place: Home, system):
    """Nothing depends on it but what is made with it."""
    bundles.prepare(place, system, None, NOW)
    path = bundles.authority_path(place)
    for damage in (lambda: path.write_bytes(b"garbage"), path.unlink, (place.proxy / "authority.record").unlink):
        before = path.read_bytes() if path.exists() else b""
        damage()
        found = bundles.prepare(place, system, None, NOW)
        assert own(place) in certificates(Path(found.child))
        assert before != b"" or path.exists()


def test_a_foreign_authority_is_refused(place: Home, system):
    """A key file that others could read or write is not used."""
    # SEC-119
    bundles.prepare(place, system, None, NOW)
    bundles.authority_path(place).chmod(0o644)
    (place.proxy / "authority.record").unlink()
    with pytest.raises(UnsafeFile):
        bundles.prepare(place, system, None, NOW)


def test_old_bundles_are_swept(place: Home, system, rogue: Authority):
    """A bundle that nobody has used for sixty days goes when a new one is made, and wget's settings with it."""
    old = bundles.prepare(place, system, None, NOW)
    settings = Path(old.child).with_suffix(".wgetrc")
    assert settings.read_text() == f"ca_certificate = {old.child}\n"
    long_ago = (NOW - timedelta(days=61)).timestamp()
    os.utime(old.child, (long_ago, long_ago))
    bundles.prepare(place, {"SSL_CERT_FILE": str(rogue.certificate)}, None, NOW)
    assert not Path(old.child).exists()
    assert not settings.exists()
    assert Path(old.upstream).exists()


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nabc\n"])
def test_extra_roots_must_be_there(place: Home, system, tmp_path: Path, content):
    """AUTHSOME_CA_BUNDLE names a file with certificates."""
    extra = tmp_path / "extra.pem"
    if content is not None:
        extra.write_text(content)
    with pytest.raises(UsageError, match=r"AUTHSOME_CA_BUNDLE|PEM"):
        bundles.prepare(place, system, extra, NOW)


def test_first_runs_at_once_agree_on_one_authority(place: Home, system):
    """However many begin at the same time, all trust the same authority."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from datetime import datetime, UTC\n"
        "from authsome.home import Home; from authsome.proxy import bundles\n"
        "print(bundles.prepare(Home(Path(sys.argv[2])), os.environ, None, datetime.now(UTC)).child)"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(place.root)]
    running = [subprocess.Popen(command, env=system, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    bundles = {child.communicate(timeout=60)[0] for child in running}
    assert len(bundles) == 1
    assert own(place) in certificates(Path(bundles.pop().strip()))
