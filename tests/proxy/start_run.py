"""Becomes a command behind the real proxy, as `authsome run` does: `start_run.py PLAN`, a JSON file.

The daemon's answer to the new run is in the plan, so that a test needs no identity.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome.errors import AuthsomeError, CommandNotStarted
from authsome.home import settings_from
from authsome.proxy import launch, run


class PlannedDaemon:
    """Answers `POST /proxy/runs` from the plan."""

    def __init__(self, url: str, answer: dict[str, object], *, has_to_start: bool) -> None:
        self.url = url
        self.is_supervised = False
        self._answer = answer
        self._has_to_start = has_to_start
        self._meanwhile: Callable[[], None] | None = None

    def call(self, method: str, target: str, body: Mapping[str, object] | None = None) -> Mapping[str, object]:
        """The planned answer."""
        assert (method, target) == ("POST", "/proxy/runs")
        assert body is not None
        if self._has_to_start and self._meanwhile is not None:
            self._meanwhile()
        return self._answer

    def while_starting(self, do: Callable[[], None]) -> None:
        """See `client.api.Daemon`."""
        self._meanwhile = do


def main() -> int:
    """Run the plan; the exit status of `authsome run` when it fails."""
    plan = json.loads(Path(sys.argv[1]).read_bytes())
    inside = os.environ.get("AUTHSOME_RUN", "")
    wish = launch.Wish(plan["command"], unmatched=plan["unmatched"], inside=inside)
    worker = [sys.executable, "-I", str(Path(__file__).with_name("start_worker.py")), *plan["worker_options"]]
    environ = dict(os.environ)
    try:
        run.run(
            wish,
            daemon=PlannedDaemon(plan["daemon_url"], plan["answer"], has_to_start=plan.get("starts_daemon", False)),
            settings=settings_from(environ),
            environ=environ,
            worker_command=worker,
        )
    except CommandNotStarted as error:
        sys.stderr.write(f"authsome: error: {error.message}\n")
        return error.exit_status
    except AuthsomeError as error:
        sys.stderr.write(f"authsome: error: {error.message}\nauthsome: hint: {error.hint}\n")
        return run.FAILED


if __name__ == "__main__":
    sys.exit(main())
