"""Endpoints of a login: for the identity that began it, and for the browser that it was sent to.

Rule: a browser shows the login's key once, in the link, and from then on as a cookie; without it there is no page, no
form is taken and no callback is answered. So nobody finishes a login that another browser began.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from authsome.broker import registration
from authsome.broker.broker import Broker
from authsome.broker.logins import CALLBACK_PATH, Wanted
from authsome.broker.news import Waiter
from authsome.daemon import cross_origin
from authsome.daemon.api import views
from authsome.daemon.api.call import Call, Endpoints, Handler
from authsome.daemon.cross_origin import Forms
from authsome.daemon.dashboard import apps, bridge, connections
from authsome.daemon.dashboard.bridge import DeviceCode, Done, FormField, InputForm
from authsome.daemon.fields import Fields
from authsome.daemon.messages import (
    SCRIPTED_PAGE_POLICY,
    Response,
    html_response,
    json_response,
    redirect,
)
from authsome.daemon.router import Access, Endpoint
from authsome.daemon.streams import CONTENT_TYPE, Streams
from authsome.errors import (
    AuthsomeError,
    ConnectionExists,
    LoginNotFound,
    NotAllowed,
    NotFound,
    ProviderNotFound,
    RequestInvalid,
)
from authsome.models.connection import DEFAULT_CONNECTION
from authsome.models.login import (
    AwaitingCallback,
    AwaitingDevice,
    AwaitingInput,
    Completed,
    Exchanging,
    Failed,
    Flow,
    Login,
    LoginRequest,
    Stage,
)
from authsome.models.provider import Provider
from authsome.secret import Secret

LONGEST_POLL: Final = 25  # seconds: below what proxies in between allow a request
COOKIE_PATH: Final = "/auth/"
TOKEN: Final = "form_token"  # noqa: S105  # a form field's name
_ONE: Final = "/auth/sessions/{id}"


class LoginsApi(Endpoints):
    """What can be asked of logins."""

    def __init__(
        self, broker: Broker, forms: Forms, streams: Streams, *, base_url: str, step_aside: Callable[[], None]
    ) -> None:
        """Take the use cases, the daemon's URL, and what lets others be served while this thread waits."""
        super().__init__(broker)
        self._forms = forms
        self._streams = streams
        self._base_url = base_url
        self._step_aside = step_aside

    def endpoints(self) -> tuple[Endpoint[Handler], ...]:
        """See `Endpoints`."""
        session = views.SESSION
        return (
            Endpoint(
                method="POST",
                template="/auth/sessions",
                handler=self.begin,
                access=Access.PROOF,
                summary="Begin a login to a provider, or to the API or issuer at a URL",
                request=views.shape(
                    {},
                    {
                        "provider": views.TEXT,
                        "url": views.TEXT,
                        "connection": views.TEXT,
                        "flow": {"type": "string", "enum": list(Flow)},
                        "scopes": views.TEXTS,
                        "force": views.BOOLEAN,
                        "verify": views.BOOLEAN,
                        "base_url": views.TEXT,
                    },
                ),
                response=session,
                status=201,
                errors=(ProviderNotFound, ConnectionExists),
            ),
            Endpoint(
                method="GET",
                template=_ONE,
                handler=self.get,
                access=Access.PROOF,
                summary="A login; with `wait`, as soon as its status is no longer `status`, or after so many seconds",
                query={"wait": views.INTEGER, "status": views.TEXT},
                response=session,
                errors=(LoginNotFound,),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/resume",
                handler=self.resume,
                access=Access.PROOF,
                summary="Give a login the fields that it asks for",
                request=views.shape({"fields": views.TEXT_MAP}),
                response=session,
                errors=(LoginNotFound, NotAllowed),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/callback",
                handler=self.paste,
                access=Access.PROOF,
                summary="Give a login the address that the browser ended at, where that browser cannot reach us",
                request=views.shape({"address": views.TEXT}),
                response=session,
                errors=(LoginNotFound,),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/cancel",
                handler=self.cancel,
                access=Access.PROOF,
                summary="End a login that is no longer wanted",
                response=session,
                errors=(LoginNotFound,),
            ),
            Endpoint(
                method="GET",
                template=_ONE + "/open",
                handler=self.open,
                access=Access.BROWSER,
                summary="Where the link leads: takes the key from it and goes on to the page",
                query={"key": views.TEXT},
                status=303,
            ),
            Endpoint(
                method="GET",
                template=_ONE + "/input",
                handler=self.page,
                access=Access.BROWSER,
                summary="The login's page: its form, the way to the provider, or how it ended",
            ),
            Endpoint(
                method="GET",
                template=_ONE + "/device",
                handler=self.page,
                access=Access.BROWSER,
                summary="The page of a login by device code: the code, where to enter it, and whether it was",
            ),
            Endpoint(
                method="GET",
                template=_ONE + "/events",
                handler=self.events,
                access=Access.BROWSER,
                summary="Events for the login's page: one when its stage is no longer `stage`",
                query={"stage": views.TEXT},
                media=CONTENT_TYPE,
                errors=(LoginNotFound,),
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/input",
                handler=self.take_form,
                access=Access.BROWSER,
                summary="Take the form",
                status=303,
            ),
            Endpoint(
                method="POST",
                template=_ONE + "/abandon",
                handler=self.abandon,
                access=Access.BROWSER,
                summary="End the login from its page",
                status=303,
            ),
            Endpoint(
                method="GET",
                template=registration.DOCUMENT_PATH,
                handler=self.client_document,
                access=Access.OPEN,
                summary="What providers may know of this OAuth client, where its URL is the client id",
                response={"type": "object"},
                errors=(NotFound,),
            ),
            Endpoint(
                method="GET",
                template=CALLBACK_PATH,
                handler=self.callback,
                access=Access.BROWSER,
                summary="Where providers send the browser back to (RFC 6749 §4.1.2)",
                query={"code": views.TEXT, "state": views.TEXT, "iss": views.TEXT, "error": views.TEXT},
                status=303,
            ),
        )

    def begin(self, call: Call) -> Response:
        """POST /auth/sessions."""
        body = call.request.json()
        flow = body.optional_text("flow")
        address = body.optional_text("url")
        base_url = body.optional_text("base_url")
        wanted = Wanted(
            provider=body.text("provider") if address is None else "",
            url=address,
            connection=body.optional_text("connection") or DEFAULT_CONNECTION,
            flow=_flow(flow) if flow is not None else None,
            scopes=body.strings("scopes"),
            force=body.boolean("force"),
            verify=body.boolean("verify", default=True),
            variables={"base_url": base_url} if base_url is not None else {},
        )
        body.done()
        return self._session(self._broker.logins.begin(call.caller, wanted), status=201)

    def get(self, call: Call) -> Response:
        """GET /auth/sessions/{id}."""
        query = call.request.query_fields()
        wait = query.integer("wait", minimum=0, maximum=LONGEST_POLL) or 0
        status = query.optional_text("status")
        query.done()
        if wait:
            self._step_aside()
        login = self._broker.logins.wait(
            call.caller,
            call.values["id"],
            lambda login: login.stage != status,
            timedelta(seconds=wait),
            call.request.stopping,
        )
        return self._session(login)

    def resume(self, call: Call) -> Response:
        """POST …/resume."""
        body = call.request.json()
        fields = body.secrets("fields")
        body.done()
        login = self._broker.logins.get(call.caller, call.values["id"])
        return self._session(self._broker.logins.submit(login, fields))

    def paste(self, call: Call) -> Response:
        """POST …/callback."""
        body = call.request.json()
        address = body.secret("address")
        body.done()
        return self._session(self._broker.logins.paste(call.caller, call.values["id"], address))

    def cancel(self, call: Call) -> Response:
        """POST …/cancel."""
        return self._session(self._broker.logins.cancel(call.caller, call.values["id"]))

    def open(self, call: Call) -> Response:
        """GET …/open: swaps the key in the link for a cookie; changes nothing here."""
        return _page(lambda: self._open(call))

    def page(self, call: Call) -> Response:
        """GET …/input, and …/device: what there is to see depends on the login alone."""
        return _page(lambda: self._show(self._login(call)))

    def events(self, call: Call) -> Response:
        """GET …/events."""
        login = self._login(call)
        query = call.request.query_fields()
        stage = query.text("stage")
        query.done()
        if stage not in set(Stage):
            raise RequestInvalid("there is no such stage")
        waiter = Waiter(login=login.request.id, vault=login.request.vault_id, stage=Stage(stage))
        return self._streams.answer(call.request, waiter)

    def take_form(self, call: Call) -> Response:
        """POST …/input."""
        return _page(lambda: self._take_form(call))

    def abandon(self, call: Call) -> Response:
        """POST …/abandon."""
        return _page(lambda: self._abandon(call))

    def client_document(self, _call: Call) -> Response:
        """GET /auth/client.json: only where others than this machine can read it."""
        if registration.document_url(self._base_url) is None:
            raise NotFound
        return json_response(registration.document(self._base_url, self._base_url + CALLBACK_PATH))

    def callback(self, call: Call) -> Response:
        """GET /auth/callback/oauth: the page it leads to has neither code nor state in its address (RFC 9700 §4.2)."""
        return _page(lambda: self._callback(call))

    def sent_to(self, login: Login) -> Response:
        """Send the browser that has just begun a login on to its page, with the key that shows that it did."""
        return redirect(_page_of(login), headers=(self._cookie(login),))

    def _open(self, call: Call) -> Response:
        query = call.request.query_fields()
        key = Secret(query.text("key"))
        query.done()
        return self.sent_to(self._broker.logins.opened(call.values["id"], key))

    def _cookie(self, login: Login) -> tuple[str, str]:
        return cross_origin.set_cookie(
            _cookie_name(login.request.id),
            login.request.browser_key.reveal(),
            path=COOKIE_PATH,
            same_site="Lax",  # the callback is reached from the provider's site
            lifetime=max(login.request.expires_at - self._broker.context.clock(), timedelta(seconds=1)),
            secure=self._base_url.startswith("https:"),
        )

    def _show(self, login: Login) -> Response:
        provider = self._broker.logins.provider(login.request)
        match login:
            case AwaitingInput():
                return html_response(bridge.input_page(self._form(login)))
            case AwaitingCallback():
                hosts = _hosts(provider, login.request) if login.request.is_new_provider else ()
                return html_response(bridge.onward_page(provider.display_name, login.authorization_url, hosts=hosts))
            case AwaitingDevice():
                page = bridge.device_page(self._device(login, provider), events=_events(login))
                return html_response(page, policy=SCRIPTED_PAGE_POLICY)
            case Exchanging():
                page = bridge.waiting_page(provider.display_name, events=_events(login))
                return html_response(page, policy=SCRIPTED_PAGE_POLICY)
            case Completed():
                return html_response(bridge.done_page(provider.display_name, _done(login, provider)))
            case Failed():
                return html_response(
                    bridge.failed_page(
                        provider.display_name,
                        login.message,
                        login.hint,
                        back=apps.place(login.request.provider) if login.request.identity is None else None,
                    )
                )

    def _form(self, login: AwaitingInput) -> InputForm:
        request = login.request
        provider = self._broker.logins.provider(request)
        is_account = request.flow is Flow.CLIENT_CREDENTIALS
        redirects = request.flow is not Flow.API_KEY and not is_account
        return InputForm(
            provider=provider.display_name,
            fields=tuple(
                FormField(
                    name=field.name, label=field.label, secret=field.secret, required=field.required, hint=field.hint
                )
                for field in self._broker.logins.fields(login)
            ),
            action=_path(login, "input"),
            form_token=self._forms.token(request.browser_key, _purpose(login)),
            cancel_action=_path(login, "abandon"),
            problem=login.problem,
            docs_url=provider.docs_url,
            redirect_uri=self._base_url + CALLBACK_PATH if redirects else None,
            is_account=is_account,
            hosts=_hosts(provider, request),
        )

    def _device(self, login: AwaitingDevice, provider: Provider) -> DeviceCode:
        return DeviceCode(
            provider=provider.display_name,
            user_code=login.user_code,
            verification_uri=login.verification_uri,
            verification_uri_complete=login.verification_uri_complete,
            form_token=self._forms.token(login.request.browser_key, _purpose(login)),
            cancel_action=_path(login, "abandon"),
            hosts=_hosts(provider, login.request) if login.request.is_new_provider else (),
        )

    def _take_form(self, call: Call) -> Response:
        login, form = self._posted(call)
        login = self._broker.logins.submit(login, {name: value for name, value in form.rest().items() if value})
        return redirect(_page_of(login), headers=(self._cookie(login),))  # a code to enter may be good for longer

    def _abandon(self, call: Call) -> Response:
        login, _ = self._posted(call)
        self._broker.logins.abandon(login)
        return redirect(_path(login, "input"))

    def _callback(self, call: Call) -> Response:
        def key_for(login_id: str) -> Secret[str] | None:
            value = cross_origin.cookie(call.request, _cookie_name(login_id))
            return Secret(value) if value is not None else None

        return redirect(_path(self._broker.logins.callback(call.request.query, key_for), "input"))

    def _login(self, call: Call) -> Login:
        value = cross_origin.cookie(call.request, _cookie_name(call.values["id"]))
        if value is None:
            raise LoginNotFound
        return self._broker.logins.opened(call.values["id"], Secret(value))

    def _posted(self, call: Call) -> tuple[Login, Fields]:
        """The login whose page has posted a form, and the form, whose token is spent."""
        login, form = self._login(call), call.request.form()
        token = form.optional_text(TOKEN)
        self._forms.check(call.request, key=login.request.browser_key, purpose=_purpose(login), token=token)
        return login, form

    def _session(self, login: Login, *, status: int = 200) -> Response:
        key = login.request.browser_key.reveal()
        fields = self._broker.logins.fields(login) if isinstance(login, AwaitingInput) else ()
        link = f"{self._base_url}{_path(login, 'open')}?key={key}"
        provider = self._broker.logins.provider(login.request)
        view = views.session(
            login,
            fields,
            provider,
            browser_url=link,
            redirect_uri=self._base_url + CALLBACK_PATH,
            now=self._broker.context.clock(),
        )
        return json_response(view, status=status)


