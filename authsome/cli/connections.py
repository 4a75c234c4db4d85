"""`list`, `get`, `inspect`, `export`, `set-default`, `logout`, `revoke`: what is stored, and what becomes of it."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from authsome import clock
from authsome.cli import prompt, quoting, segments, times
from authsome.cli.answer import member, objects
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import (
    ConnectionNotFound,
    CredentialUnavailable,
    NotAllowed,
    ProviderNotFound,
    UsageError,
    from_code,
)
from authsome.models.connection import DEFAULT_CONNECTION

DEFAULT = "-"
"""Stands for the default connection in the daemon's addresses."""

_NOTHING = "-"
_REVOKE_LIMIT = 300.0  # seconds; a provider may take 30 for each of two tokens of each connection
_ORDER = {"connected": 0, "expired": 1, "invalid": 2}
_STATUS_WORDS = {"invalid": "login needed"}


# ---- list ------------------------------------------------------------------------------------------------------------


def configure_list(parser: Parser) -> None:
    """The arguments of `list`."""
    parser.flag("--connected", help="only what is connected")


def run_list(args: Arguments, context: Context) -> int:
    """Show the providers and their connections."""
    providers = _with_connections(context)
    if args.flag("connected"):
        providers = [provider for provider in providers if provider["connections"]]
    output = context.output
    if output.as_json:
        output.result({"providers": providers})
        return 0
    now = clock.now()
    rows = [row for provider in providers for row in _rows(provider, now)]
    if rows:
        output.table(("PROVIDER", "CONNECTION", "STATUS", "EXPIRES", "KIND", "SOURCE"), rows)
    if not any(provider["connections"] for provider in providers):
        output.hint("nothing is connected yet; start with: authsome login PROVIDER")
    for provider in providers:
        if provider.get("problem"):
            output.note(f"authsome: warning: {provider['problem']}")
        for each in objects(provider, "connections"):
            if (used := times.parse_time(each.get("used_at"))) is not None:
                what = f"the honeytoken {each['connection']} of {provider['name']} was used {times.until(used, now)}"
                output.note(f"authsome: warning: {what}; see: authsome log --event honeytoken")
            if each.get("problem"):
                output.note(f"authsome: warning: {provider['name']} ({each['connection']}): {each['problem']}")
    return 0


def _with_connections(context: Context) -> list[dict[str, object]]:
    """Each provider with its connections: the connected ones first, then by name."""
    connections = objects(context.daemon.call("GET", "/connections"), "connections")
    providers = [dict(each) for each in objects(context.daemon.call("GET", "/providers"), "providers")]
    known = {provider["name"] for provider in providers}
    orphaned = sorted({str(each["provider"]) for each in connections} - known)
    providers += [{"name": name, "source": "missing", "auth_type": "", "problem": None} for name in orphaned]
    for provider in providers:
        own = [each for each in connections if each["provider"] == provider["name"]]
        provider["connections"] = sorted(own, key=lambda each: (not each.get("default"), str(each["connection"])))
    return sorted(providers, key=lambda provider: (not provider["connections"], str(provider["name"])))


def _rows(provider: Mapping[str, object], now: datetime) -> list[tuple[str, ...]]:
    name, source = str(provider["name"]), str(provider.get("source", ""))
    connections = provider["connections"]
    if not isinstance(connections, list) or not connections:
        status = "broken" if provider.get("problem") else _NOTHING
        return [(name, _NOTHING, status, _NOTHING, str(provider.get("auth_type") or _NOTHING), source)]
    return [
        (
            name,
            str(each["connection"]) + (" *" if each.get("default") and len(connections) > 1 else ""),
            _status(each),
            _expiry(each, now),
            str(each.get("kind") or _NOTHING),
            source,
        )
        for each in connections
    ]


def _status(connection: Mapping[str, object]) -> str:
    if connection.get("honeytoken"):
        return "honeytoken, USED" if connection.get("used_at") else "honeytoken"
    status = str(connection.get("status"))
    return _STATUS_WORDS.get(status, status)


