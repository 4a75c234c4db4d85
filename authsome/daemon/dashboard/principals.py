"""The principals' page, for admins: who has a vault here, and who may join; values in, page out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from authsome.daemon.dashboard import html, pieces, shell, times
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField, TokenFor
from authsome.models.principal import Invitation, Principal, Role

SETTINGS: Final = "/ui/settings"  # the place that they belong to
PATH: Final = SETTINGS + "/principals"
ONE: Final = PATH + "/{principal}"
ADD: Final = PATH + "/programs"
INVITE: Final = SETTINGS + "/invitations"
INVITATION: Final = INVITE + "/{invitation}/withdraw"
ROLES: Final = {Role.USER.value: "User", Role.ADMIN.value: "Admin"}
PAGE: Final = 20  # rows of a page, with two forms each


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What the page shows."""

    principals: Sequence[Principal]
    """Those of the page."""
    total: int
    """How many there are."""
    present: Principal
    """Who looks."""
    invitations: Sequence[Invitation]
    """Some of them."""
    invited: int
    """How many there are."""
    page: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was filled in before, and why it was not taken: an invitation's, or a program's."""

    email: str = ""
    invite_role: str = Role.USER
    email_problem: str | None = None
    name: str = ""
    add_role: str = Role.USER
    name_problem: str | None = None


NOTHING: Final = Given()


def content(group: Group, token_for: TokenFor, given: Given = NOTHING) -> Html:
    """Principals with what can be done, invitations, and the forms for others."""
    number = group.total
    waiting = [_invitation(each, group.now, token_for) for each in group.invitations]
    if group.invited > len(group.invitations):
        text = f"and {group.invited - len(group.invitations)} more, which are withdrawn in the terminal"
        waiting.append(html.render("row", content=text))
    email = TextField(
        name="email", label="E-mail", kind="email", value=given.email, problem=given.email_problem,
    )  # fmt: skip
    invite = [
        shell.text_field(email),
        shell.select("role", "Role", ROLES, given.invite_role),
        html.render("actions", content=shell.button("Invite")),
    ]
    name = TextField(
        name="name", label="Name", value=given.name, hint="such as `ci`; it cannot be changed",
        problem=given.name_problem,
    )  # fmt: skip
    add = [
        shell.text_field(name),
        shell.select("role", "Role", ROLES, given.add_role, key="program-role"),
        html.render("actions", content=shell.button("Add")),
    ]
    return html.render(
        "principals",
        count=html.counted(number, "principal"),
        list=pieces.rows(html.join(_principal(each, group, token_for) for each in group.principals), page=group.page),
        pager=pieces.pager(PATH, {}, page=group.page, size=PAGE, total=number),
        invitations=html.render("rows", rows=html.join(waiting))
        if waiting
        else html.render("nothing", text="Nobody is invited who has not come yet."),
        invite=shell.post(token_for, INVITE, html.join(invite), kind="narrow"),
        add=shell.post(token_for, ADD, html.join(add), kind="narrow"),
    )


def invited(email: str, url: str) -> Html:
    """The link of a new invitation, once."""
    return html.render("invited", email=email, url=url)


def place(principal: Principal, act: str) -> str:
    """The address of something to be done about a principal."""
    return f"{ONE.format(principal=quote(principal.id, safe=''))}/{act}"


def _principal(principal: Principal, group: Group, token_for: TokenFor) -> Html:
    is_admin = principal.role is Role.ADMIN
    marks = [pieces.tag("admin", "good")] if is_admin else []
    marks += [pieces.tag("you")] if principal.id == group.present.id else []
    role = html.join(
        [
            shell.hidden("role", Role.USER if is_admin else Role.ADMIN),
            shell.button("Make a user" if is_admin else "Make an admin", "quiet small"),
        ]
    )
    text = "Its vault with all connections, its identities, runs and sessions go with it, at once and for good."
    button = shell.button(f"Remove {principal.email or principal.name}", "danger small")
    return html.render(
        "principal_row",
        key=principal.id,
        name=principal.name,
        marks=html.join(marks, between=Html(" ")),
        known_as=principal.email or "no e-mail address",
        role=shell.post(token_for, place(principal, "role"), role),
        remove=html.render(
            "act", name="Remove", text=text, form=shell.post(token_for, place(principal, "remove"), button)
        ),
    )


def _invitation(invitation: Invitation, now: datetime, token_for: TokenFor) -> Html:
    action = INVITATION.format(invitation=quote(invitation.id, safe=""))
    return html.render(
        "invitation_row",
        key=invitation.id,
        email=invitation.email,
        marks=pieces.tag("admin", "good") if invitation.role is Role.ADMIN else None,
        since=times.moment(invitation.created_at, now),
        ends=times.moment(invitation.expires_at, now),
        withdraw=shell.post(token_for, action, shell.button("Withdraw", "quiet small")),
    )
