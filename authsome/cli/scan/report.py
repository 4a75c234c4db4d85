"""The course of a scan: find, compare, report; and on request import, and replace by placeholders.

Rule: a value goes to the daemon only when it is to be stored; to be compared its likeness is enough. It is shown to
nobody.
"""

import base64
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authsome.cli import login, prompt
from authsome.cli.answer import objects
from authsome.cli.arguments import Arguments
from authsome.cli.context import Context
from authsome.cli.scan import known, places, rewrite
from authsome.cli.scan.found import Found
from authsome.cli.scan.known import KeyForm, Match
from authsome.errors import AuthsomeError, NotAllowed
from authsome.models import fingerprint
from authsome.models.connection import DEFAULT_CONNECTION
from authsome.models.export import DEFAULT_PLACEHOLDER
from authsome.secret import Secret

SAME, DIFFERS, NOT_STORED, UNKNOWN = "same", "differs", "not stored", "no provider"
_BATCH: Final = 500  # likenesses of one question


@dataclass(slots=True, kw_only=True)
class Finding:
    """A key that was found, what is stored of it, and what was done."""

    found: Found
    state: str
    form: KeyForm | None = None
    """Whose key it is; None when nobody here takes it, or more than one may."""
    rivals: tuple[KeyForm, ...] = ()
    """Those of whose form it is, when it is not settled."""
    connection: str | None = None
    """The one that holds it, or that it differs from."""
    imported: bool = False
    replaced: bool = False
    problem: str | None = None
    """Why it cannot be imported, or was not."""

    @property
    def provider(self) -> str:
        """Whose key it is, or may be."""
        return self.form.provider if self.form else "/".join(each.provider for each in self.rivals) or "-"

    @property
    def masked(self) -> str:
        """What may be shown of it."""
        form = self.form or next(iter(self.rivals), None)
        return form.masked(self.found.value) if form else "…"

    @property
    def told(self) -> str:
        """Its state in words."""
        if self.state in {SAME, DIFFERS}:
            return f"{'same as' if self.state == SAME else 'differs from'} {self.connection}"
        return self.state

    def to_json(self) -> dict[str, object]:
        """The finding as `--json` tells it."""
        place = self.found.place
        return {
            "provider": self.form.provider if self.form else None,
            "candidates": [each.provider for each in self.rivals],
            "field": self.form.field if self.form else None,
            "variable": self.found.variable,
            "file": str(place.path) if place.path else None,
            "line": place.line or None,
            "value": self.masked,
            "state": self.state.replace(" ", "_"),
            "connection": self.connection,
            "imported": self.imported,
            "replaced": self.replaced,
            "problem": self.problem,
        }


def scan(args: Arguments, context: Context) -> int:
    """The command."""
    output = context.output
    context.refuse_inside_run("look for keys")
    wants_change = args.flag("import") or args.flag("replace")
    asks = not args.flag("yes")
    if wants_change and asks and (output.as_json or not prompt.possible()):
        raise NotAllowed("nobody is there to agree to what is imported and replaced", hint="say so: --yes")
    forms = [KeyForm.from_json(each) for each in objects(context.daemon.call("GET", "/scan"), "keys")]
    walk = places.Walk()
    output.progress("looking for keys …, Ctrl-C stops")
    paths = list(dict.fromkeys(walk.files([Path(each) for each in args.many("path")] or [Path()])))
    found = [*places.in_files(paths), *places.in_environment(context.environ), *places.in_tools(context.environ)]
    matches = known.match(forms, found)
    findings = _compare(context, matches, args.optional("connection"))
    if not output.as_json:
        _show(context, findings, files=len(paths))
    if walk.is_cut:
        output.note("authsome: warning: some directories were too deep or too many; name them to look there")
    work = _Work(context, args, forms=forms, matches=matches, ask=prompt.confirm if asks else None)
    if args.flag("import"):
        work.import_all(findings)
    if args.flag("replace") or (args.flag("import") and asks):
        work.replace_all(findings)
    if output.as_json:
        output.result(
            {"findings": [each.to_json() for each in findings], "files": len(paths), "complete": not walk.is_cut}
        )
    elif not wants_change:
        _advise(context, findings)
    return 0