def _expiry(connection: Mapping[str, object], now: datetime) -> str:
    moment = times.parse_time(connection.get("expires_at"))
    return times.until(moment, now) if moment else _NOTHING


# ---- get -------------------------------------------------------------------------------------------------------------


def configure_get(parser: Parser) -> None:
    """The arguments of `get`."""
    parser.argument("provider", "a provider's name")
    parser.option("--connection", metavar="NAME", help="which connection (default: the provider's default)")
    parser.option("--field", metavar="FIELD", help="just this field")
    parser.flag("--show-secret", help="show the secrets, on a terminal, after asking; it is written to the audit log")


def run_get(args: Arguments, context: Context) -> int:
    """Show one connection."""
    provider, output = args.text("provider"), context.output
    path = _path(provider, args.optional("connection"))
    if args.flag("show-secret"):
        _may_show(context)
    answer = context.daemon.call("GET", path)
    connection, fields = member(answer, "connection"), member(answer, "fields")
    wanted = args.optional("field")
    if wanted is not None and wanted not in fields and wanted not in connection:
        known = sorted({*fields, *connection})
        raise ConnectionNotFound(f"{provider} has no field {wanted[:64]}", hint=f"it has {', '.join(known)}")
    if args.flag("show-secret") and (wanted is None or wanted in fields):
        name = str(connection["connection"])
        if not prompt.confirm(output, f"show the secrets of {provider} ({name}) on this terminal?"):
            raise NotAllowed("nothing was shown")
        fields |= member(context.daemon.call("POST", f"{_path(provider, name)}/secrets", {"purpose": "show"}), "fields")
    if wanted is not None:
        value = fields.get(wanted, connection.get(wanted))
        if output.as_json:
            output.result({wanted: value})
        else:
            output.line(_plain(value))
        return 0
    if output.as_json:
        output.result(connection | {"fields": fields})
        return 0
    _show(connection, fields, context)
    return 0


def _may_show(context: Context) -> None:
    _refuse_inside_run(context)
    if context.output.as_json or not (prompt.possible() and sys.stdout.isatty()):
        raise NotAllowed(
            "--show-secret shows on a terminal, to somebody who is there",
            hint="for scripts: authsome run -- COMMAND, or authsome export",
        )


def _refuse_inside_run(context: Context) -> None:
    if context.inside_run:
        raise NotAllowed("a run's child gets no secret in clear", hint="its requests carry the credential without it")


def _show(connection: Mapping[str, object], fields: Mapping[str, object], context: Context) -> None:
    now, output = clock.now(), context.output
    variables = member(connection, "variables")
    shown: list[tuple[str, str]] = [
        ("provider", str(connection["provider"])),
        ("connection", str(connection["connection"]) + (" (default)" if connection.get("default") else "")),
        ("status", _status(connection)),
        ("problem", _plain(connection.get("problem"))),
        ("kind", str(connection.get("kind", ""))),
        ("account", _plain(connection.get("account"))),
        ("scopes", _plain(connection.get("scopes"))),
        ("expires", _when(connection.get("expires_at"), now)),
        ("stored", _when(connection.get("updated_at"), now)),
        *((name, str(value)) for name, value in variables.items()),
        *((name, str(value)) for name, value in fields.items()),
    ]
    shown = [(name, value) for name, value in shown if value]
    size = max(len(name) for name, _ in shown)
    for name, value in shown:
        output.line(f"{name.ljust(size)}  {value}")


def _when(value: object, now: datetime) -> str:
    moment = times.parse_time(value)
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({times.until(moment, now)})" if moment else ""


def _plain(value: object) -> str:
    if value is None:
        return ""
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value)


# ---- inspect ---------------------------------------------------------------------------------------------------------


def configure_inspect(parser: Parser) -> None:
    """The arguments of `inspect`."""
    parser.argument("provider", "a provider's name")


