"""build_zipapp.py: the same bytes every time, of nothing but what the lock names."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import build_zipapp
from archive.installation import Installation
from fakes.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BUILD = (
    "import sys; from pathlib import Path; sys.path[:0] = [sys.argv[1]]; "
    "import build_zipapp; build_zipapp.build(Path(sys.argv[2]), Path(sys.argv[3]))"
)


def wheel(
    directory: Path, name: str = "thing", version: str = "1.2", *, files: Mapping[str, str] | None = None
) -> Path:
    """Write a wheel, compressed as wheels are."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"
    content = {
        f"{name}/__init__.py": f"NAME = {name!r}\n" * 100,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
        **(files or {}),
    }
    path = directory / f"{name}-{version}-py3-none-any.whl"
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, text in content.items():
            archive.writestr(inner, text)
    return path


def lock(*wheels: Path) -> str:
    """The lines of a lock that names these wheels."""
    lines = []
    for path in wheels:
        name, version = path.name.split("-")[:2]
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(lines)


# The bytes


def test_same_bytes_whoever_builds(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """Another place, other dates, another umask and time zone, another Python if there is one: the same file."""
    digests = set()
    found = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13, 14, 15)]
    for number, python in enumerate([sys.executable, sys.executable, *filter(None, found)]):
        tree = make_tree(f"tree {number}")
        (tree / "authsome" / "late.py").write_text("NAME = 'same'\n")
        for path in tree.rglob("*"):
            os.utime(path, (number * 1e8, number * 1e8))
        output = tmp_path / f"{number}.pyz"
        command = ["sh", "-c", 'umask "$1"; shift; exec "$@"', "sh", ("022", "077", "0")[number % 3]]
        command += [python, "-B", "-c", BUILD, str(ROOT), str(tree), str(output)]
        env = {"PATH": os.environ["PATH"], "TZ": ("UTC", "Asia/Tokyo")[number % 2], "PYTHONHASHSEED": str(number)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if "command not found" in done.stderr:  # a version manager's empty shell
            continue
        assert done.returncode == 0, done.stderr
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
        assert output.stat().st_mode & 0o777 == 0o755
    assert len(digests) == 1


def test_every_change_has_its_build(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """The build's identifier names the content: another byte anywhere is another build."""
    tree = make_tree()
    builds = []
    for path in (None, "authsome/late.py", "providers/example.json", "authsome/__init__.py", "authsome.py"):
        if path:
            file = tree / path
            file.write_text(file.read_text().replace("9.8.7", "9.8.8") + "\n")
        build_zipapp.build(tree, tmp_path / "authsome.pyz")
        with zipfile.ZipFile(tmp_path / "authsome.pyz") as archive:
            builds.append(archive.read("manifest").decode())
    assert len(set(builds)) == 5


def test_well_formed(installation: Installation) -> None:
    """Other tools read it: a sound zip in a sound zip, an executable shebang, a checksum file that sha256sum takes."""
    with zipfile.ZipFile(installation.archive) as outer:
        assert outer.testzip() is None
        assert outer.namelist()[:2] == ["manifest", "__main__.py"]
        assert len(outer.namelist()) < 20  # zipimport reads this directory at every start
        assert {entry.date_time for entry in outer.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        with zipfile.ZipFile(outer.open("payload.zip")) as payload:
            assert payload.testzip() is None
            for name in payload.namelist():
                assert hashlib.sha256(payload.read(name)).hexdigest() == name
    subprocess.run(
        ["sha256sum", "--check", "--strict", "authsome.pyz.sha256"], cwd=installation.archive.parent, check=True
    )
    done = subprocess.run([str(installation.archive), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "authsome 9.8.7\n"


def test_own_files(make_tree: Callable[..., Path]) -> None:
    """The package and the provider definitions go in; byte code, hidden files and an editor's leavings do not."""
    tree = make_tree()
    package = tree / "authsome"
    (package / "__pycache__").mkdir()
    for name in ("__pycache__/late.cpython-311.pyc", ".late.py.swp", "late.py~", "style.css"):
        (package / name).write_text("")
    names = [path for path, _ in build_zipapp.own_files(tree)]
    assert "authsome/providers/example.json" in names
    assert "authsome/style.css" in names
    assert not [name for name in names if "pyc" in name or "swp" in name or name.endswith("~")]


def test_output_is_replaced_at_once(installation: Installation, make_tree: Callable[..., Path]) -> None:
    """Whoever has the old file open keeps the old file."""
    with installation.archive.open("rb") as old:
        before = old.read()
        build_zipapp.build(make_tree("new"), installation.archive)
        old.seek(0)
        assert old.read() == before
    assert installation.archive.read_bytes() != before


def test_output_goes_through_no_planted_link(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """Whoever may write beside the output could have put a link at the name that is written first."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    output = tmp_path / "out.pyz"
    (tmp_path / ".out.pyz.new").symlink_to(victim)
    build_zipapp.build(make_tree("tree"), output, pythons=(THIS_PYTHON,))
    assert (victim.read_text(), output.is_symlink()) == ("mine", False)


def test_unwritable_output(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """A place that cannot be written is told in one line."""
    with pytest.raises(build_zipapp.BuildFailed, match="cannot write"):
        build_zipapp.build(make_tree(), tmp_path / "missing" / "authsome.pyz")


# The lock


@pytest.mark.parametrize(
    ("marker", "python", "platform", "expected"),
    [
        ("", "3.11", "linux-x86_64", True),
        ("python_full_version < '3.12'", "3.11", "linux-x86_64", True),
        ("python_full_version < '3.12'", "3.12", "linux-x86_64", False),
        ("python_full_version >= '3.12' and python_full_version < '3.14'", "3.13", "linux-x86_64", True),
        ("python_full_version >= '3.12' and python_full_version < '3.14'", "3.14", "linux-x86_64", False),
        ("python_version == '3.9' or sys_platform == 'linux'", "3.11", "linux-x86_64", True),
        ("python_version > '3.9'", "3.11", "linux-x86_64", True),  # as versions, not as text
        ("sys_platform == 'darwin'", "3.11", "darwin-arm64", True),
        ("sys_platform == 'win32' or os_name == 'nt'", "3.11", "linux-x86_64", False),
        ("platform_machine == 'aarch64' and sys_platform == 'linux'", "3.11", "linux-aarch64-musl", True),
        ("implementation_name != 'PyPy'", "3.11", "linux-x86_64", True),
        ("platform_python_implementation == 'CPython'", "3.11", "linux-x86_64", True),
        ("(sys_platform == 'linux' or os_name == 'nt') and python_version < '3.12'", "3.11", "linux-x86_64", True),
    ],
)
def test_marker(marker: str, python: str, platform: str, *, expected: bool) -> None:
    """A marker is evaluated for the Python and platform that are built for, not for those that build."""
    assert build_zipapp.applies(marker, python, platform) is expected


@pytest.mark.parametrize(
    "marker",
    [
        "python_full_version < '3.11.4'",
        "extra == 'test'",
        "sys_platform < 'linux'",
        "sys_platform in 'linux win32'",
        "__import__('os')",
        "sys_platform",
        "not os_name == 'nt'",
        "'3' < python_version < '4'",
    ],
)
def test_undecidable_marker(marker: str) -> None:
    """What cannot be decided for all patch releases, or is not understood, stops the build."""
    with pytest.raises(build_zipapp.BuildFailed, match=r"requirements\.lock"):
        build_zipapp.applies(marker, "3.11", "linux-x86_64")


@pytest.mark.parametrize(
    "line", ["thing==1.2", "thing>=1.2 --hash=sha256:00", "-e .", "--find-links x", "thing @ x --hash=sha256:00"]
)
def test_lock_line_without_pin_and_hash(line: str) -> None:
    """Nothing is fetched that is not pinned by hash."""
    with pytest.raises(build_zipapp.BuildFailed, match="not a pin with hashes"):
        build_zipapp.parse_lock(line)


def test_real_lock() -> None:
    """It is universal, names no registry, and every exclusion and override is about something in it."""
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert "--find-links" not in text
    names = {requirement.name for requirement in build_zipapp.parse_lock(text)}
    assert build_zipapp.EXCLUDED.keys() <= names
    overrides = re.findall(r"^[a-z][a-z0-9-]*", (ROOT / "requirements.overrides").read_text(), re.MULTILINE)
    assert set(overrides) <= names
    for platform in ("linux-x86_64", "linux-aarch64", "linux-x86_64-musl", "darwin-arm64"):
        assert build_zipapp.platform_tags(platform)
        for python in build_zipapp.PYTHONS:
            for requirement in build_zipapp.parse_lock(text):
                build_zipapp.applies(requirement.marker, python, platform)


def test_real_lock_is_that_of_the_project() -> None:
    """Every dependency that pyproject.toml names is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^a-z0-9-]", dependency)[0] for dependency in project["dependencies"]}
    pinned = {requirement.name for requirement in build_zipapp.parse_lock((ROOT / "requirements.lock").read_text())}
    assert wanted <= pinned


# The wheels


def test_wheelhouse(make_tree: Callable[..., Path], installation: Installation, tmp_path: Path) -> None:
    """Built offline from a directory of wheels, by pip; what the wheel holds can be imported and is in the SBOM."""
    tree = make_tree("with wheels")
    file = wheel(tmp_path / "wheels")
    (tree / "requirements.lock").write_text(lock(file))
    build_zipapp.build(tree, installation.archive, wheelhouse=file.parent, pythons=(THIS_PYTHON,))
    done = installation.run("import thing; from importlib.metadata import version; print(thing.NAME, version('thing'))")
    assert (done.returncode, done.stdout) == (0, "thing 1.2\n"), done.stderr
    with zipfile.ZipFile(installation.archive) as archive:
        (component,) = json.loads(archive.read("sbom.cdx.json"))["components"]
    assert component["purl"].startswith("pkg:pypi/thing@1.2")
    assert component["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]
    assert component["licenses"] == [{"expression": "MIT"}]


@pytest.fixture
def fetching(make_tree: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose lock names one wheel, which pip finds below `wheels`."""
    tree = make_tree()
    file = wheel(tmp_path / "wheels")
    (tree / "requirements.lock").write_text(lock(file))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(file.parent))
    return tree


def test_second_build_needs_no_pip(fetching: Path, tmp_path: Path) -> None:
    """What was fetched once is taken from the checkout's cache, after its hash was checked again."""
    tree = fetching
    first = build_zipapp.build(tree, tmp_path / "first.pyz", pythons=(THIS_PYTHON,))
    shutil.rmtree(tmp_path / "wheels")
    assert build_zipapp.build(tree, tmp_path / "second.pyz", pythons=(THIS_PYTHON,)) == first
    (kept,) = (tree / ".cache" / "zipapp").rglob("*.whl")
    kept.write_bytes(b"no zip at all")
    with pytest.raises(build_zipapp.BuildFailed, match="has not the hash"):
        build_zipapp.build(tree, tmp_path / "third.pyz", pythons=(THIS_PYTHON,))


def test_builds_at_once_fetch_for_each_other(fetching: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has fetched last uses what is there already, as the tests do that build an archive side by side."""
    download, all_have_fetched = build_zipapp._download, threading.Barrier(3)

    def fetch(*args: object) -> None:
        download(*args)  # type: ignore[arg-type]
        all_have_fetched.wait(PATIENCE)

    monkeypatch.setattr(build_zipapp, "_download", fetch)
    with ThreadPoolExecutor(3) as pool:
        built = [
            pool.submit(build_zipapp.build, fetching, tmp_path / f"{number}.pyz", pythons=(THIS_PYTHON,))
            for number in range(3)
        ]
    assert len({each.result() for each in built}) == 1
    (kept,) = (fetching / ".cache" / "zipapp").iterdir()
    assert [path.suffix for path in kept.iterdir()] == [".whl"]


def test_tampered_wheel(make_tree: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A wheel of the right name with other content is not taken."""
    tree = make_tree()
    file = wheel(tmp_path / "wheels")
    (tree / "requirements.lock").write_text(lock(file))
    wheel(tmp_path / "wheels", files={"thing/more.py": "x = 1\n"})
    with pytest.raises(build_zipapp.BuildFailed, match="pip could not fetch"):
        build_zipapp.build(tree, tmp_path / "authsome.pyz", wheelhouse=file.parent, pythons=(THIS_PYTHON,))
    assert "hash" in capfd.readouterr().err.lower()
    assert not (tmp_path / "authsome.pyz").exists()


def test_wheel_paths(tmp_path: Path) -> None:
    """Scripts, headers and what is pruned stay out, `.data/purelib` goes to the top, names that climb are refused."""
    extra = {
        "thing-1.2.data/purelib/deep/module.py": "",
        "thing-1.2.data/scripts/thing": "",
        "thing/tests/test_thing.py": "",
        "thing/thing.pyi": "",
        "thing/py.typed": "",
        "mitmproxy/tools/web/app.js": "",
        "mitmproxy/proxy/layer.py": "",
    }
    files = [path for path, _, _ in build_zipapp.read_wheel(wheel(tmp_path, files=extra)).files]
    assert files == ["deep/module.py", "mitmproxy/proxy/layer.py", "thing-1.2.dist-info/METADATA", "thing/__init__.py"]
    for hostile in ("../evil.py", "/evil.py", "thing/../../evil.py", "thing-1.2.data/purelib/../evil.py"):
        with pytest.raises(build_zipapp.BuildFailed, match="holds the path"):
            build_zipapp.read_wheel(wheel(tmp_path / "hostile", files={hostile: ""}))


def test_wheels_that_clash(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """Two wheels that hold different files of one name stop the build."""
    tree = make_tree()
    files = [wheel(tmp_path / "wheels", name, files={"shared.py": name}) for name in ("one", "two")]
    (tree / "requirements.lock").write_text(lock(*files))
    with pytest.raises(build_zipapp.BuildFailed, match=r"shared\.py is in two wheels"):
        build_zipapp.build(tree, tmp_path / "authsome.pyz", wheelhouse=tmp_path / "wheels", pythons=(THIS_PYTHON,))


def test_wheel_cannot_replace_our_code(make_tree: Callable[..., Path], tmp_path: Path) -> None:
    """A dependency that ships a file of our package stops the build."""
    tree = make_tree()
    file = wheel(tmp_path / "wheels", files={"authsome/late.py": "NAME = 'theirs'\n"})
    (tree / "requirements.lock").write_text(lock(file))
    with pytest.raises(build_zipapp.BuildFailed, match=r"authsome/late\.py is in two wheels"):
        build_zipapp.build(tree, tmp_path / "authsome.pyz", wheelhouse=tmp_path / "wheels", pythons=(THIS_PYTHON,))


# The real one


def test_real_archive_carries_what_it_needs(real_archive: Path, tmp_path: Path) -> None:
    """Native modules, keyring's back ends (found by entry points), the proxy's engine: all from the store."""
    installation = Installation(archive=real_archive, home=tmp_path)
    code = (
        "import sys, authsome.archive as a\n"
        "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey\n"
        "from importlib.metadata import entry_points\n"
        "import argon2.low_level, keyring, jeepney, secretstorage\n"
        "AESGCM(bytes(32)).encrypt(bytes(12), b'', b''); Ed25519PrivateKey.generate().sign(b'')\n"
        "argon2.low_level.hash_secret_raw(b'x', bytes(16), 1, 8, 1, 32, argon2.low_level.Type.ID)\n"
        "assert any(e.name == 'SecretService' for e in entry_points(group='keyring.backends'))\n"
        "from authsome.proxy import stubs; stubs.install()\n"
        "import authsome.proxy.full\n"
        "foreign = [m for m in list(sys.modules.values()) if '-packages' in (getattr(m, '__file__', None) or '')]\n"
        "print(foreign, a.verify_cache())"
    )
    done = installation.run(code, "-W", "error::SyntaxWarning")
    assert (done.returncode, done.stdout) == (0, "[] []\n"), done.stderr


def test_real_archive_has_our_data(real_archive: Path, tmp_path: Path) -> None:
    """Provider definitions and templates are beside the modules that read them, and every module is compiled."""
    installation = Installation(archive=real_archive, home=tmp_path)
    assert installation.run().returncode == 0
    package = installation.store / "authsome"
    assert sorted(path.name for path in (package / "providers").glob("*.json")) == sorted(
        path.name for path in (ROOT / "providers").glob("*.json")
    )
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "authsome").rglob("*") if path.is_file()}
    assert {path for path in ours if "__pycache__" not in path} <= {
        path.relative_to(installation.store).as_posix() for path in package.rglob("*")
    }
    for module in package.rglob("*.py"):
        assert list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc")), module
