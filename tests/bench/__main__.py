"""Measures what issue and README promise: `python3 tests/bench`, some minutes on a quiet machine.

Rule: one interleaved run. Whatever is compared is measured in turn, round by round, so that a busy minute hits all
alike; medians and ratios are what counts. Nothing here fails because of a figure.
"""

import argparse
import datetime as dt
import os
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
_ENVIRONMENT = CHECKOUT / ".venv" / "bin" / "python"

NAMES = ("startup", "runs", "daemon", "resolve", "flatness", "proxy", "passing", "lasting", "scale", "pages")
_WITH_UPSTREAM = frozenset({"runs", "daemon", "resolve"})


def main() -> int:
    """Measure, print the table, write it down if asked to."""
    parser = argparse.ArgumentParser(prog="python3 tests/bench", description="Measure, in turn with upstream.")
    parser.add_argument("--only", metavar="NAMES", default=",".join(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each is measured (5)")
    parser.add_argument("--no-peers", action="store_true", help="leave upstream out")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="measure this archive instead of building one")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in NAMES]:
        parser.error(f"no measurement is named {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="authsome-bench-") as name:
        return run(options, chosen, Path(name))


def run(options: argparse.Namespace, chosen: list[str], directory: Path) -> int:
    """Measure what was chosen, with homes below `directory`."""
    import lasting  # noqa: PLC0415
    import ours  # noqa: PLC0415
    import pages  # noqa: PLC0415
    import passing  # noqa: PLC0415
    import peers  # noqa: PLC0415
    import report  # noqa: PLC0415
    import resolve  # noqa: PLC0415
    import runs  # noqa: PLC0415
    import scale  # noqa: PLC0415
    import startup  # noqa: PLC0415

    import daemon  # noqa: PLC0415  # after the path is set
    import proxy  # noqa: PLC0415

    archive = options.archive.resolve() if options.archive else ours.build()
    installation = ours.install(archive, directory / "ours")
    subjects = [installation.subject()]
    if not options.no_peers and _WITH_UPSTREAM & set(chosen):
        if python := peers.find_python():
            subjects += [peers.install(python, version, directory / version) for version in peers.VERSIONS]
        else:
            print("bench: there is no Python 3.13: upstream is left out", file=sys.stderr)
    measurements = {
        "startup": lambda: startup.measure(installation, options.rounds),
        "runs": lambda: runs.measure(installation, subjects[1:], options.rounds, directory / "runs"),
        "daemon": lambda: daemon.measure(subjects, options.rounds),
        "resolve": lambda: resolve.measure(subjects, options.rounds),
        "flatness": lambda: resolve.measure_flatness(subjects[0]),
        "proxy": lambda: proxy.measure(archive, directory / "proxy", options.rounds),
        "scale": lambda: scale.measure(archive, directory / "scale", options.rounds),
        "pages": lambda: pages.measure(archive, directory / "pages", options.rounds),
        "passing": lambda: passing.measure(
            archive, directory / "passing", options.rounds, with_peers=not options.no_peers
        ),
        "lasting": lambda: lasting.measure(
            archive, directory / "lasting", options.rounds, with_peers=not options.no_peers
        ),
    }
    rows = []
    for name in chosen:
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        rows += measurements[name]()
    text = f"{report.table(rows)}\n\n{report.verdict(rows)}; {machine()}"
    print(text)
    if options.write:
        write(text)
    return 0


def machine() -> str:
    """What it was measured on, without anything that names the machine."""
    model = "processor unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    today = dt.datetime.now(dt.UTC).date()
    load = os.getloadavg()[1]
    return (
        f"{today}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores of {model},"
        f" Python {platform.python_version()}, load {load:.1f}"
    )


def write(text: str) -> None:
    """Put the table between the marks in docs/benchmarks.md."""
    page = CHECKOUT / "docs" / "benchmarks.md"
    before, opening, rest = page.read_text().partition("<!-- figures -->\n")
    _, closing, after = rest.partition("<!-- end of figures -->")
    page.write_text(f"{before}{opening}{text}\n{closing}{after}")


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix and _ENVIRONMENT.exists():  # started by any Python: go on with the checkout's own
        os.execv(_ENVIRONMENT, [str(_ENVIRONMENT), str(HERE), *sys.argv[1:]])
    sys.path[:0] = [str(HERE), str(HERE.parent), str(CHECKOUT)]
    sys.exit(main())
