"""`log`: what happened, from the audit."""

import time
import urllib.parse
from collections.abc import Mapping

from authsome import clock
from authsome.cli import times
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import UsageError

_PAGE = 200  # events of one request
_POLL = 1.0  # seconds between looks with --follow
_PATIENCE = 30.0  # seconds for one of them
_MOST = 100_000


def configure_log(parser: Parser) -> None:
    """The arguments of `log`."""
    parser.option("-n", "--lines", metavar="N", help="how many events (default: 50)")
    parser.flag("-f", "--follow", help="go on showing what happens, until Ctrl-C")
    parser.option("--event", metavar="EVENT", help="only this kind: login, resolve, refresh, export, denied …")
    parser.option("--provider", metavar="PROVIDER", help="only this provider")
    parser.option("--identity", metavar="HANDLE", help="only what this identity did")
    parser.option("--since", metavar="WHEN", help="only what happened since: 1h, 2d, 2026-01-31")


def run_log(args: Arguments, context: Context) -> int:
    """Show the newest events, oldest of them first."""
    query = {name: value for name in ("event", "provider", "identity") if (value := args.optional(name))}
    if (since := args.optional("since")) is not None:
        query["since"] = times.parse_since(since, clock.now()).isoformat()
    events = _newest(context, query, _count(args))
    output = context.output
    if output.as_json and not args.flag("follow"):
        output.result({"events": events})
        return 0
    for event in events:
        _show(context, event)
    if not events and not args.flag("follow"):
        output.hint("nothing has happened yet" if not query else "nothing of that kind has happened")
    if args.flag("follow"):
        _follow(context, query, _last_id(events))
    return 0


def _count(args: Arguments) -> int:
    text = args.optional("lines") or "50"
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 0 < int(text) <= _MOST):
        raise UsageError("-n takes a number of events", hint=f"from 1 to {_MOST}")
    return int(text)


def _newest(context: Context, query: Mapping[str, str], count: int) -> list[dict[str, object]]:
    """The newest events, oldest first; fetched page by page."""
    found: list[dict[str, object]] = []
    while len(found) < count:
        asked = dict(query) | {"limit": str(min(_PAGE, count - len(found)))}
        if found:
            asked["before"] = str(found[-1]["id"])
        page = _page(context, asked)
        found += page
        if len(page) < int(asked["limit"]):
            break
    return found[::-1]


def _follow(context: Context, query: Mapping[str, str], last: int) -> None:
    while True:
        time.sleep(_POLL)
        fresh: list[dict[str, object]] = []
        before: dict[str, str] = {}
        while True:
            page = _page(context, dict(query) | before | {"limit": str(_PAGE)}, waits=True)
            fresh += [event for event in page if _id(event) > last]
            if len(page) < _PAGE or _id(page[-1]) <= last:
                break
            before = {"before": str(page[-1]["id"])}
        for event in fresh[::-1]:
            _show(context, event)
        last = max([last, *(_id(event) for event in fresh)])


def _page(context: Context, query: Mapping[str, str], *, waits: bool = False) -> list[dict[str, object]]:
    """A page of the log; who `waits` for what is to come outlasts a restart of the daemon."""
    target = f"/audit/events?{urllib.parse.urlencode(query)}"
    daemon = context.daemon
    answer = (daemon.wait_for(target, timeout=_PATIENCE) if waits else daemon.call("GET", target)).get("events")
    return [event for event in answer if isinstance(event, dict)] if isinstance(answer, list) else []


def _id(event: Mapping[str, object]) -> int:
    number = event.get("id")
    return number if isinstance(number, int) else 0


def _last_id(events: list[dict[str, object]]) -> int:
    return max((_id(event) for event in events), default=0)


def _show(context: Context, event: Mapping[str, object]) -> None:
    """One event on one line; under `--json --follow`, one object on one line."""
    output = context.output
    if output.as_json:
        output.record(event)
        return
    moment = times.parse_time(event.get("at"))
    stamp = f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else "?"
    target = " ".join(
        str(event[name]) for name in ("provider", "connection", "method", "host", "path", "detail") if event.get(name)
    )
    actor = str(event.get("identity") or event.get("principal") or "-")
    output.line(f"{stamp}  {str(event.get('event', '')).ljust(14)}  {actor}  {target}".rstrip())
    output.flush()