def _page(make: Callable[[], Response]) -> Response:
    """The page, or one that says what went wrong: whoever looks at it is a person."""
    try:
        return make()
    except LoginNotFound as error:
        return html_response(bridge.expired_page(), status=error.http_status)
    except AuthsomeError as error:
        status = error.http_status
        return html_response(bridge.error_page(status, error.message, error.hint), status=status)


def _hosts(provider: Provider, request: LoginRequest) -> tuple[str, ...]:
    """Where the credential will be sent."""
    found = provider.patterns(request.variables)
    return tuple(("*." if pattern.is_suffix else "") + pattern.host for pattern in found)


def _done(login: Completed, provider: Provider) -> Done:
    untried, unnamed = views.silence(login, provider)
    stored = login.connection
    return Done(
        connection=stored.name,
        account=stored.account,
        unverified=login.unverified or untried,
        unnamed=unnamed,
        back=connections.place(stored) if login.request.identity is None else None,
    )


def _flow(text: str) -> Flow:
    try:
        return Flow(text)
    except ValueError as error:
        raise RequestInvalid(f"there is no flow {text[:32]}", hint=f"one of {', '.join(Flow)}") from error


def _events(login: Login) -> str:
    return f"{_path(login, 'events')}?stage={login.stage}"


def _path(login: Login, page: str) -> str:
    return f"/auth/sessions/{login.request.id}/{page}"


def _page_of(login: Login) -> str:
    return _path(login, "device" if isinstance(login, AwaitingDevice) else "input")


def _purpose(login: Login) -> str:
    """What the forms of a login's page are for."""
    return f"input {login.request.id}"


def _cookie_name(login_id: str) -> str:
    return f"authsome_login_{login_id}"
