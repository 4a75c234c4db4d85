"""authsome.archive: how this very authsome was started, and how to start it again."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import build_zipapp
from archive.installation import Installation
from fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ASK = "import json; from authsome import archive as a; print(json.dumps([a.launch_command(), a.build_id()]))"
UP = "import json, subprocess, sys, authsome.archive as a; print('up', flush=True); sys.stdin.readline()\n"


def test_launch_command_of_an_archive(installation: Installation) -> None:
    """It is absolute and taken from the boot code: the working directory, argv and links of the caller do not show."""
    code = "import sys; sys.argv[0] = '/forged'; import __main__; __main__.__file__ = '/forged'; " + ASK
    command = ["python3", installation.archive.name, code]
    env = installation.environment({"PATH": f"{Path(sys.executable).parent}"})
    done = subprocess.run(command, cwd=installation.archive.parent, env=env, capture_output=True, text=True, check=True)
    launch, build = json.loads(done.stdout)
    assert launch[1:] == ["-I", str(installation.archive)]
    assert re.fullmatch("[0-9a-f]{16}", build)
    again = subprocess.run([*launch, ASK], cwd="/", env=env, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert installation.ask("[str(a.archive_path()), a.archive_path().is_absolute()]") == [
        str(installation.archive),
        True,
    ]


def test_archive_behind_a_link(installation: Installation, tmp_path: Path) -> None:
    """Started through a symbolic link the link is what is started again: whoever moves it moves us to another build."""
    link = tmp_path / "authsome"
    link.symlink_to(installation.archive)
    assert Installation(archive=link, home=installation.home).ask("a.launch_command()[-1]") == str(link)


def test_replaced_archive(make_installation: Callable[..., Installation], make_tree: Callable[..., Path]) -> None:
    """Whoever runs keeps the files it began with, and starts the new ones."""
    installation = make_installation("old")
    code = UP + (
        "import authsome.late\n"
        "command = [*a.launch_command(), 'import authsome.late as l; print(l.NAME)']\n"
        "new = subprocess.run(command, capture_output=True, text=True)\n"
        "print(json.dumps([authsome.late.NAME, new.stdout, a.verify_cache()]))"
    )
    with subprocess.Popen(
        installation.argv(code),
        env=installation.environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout
        assert run.stdout.readline() == "up\n"
        build_zipapp.build(make_tree("new"), installation.archive)
        output, _ = run.communicate("\n", timeout=60)
    assert json.loads(output) == ["old", "new\n", []]


@pytest.mark.parametrize("launcher", ["authsome.py", None])
def test_outside_of_an_archive(tmp_path: Path, launcher: str | None) -> None:
    """A checkout starts its launcher, an installed package `-m authsome`; neither has an archive or a cache."""
    shutil.copytree(ROOT / "authsome", tmp_path / "authsome")
    if launcher:
        shutil.copy(ROOT / launcher, tmp_path)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {ASK}; print(a.archive_path(), a.verify_cache())"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    answer, rest = done.stdout.splitlines()
    launch, build = json.loads(answer)
    assert launch == [sys.executable, "-I", *([str(tmp_path / launcher)] if launcher else ["-m", "authsome"])]
    assert re.fullmatch(r"[0-9.]+-checkout", build)
    assert rest == "None []"


def test_checkout_starts_from_anywhere(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """The launcher finds its package under `-I` and from another directory, and not what lies there."""
    tree = make_tree()
    (tmp_path / "authsome").mkdir()
    command = [sys.executable, "-I", str(tree / "authsome.py"), "import authsome; print(authsome.__file__)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tree}/authsome/__init__.py\n"


def test_verify_cache_names_each_problem(installation: Installation) -> None:
    """Changed content of the same size, and files that do not belong there, are found by hash."""  # SEC-211
    assert installation.ask("a.verify_cache()") == []
    late, byte_code = installation.store / "authsome" / "late.py", next(installation.store.rglob("late.*.pyc"))
    late.write_text(late.read_text().replace("tree", "evil"))
    content = byte_code.read_bytes()
    byte_code.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (installation.store / "sqlite3.py").write_text("")
    assert installation.ask("a.verify_cache()") == [
        f"{byte_code} is damaged",
        f"{late} is damaged",
        f"{installation.store}/sqlite3.py does not belong there",
    ]


def test_a_daemon_of_damaged_files_ends_and_has_them_unpacked_anew(real_archive: Path, tmp_path: Path) -> None:
    """It compares every hash soon after it is ready; the next start makes the files anew."""  # SEC-211
    installation = Installation(archive=real_archive, home=tmp_path, variables={"AUTHSOME_PORT": str(free_port())})
    assert installation.run().returncode == 0
    style = installation.store / "authsome" / "daemon" / "dashboard" / "style.css"
    style.write_bytes(style.read_bytes()[:-1] + b"x")
    done = installation.run(
        "import os; from authsome.daemon import main; from authsome.home import settings_from\n"
        "main.serve(settings_from(os.environ), environ={}, supervised=False, on_ready=print)"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("http://127.0.0.1:")
    assert f"the unpacked archive is damaged: {style} is damaged" in done.stderr
    assert installation.ask("a.verify_cache()") == []


def test_verify_cache_of_a_vanished_store(installation: Installation) -> None:
    """A store that a cleaner emptied under a running process is told, without a traceback."""
    done = installation.run(
        "import os, shutil, authsome.archive as a; from authsome.archive import verify; store = a.boot.LAUNCH.store\n"
        "os.unlink(store + '/authsome/late.py'); print(a.verify_cache())\n"
        "shutil.rmtree(store); print(a.verify_cache())"
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "late.py cannot be read: no such file or directory" in first
    assert "the list of unpacked files is unreadable" in second
