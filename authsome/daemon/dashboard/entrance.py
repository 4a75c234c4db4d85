"""The pages before one is signed in: values in, page out."""

from authsome.daemon.dashboard import html, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.shell import TextField

_NEW_PASSWORD = TextField(
    name="password",
    label="Password",
    kind="password",
    hint="15 characters or more; several words in a row do",
    autocomplete="new-password",
)


def sign_in_page(form_token: str, *, onward: str, email: str = "", problem: str | None = None) -> Html:
    """E-mail and password, and how to do without; `onward` is where to go then."""
    fields = (
        TextField(name="email", label="E-mail", kind="email", value=email, autocomplete="username", focus=not email),
        TextField(
            name="password",
            label="Password",
            kind="password",
            autocomplete="current-password",
            focus=bool(email),
        ),
    )
    form = _form(form_token, "/ui/sign-in", "Sign in", shell.hidden("next", onward), *map(shell.text_field, fields))
    return html.page("Sign in", html.render("sign_in", form=form, problem=shell.problem(problem)))


def enter_page(form_token: str, person: str, *, by_itself: bool) -> Html:
    """What a one-time link shows: as whom it signs in, and a button; `by_itself` has our script press it."""
    form = _form(form_token, "/ui/enter", "Open the dashboard", submits=by_itself)
    return html.page("Open the dashboard", html.render("enter", person=person, form=form))


def expired_page() -> Html:
    """A one-time link that is none any more; the page does not say why."""
    return html.page("This link has expired", html.render("link_expired"))


def first_page(form_token: str, *, email: str = "", name: str = "", problem: str | None = None) -> Html:
    """The first account of a daemon that nobody owns."""
    fields = (
        TextField(
            name="code",
            label="Code",
            kind="password",
            hint="the content of `server/bootstrap.key` in the home of the daemon",
            focus=True,
        ),
        TextField(name="name", label="Name", value=name, autocomplete="name"),
        TextField(name="email", label="E-mail", kind="email", value=email, autocomplete="username"),
        _NEW_PASSWORD,
    )
    form = _form(form_token, "/ui/first", "Create the account", *map(shell.text_field, fields))
    return html.page("Make this daemon yours", html.render("first", form=form, problem=shell.problem(problem)))


def join_page(form_token: str, *, action: str, email: str, name: str = "", problem: str | None = None) -> Html:
    """An invitation, to be taken up."""
    fields = (TextField(name="name", label="Name", value=name, autocomplete="name", focus=True), _NEW_PASSWORD)
    form = _form(form_token, action, "Join", html.render("username", email=email), *map(shell.text_field, fields))
    return html.page("Join", html.render("join", email=email, form=form, problem=shell.problem(problem)))


def bounce_page(address: str) -> Html:
    """Goes on to the same address by itself: from this page of ours the browser sends along that it is signed in."""
    return html.page("One moment", html.render("bounce", url=address), refresh=f"0; url={address}")


def _form(form_token: str, action: str, submit: str, *content: Html, submits: bool = False) -> Html:
    shown = [*content, html.render("actions", content=shell.button(submit))]
    return shell.post(lambda _action: form_token, action, html.join(shown), submits=submits)
