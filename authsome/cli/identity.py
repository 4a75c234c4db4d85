"""`identity list|create|use|claim|limit|revoke`: the key pairs of this machine, and for whom they act.

Rule: a private key is shown by one command alone, `create --print`, which keeps it nowhere.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from authsome import clock
from authsome.cli import browser, limits, prompt, qr, segments, times
from authsome.cli.answer import member, objects
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.cli.output import Stopwatch
from authsome.client import keys
from authsome.client.api import JsonObject
from authsome.client.supervisor import start_lock
from authsome.errors import AuthenticationFailed, DaemonUnavailable, NotAllowed, TimedOut, UsageError
from authsome.home import quoted
from authsome.identity import did

_PAUSE = 1.0  # seconds between questions, at least
_POLL = 25  # seconds the daemon may keep an answer back
_UNKNOWN = "-"
_LONGEST = timedelta(days=36500)  # longer is without an end, and some of it beyond what a date can be


def configure_list(parser: Parser) -> None:
    """The arguments of `identity list`."""
    parser.flag("--everybody", help="those of all principals (for admins)")


def run_list(args: Arguments, context: Context) -> int:
    """Show the keys that are here, and the identities that the daemon knows of this principal."""
    active = keys.active(context.settings)
    local = {handle: keys.load(context.settings.home, handle) for handle in keys.here(context.settings.home)}
    if active is not None:
        local.setdefault(active.handle, active)
    known: dict[str, JsonObject] = {}
    if active is not None:
        try:
            target = "/identities?everybody=true" if args.flag("everybody") else "/identities"
            answer = context.daemon.call("GET", target)
            known = {str(each["handle"]): each for each in objects(answer, "identities")}
        except (AuthenticationFailed, DaemonUnavailable) as error:
            context.output.note(f"authsome: warning: only what is here: {error.message}")
    rows = [
        _listed(known.get(handle), local.get(handle), is_current=active is not None and handle == active.handle)
        for handle in sorted({*local, *known})
    ]
    if context.output.as_json:
        context.output.result({"identities": rows})
        return 0
    if not rows:
        context.output.hint(
            "there is none yet; the first command that needs one makes it, or: authsome identity create"
        )
        return 0
    shown = [_row(each, everybody=args.flag("everybody")) for each in rows]
    heads = ("", "HANDLE", "KEY", "STATUS", "LAST USE", "LIMITS")
    context.output.table((*heads, "PRINCIPAL") if args.flag("everybody") else heads, shown)
    return 0


def configure_create(parser: Parser) -> None:
    """The arguments of `identity create`."""
    parser.argument(
        "handle", "its name: lower-case letters, digits and hyphens (default: user and host)", required=False
    )
    parser.flag("--use", help="act as it from now on")
    parser.flag("--print", help="keep it nowhere: print it once, as the two variables that a CI needs")
    parser.examples = (
        "authsome identity create agent --use",
        "authsome identity create ci --print | your-ci secrets import",
    )


def run_create(args: Arguments, context: Context) -> int:
    """Make a key pair."""
    context.refuse_inside_run("change what may act")
    if args.flag("print") and args.flag("use"):
        raise UsageError("--print keeps the key nowhere, so there is nothing to --use")
    if args.flag("print"):
        return _print(keys.draw(args.optional("handle")), context)
    home = context.settings.home
    with start_lock(home, context.waiting):
        first = not keys.here(home)
        made = keys.create(context.settings, args.optional("handle"), use=args.flag("use") or first)
    output = context.output
    if output.as_json:
        output.result({**_described(made), "current": args.flag("use") or first})
        return 0
    output.line(good=f"made the identity {made.handle}")
    output.line(f"fingerprint  {did.fingerprint(made.key.did)}")
    if not (args.flag("use") or first):
        output.hint(f"act as it: authsome identity use {made.handle}")
    return 0


def configure_use(parser: Parser) -> None:
    """The arguments of `identity use`."""
    parser.argument("handle", "the identity, as `authsome identity list` shows it")


def run_use(args: Arguments, context: Context) -> int:
    """Choose the identity that acts from here."""
    context.refuse_inside_run("change what may act")
    home = context.settings.home
    with start_lock(home, context.waiting):
        chosen = keys.load(home, args.text("handle"))
        keys.choose(home, chosen.handle)
    if context.output.as_json:
        context.output.result({**_described(chosen), "current": True})
        return 0
    context.output.line(good=f"{chosen.handle} acts from here")
    if context.settings.identity not in {None, chosen.handle} or context.settings.identity_key is not None:
        context.output.note("authsome: warning: the environment names another identity, and goes before")
    return 0


def configure_claim(parser: Parser) -> None:
    """The arguments of `identity claim`."""
    parser.flag("--no-browser", help="show the link instead of opening it")
    parser.examples = ("authsome identity claim",)


def run_claim(args: Arguments, context: Context) -> int:
    """Ask for this identity to be claimed, and wait for the answer."""
    daemon, output = context.daemon, context.output
    identity = daemon.identity
    if daemon.register():
        output.note(f"{identity.handle} is claimed already")
    else:
        asked = daemon.call("POST", "/claim", {})
        _show(str(asked["url"]), identity, context, opens=not args.flag("no-browser"))
        _await(context)
    answer = daemon.call("GET", "/whoami")
    if output.as_json:
        output.result(answer)
        return 0
    principal = member(answer, "principal")
    output.line(good=f"{identity.handle} acts for {principal.get('name')}")
    if limited := limits.words(member(answer, "limits")):
        output.line(f"limited to  {limited}")
    return 0


def configure_limit(parser: Parser) -> None:
    """The arguments of `identity limit`."""
    parser.argument("handle", "the identity, as `authsome identity list` shows it")
    parser.option("--connections", metavar="a,b", help="what it may use: github, github/work, open*, */ci")
    parser.option("--methods", metavar="A,B", help="of its requests, such as GET,HEAD; then nothing can be exported")
    parser.option("--for", metavar="DURATION", help="how long it may act from now on: 90s, 15m, 1h, 30d")
    parser.flag("--none", help="lift all limits")
    parser.flag("--last", help="also where no other acts for you without limits, and you have no password")
    parser.examples = (
        "authsome identity limit ci --connections github,npm --for 30d",
        "authsome identity limit agent --methods GET,HEAD",
        "authsome identity limit laptop --none",
    )


def run_limit(args: Arguments, context: Context) -> int:
    """Put new limits in the place of those that an identity has."""
    context.refuse_inside_run("change what may act")
    handle = args.text("handle")
    given = {name: args.optional(name) for name in ("connections", "methods", "for")}
    if args.flag("none") == any(value is not None for value in given.values()):
        raise UsageError("say what the limits are, or --none", hint="see `authsome identity limit --help`")
    body: dict[str, object] = {}
    for name in ("connections", "methods"):
        if (value := given[name]) is not None:
            body[name] = [word for word in value.replace(",", " ").split() if word]
    if (end := given["for"]) is not None:
        body["expires_at"] = _end(end, clock.now()).isoformat(timespec="seconds")
    own = _own(context)
    answer = context.daemon.call("POST", _act(handle, "limits", last=args.flag("last")), body)
    if body:
        _warn(handle, body, own, context)
    if context.output.as_json:
        context.output.result(answer)
        return 0
    limited = limits.words(member(answer, "limits"))
    verb = "may act" if limited.startswith("until") else "is limited to"
    context.output.line(good=f"{handle} {verb} {limited}" if limited else f"{handle} has no limits")
    return 0


def _warn(handle: str, body: JsonObject, own: Sequence[JsonObject], context: Context) -> None:
    """Say what a new limit does beside limiting."""
    before = next((member(each, "limits") for each in own if each.get("handle") == handle), {})
    if lifted := limits.words({name: value for name, value in before.items() if name not in body}):
        context.output.note(f"authsome: warning: no longer limited to {lifted}: name together all that is to hold")
    if _acting(own) == {handle}:
        context.output.note(
            "authsome: warning: no other acts for you without limits: only who signs in by a password lifts these"
        )


def configure_revoke(parser: Parser) -> None:
    """The arguments of `identity revoke`."""
    parser.argument("handle", "the identity, as `authsome identity list` shows it")
    parser.flag("--yes", help="do not ask")
    parser.flag("--last", help="also where no other acts for you without limits, and you have no password")


def run_revoke(args: Arguments, context: Context) -> int:
    """Revoke an identity for good; its running commands get no more credentials."""
    context.refuse_inside_run("change what may act")
    handle = args.text("handle")
    last = args.flag("last")
    if not args.flag("yes"):
        known = _last(handle, context) if prompt.possible() and not context.output.as_json else ""
        prompt.agree(context.output, f"{handle} will never act again, and its runs end.{known} Revoke it?")
        last = last or bool(known)
    answer = context.daemon.call("POST", _act(handle, "revoke", last=last), {})
    if context.output.as_json:
        context.output.result(answer)
        return 0
    context.output.line(good=f"revoked {handle}")
    path = keys.key_path(context.settings.home, handle)
    if path.exists():
        context.output.hint(f"its key is of no more use: rm {quoted(path)}")
    return 0


def _act(handle: str, what: str, *, last: bool) -> str:
    return f"/identities/{segments.named(handle)}/{what}{'?last=true' if last else ''}"


def _last(handle: str, context: Context) -> str:
    """What else is to be known before the last identity is revoked that could make another one act."""
    if _acting(_own(context)) != {handle}:
        return ""
    return (
        " No other acts for you without limits: unless you sign in to the dashboard by a password, nobody can any more."
    )


def _acting(own: Sequence[JsonObject]) -> set[object]:
    """The handles of those that act without limits."""
    return {each.get("handle") for each in own if each.get("status") == "active" and not _is_limited(each)}


def _own(context: Context) -> Sequence[JsonObject]:
    return objects(context.daemon.call("GET", "/identities"), "identities")


def _is_limited(listed: JsonObject) -> bool:
    return any(member(listed, "limits").values())


def _print(drawn: keys.ActiveIdentity, context: Context) -> int:
    if context.output.as_json:
        context.output.result({**_described(drawn), "key": keys.encoded(drawn)})
    else:
        context.output.raw(f"AUTHSOME_IDENTITY={drawn.handle}\nAUTHSOME_IDENTITY_KEY={keys.encoded(drawn)}\n")
    context.output.hint(f"fingerprint  {did.fingerprint(drawn.key.did)}")
    context.output.hint("kept nowhere; with both variables set, ask for it to be claimed: authsome identity claim")
    return 0


def _show(link: str, identity: keys.ActiveIdentity, context: Context, *, opens: bool) -> None:
    output = context.output
    opened = opens and browser.available(context.environ) and browser.open_url(link, context.environ)
    output.note(f"{identity.handle} asks to act for whoever confirms it, signed in, at")
    output.note(f"  {link}")
    output.note(f"if the page shows the fingerprint  {did.fingerprint(identity.key.did)}")
    if not opened and output.progress_shown:
        output.picture(qr.lines(link, dark_on_light=output.err_color))


def _await(context: Context) -> None:
    """Wait for the answer.

    Raises:
        NotAllowed: it was no.
        TimedOut: there was none in time.
    """
    watch = Stopwatch()
    patience = 1 if context.output.progress_shown else _POLL
    while True:
        context.output.progress(f"waiting for the confirmation … {watch}, Ctrl-C stops")
        asked_at = time.monotonic()
        state = context.daemon.wait_for(f"/claim?wait={patience}", timeout=patience + 15.0).get("state")
        if state == "claimed":
            return
        if state == "refused":
            raise NotAllowed("whoever is signed in there did not confirm it")
        if state != "waiting":
            raise TimedOut("nobody confirmed it in time", hint="ask again: authsome identity claim")
        time.sleep(max(0.0, asked_at + _PAUSE - time.monotonic()))  # a busy daemon answers at once


def _listed(known: JsonObject | None, local: keys.ActiveIdentity | None, *, is_current: bool) -> dict[str, object]:
    """One row: what the daemon says of an identity, or as much as its key says."""
    row: dict[str, object] = {"status": None, "limits": None, "last_used_at": None, "principal": None}
    row |= _described(local) if local is not None else {}
    row |= known or {}
    return {**row, "here": local is not None and local.path is not None, "current": is_current}


def _row(each: JsonObject, *, everybody: bool) -> tuple[str, ...]:
    now = clock.now()
    used = times.parse_time(each.get("last_used_at"))
    row = (
        "*" if each["current"] else "",
        str(each["handle"]),
        "here" if each["here"] else "environment" if each["current"] else "elsewhere",
        str(each["status"] or _UNKNOWN),
        times.until(used, now) if used else _UNKNOWN,
        limits.words(member(each, "limits")) or _UNKNOWN,
    )
    principal = member(each, "principal")
    return (*row, str(principal.get("email") or principal.get("name") or _UNKNOWN)) if everybody else row


def _described(identity: keys.ActiveIdentity) -> dict[str, object]:
    return {
        "handle": identity.handle,
        "did": identity.key.did,
        "fingerprint": did.fingerprint(identity.key.did),
    }


def _end(text: str, now: datetime) -> datetime:
    duration = times.parse_duration(text)
    if not duration or duration > _LONGEST:
        raise UsageError("--for takes a duration, of a hundred years at most", hint="such as 90s, 15m, 1h or 30d")
    return now + duration
