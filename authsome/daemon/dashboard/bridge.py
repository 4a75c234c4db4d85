"""The pages of a login: values in, page out.

Rule: whatever a provider, its definition or the address bar brought is text here; it becomes a link only when it is
an https URL, and a page never shows a secret, not even the one that was just typed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from authsome.daemon.dashboard import html, shell
from authsome.daemon.dashboard.html import Html
from authsome.daemon.dashboard.pieces import MOST_CODES, monogram
from authsome.models import url

WAIT: Final = 2  # seconds until a page that waits looks again

_ONWARD: Final = re.compile(r"https?://[A-Za-z0-9\[][!-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One value that a login asks for."""

    name: str
    label: str
    secret: bool
    required: bool = True
    hint: str | None = None
    value: str | None = None
    """What was typed before; never shown for a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputForm:
    """What a login asks its user for, and why."""

    provider: str
    """Its display name."""
    fields: tuple[FormField, ...]
    action: str
    """The path that the form is posted to."""
    form_token: str
    cancel_action: str | None = None
    """The path that ends the login; None shows no such button."""
    problem: str | None = None
    """Why the last input was refused."""
    docs_url: str | None = None
    """Where the values come from; shown when it is an https URL."""
    redirect_uri: str | None = None
    """What to register with the provider, for an OAuth client."""
    is_account: bool = False
    """Whether the OAuth client is the account itself, so that nobody signs in and nothing redirects."""
    hosts: tuple[str, ...] = ()
    """The only hosts that the credential will be sent to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What there is to say of a login that has succeeded."""

    connection: str
    account: str | None = None
    unverified: str | None = None
    """Why the credential was not tried, or nothing came of it."""
    unnamed: str | None = None
    """Why its provider does not say whose it is."""
    back: str | None = None
    """The page of the dashboard where a login that was begun there goes on; others go on in the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """A code that is to be entered at the provider, and where."""

    provider: str
    """Its display name."""
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    """The same address with the code in it."""
    form_token: str
    cancel_action: str
    """The path that ends the login."""
    hosts: tuple[str, ...] = ()
    """Where a token will be sent, when nobody has agreed to that yet."""


def input_page(form: InputForm) -> Html:
    """The form for an API key, or for an OAuth client's id and secret."""
    buttons = [shell.button("Continue" if form.redirect_uri else "Connect")]
    buttons += [html.render("cancel", action=form.cancel_action)] if form.cancel_action else []
    fields = [
        _field(field, first=place == 0, refused=form.problem is not None) for place, field in enumerate(form.fields)
    ]
    fields.append(html.render("actions", content=html.join(buttons)))
    content = html.render(
        "input",
        monogram=monogram(form.provider),
        provider=html.clipped(form.provider),
        lead=_lead(form),
        problem=shell.problem(form.problem),
        form=shell.post(lambda _action: form.form_token, form.action, html.join(fields), is_kept=False),
        promise=_promise(form),
    )
    return html.page(f"Connect {form.provider}", content)


def onward_page(provider: str, address: str, *, hosts: Sequence[str] = ()) -> Html:
    """Sends the browser on to the provider; of one that nobody knew before only after a click.

    A redirect would not do as the answer to a form: browsers hold the whole chain to the page's `form-action`.

    Args:
        provider: its name.
        address: where it asks its user.
        hosts: where a token will be sent, when nobody has agreed to that yet: it is to be read before going on.

    Raises:
        ValueError: the URL is not http(s).
    """
    if not _ONWARD.fullmatch(address):
        raise ValueError("a login goes on at an http(s) URL")
    content = html.render(
        "onward",
        monogram=monogram(provider),
        provider=html.clipped(provider),
        url=address,
        host=urlsplit(address).netloc.rpartition("@")[2],
        lead="Sign in at" if hosts else "You are being taken to",
        promise=_promised(hosts, "Encrypted where Authsome runs, and sent only to:") if hosts else None,
    )
    refresh = None if hosts else f"0; url={address}"
    return html.page(f"Continue to {provider}", content, refresh=refresh)


def device_page(code: DeviceCode, *, events: str) -> Html:
    """The code of a device login, the way to enter it here, and a QR code to do it on a telephone.

    Args:
        code: what there is to show.
        events: where our script is told to look again; without script the page does so by itself.
    """
    direct = code.verification_uri_complete or code.verification_uri
    is_link = url.is_link(code.verification_uri) and url.is_link(direct)
    content = html.render(
        "device",
        monogram=monogram(code.provider),
        provider=html.clipped(code.provider),
        place=html.render("docs_link", url=direct, text=code.verification_uri) if is_link else code.verification_uri,
        user_code=code.user_code,
        qr=html.render("qr", image=_qr(direct)) if is_link else None,
        promise=_promised(code.hosts, "Then encrypted where Authsome runs, and sent only to:") if code.hosts else None,
        form=shell.post(
            lambda _action: code.form_token,
            code.cancel_action,
            html.render("actions", content=shell.button("Cancel", "quiet")),
        ),
    )
    return html.page(f"Connect {code.provider}", content, refresh=str(WAIT), events=events)


def waiting_page(provider: str, *, events: str) -> Html:
    """Shown while the code is exchanged; looks again as the device's page does."""
    content = html.render("waiting", monogram=monogram(provider), provider=html.clipped(provider))
    return html.page(f"Connecting {provider}", content, refresh=str(WAIT), events=events)


