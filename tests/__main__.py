"""`python3 tests`: every check of this project, from a bare Python 3.11 on.

Rule: the standard library only, and nothing that is installed already is relied on. The first run makes `.venv`,
fetches what the tests need from npm, and, as root on Debian, the programs that are missing; a later one finds all that
in place.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
FAKES: Final = ROOT / "tests" / "fakes"
REPORT: Final = ROOT / ".cache" / "tests.xml"
REQUIREMENTS: Final = (ROOT / "requirements.lock", ROOT / "tests" / "requirements.txt")
LONGEST_TEST: Final = 600  # seconds; a test that hangs fails with its stack instead of hanging the whole run
WORKERS: Final = 2 * (os.cpu_count() or 1)  # most tests wait for other programs: with twice the cores half the time

PROGRAMS: Final[Mapping[str, str]] = {
    "age": "age",
    "chromium": "chromium",
    "curl": "curl",
    "gcc": "gcc",  # Go links the system's resolver
    "gh": "gh",
    "git": "git",
    "go": "golang-go",
    "ip": "iproute2",
    "javac": "default-jdk-headless",
    "nginx": "nginx",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "setsid": "util-linux",
    "ssh-keygen": "openssh-client",
    "strace": "strace",
    "wget": "wget",
}
"""What the tests run beside Python, and the Debian package that has it."""

PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


class SetUpFailed(Exception):
    """The checks cannot run here; the message says what to do."""


class CheckFailed(Exception):
    """A check did not hold; the message says which part of it."""


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    only: tuple[str, ...]
    pytest: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How one check ended."""

    name: str
    seconds: float
    passed: int
    failed: int


# ---- set-up ------------------------------------------------------------------------------------------------


def set_up() -> None:
    """Put everything in place that is not."""
    if sys.version_info < (3, 11):  # noqa: UP036  # said here, before a newer syntax says it less clearly
        raise SetUpFailed(f"the tests need Python 3.11 or newer; this is {sys.version.split()[0]}")
    with headline("set-up"):
        install_programs()
        make_environment()
        install_node_packages()


