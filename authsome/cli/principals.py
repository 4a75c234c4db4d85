"""`admin principals list|invite|add|role|remove`: who has a vault at this daemon."""

from authsome.cli import prompt, segments
from authsome.cli.answer import objects
from authsome.cli.arguments import Arguments, Parser
from authsome.cli.context import Context
from authsome.errors import UsageError

ROLES = ("user", "admin")


def configure_list(_parser: Parser) -> None:
    """`admin principals list` takes no arguments."""


def run_list(_args: Arguments, context: Context) -> int:
    """Show everybody who has a vault, and everybody who is invited."""
    answer = context.daemon.call("GET", "/principals")
    if context.output.as_json:
        context.output.result(answer)
        return 0
    rows = [
        (str(each["name"]), str(each["email"] or "-"), str(each["role"]), "member", str(each["id"]))
        for each in objects(answer, "principals")
    ]
    rows += [
        ("-", str(each["email"]), str(each["role"]), "invited", str(each["id"]))
        for each in objects(answer, "invitations")
    ]
    context.output.table(("NAME", "E-MAIL", "ROLE", "STATUS", "ID"), rows)
    return 0


def configure_invite(parser: Parser) -> None:
    """The arguments of `admin principals invite`."""
    parser.argument("email", "the person's e-mail address, which they sign in with")
    parser.option("--role", metavar="ROLE", help="user (default) or admin", choices=ROLES)
    parser.flag("--withdraw", help="make the invitation to this address worthless instead")
    parser.examples = ("authsome admin principals invite ada@example.com",)


def run_invite(args: Arguments, context: Context) -> int:
    """Invite a person, and print the link for them."""
    context.refuse_inside_run("change who may be here")
    email = args.text("email")
    if args.flag("withdraw"):
        return _withdraw(email, context)
    answer = context.daemon.call("POST", "/invitations", {"email": email, "role": args.optional("role") or "user"})
    if context.output.as_json:
        context.output.result(answer)
        return 0
    context.output.line(str(answer["url"]))
    invitation = answer["invitation"]
    until = invitation["expires_at"] if isinstance(invitation, dict) else ""
    context.output.hint(f"for {email} alone: good once, until {until}; whoever has it becomes a principal")
    return 0


def configure_add(parser: Parser) -> None:
    """The arguments of `admin principals add`."""
    parser.argument("name", "what it is to be called")
    parser.option("--role", metavar="ROLE", help="user (default) or admin", choices=ROLES)
    parser.examples = ("authsome admin principals add ci",)


def run_add(args: Arguments, context: Context) -> int:
    """Add a principal as which nobody signs in."""
    context.refuse_inside_run("change who may be here")
    body: dict[str, object] = {"name": args.text("name"), "role": args.optional("role") or "user"}
    made = context.daemon.call("POST", "/principals", body)
    if context.output.as_json:
        context.output.result(made)
        return 0
    context.output.line(good=f"added {made['name']}, {made['role']}")
    context.output.hint("an admin claims identities for it: authsome identity claim, as each of them")
    return 0


def configure_role(parser: Parser) -> None:
    """The arguments of `admin principals role`."""
    parser.argument("principal", "its e-mail address, name or id")
    parser.argument("role", "user or admin")


def run_role(args: Arguments, context: Context) -> int:
    """Change what a principal may do beyond its own vault."""
    context.refuse_inside_run("change who may be here")
    role = args.text("role")
    if role not in ROLES:
        raise UsageError("there is no such role", hint=f"one of {', '.join(ROLES)}")
    changed = context.daemon.call("POST", f"/principals/{segments.quoted(args.text('principal'))}/role", {"role": role})
    if context.output.as_json:
        context.output.result(changed)
        return 0
    context.output.line(good=f"{changed['email'] or changed['name']} is {changed['role']}")
    return 0


def configure_remove(parser: Parser) -> None:
    """The arguments of `admin principals remove`."""
    parser.argument("principal", "its e-mail address, name or id")
    parser.flag("--yes", help="do not ask")


def run_remove(args: Arguments, context: Context) -> int:
    """Remove a principal with its vault, identities, runs and sessions."""
    context.refuse_inside_run("change who may be here")
    wanted = args.text("principal")
    if not args.flag("yes"):
        prompt.agree(context.output, f"Everything that {wanted} has stored here is gone for good then. Remove?")
    answer = context.daemon.call("DELETE", f"/principals/{segments.quoted(wanted)}")
    if context.output.as_json:
        context.output.result(answer)
        return 0
    gone = ", ".join(f"{answer[what]} {what}" for what in ("connections", "identities", "runs"))
    context.output.line(f": {gone}", good=f"removed {wanted}")
    if answer["connections"]:
        context.output.hint("what its providers granted lives on there, until it is revoked there or runs out")
    return 0


def _withdraw(email: str, context: Context) -> int:
    invitations = objects(context.daemon.call("GET", "/principals"), "invitations")
    found = next((each for each in invitations if each["email"] == email.strip().lower()), None)
    if found is None:
        raise UsageError(f"there is no invitation to {email}", hint="`authsome admin principals list` shows them")
    context.daemon.call("DELETE", f"/invitations/{found['id']}")
    if context.output.as_json:
        context.output.result({"invitation": found, "withdrawn": True})
        return 0
    context.output.line(good=f"the invitation to {found['email']} is worthless now")
    return 0
