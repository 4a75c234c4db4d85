"""The checks of `doctor`: each looks at one thing, and says how to mend it.

Rule: it changes nothing unless `--fix` is given, and then only modes of files that are ours, and what the keychain of
macOS trusts, if that was agreed to. It never starts a daemon that does not run, and never shows a secret.
"""

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authsome import archive, clock
from authsome.cli.context import Context
from authsome.cli.grades import Grade, Row
from authsome.client import keys, supervisor, wire
from authsome.errors import AuthsomeError, DaemonUnavailable, NotAllowed, reason_of
from authsome.home import FOREIGN, mend_of, quoted, read_config, read_private
from authsome.models.notice import commands
from authsome.models.retention import retention

_OLD_KEY = timedelta(days=365)
"""Within the one or two years that NIST SP 800-57 part 1 §5.3.6 gives keys that wrap or encrypt what is stored."""
_SKEW = timedelta(seconds=30)  # as much as a proof may be off (RFC 9449 §11.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    grade: Grade
    message: str
    hint: str | None = None


def examine(context: Context, *, fix: bool) -> int:
    """Run every check and tell its finding; the exit status is 1 when one failed."""
    context.daemon.only_looks = True
    findings = []
    for name, check in _CHECKS.items():
        try:
            findings += [Finding(check=name, grade=g, message=m, hint=h) for g, m, h in check(context, fix)]
        except AuthsomeError as error:
            findings.append(Finding(check=name, grade=Grade.FAIL, message=error.message, hint=error.hint))
        except OSError as error:
            reason = f"{error.filename or ''}: {reason_of(error)}".lstrip(": ")
            findings.append(Finding(check=name, grade=Grade.FAIL, message=reason, hint="look at its owner and mode"))
    healthy = all(finding.grade is not Grade.FAIL for finding in findings)
    if context.output.as_json:
        context.output.result(
            {
                "healthy": healthy,
                "checks": [
                    {"check": each.check, "result": each.grade, "message": each.message, "hint": each.hint}
                    for each in findings
                ],
            }
        )
        return 0 if healthy else 1
    size = max(len(finding.check) for finding in findings)
    for finding in findings:
        context.output.line(f"{finding.grade.ljust(4)}  {finding.check.ljust(size)}  {finding.message}")
        if finding.hint and finding.grade is not Grade.OK:
            context.output.line(f"{'':4}  {'':{size}}  hint: {finding.hint}")
    return 0 if healthy else 1


def _files(context: Context, fix: bool) -> Iterator[Row]:  # noqa: FBT001  # one shape for all checks
    """Modes and owners of everything below the home."""
    home = context.settings.home
    if not home.root.exists():
        yield Grade.WARN, f"{home.root} is not made yet", "run `authsome init`"
        return
    count, bad = 0, 0
    for path in (home.root, *sorted(_below(home.root))):
        try:
            problem = _problem(path)
        except FileNotFoundError:  # the daemon has just replaced it
            continue
        count += 1
        if problem is None:
            continue
        bad += 1
        wanted, what = problem
        if fix and wanted is not None:
            path.chmod(wanted)  # no symbolic link: those were found to be one
            yield Grade.OK, f"{path} {what}: mended", None
        elif wanted is not None:
            yield Grade.FAIL, f"{path} {what}", f"chmod {wanted:o} {quoted(path)}, or `authsome doctor --fix`"
        else:
            yield Grade.FAIL, f"{path} {what}", mend_of(what)
    if not bad:
        yield Grade.OK, f"{home.root}: {count} files and directories are private", None