def _compare(context: Context, matches: Sequence[Match], connection: str | None) -> list[Finding]:
    """What is stored of each secret that was found."""
    key = secrets.token_bytes(fingerprint.KEY_BYTES)
    telling = [each for each in matches if each.is_telling]
    candidates = [
        {"provider": form.provider, "likeness": fingerprint.of(key, each.found.value)}
        for each in telling
        for form in each.forms
    ]
    answers: list[dict[str, object]] = []
    for start in range(0, len(candidates), _BATCH):
        body = {"key": base64.b64encode(key).decode(), "candidates": candidates[start : start + _BATCH]}
        answers += objects(context.daemon.call("POST", "/scan", body), "answers")
    given = iter(answers)
    return [_finding(each, [(form, next(given)) for form in each.forms], connection) for each in telling]


def _finding(match: Match, answers: Sequence[tuple[KeyForm, dict[str, object]]], wanted: str | None) -> Finding:
    for form, answer in answers:
        if same := _names(answer, "same"):
            return Finding(found=match.found, form=form, state=SAME, connection=same[0])
    if len(answers) > 1:
        may_be = " or ".join(form.provider for form in match.forms)
        unsettled = f"it may be a key of {may_be}, and its variable does not say which"
        return Finding(found=match.found, rivals=match.forms, state=NOT_STORED, problem=unsettled)
    if not answers:
        return Finding(found=match.found, state=UNKNOWN, problem="no provider here takes it")
    ((form, answer),) = answers
    others = _names(answer, "others")
    problem = None if form.is_importable else f"a token is got by logging in: authsome login {form.provider}"
    name = wanted or (DEFAULT_CONNECTION if DEFAULT_CONNECTION in others else next(iter(others), None))
    if name in others:
        return Finding(found=match.found, form=form, state=DIFFERS, connection=name, problem=problem)
    return Finding(found=match.found, form=form, state=NOT_STORED, problem=problem)


def _names(answer: dict[str, object], member: str) -> list[str]:
    found = answer.get(member)
    return [str(each) for each in found] if isinstance(found, list) else []


# ---- telling ---------------------------------------------------------------------------------------------------------


def _show(context: Context, findings: Sequence[Finding], *, files: int) -> None:
    if findings:
        rows = [
            (each.provider, each.told, each.found.place.shown, each.found.variable or "-", each.masked)
            for each in findings
        ]
        context.output.table(("PROVIDER", "STATE", "WHERE", "VARIABLE", "VALUE"), rows)
    else:
        looked = f"{files} .env file{'' if files == 1 else 's'}, the environment and the files of common tools"
        context.output.line(f"no keys in {looked}")


def _advise(context: Context, findings: Sequence[Finding]) -> None:
    if any(each.state == NOT_STORED and each.problem is None for each in findings):
        context.output.hint("to store them: authsome scan --import")
    elif any(each.state == DIFFERS and each.problem is None for each in findings):
        context.output.hint("to store one beside, or in place of another: authsome scan --import [--connection NAME]")
    elif any(each.state == SAME and each.found.place.span for each in findings):
        context.output.hint("to take what is stored out of the .env files: authsome scan --replace")


