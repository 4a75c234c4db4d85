"""authsome.archive.boot: which files are imported from, and whom the first code of the archive trusts."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import build_zipapp
from archive.installation import Installation

ROOT = Path(__file__).resolve().parents[2]
WHERE_FROM = "import sys; print([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)])"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_is_answered_without_unpacking(installation: Installation, flag: str) -> None:
    """The version costs no first run and leaves nothing behind."""
    done = installation.run(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, "authsome 9.8.7\n", "")
    assert list(installation.home.iterdir()) == []


def test_launcher_parses_on_every_python() -> None:
    """The launcher holds nothing that Python 2.7 or 3.0 cannot parse, so an old one reaches the line that says so."""
    tree = ast.parse((ROOT / "authsome.py").read_text())
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match, ast.YieldFrom, ast.Nonlocal)
    for node in ast.walk(tree):
        assert not isinstance(node, newer), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            annotations = [argument.annotation for argument in node.args.args]
            assert (node.returns, any(annotations), node.args.kwonlyargs) == (None, False, []), node.name
        if isinstance(node, ast.Raise):
            assert node.cause is None
    assert (ROOT / "authsome.py").read_bytes().isascii()


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 13)])
def test_old_python_gets_one_clear_line(version: tuple[int, ...]) -> None:
    """A Python that is too old is told so, with status 1, before anything else is imported."""
    launcher = str(ROOT / "authsome.py")
    code = f"import sys, runpy; sys.version_info = {version}; runpy.run_path({launcher!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"authsome: error: Python 3.11 or newer is needed, this is {version[0]}.{version[1]}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_foreign_platform_is_told_what_the_file_was_built_for(
    make_tree: Callable[..., Path], installation: Installation
) -> None:
    """An interpreter that the archive has no modules for gets one line and a hint, not an import error."""
    build_zipapp.build(make_tree("other"), installation.archive, pythons=("3.98", "3.99"))
    done = installation.run()
    assert done.returncode == 1
    assert done.stderr.startswith("authsome: error: this file was built for ")
    assert " with cp398 cp399, this is " in done.stderr
    assert done.stderr.count("\n") == 2
    assert "hint: build one here" in done.stderr


def test_imports_come_from_the_store_and_the_standard_library_alone(installation: Installation, tmp_path: Path) -> None:
    """Neither the working directory nor PYTHONPATH nor site-packages can put a module into the process."""  # SEC-212
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("sqlite3", "json", "authsome", "late", "helper"):
        (planted / f"{name}.py").write_text("raise SystemExit('planted')")
    path = installation.ask("sys.path", PYTHONPATH=str(planted))
    assert str(planted) not in path
    assert not any("-packages" in entry or entry in {"", "."} for entry in path)
    done = installation.run(
        "import sqlite3, json, authsome.late; print(authsome.late.__file__)", cwd=planted, PYTHONPATH=str(planted)
    )
    assert (done.returncode, done.stdout) == (0, f"{installation.store}/authsome/late.py\n"), done.stderr
    done = installation.run("import helper", cwd=planted, PYTHONPATH=str(planted))
    assert "No module named 'helper'" in done.stderr


def test_what_the_host_imported_first_is_dropped(installation: Installation, tmp_path: Path) -> None:
    """A sitecustomize that imported foreign modules and hooked the import system leaves no trace in ours."""  # SEC-212
    planted = tmp_path / "planted"
    (planted / "space").mkdir(parents=True)
    (planted / "argon2.py").write_text("FORGED = True")
    (planted / "authsome.py").write_text("FORGED = True")
    (planted / "sitecustomize.py").write_text(
        "import sys, argon2, authsome, space\n"
        "class Hook:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'authsome.late':\n"
        "            raise SystemExit('hooked')\n"
        "sys.meta_path.insert(0, Hook())\n"
    )
    done = installation.run(f"import authsome.late; {WHERE_FROM}", PYTHONPATH=str(planted))
    assert done.returncode == 0, done.stderr
    assert str(planted) not in done.stdout
    hooks = installation.ask("[getattr(f, '__name__', repr(f)) for f in sys.meta_path]", PYTHONPATH=str(planted))
    assert hooks == ["BuiltinImporter", "FrozenImporter", "PathFinder"]
    names = installation.ask("[n for n in sys.modules if n.startswith(('argon2', 'space'))]", PYTHONPATH=str(planted))
    assert names == []


def test_isolated_start_runs_nothing_of_the_environment(installation: Installation, tmp_path: Path) -> None:
    """The command that the daemon is started with runs neither sitecustomize nor PYTHONSTARTUP."""  # SEC-212
    planted = tmp_path / "planted"
    planted.mkdir()
    marker = tmp_path / "ran"
    for name in ("sitecustomize", "usercustomize", "startup"):
        (planted / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')")
    command = installation.ask("a.launch_command()")
    environment = installation.environment({"PYTHONPATH": str(planted), "PYTHONSTARTUP": str(planted / "startup.py")})
    done = subprocess.run(
        [*command, "print('ran')"], cwd=planted, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    assert not marker.exists()


def test_every_file_of_a_store_is_private(installation: Installation) -> None:
    """Directories 0700, files 0600, whatever the umask; the byte code lies there, too, and is used."""  # SEC-211
    done = installation.run(
        prefix=("sh", "-c", 'umask 0; exec "$@"', "sh"), PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX="/nowhere"
    )
    assert done.returncode == 0, done.stderr
    for path in (installation.home / ".cache", *(installation.home / ".cache").rglob("*")):
        assert path.lstat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    cached = installation.ask(
        "__import__('authsome.late').late.__cached__", PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX="/nowhere"
    )
    assert Path(cached).is_file()
    assert installation.ask("a.verify_cache()") == []


def test_optimised_byte_code_has_a_store_of_its_own(installation: Installation) -> None:
    """`python -O` neither writes into the store of others nor finds theirs."""
    for flags in ((), ("-O",), ("-OO",), ()):
        assert installation.ask("a.verify_cache()", *flags) == []
    assert len(installation.stores) == 3


# Whom it trusts


def plant_symbolic_link(directory: Path, target: Path) -> None:
    """Put a link where the directory would be."""
    directory.symlink_to(target)


def plant_foreign_directory(directory: Path, target: Path) -> None:
    """Put somebody else's directory there: as root any, else one of root's."""
    if os.geteuid() == 0:
        directory.mkdir(mode=0o700)
        os.chown(directory, 12345, 12345)
    else:
        directory.symlink_to("/usr")
    _ = target


def plant_open_directory(directory: Path, target: Path) -> None:
    """Put a directory there that everybody can write to."""
    directory.mkdir()
    directory.chmod(0o777)
    _ = target


@pytest.mark.parametrize("plant", [plant_symbolic_link, plant_foreign_directory, plant_open_directory])
@pytest.mark.parametrize("below", ["", "inner"])
def test_planted_place_is_refused(
    installation: Installation, tmp_path: Path, plant: Callable[[Path, Path], None], below: str
) -> None:
    """A place that somebody else prepared, or a place inside of one, is not imported from; the next is taken."""
    # SEC-211
    assert installation.run().returncode == 0
    planted, target = tmp_path / "planted", tmp_path / "target"
    target.mkdir()
    plant(planted, target)
    if not planted.is_symlink():  # with all that the archive would look for
        done = subprocess.run(
            ["cp", "-a", str(installation.store), str(planted / installation.store.name)], check=False
        )
        assert done.returncode == 0
    if below and planted.is_symlink():
        planted = tmp_path / "planted2"  # a link above is the user's own affair, a foreign directory above is not
        plant_open_directory(planted, target)
    place = planted / below if below else planted
    store = installation.ask("a.boot.LAUNCH.store", AUTHSOME_PYZ_CACHE=str(place))
    assert store == str(installation.store)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("plant", [plant_symbolic_link, plant_foreign_directory, plant_open_directory])
def test_planted_store_is_replaced(
    installation: Installation, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    """Under our own directory a store that is not ours alone makes way for a fresh one; a link's target stays."""
    # SEC-211
    assert installation.run().returncode == 0
    store, target = installation.store, tmp_path / "target"
    store.rename(target)
    (target / "authsome" / "late.py").write_text("NAME = 'forged'\n")
    plant(store, target)
    done = installation.run("import authsome.late; print(authsome.late.NAME)")
    assert (done.returncode, done.stdout) == (0, "tree\n"), done.stderr
    assert (target / "authsome" / "late.py").read_text() == "NAME = 'forged'\n"
    assert installation.store.lstat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("place", ["relative/place", "./x"])
def test_relative_place_is_refused(installation: Installation, place: str) -> None:
    """What depends on the working directory is no place to import from."""  # SEC-212
    assert installation.run(AUTHSOME_PYZ_CACHE=place, XDG_CACHE_HOME=place).returncode == 0
    assert installation.store.is_relative_to(installation.home / ".cache")
    assert sorted(path.name for path in installation.home.iterdir()) == [".cache"]
