"""authsome.archive.unpack: first runs at the same time, killed, on full and read-only disks."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.installation import Installation
from authsome.archive import boot, unpack
from fakes.patience import PATIENCE

TMPFS = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'  # in a mount namespace of its own


def on_file_system(options: str, directory: Path) -> tuple[str, ...]:
    """Runs a command with another file system at `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", TMPFS, "sh", options, str(directory))


def test_twenty_first_runs_at_once(make_installation: Callable[..., Installation]) -> None:
    """All succeed, one store is made, nothing is left over."""  # SEC-211
    installation = make_installation(modules=60)
    runs = [
        subprocess.Popen(
            installation.argv("import authsome.late; print(authsome.late.NAME)"),
            env=installation.environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(20)
    ]
    assert [(*run.communicate(timeout=PATIENCE), run.returncode) for run in runs] == [("tree\n", "", 0)] * 20
    assert len(installation.stores) == 1
    assert installation.ask("a.verify_cache()") == []


def test_killed_first_runs(make_installation: Callable[..., Installation]) -> None:
    """A `kill -9` at any moment of the first run leaves a next run that works and cleans up."""
    installation = make_installation(modules=60)
    started = time.monotonic()
    assert installation.run().returncode == 0
    whole = time.monotonic() - started
    killed = 0
    for round_ in range(24):
        if installation.stores:
            unpack._remove(str(installation.store))
        run = subprocess.Popen(installation.argv("pass"), env=installation.environment({}), stderr=subprocess.DEVNULL)
        time.sleep(whole * (round_ + 1) / 24)
        run.kill()
        if run.wait() == -signal.SIGKILL:
            killed += 1
        else:  # the machine is less busy than it was
            whole *= 0.8
        assert installation.ask("a.verify_cache()") == []
        assert len(installation.stores) == 1
    assert killed > 6  # else the moments were chosen too late


def test_damaged_store_is_made_anew(installation: Installation) -> None:
    """A file that is lost or cut, or a listing that is, is noticed at the next start and mended."""
    damages: list[Callable[[Path], object]] = [
        lambda store: (store / "authsome" / "late.py").unlink(),
        lambda store: os.truncate(next((store / "authsome").rglob("late.*.pyc")), 20),
        lambda store: os.truncate(store / boot.LISTING, 100),
        lambda store: (store / boot.LISTING).unlink(),
        lambda store: (store / boot.LISTING).write_text("x y\nend\n"),
    ]
    for damage in damages:
        assert installation.run().returncode == 0
        damage(installation.store)
        assert installation.ask("a.verify_cache()") == []
        assert len(installation.stores) == 1


def test_sweep(installation: Installation) -> None:
    """A first run removes what killed ones left and other builds' stores unused for a month, nothing that is in use."""
    month = 31 * 24 * 3600
    place = installation.place
    for name in (".new-dead", ".old-dead", ".new-alive", "0123-cp311", "4567-cp311", "89ab-cp311"):
        (place / name / "authsome").mkdir(parents=True)
    place.chmod(0o700)
    for name in ("0123-cp311", "4567-cp311"):
        past = time.time() - month
        os.utime(place / name, (past, past))
    handles = [os.open(place / name, os.O_RDONLY) for name in (".new-alive", "4567-cp311")]
    fcntl.flock(handles[0], fcntl.LOCK_EX)
    fcntl.flock(handles[1], fcntl.LOCK_SH)
    assert installation.run().returncode == 0
    left = set(installation.stores)
    for handle in handles:
        os.close(handle)
    assert left >= {".new-alive", "4567-cp311", "89ab-cp311"}
    assert len(left) == 4


def test_store_in_use_is_held(installation: Installation) -> None:
    """A running process holds its store, so that no sweep of another build takes it away."""
    assert installation.run().returncode == 0
    argv = installation.argv("import sys; print('up', flush=True); sys.stdin.read()")
    with subprocess.Popen(
        argv, env=installation.environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert run.stdout.readline() == "up\n"
        assert not unpack._abandoned(str(installation.store), 0)
    assert unpack._abandoned(str(installation.store), 0)


def test_stopped_writer_does_not_stop_others(installation: Installation) -> None:
    """Without any lock to be had the store is made all the same: the rename is what keeps it whole."""
    installation.place.mkdir(parents=True, mode=0o700)
    code = "import sys; from authsome.archive import boot, unpack; unpack.LOCK_PATIENCE = 0.1"
    code += "; print(unpack.first_run(sys.argv[1], sys.argv[2])[0])"
    handle = os.open(installation.place, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    tree = installation.archive.parents[1] / "tree"
    build = installation.ask("a.build_id()", AUTHSOME_PYZ_CACHE=str(installation.home / "elsewhere"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tree)!r}); {code}",
            str(installation.archive),
            str(build),
        ],
        env=installation.environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(handle)
    assert (done.returncode, done.stdout) == (0, f"{installation.store}\n"), done.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [("ro", "read-only file system"), ("noexec", "mounted noexec"), ("size=64k", "no space left on device")],
)
def test_unusable_home(make_installation: Callable[..., Installation], options: str, reason: str) -> None:
    """A home that is read-only, noexec or full: the next place is taken; without one, the message tells each reason."""
    # SEC-211
    installation = make_installation(modules=60)
    prefix = on_file_system(options, installation.home)
    temporary = installation.archive.parent / "tmp"
    temporary.mkdir()
    done = installation.run(cwd=Path("/"), prefix=prefix, TMPDIR=str(temporary))
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    (private,) = temporary.iterdir()
    assert private.name == "authsome-pyz-0"
    done = installation.run(cwd=Path("/"), prefix=prefix, TMPDIR=str(installation.home), XDG_RUNTIME_DIR="relative")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 2
    for place in ("cache home", "XDG_RUNTIME_DIR", "temporary directory"):
        assert place in done.stderr
    assert done.stderr.count(reason) == 2


def test_full_disk_leaves_nothing(make_installation: Callable[..., Installation]) -> None:
    """What a full disk did not take is removed again."""
    installation = make_installation(modules=60)
    code = 'test "$(find "$HOME" -mindepth 4)" = "" && echo clean'
    prefix = on_file_system("size=64k", installation.home)
    command = f'"$@"; {code}'
    done = installation.run(cwd=Path("/"), prefix=(*prefix, "sh", "-c", command, "sh"), TMPDIR=str(installation.home))
    assert done.stdout == "clean\n", done.stderr


def test_read_only_archive(installation: Installation) -> None:
    """The archive may lie where nothing can be written."""  # SEC-211
    holder = installation.archive.parent / "read-only"
    move = 'mount -t tmpfs tmpfs "$1" && cp "$2" "$1" && mount -o remount,ro "$1" && shift 2 && exec "$@"'
    holder.mkdir()
    moved = Installation(archive=holder / "authsome.pyz", home=installation.home)
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-c", move, "sh", str(holder), str(installation.archive))
    done = moved.run(prefix=prefix)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_without_home(installation: Installation, tmp_path: Path) -> None:
    """HOME unset and a user that the system does not know: a private directory under the temporary one serves."""
    # SEC-211
    prefix = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
    done = installation.run(prefix=prefix, HOME=None, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert (tmp_path / "authsome-pyz-54321").is_dir()
    done = installation.run(prefix=prefix, HOME=None, TMPDIR="/proc")
    assert done.returncode == 1
    assert "there is no home directory" in done.stderr


def test_archive_replaced_while_it_starts(installation: Installation) -> None:
    """Files of two builds never mix: a first run that finds another archive than it started from says so."""
    with pytest.raises(boot.CannotStart, match="was replaced while it started"):
        unpack.first_run(str(installation.archive), "0" * 16)


@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_cut_archive(installation: Installation, keep: float) -> None:
    """Half an archive is refused, with no store made of it."""
    whole = installation.archive.read_bytes()
    build = str(installation.ask("a.build_id()", AUTHSOME_PYZ_CACHE=str(installation.home / "elsewhere")))
    installation.archive.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(boot.CannotStart, match="is damaged"):
        unpack.first_run(str(installation.archive), build)


def test_damaged_payload(installation: Installation) -> None:
    """A file whose bytes are not those that its name promises is not unpacked."""
    content = installation.archive.read_bytes()
    assert content.count(b"NAME = 'tree'") == 1
    installation.archive.write_bytes(content.replace(b"NAME = 'tree'", b"NAME = 'evil'"))
    done = installation.run()
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert installation.stores == []


def test_interrupt_while_unpacking(make_installation: Callable[..., Installation]) -> None:
    """Ctrl-C in the first run ends it with status 11 and one line, and leaves nothing."""
    installation = make_installation(modules=1500)  # unpacked in so long a time that the signal comes before its end
    for _ in range(20):  # or not quite, where this process had to wait for its turn and that one had not
        status, said = interrupted(installation)
        if status:
            break
        unpack._remove(str(installation.store))
    assert (status, said) == (11, "authsome: error: cancelled while unpacking\n")
    assert installation.stores == []


def interrupted(installation: Installation) -> tuple[int, str]:
    """How a first run ends that gets a signal once it has begun to unpack, and what it says."""
    with subprocess.Popen(
        installation.argv("pass"), env=installation.environment({}), stderr=subprocess.PIPE, text=True
    ) as run:
        while run.poll() is None and not any(name.startswith(unpack.NEW) for name in installation.stores):
            time.sleep(0.001)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=PATIENCE)
    return run.returncode, said