# ---- importing and replacing -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    """What is done about the findings."""

    context: Context
    args: Arguments
    forms: Sequence[KeyForm]
    matches: Sequence[Match]
    ask: Callable[..., bool] | None
    """Asks on the terminal; None when everything was agreed to."""

    def import_all(self, findings: Sequence[Finding]) -> None:
        """Store what is not stored, one after the other; what fails is told, and stops nothing."""
        done: list[Finding] = []
        for finding in findings:
            if finding.rivals and self.ask is not None:
                self._settle(finding)
            if finding.rivals and self.ask is None:
                advice = "to store it: authsome login PROVIDER --stdin"
                self.context.output.note(f"{finding.found.place.shown}: not imported: {finding.problem} ({advice})")
            if finding.problem is not None or finding.state == SAME:
                continue
            twin = next((each for each in done if _is_same_key(each, finding)), None)
            try:
                name = twin.connection if twin else self._import(finding, taken={each.provider for each in done})
            except AuthsomeError as error:
                finding.problem = error.message
                advice = f" ({error.hint})" if error.hint else ""
                self.context.output.note(f"{finding.found.place.shown}: not imported: {error.message}{advice}")
                continue
            if name is not None:
                finding.state, finding.connection, finding.imported = SAME, name, True
                done.append(finding)

    def _settle(self, finding: Finding) -> None:
        """Have somebody say whose key it is that may be of several."""
        assert self.ask is not None
        for form in finding.rivals:
            if self.ask(self.context.output, f"is {finding.masked} of {finding.found.place.shown} of {form.provider}?"):
                match = Match(found=finding.found, forms=(form,))
                (settled,) = _compare(self.context, [match], self.args.optional("connection"))
                finding.form, finding.rivals, finding.problem = form, (), settled.problem
                finding.state, finding.connection = settled.state, settled.connection
                return

    def _import(self, finding: Finding, *, taken: set[str]) -> str | None:
        """Store one key; the name of its connection, None when nobody agreed."""
        name = self.args.optional("connection") or finding.connection or DEFAULT_CONNECTION
        is_taken = finding.state == DIFFERS or finding.provider in taken
        shown = f"{finding.masked} of {finding.found.place.shown}"
        if self.ask is None:
            if is_taken:
                raise NotAllowed(
                    f"{finding.provider} is connected with another key as {name}",
                    hint="to store it beside that one: --connection NAME",
                )
        else:
            what = (
                f"replace the key of {finding.provider} ({name}) by"
                if is_taken
                else f"store as {finding.provider} ({name})"
            )
            if not self.ask(self.context.output, f"{what} {shown}?"):
                return None
        body: dict[str, object] = {"provider": finding.provider, "connection": name, "force": is_taken}
        if self.args.flag("no-verify"):
            body["verify"] = False
        session = login.with_key(self.context, body, self._fields(finding))
        self.context.output.line(good=f"stored {shown} as {session.provider} ({session.connection})")
        if session.unverified:
            self.context.output.note(f"it could not be verified: {session.unverified}")
        return session.connection

    def _fields(self, finding: Finding) -> dict[str, Secret[str]]:
        """The key, with the other fields that its provider asks for, from the same place if they are there."""
        form = finding.form
        assert form is not None
        fields = {form.field: finding.found.value}
        for other in self.forms:
            if other.provider == form.provider and other.field not in fields:
                beside = [each.found for each in self.matches if other in each.forms]
                beside.sort(key=lambda found: found.place.path != finding.found.place.path)
                if not beside:
                    raise NotAllowed(
                        f"{form.provider} asks for {other.field}, too, and that was not found",
                        hint=f"give both: authsome login {form.provider}",
                    )
                fields[other.field] = beside[0].value
        return fields

    def replace_all(self, findings: Sequence[Finding]) -> None:
        """Put placeholders in place of the keys that are stored, file by file."""
        by_file: dict[Path, list[Finding]] = {}
        for finding in findings:
            place = finding.found.place
            if finding.state == SAME and place.path is not None and place.span is not None:
                by_file.setdefault(place.path, []).append(finding)
        output = self.context.output
        for path, own in by_file.items():
            lines = ", ".join(str(each.found.place.line) for each in own)
            where = f"{path}, line{'s' if len(own) > 1 else ''} {lines}"
            if self.ask is not None and not self.ask(output, f"put placeholders in place of the keys in {where}?"):
                continue
            try:
                rewrite.replace(path, list(_changes(own)))
            except AuthsomeError as error:
                output.note(f"authsome: warning: {error.message}")
                continue
            for each in own:
                each.replaced = True
            output.line(good=f"replaced what was stored by placeholders in {where}")
        if any(each.replaced for each in findings):
            output.hint("programs get the real keys by: authsome run -- COMMAND")


def _is_same_key(one: Finding, other: Finding) -> bool:
    return one.provider == other.provider and one.found.value == other.found.value


def _changes(findings: Iterable[Finding]) -> Iterable[rewrite.Change]:
    for finding in findings:
        form, place = finding.form, finding.found.place
        assert form is not None
        assert place.span is not None
        placeholders = form.placeholders
        fallback = next(iter(placeholders.values()), DEFAULT_PLACEHOLDER)
        after = placeholders.get(finding.found.variable or "", fallback)
        yield rewrite.Change(start=place.span[0], end=place.span[1], before=finding.found.value, after=after)
