"""Archives to try: a stand-in built in no time by the real builder, and the real one."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import build_zipapp
from archive.installation import Installation

ROOT = Path(__file__).resolve().parents[2]

# The command line of the archives under test: it runs its first argument as a program, inside the archive.
COMMAND_LINE = """
import sys

def program():
    if sys.argv[1:]:
        exec(sys.argv[1], {"__name__": "tried"})
    return 0
"""


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes a source tree: our launcher and boot code, a command line that runs its argument, nothing to fetch."""

    def make(name: str = "tree", *, command_line: str = COMMAND_LINE, modules: int = 0) -> Path:
        tree = tmp_path / name
        package = tree / "authsome"
        shutil.copytree(
            ROOT / "authsome" / "archive", package / "archive", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(ROOT / "authsome.py", tree)
        (package / "__init__.py").write_text('__version__ = "9.8.7"\n')
        (package / "cli").mkdir()
        (package / "cli" / "__init__.py").touch()
        (package / "cli" / "main.py").write_text(command_line)
        (package / "late.py").write_text(f"NAME = {name!r}\n")
        for number in range(modules):
            (package / f"filler_{number}.py").write_text(f"NUMBER = {number}\n" + "def f(x):\n    return [x, x]\n" * 50)
        (tree / "providers").mkdir()
        (tree / "providers" / "example.json").write_text("{}")
        (tree / "requirements.lock").write_text("# nothing\n")
        return tree

    return make


@pytest.fixture
def make_installation(make_tree: Callable[..., Path], tmp_path: Path) -> Callable[..., Installation]:
    """Builds such a tree and gives it to a user with an empty home."""

    def make(name: str = "tree", **options: object) -> Installation:
        directory = tmp_path / f"{name} installed"
        home = tmp_path / f"{name} home"
        directory.mkdir()
        home.mkdir()
        build_zipapp.build(make_tree(name, **options), directory / "authsome.pyz")
        return Installation(archive=directory / "authsome.pyz", home=home)

    return make


@pytest.fixture
def installation(make_installation: Callable[..., Installation]) -> Installation:
    """A stand-in archive that nobody has run yet."""
    return make_installation()


@pytest.fixture(scope="session")
def real_archive(tmp_path_factory: pytest.TempPathFactory, set_up_environment: Mapping[str, str]) -> Path:
    """This checkout's archive with all it carries, but with the command line that runs its argument."""
    directory = tmp_path_factory.mktemp("real")
    tree = directory / "tree"
    tree.mkdir()
    for name in ("authsome", "providers"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("authsome.py", "requirements.lock"):
        shutil.copy(ROOT / name, tree)
    (tree / "authsome" / "cli" / "main.py").write_text(COMMAND_LINE)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (tree / ".cache").symlink_to(ROOT / ".cache")
    code = "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]]; import build_zipapp"
    code += "; build_zipapp.build(Path(sys.argv[2]), Path(sys.argv[3]))"
    archive = directory / "authsome.pyz"
    command = [sys.executable, "-B", "-c", code, str(ROOT), str(tree), str(archive)]
    subprocess.run(command, env=dict(set_up_environment), check=True, timeout=600)
    return archive