def install_programs() -> None:
    """Install the Debian packages of the programs that are missing."""
    missing = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=PATH)})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetUpFailed(f"missing programs; install them and try again: apt-get install {' '.join(missing)}")
    apt_install(missing)


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages without starting the services some of them bring."""
    say(f"installing {', '.join(packages)}")
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        options = ["-q", "-o", "Dpkg::Use-Pty=0", "-o", "APT::Install-Recommends=false"]
        log = Path(directory) / "log"
        for arguments in (["update"], ["install", "--yes", *packages]):
            with log.open("wb") as output:
                status = subprocess.run(
                    ["apt-get", *options, *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                ).returncode
            if status:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise SetUpFailed(f"apt-get {' '.join(arguments)} failed:\n{tail}")


def make_environment() -> None:
    """Make `.venv` anew when its Python or its requirements have changed."""
    files = [path for path in REQUIREMENTS if path.exists()]
    digest = hashlib.sha256(sys.version.encode() + str(Path(sys.executable).resolve()).encode())
    for path in files:
        digest.update(path.read_bytes())
    stamp = VENV / "made-of"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    say(f"making {VENV.name} ({sys.version.split()[0]})")
    pip = [str(PYTHON), "-m", "pip"]
    arguments = ["-m", "venv", "--clear", str(VENV)]
    if not importlib.util.find_spec("ensurepip"):
        if importlib.util.find_spec("pip"):  # Debian's python3-pip without python3-venv: pip serves another Python
            arguments.append("--without-pip")
            pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
        elif os.geteuid() == 0 and shutil.which("apt-get"):
            apt_install(["python3-venv"])
        else:
            raise SetUpFailed("Python's venv module is incomplete; as root: apt-get install python3-venv")
    run([sys.executable, *arguments], "making the environment")
    if "--without-pip" in arguments:
        run([*pip, "install", "-qq", "pip"], "installing pip")
    install = ["install", "-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    for path in files:
        say(f"installing {path.relative_to(ROOT)}")
        run([*pip, *install, "--requirement", str(path)], f"installing {path.name}")
    stamp.write_text(digest.hexdigest())


def install_node_packages() -> None:
    """Install what the fakes run on Node, when package-lock.json is not what is installed."""
    lock = FAKES / "package-lock.json"
    stamp = FAKES / "node_modules" / ".made-of"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    say(f"installing {lock.relative_to(ROOT)}")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    run(command, "npm ci", directory=FAKES)
    stamp.write_text(digest)


def run(command: Sequence[str], what: str, *, directory: Path = ROOT) -> None:
    """Run a set-up command that has to succeed."""
    if subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, check=False).returncode:
        raise SetUpFailed(f"{what} failed; the lines above say why")


# ---- checks ------------------------------------------------------------------------------------------------


def check(*command: str) -> None:
    """Run a program of the environment that has to succeed."""
    if subprocess.run([str(PYTHON), "-m", *command], cwd=ROOT, env=environment(), check=False).returncode:
        raise CheckFailed(f"{command[0]} failed")


def check_format(_: Options) -> tuple[int, int]:
    """Nothing is formatted otherwise than by ruff."""
    check("ruff", "format", "--check", ".")
    return 1, 0


def check_lint(_: Options) -> tuple[int, int]:
    """Ruff has nothing to say."""
    check("ruff", "check", ".")
    return 1, 0


def check_types(_: Options) -> tuple[int, int]:
    """Mypy, strict, has nothing to say of the package and its build."""
    check("mypy", "-p", "authsome")
    check("mypy", "build_zipapp.py")
    return 1, 0


def check_tests(options: Options) -> tuple[int, int]:
    """Pytest passes; what it counted is counted here."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    # A file's tests share servers and stay with one worker; in the order of the files (conftest.py), as those of few
    # and long tests would come last otherwise. Chosen tests run in one process: -s and --pdb work there.
    spread = () if options.pytest else (f"--numprocesses={WORKERS}", "--dist=loadfile", "--no-loadscope-reorder")
    ours = (f"--timeout={LONGEST_TEST}", f"--junitxml={REPORT}", *spread)
    command = [str(PYTHON), "-m", "pytest", *ours, *options.pytest]
    status = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    if not REPORT.exists():
        raise CheckFailed(f"pytest ended with status {status}, before it had run a test")
    suites = ET.parse(REPORT).getroot().iter("testsuite")  # pytest wrote it just now
    counts = [{key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")} for suite in suites]
    failed = sum(count["failures"] + count["errors"] for count in counts)
    passed = sum(count["tests"] - count["skipped"] for count in counts) - failed
    if status and not failed:
        raise CheckFailed(f"pytest ended with status {status}, though no test failed")
    return passed, failed


def check_archive(_: Options) -> tuple[int, int]:
    """The archive builds, and works alone: no checkout, no home, no environment to lean on."""
    archive = ROOT / "authsome.pyz"
    build = [str(PYTHON), str(ROOT / "build_zipapp.py")]  # it needs pip, which a bare Python may not have
    if subprocess.run(build, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode:
        raise CheckFailed("build_zipapp.py failed")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="authsome-") as name:
        directory = Path(name)
        home = directory / "home"
        elsewhere = directory / "elsewhere"
        home.mkdir()
        elsewhere.mkdir()
        shutil.copy(archive, elsewhere)
        bare = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        for arguments in SMOKE:
            started = time.monotonic()
            status = subprocess.run(
                ["python3", "authsome.pyz", *arguments],
                cwd=elsewhere,
                env=bare,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=LONGEST_TEST,
            ).returncode
            say(f"authsome.pyz {' '.join(arguments)}: status {status}, {time.monotonic() - started:.1f} s")
            failed += status != 0
        left = processes_of(directory)
        for pid, command in left.items():
            say(f"left running: {command}")
            os.kill(pid, signal.SIGKILL)
        failed += bool(left)
    return len(SMOKE) + 1 - failed, failed


def processes_of(directory: Path) -> dict[int, str]:
    """The processes that were started with a home below this directory, command line by pid."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(directory) in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is another user's
    return found


SMOKE: Final = (("--version",), ("--help",), ("tour",))
"""The commands that a newcomer's archive has to do, in this order; none may leave a process behind."""

CHECKS: Final[Mapping[str, Callable[[Options], tuple[int, int]]]] = {
    "format": check_format,
    "lint": check_lint,
    "types": check_types,
    "tests": check_tests,
    "archive": check_archive,
}


def environment() -> dict[str, str]:
    """The environment of a check: the environment's programs first, and nothing of Authsome's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSOME_")}
    return {**kept, "PATH": f"{VENV / 'bin'}:{PATH}", "PYTHONUNBUFFERED": "1"}


# ---- the run -----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line at once: what follows may take a while."""
    print(f"   {text}", flush=True)


@contextmanager
def headline(name: str) -> Iterator[None]:
    """Print a headline before, and the time it took after."""
    started = time.monotonic()
    print(f"== {name}", flush=True)
    yield
    print(f"   {name}: {time.monotonic() - started:.1f} s\n", flush=True)


def run_check(name: str, options: Options) -> Outcome:
    """Run one check to its end; a failure is an outcome."""
    started = time.monotonic()
    try:
        with headline(name):
            passed, failed = CHECKS[name](options)
    except (CheckFailed, OSError, subprocess.TimeoutExpired) as error:
        say(f"{name}: {error}")
        passed, failed = 0, 1
    return Outcome(name, time.monotonic() - started, passed, failed)


def summary(outcomes: Sequence[Outcome]) -> int:
    """Print how it went; the exit status."""
    print("== summary")
    for outcome in outcomes:
        say(f"{outcome.name:8} {'FAILED' if outcome.failed else 'ok':7} {outcome.seconds:7.1f} s")
    passed, failed = sum(o.passed for o in outcomes), sum(o.failed for o in outcomes)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; what is not ours goes to pytest."""
    parser = argparse.ArgumentParser(
        prog="python3 tests",
        description="Set up and run every check.",
        epilog="Paths, -k, -x and other arguments go to pytest; with any, only the tests run unless --only says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--only", metavar="NAMES", help=f"some of the checks: {','.join(CHECKS)}")
    ours, rest = parser.parse_known_args(arguments)
    only = tuple(ours.only.split(",")) if ours.only else ("tests",) if rest else tuple(CHECKS)
    if unknown := [name for name in only if name not in CHECKS]:
        parser.error(f"no check is named {', '.join(unknown)}")
    return Options(only=only, pytest=tuple(rest))


def main() -> int:
    """Set up, run the checks, sum up."""
    options = parse(sys.argv[1:])
    try:
        set_up()
    except SetUpFailed as error:
        print(f"tests: error: {error}", file=sys.stderr)
        return 1
    return summary([run_check(name, options) for name in CHECKS if name in options.only])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