def run_inspect(args: Arguments, context: Context) -> int:
    """Show a provider's definition."""
    answer = context.daemon.call("GET", f"/providers/{segments.named(args.text('provider'))}")
    output = context.output
    if output.as_json:
        output.result(answer)
        return 0
    place = f", {answer['path']}" if answer.get("path") else ""
    output.note(f"{args.text('provider')}: {answer.get('source')} definition{place}")
    output.result(member(answer, "definition"))
    return 0


# ---- export ----------------------------------------------------------------------------------------------------------


def configure_export(parser: Parser) -> None:
    """The arguments of `export`."""
    parser.argument("provider", "which providers (default: all that are connected)", required=False, many=True)
    parser.option("--connection", metavar="NAME", help="which connection, of one provider")
    parser.option("--format", metavar="FORMAT", help=", ".join(quoting.STYLES), choices=quoting.STYLES)
    parser.examples = (
        'eval "$(authsome export openai --format shell)"',
        "authsome export --format dotenv > .env",
    )


def run_export(args: Arguments, context: Context) -> int:
    """Print credentials as variables."""
    _refuse_inside_run(context)
    named, chosen = args.many("provider"), args.optional("connection")
    if chosen is not None and len(set(named)) != 1:
        raise UsageError(
            "--connection goes with exactly one provider", hint=_one_at_a_time(named, chosen, args.optional("format"))
        )
    variables: dict[str, str] = {}
    for provider in dict.fromkeys(named) if named else _connected(context):
        answer = context.daemon.call("POST", f"{_path(provider, chosen)}/secrets", {"purpose": "export"})
        found = member(answer, "env")
        if not found:
            context.output.note(f"{provider} names no environment variable, so there is nothing to export")
            continue
        for name in sorted(found.keys() & variables.keys()):
            context.output.note(f"{name} is set by more than one provider; {provider} has the last word")
        variables |= {str(name): str(value) for name, value in found.items()}
    if not variables and not named:
        raise CredentialUnavailable("nothing is connected", hint="log in first: authsome login PROVIDER")
    style = "json" if context.output.as_json else args.optional("format") or "env"
    context.output.raw(quoting.render(variables, style))
    return 0


def _one_at_a_time(named: Sequence[str], chosen: str, style: str | None) -> str:
    """How to export what was meant, a command for each provider."""
    import shlex  # noqa: PLC0415  # only for a mistake

    words = ["--connection", chosen, *(["--format", style] if style else [])]
    if not named:
        return f"name it: authsome export PROVIDER {shlex.join(words)}; `authsome list --connected` shows who has one"
    commands = [shlex.join(["authsome", "export", each, *words]) for each in dict.fromkeys(named)]
    return f"one at a time: {'; '.join(commands[:3])}"


def _connected(context: Context) -> Sequence[str]:
    connections = objects(context.daemon.call("GET", "/connections"), "connections")
    return sorted({str(each["provider"]) for each in connections if each.get("default")})


# ---- honeytoken ------------------------------------------------------------------------------------------------------


def configure_honeytoken(parser: Parser) -> None:
    """The arguments of `honeytoken`."""
    parser.argument("provider", "a provider's name")
    parser.option("--connection", metavar="NAME", help="the connection's name (default: default)")
    parser.examples = ("authsome honeytoken stripe --connection backup-admin",)


def run_honeytoken(args: Arguments, context: Context) -> int:
    """Store a decoy."""
    provider, name = args.text("provider"), args.optional("connection") or DEFAULT_CONNECTION
    answer = context.daemon.call("POST", f"/connections/{segments.named(provider)}/honeytoken", {"connection": name})
    output = context.output
    if output.as_json:
        output.result(answer)
    output.line(f"{provider} ({name}) is a honeytoken: it holds a decoy, and whoever uses it is on record")
    output.hint('to be told at once: "notify": {"honeytoken": ["COMMAND", …]} in config.json')
    return 0


