"""The transcripts: what somebody types, and exactly what they see.

A file is a session in one home. `$ ` begins a command line of authsome (as a shell would read it), `< ` a line of its
standard input, `? ` the exit status when it is not 0, and the rest is what standard output and standard error show
together. `[…]` stands for anything on its line.
"""

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.program import Program

DIRECTORY = Path(__file__).resolve().parents[1] / "transcripts"
ANYTHING = "[…]"


@dataclass
class Step:
    words: list[str]
    input: str = ""
    status: int = 0
    output: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("$ authsome"):
            found.append(Step(words=shlex.split(line)[2:]))
        elif line.startswith("< "):
            found[-1].input += line[2:] + "\n"
        elif line.startswith("? "):
            found[-1].status = int(line[2:])
        elif line or (found and found[-1].output):
            found[-1].output.append(line)
    for step in found:
        while step.output and not step.output[-1]:
            step.output.pop()
    return found


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(program: Program, path: Path):
    for step in steps(path.read_text()):
        done = subprocess.run(
            program.argv(*step.words),
            input=step.input,
            env=program.environment({"BROWSER": None}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            cwd=program.directory,
            timeout=60,
            check=False,
        )
        shown = [line for line in done.stdout.splitlines() if line != "starting the daemon …"]
        label = shlex.join(["authsome", *step.words])
        assert done.returncode == step.status, f"{label}\n{done.stdout}"
        assert len(shown) == len(step.output), f"{label}\n{done.stdout}"
        for line, wanted in zip(shown, step.output, strict=True):
            pattern = ".*".join(re.escape(part) for part in wanted.split(ANYTHING))
            assert re.fullmatch(pattern, line), f"{label}\nwanted: {wanted}\nshown:  {line}"
