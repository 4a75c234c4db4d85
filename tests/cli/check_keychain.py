"""Runs the keychain's check on the terminal that it is started on: `check_keychain.py PLATFORM [fix]`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from authsome.cli import keychain
from authsome.cli.context import Context
from authsome.cli.output import Output

if __name__ == "__main__":
    context = Context(os.environ, Output(as_json="json" in sys.argv))
    for grade, message, hint in keychain.check(context, fix="fix" in sys.argv, platform=sys.argv[1]):
        print(f"{grade}: {message}", f"hint: {hint}")
