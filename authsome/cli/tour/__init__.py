"""`tour`: the main job, shown with real processes and servers on loopback, in a home that is gone afterwards."""

from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context


def configure_tour(parser: Parser) -> None:
    """The arguments of `tour`."""
    parser.flag("--browser", help="press the provider's button yourself, in your browser")


def run_tour(args: Arguments, context: Context) -> int:
    """Show the main job; the exit status is 1 when anything did not hold."""
    from authsome.cli.tour import story  # noqa: PLC0415  # servers and certificates, which no other command needs

    return story.tell(context, real_browser=args.flag("browser"))
