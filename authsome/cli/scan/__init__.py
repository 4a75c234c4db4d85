"""`scan`: keys that lie in files and in the environment, against what is stored."""

from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context


def configure_scan(parser: Parser) -> None:
    """The arguments of `scan`."""
    parser.argument("path", "files, or directories to look in (default: this one)", required=False, many=True)
    parser.flag("--import", help="store what is not stored yet, each after asking")
    parser.flag("--replace", help="put placeholders in .env files in place of keys that are stored")
    parser.option("--connection", metavar="NAME", help="the connection to compare with and to store as")
    parser.flag("--yes", help="import and replace without being asked")
    parser.flag("--no-verify", help="store keys without trying them on their providers")
    parser.examples = ("authsome scan", "authsome scan --import ~/project", "authsome scan --import --replace --yes")


def run_scan(args: Arguments, context: Context) -> int:
    """Report what lies where, and import it when that is asked for."""
    from authsome.cli.scan import report  # noqa: PLC0415  # what help does without

    return report.scan(args, context)
