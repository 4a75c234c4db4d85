"""`python -m authsome`: the installed package started without its console script."""

import sys

from authsome.cli.main import program

if __name__ == "__main__":
    sys.exit(program())
