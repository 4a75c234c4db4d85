"""An archive and the user who runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An archive in a directory of its own, and the user who runs it: an empty home, an empty environment."""

    archive: Path
    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """Where the stores are made unless something speaks against it."""
        return self.home / ".cache" / "authsome" / "pyz"

    @property
    def stores(self) -> list[str]:
        """Every name in that place."""
        return sorted(path.name for path in self.place.iterdir()) if self.place.exists() else []

    @property
    def store(self) -> Path:
        """The one store there is."""
        (name,) = self.stores
        return self.place / name

    def argv(self, code: str, *flags: str) -> list[str]:
        """The command that runs `code` inside the archive; signals act on it whatever the tests were started with."""
        return ["env", "--default-signal", sys.executable, *flags, str(self.archive), code]

    def environment(self, variables: Mapping[str, str | None]) -> dict[str, str]:
        """HOME and PATH and what the test says; None takes a variable away."""
        merged = {"HOME": str(self.home), "PATH": os.environ["PATH"], **self.variables, **variables}
        return {name: value for name, value in merged.items() if value is not None}

    def run(
        self,
        code: str = "print('ran')",
        *flags: str,
        cwd: Path | None = None,
        prefix: tuple[str, ...] = (),
        **env: str | None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `code` inside the archive, with `prefix` before the interpreter and `env` on top of the environment."""
        command = [*prefix, *self.argv(code, *flags)]
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self, expression: str, *flags: str, **env: str | None) -> object:
        """The value of an expression inside the archive; `a` is `authsome.archive`."""
        code = f"import json, sys, authsome.archive as a; print(json.dumps({expression}))"
        done = self.run(code, *flags, **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