# ---- set-default, logout, revoke -------------------------------------------------------------------------------------


def configure_set_default(parser: Parser) -> None:
    """The arguments of `set-default`."""
    parser.argument("provider", "a provider's name")
    parser.argument("connection", "the connection that is used when none is named")


def run_set_default(args: Arguments, context: Context) -> int:
    """Choose a provider's default connection."""
    provider, name = args.text("provider"), args.text("connection")
    answer = context.daemon.call("POST", f"{_path(provider, name)}/default", {})
    if context.output.as_json:
        context.output.result(answer)
    context.output.line(f"{provider} uses {name} unless told otherwise")
    return 0


def configure_logout(parser: Parser) -> None:
    """The arguments of `logout`."""
    parser.argument("provider", "a provider's name")
    parser.option("--connection", metavar="NAME", help="which connection (default: the provider's default)")


def run_logout(args: Arguments, context: Context) -> int:
    """Forget a connection."""
    provider = args.text("provider")
    lives_on = _how_to_end(context, provider)
    answer = context.daemon.call("POST", f"{_path(provider, args.optional('connection'))}/logout", {})
    output = context.output
    if output.as_json:
        output.result(answer)
    output.line(f"forgot {provider} ({answer.get('connection', args.optional('connection'))})")
    if not answer.get("honeytoken"):  # a decoy lives nowhere else
        output.hint(lives_on[str(answer.get("kind"))])
    return 0


def _how_to_end(context: Context, provider: str) -> dict[str, str]:
    """What lives on at a provider after a logout, and how to end it, by the kind of credential."""
    try:
        answer = context.daemon.call("GET", f"/providers/{segments.named(provider)}")
    except ProviderNotFound:  # its definition was removed
        answer = {}
    definition = member(answer, "definition")
    place = definition.get("docs_url")
    login = f"the login itself lives on at {provider} until it expires there, or you withdraw it in your account"
    oauth = member(definition, "oauth")
    if oauth.get("revocation_url") or (oauth and not oauth.get("token_url")):  # the latter: its issuer knows
        login = f"the login itself lives on at {provider}; `authsome revoke {provider}` ends a login there, too"
    key = f"the key itself lives on at {provider} until you delete it there"
    return {"oauth2": login, "api_key": f"{key}: {place}" if place else key}


def configure_revoke(parser: Parser) -> None:
    """The arguments of `revoke`."""
    parser.argument("provider", "a provider's name")
    parser.option("--connection", metavar="NAME", help="just this connection (default: all of the provider's)")


def run_revoke(args: Arguments, context: Context) -> int:
    """Have a provider end its logins, and forget those that it has ended."""
    provider, output, chosen = args.text("provider"), context.output, args.optional("connection")
    output.progress(f"asking {provider} to end what it granted …")
    body = {} if chosen is None else {"connection": segments.named(chosen)}
    answer = context.daemon.call("POST", f"/connections/{segments.named(provider)}/revoke", body, timeout=_REVOKE_LIMIT)
    if output.as_json:
        output.result(answer)
    for each in objects(answer, "revoked"):
        output.line(f"revoked {provider} ({each['connection']})")
    client = member(answer, "client")
    if client.get("given_back"):
        output.line(f"gave back the client that was registered at {provider}")
    elif why := member(client, "error").get("message"):
        output.note(f"authsome: warning: the client that was registered at {provider} is kept: {why}")
    status = 0
    for each in objects(answer, "kept"):
        said = member(each, "error")
        error = from_code(str(said["code"]), f"{each['connection']} is kept: {said['message']}", _plain(said["hint"]))
        if not output.as_json:
            output.error(error)
        status = status or error.exit_status
    return status


# ---- the daemon's addresses ------------------------------------------------------------------------------------------


def _path(provider: str, connection: str | None) -> str:
    return f"/connections/{segments.named(provider)}/{DEFAULT if connection is None else segments.named(connection)}"