def done_page(provider: str, done: Done) -> Html:
    """The login has succeeded."""
    details = [_detail("Account", done.account)] if done.account else []
    if done.unnamed:
        details.append(_detail("Account", f"not said: {done.unnamed}"))
    if done.unverified:
        details.append(_detail("Not verified", done.unverified))
    content = html.render(
        "done",
        monogram=monogram(provider),
        provider=html.clipped(provider),
        details=html.join([*details, _detail("Connection", done.connection)]),
        onward=None if done.back else Html(" You can close this window. The terminal carries on."),
        back=_back(done.back, "Go on"),
    )
    return html.page(f"{provider} is connected", content)


def failed_page(provider: str, message: str, hint: str | None, *, back: str | None = None) -> Html:
    """The login has failed, or was cancelled; `back` as in `Done`, and then no way to go on in the terminal is said."""
    if back is not None and hint is not None and "authsome login" in hint:
        hint = None
    content = html.render(
        "failed",
        monogram=monogram(provider),
        provider=html.clipped(provider),
        message=html.sentence(message),
        hint=html.sentence(hint),
        onward=None if back else Html(" You can close this window."),
        back=_back(back, "Go back"),
    )
    return html.page(f"{provider} was not connected", content)


def expired_page() -> Html:
    """The link is used up, too old, or belongs to another browser; the page does not say which."""
    return html.page("This link has expired", html.render("expired"))


def locked_page(*, is_new: bool) -> Html:
    """The vault waits for its passphrase, or, if it `is_new`, for its first one; the page goes on by itself then."""
    title = "This vault has no passphrase yet" if is_new else "The vault is locked"
    lead = (
        "Choose one in the terminal. Whatever is stored here will open with nothing else:"
        if is_new
        else "Until somebody opens it with its passphrase there is nothing to be seen, and no credential to be had:"
    )
    return html.page(title, html.render("locked", title=title, lead=lead), refresh=str(WAIT), events=shell.EVENTS)


def error_page(status: int, message: str, hint: str | None = None, *, back: str | None = None) -> Html:
    """Anything else that went wrong in a browser; `back` is where the dashboard begins, if that helps."""
    return html.page(HTTPStatus(status).phrase, error_content(status, message, hint, back=back))


def error_content(status: int, message: str, hint: str | None = None, *, back: str | None = None) -> Html:
    """The same without a page around it."""
    return html.render(
        "error",
        status=status,
        title=HTTPStatus(status).phrase,
        message=html.sentence(message),
        hint=html.sentence(hint),
        back=_back(back, "To the dashboard"),
    )


def _lead(form: InputForm) -> Html:
    docs, provider = (
        form.docs_url if form.docs_url and url.is_link(form.docs_url) else None,
        html.clipped(form.provider),
    )
    if form.is_account:
        link = html.render("docs_link", url=docs, text="Where do I get them?") if docs else None
        return html.render("lead_account", provider=provider, docs=link)
    if form.redirect_uri is None:
        link = html.render("docs_link", url=docs, text="Where do I get this?") if docs else None
        return html.render("lead_key", provider=provider, docs=link)
    place = html.render("docs_link", url=docs, text=provider) if docs else provider
    return html.render("lead_client", provider=provider, place=place, redirect_uri=form.redirect_uri)


def _field(field: FormField, *, first: bool, refused: bool) -> Html:
    described = " ".join((["problem"] if refused else []) + ([f"hint-{field.name}"] if field.hint else []))
    return html.render(
        "field",
        name=field.name,
        label=html.clipped(field.label),
        type="password" if field.secret else "text",
        value=None if field.secret else field.value,
        focus=Html(" autofocus") if first else None,
        required=Html(" required") if field.required else None,
        optional=None if field.required else html.render("optional"),
        invalid="true" if refused else "false",
        described=described,
        hint=html.render("hint", name=field.name, text=html.sentence(field.hint, 240)) if field.hint else None,
    )


def _promise(form: InputForm) -> Html:
    if not form.hosts:
        return html.render("promise")
    is_client = form.redirect_uri is not None  # its secret goes to the provider's sign-in, what it yields to the hosts
    if form.is_account:
        promise = "used only to get tokens. Those are sent only to:"
    else:
        promise = "used only to sign in. The login is then sent only to:" if is_client else "sent only to:"
    return _promised(form.hosts, f"Encrypted where Authsome runs, and {promise}")


def _promised(hosts: Sequence[str], promise: str) -> Html:
    shown = [html.render("host", name=host) for host in hosts[:MOST_CODES]]
    if len(hosts) > MOST_CODES:
        shown.append(html.render("more_hosts", number=len(hosts) - MOST_CODES))
    return html.render("promise_hosts", promise=promise, hosts=html.join(shown))


def _qr(text: str) -> Html:
    """A QR code as an SVG without style or script; dark on light in any scheme, as readers want it."""
    import segno  # noqa: PLC0415  # 15 ms that only a device login should cost

    code = segno.make_qr(text, error="m")
    return Html(code.svg_inline(border=4, omitsize=True, svgclass="code", lineclass=None, dark="#000", light="#fff"))


def _back(place: str | None, text: str) -> Html | None:
    return None if place is None else html.render("back", url=place, text=text)


def _detail(name: str, value: str) -> Html:
    return html.render("detail", name=name, value=html.clipped(value, 600))
