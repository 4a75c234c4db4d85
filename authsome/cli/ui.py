"""`ui`: the dashboard, by a link that signs one browser in."""

from authsome.cli import browser
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import NotAllowed


def configure_ui(parser: Parser) -> None:
    """Declare the options of `ui`."""
    parser.flag("--no-browser", help="print the link, and open nothing")


def run_ui(args: Arguments, context: Context) -> int:
    """Open the dashboard in the user's browser, or print a link to it."""
    if context.inside_run:
        raise NotAllowed("the dashboard is not opened from inside a run", hint="do it in a terminal of your own")
    link = context.daemon.call("POST", "/ui/links")
    url = str(link["url"])
    output = context.output
    if output.as_json:
        output.result({"url": url, "expires_at": link["expires_at"]})
        return 0
    if not args.flag("no-browser") and browser.available(context.environ) and browser.open_url(url, context.environ):
        output.note("the dashboard opens in your browser; the link in it serves once")
        return 0
    output.line(url)
    output.note("open this in a browser within five minutes; it serves once, and signs that browser in as you")
    return 0