def _below(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        yield from (Path(directory, name) for name in (*names, *files))


def _problem(path: Path) -> tuple[int | None, str] | None:
    """What is wrong with a path of ours: the mode that would mend it, and the words."""
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return None, "is a symbolic link"
    if status.st_uid != os.geteuid():
        return None, FOREIGN
    if stat.S_ISDIR(status.st_mode):
        return (0o700, f"is open to others (mode {mode:04o})") if mode & 0o077 else None
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return None, "has more than one name (hard link)"
    return (0o600, f"is open to others (mode {mode:04o})") if mode & 0o077 else None


def _daemon(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Whether the daemon runs and answers."""
    settings = context.settings
    if not supervisor.may_start(settings):
        answer = context.daemon.health()
        yield Grade.OK, f"{settings.daemon_url} answers, version {answer.get('version')}", None
        return
    state = supervisor.running(settings.home)
    if state is None:
        yield Grade.WARN, "it is not running", "it starts by itself when needed; or: authsome daemon start"
        return
    wire.request(state.url, "GET", "/health", timeout=5)
    yield Grade.OK, f"{state.url} answers, process {state.pid}, version {state.version}", None


def _port(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Whether the port is free for the daemon, or the daemon's."""
    settings = context.settings
    if not supervisor.may_start(settings):
        return
    host, port = supervisor.listener(settings)
    state = supervisor.running(settings.home)
    if state is not None:
        origin = wire.origin_of(state.url)
        if origin.port != port:
            yield (
                Grade.WARN,
                f"the daemon listens on {origin.port}, the settings say {port}",
                "`authsome daemon restart` moves it",
            )
        else:
            yield Grade.OK, f"{port} is the daemon's", None
        return
    channel = wire.Channel(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        channel.open(timeout=2)
    except DaemonUnavailable:
        yield Grade.OK, f"{port} is free for the daemon", None
    else:
        yield Grade.FAIL, f"{host}:{port} is held by another program", "end it, or set AUTHSOME_PORT"
    finally:
        channel.close()


def _vault(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The database and the master key, as the daemon sees them."""
    if (unasked := _unasked(context)) is not None:
        grade, words, hint = unasked
        yield grade, words if context.settings.home.database.exists() else "not made yet", hint
        return
    try:
        answer = context.daemon.call("GET", "/ready", accept=frozenset({503}))
    except NotAllowed:
        yield Grade.OK, "somebody else's to look after: its admins'", None
        return
    if answer.get("database") == "ok":
        yield Grade.OK, f"can be read and written; its master key is in: {answer.get('master_key')}", None
    else:
        yield Grade.FAIL, str(answer.get("database")), "restore it from a backup; see `authsome daemon logs`"
    oldest = min(str(answer[name]) for name in ("master_key_at", "vault_key_at") if answer.get(name))
    age = clock.now() - datetime.fromisoformat(oldest)
    if age > _OLD_KEY:
        yield Grade.WARN, f"its oldest key is {age.days} days old", "renew them: authsome admin rekey"


def _identity(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The key that signs, and whether the daemon knows it."""
    identity = keys.active(context.settings)
    if identity is None:
        yield Grade.WARN, "there is none yet", "run `authsome init`"
        return
    place = identity.path or "the environment"
    if not _reachable(context):
        yield Grade.OK, f"{identity.handle}, its key in {place}", None
        return
    answer = context.daemon.call("GET", "/whoami")
    principal = answer.get("principal")
    name = principal.get("name") if isinstance(principal, dict) else "?"
    yield Grade.OK, f"{identity.handle} acts for {name}, its key in {place}", None


def _clock(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Whether our clock and the daemon's agree, and the clock makes sense at all."""
    now = clock.now()
    newest = max((path.stat().st_mtime for path in (context.settings.home.daemon_state,) if path.exists()), default=0.0)
    if datetime.fromtimestamp(newest, UTC) - now > timedelta(minutes=5):
        yield Grade.FAIL, f"it says {now:%Y-%m-%d %H:%M} UTC, and was later before", "set the clock"
        return
    if not _reachable(context):
        yield Grade.OK, f"it says {now:%Y-%m-%d %H:%M:%S} UTC", None
        return
    roots = context.settings.ca_bundle
    date = wire.request(context.daemon.url, "GET", "/health", timeout=5, ca_bundle=roots).header("Date")
    import email.utils  # noqa: PLC0415

    theirs = email.utils.parsedate_to_datetime(date) if date else now
    skew = abs(theirs - now)
    if skew > _SKEW:
        yield (
            Grade.FAIL,
            f"it is {skew.total_seconds():.0f} s off the daemon's",
            "set the clocks; proofs are only good for 30 s",
        )
    else:
        yield Grade.OK, f"it says {now:%Y-%m-%d %H:%M:%S} UTC, as the daemon's does", None


def _cache(_context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The unpacked files of the archive."""
    if archive.archive_path() is None:
        yield Grade.OK, f"this is no archive (build {archive.build_id()})", None
        return
    since = time.monotonic()
    problems = archive.verify_cache()
    for problem in problems:
        yield Grade.FAIL, problem, "remove that directory; it is unpacked anew"
    if not problems:
        took = (time.monotonic() - since) * 1000
        yield Grade.OK, f"every file of build {archive.build_id()} is as it was packed ({took:.0f} ms)", None


def _authority(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The proxy's certificate authority."""
    from authsome.proxy import authority, bundles  # noqa: PLC0415  # 55 ms

    path = bundles.authority_path(context.settings.home)
    if not path.exists():
        yield Grade.OK, "not made yet; the first run makes it", None
        return
    try:
        ours = authority.load(read_private(path))
    except ValueError:
        yield Grade.WARN, f"{path.name} is damaged", "the next run makes another"
        return
    if ours.serves(clock.now()):
        until, end = ours.renew_at, ours.certificate.not_valid_after_utc
        yield Grade.OK, f"{path.name} serves new runs until {until:%Y-%m-%d}, and those until {end:%Y-%m-%d}", None
    else:
        yield Grade.OK, f"{path.name} is due: the next run makes another", None


def _keychain(context: Context, fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Whether programs that ask macOS for roots trust the proxy."""
    from authsome.cli import keychain  # noqa: PLC0415  # subprocess

    yield from keychain.check(context, fix=fix, platform=sys.platform)


def _clients(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Programs that a run's environment cannot lead."""
    from authsome.cli import clients  # noqa: PLC0415

    yield from clients.check(context.environ)


def _reachable(context: Context) -> bool:
    """Whether a daemon can be asked without starting one."""
    return not supervisor.may_start(context.settings) or supervisor.running(context.settings.home) is not None


def _unasked(context: Context) -> Row | None:
    """Why the daemon is not asked for what only an identity may know; None: it is."""
    if not _reachable(context):
        return Grade.WARN, "not looked at", "start the daemon: authsome daemon start"
    if keys.active(context.settings) is None:
        return Grade.WARN, "not looked at", "run `authsome init`"
    return None


def _logins(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The logins that do not serve at present; those that do are for `list`."""
    answer = context.daemon.call("GET", "/connections") if _unasked(context) is None else {}
    found = answer.get("connections")
    for each in found if isinstance(found, list) else []:
        if each.get("used_at"):
            words = f"the honeytoken {each['connection']} of {each['provider']} was used at {each['used_at']}"
            yield Grade.FAIL, words, "see by whom: authsome log --event honeytoken"
        if each["status"] == "connected":
            continue
        cause = each.get("problem") or "it has expired"
        name, connection = each["provider"], each["connection"]
        if each["status"] == "expired" and each.get("problem"):
            yield Grade.WARN, f"{name} ({connection}) cannot be refreshed: {cause}", "it is tried again when it is used"
        else:
            suffix = "" if each.get("default") else f" --connection {connection}"
            yield Grade.WARN, f"{name} ({connection}) is over: {cause}", f"authsome login {name}{suffix}"


def _notify(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """The commands by which the user is told: whether they can be read, and are there."""
    config = read_config(context.settings.home)
    for occasion, command in commands(config).items():
        if shutil.which(command[0]) is None:
            yield Grade.FAIL, f"{command[0]}, the command for {occasion}, is not there", "mend notify in config.json"
        else:
            yield Grade.OK, f"{occasion} is told by {command[0]}", None


def _log(context: Context, _fix: bool) -> Iterator[Row]:  # noqa: FBT001
    """Whether the log is as it was written, and its settings can be read."""
    from authsome.cli import log_walk  # noqa: PLC0415

    retention(read_config(context.settings.home))
    if (unasked := _unasked(context)) is not None:
        yield unasked
        return
    found = log_walk.walk(context, lambda *_: None)
    if found.flaw is not None:
        yield Grade.FAIL, found.flaw.problem, found.hint or "see `authsome log verify`; somebody had the file"
        return
    yield Grade.OK, f"every entry up to {found.last} is as it was written", None


_CHECKS: dict[str, Callable[[Context, bool], Iterator[Row]]] = {
    "files": _files,
    "daemon": _daemon,
    "port": _port,
    "vault": _vault,
    "logins": _logins,
    "log": _log,
    "identity": _identity,
    "clock": _clock,
    "archive": _cache,
    "proxy CA": _authority,
    "keychain": _keychain,
    "clients": _clients,
    "notify": _notify,
}
