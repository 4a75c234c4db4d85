"""The pages of providers of one's own, for admins: what there is, what is to be registered, what it may do.

Rule: values in, page out; and nothing is registered from here that was not shown with all that it may do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from authsome.broker.catalog import Entry
from authsome.broker.providers import Review
from authsome.daemon.dashboard import apps, html, pieces, principals, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextArea, TextField, TokenFor

SETTINGS: Final = principals.SETTINGS
PATH: Final = SETTINGS + "/providers"
BY_KEY: Final = PATH + "/by-key"
REVIEW: Final = PATH + "/review"
REGISTER: Final = PATH + "/{digest}/register"
REMOVE: Final = PATH + "/{provider}/remove"
PAGE: Final = 20  # definitions, with a form each
MOST_DEFINITION: Final = 16 * 1024  # bytes that a page shows of one; the largest bundled one has under 3,000
_MOST_HOSTS: Final = 3  # of a definition
FIELDS: Final = ("name", "display_name", "host", "placing", "header", "verify")
BEARER: Final = "bearer"
PLACINGS: Final[Mapping[str, str]] = MappingProxyType(
    {BEARER: "Authorization: Bearer KEY", "header": "A header of its own"}
)
_FIELD_OF: Final[Mapping[str, str]] = MappingProxyType(
    {"name": "name", "display_name": "display_name", "api_url": "host", "inject": "header", "verify": "verify"}
)
"""The form's field for the beginning of each field of a definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was filled in before, and why it was not taken."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Of the small form."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """By the small form's field; what is about none of them has the name ``."""
    definition: str = ""
    definition_problem: str | None = None


NOTHING: Final = Given()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of the list."""

    entries: Sequence[Entry]
    total: int
    """How many there are."""
    page: int


def definition_of(given: Mapping[str, str]) -> dict[str, object]:
    """The definition that the small form stands for."""
    made: dict[str, object] = {"schema_version": 1, "name": given["name"]}
    if given["display_name"]:
        made["display_name"] = given["display_name"]
    made |= {"api_url": given["host"], "api_key": {}}
    if given["placing"] != BEARER:
        made["inject"] = {"header": given["header"], "template": "{api_key}"}
    if given["verify"]:
        made["verify"] = {"url": given["verify"]}
    return made


def field_of(path: str) -> str:
    """The small form's field for a field of the definition that it makes; empty for one that it does not have."""
    return _FIELD_OF.get(path.partition(".")[0].partition("[")[0], "")


def is_shown_whole(definition: str) -> bool:
    """Whether a page can show a definition."""
    return len(html.lines(definition).encode()) <= MOST_DEFINITION


def listing(view: Listing, token_for: TokenFor, given: Given = NOTHING) -> Html:
    """What there is, each to be removed; and two ways to another one."""
    rows = html.join(_row(each, token_for) for each in view.entries)
    return html.render(
        "providers",
        count=html.counted(view.total, "definition"),
        list=pieces.rows(rows, page=view.page, otherwise=html.render("nothing", text="There is none.")),
        pager=pieces.pager(PATH, {}, page=view.page, size=PAGE, total=view.total),
        key_problem=shell.problem(given.problems.get("")),
        by_key=shell.post(token_for, BY_KEY, _by_key(given), kind="narrow"),
        definition=shell.post(token_for, REVIEW, _definition(given), kind="wide"),
    )


def review(found: Review, written: str, *, action: str, problem: str | None, token_for: TokenFor) -> Html:
    """What a definition may do, and the form that registers exactly that.

    Args:
        found: the definition, looked through.
        written: the definition in its one spelling.
        action: where the form is posted to.
        problem: why it was not registered.
        token_for: gives the form its token.
    """
    fields = [
        html.render(
            "options",
            name="The definition",
            fields=shell.text_area(TextArea(name="definition", label="As it is kept", value=written, is_fixed=True)),
            open=None,
        )
    ]
    if found.replaced is not None:
        fields.append(shell.hidden("replaces", "true"))
    if found.provider.allow_private_addresses:
        fields.append(shell.check_box("private", "Its hosts may lie on this machine or a private network"))
    fields.append(html.render("actions", content=shell.button("Register")))
    return html.render(
        "review",
        title=html.clipped(found.provider.display_name),
        problem=shell.problem(problem),
        facts=html.join(html.render("detail", name=name, value=value) for name, value in _facts(found) if value),
        form=shell.post(token_for, action, html.join(fields), kind="wide"),
    )


