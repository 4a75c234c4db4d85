#!/usr/bin/env python3
"""Starts Authsome: from a checkout, and as `__main__` of authsome.pyz.

Rule: every Python since 2.7 must be able to parse this file, or an old one would show a syntax error instead of a
sentence.
"""

import os
import sys


def main():
    # type: () -> int
    """Answer `--version` at once; hand everything else to the boot code. Returns the exit status."""
    if sys.version_info < (3, 11):
        # Percent formatting and plain writes, because this line is for the old ones.
        sys.stderr.write("authsome: error: Python 3.11 or newer is needed, this is %d.%d\n" % sys.version_info[:2])
        return 1
    # `python -I` leaves a script's directory off the path. In the archive this is the archive itself.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    for name in [name for name in sys.modules if name.split(".")[0] == "authsome"]:
        del sys.modules[name]  # another authsome, which the host imported first
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from authsome.archive import boot  # nothing may be imported before the path is set

        boot.open_standard_streams()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from authsome import __version__  # as above

        try:
            sys.stdout.write("authsome %s\n" % __version__)
            sys.stdout.flush()
        except OSError:
            pass  # the command line fails likewise, and says why
        else:
            return 0
    from authsome.archive import boot  # as above

    return boot.run()


if __name__ == "__main__":
    sys.exit(main())