def _facts(found: Review) -> list[tuple[str, Html | str | None]]:
    provider = found.provider
    asked = [f"{each.name} (default: {each.default})" if each.default else each.name for each in provider.variables]
    replaced = {
        None: None,
        "bundled": "the bundled definition of that name",
        "override": "the one that was registered before, in place of the bundled one",
        "custom": "the one that was registered before",
    }[found.replaced]
    return [
        ("Name", html.render("code", text=provider.name)),
        ("Sends the credential to", pieces.codes(provider.api_url)),
        ("Logs in at", pieces.codes(provider.endpoints)),
        ("Sets in a run", pieces.codes([each.name for each in provider.export.env])),
        ("Asks for", pieces.codes(asked)),
        ("May reach", "this machine, and private networks" if provider.allow_private_addresses else None),
        ("Takes the place of", replaced),
        ("Where that sent nothing", pieces.codes(found.new_hosts) if found.replaced else None),
        ("Takes over", pieces.codes([f"{each.provider}/{each.name}" for each in found.connections])),
        ("Takes over from others", f"{found.others} of other principals" if found.others else None),
        ("Forgets", "the OAuth client, which was given for other endpoints" if found.forgets_client else None),
    ]


def _row(entry: Entry, token_for: TokenFor) -> Html:
    is_override = entry.source == "override"
    text = "The bundled definition is back in its place then. " if is_override else ""
    action = REMOVE.format(provider=quote(entry.name, safe=""))
    hosts = entry.provider.api_url if entry.provider else ()
    facts = [html.text("in place of the bundled one")] if is_override else []
    facts += (
        [html.join([Html("sent only to "), html.enumerated(hosts, _MOST_HOSTS, widest=pieces.WHOLE_HOST)])]
        if hosts
        else []
    )
    title = entry.provider.display_name if entry.provider else entry.name
    return html.render(
        "provider_row",
        key=entry.name,
        url=apps.place(entry.name),
        title=html.clipped(title),
        name=html.render("name", text=entry.name) if title != entry.name else None,
        marks=pieces.tag("cannot be used", "bad") if entry.provider is None else None,
        facts=html.join(facts, between=Html(" · ")),
        remove=html.render(
            "act",
            name="Remove",
            text=f"{text}Its OAuth client is forgotten. What is connected by it has to be logged out before.",
            form=shell.post(token_for, action, shell.button(f"Remove {html.shortened(title)}", "danger small")),
        ),
    )


def _by_key(given: Given) -> Html:
    def text(name: str, label: str, hint: str, *, kind: str = "text", required: bool = True) -> Html:
        return shell.text_field(
            TextField(
                name=name,
                label=label,
                kind=kind,
                value=given.fields.get(name),
                hint=hint,
                required=required,
                problem=given.problems.get(name),
            )
        )

    return html.join(
        [
            text("name", "Name", "small letters, digits, `-` and `_`; it cannot be changed"),
            text("display_name", "Name for people", "empty: the same", required=False),
            text("host", "Where the key is sent", "a host such as `api.acme.example`, or `https://…/v1/` and below"),
            shell.select("placing", "How", PLACINGS, given.fields.get("placing", BEARER)),
            text("header", "Its header", "such as `X-API-Key`, for a header of its own", required=False),
            text(
                "verify", "Address that proves a key", "asked once when a key is given; empty: none",
                kind="url", required=False,
            ),
            html.render("actions", content=shell.button("Look it through")),
        ]
    )  # fmt: skip


def _definition(given: Given) -> Html:
    area = TextArea(
        name="definition", label="Definition", value=given.definition, problem=given.definition_problem,
        hint="comments are left out of what is kept",
    )  # fmt: skip
    return html.join(
        [
            html.render("file_choice", name="definition", label="From a file"),
            shell.text_area(area),
            html.render("actions", content=shell.button("Look it through")),
        ]
    )
