"""Logins: attempts to get a credential, from the first question to the stored connection.

Rule: what a login is waiting for is in the database, sealed, so that a restart loses none; a callback is spent before
the code in it is; and nothing that was stored changes until a new credential is complete.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from authsome.broker import verify
from authsome.broker.context import Context
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    Cancelled,
    ConnectionExists,
    EndpointRefused,
    LoginNotFound,
    NotAllowed,
    RequestInvalid,
    TimedOut,
)
from authsome.models.audit import Entry, Event
from authsome.models.connection import ACCESS_TOKEN, DEFAULT_CONNECTION, REFRESH_TOKEN, Client, Kind, Secrets, Status
from authsome.models.login import (
    AwaitingCallback,
    AwaitingInput,
    Completed,
    Exchanging,
    Failed,
    Flow,
    Login,
    LoginRequest,
)
from authsome.models.principal import Caller
from authsome.models.provider import Provider, Variable
from authsome.oauth import authorization, pkce, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from authsome.vault import audit, clients, connections, logins
from authsome.vault.database import Transaction

LIFETIME: Final = timedelta(minutes=10)
CALLBACK_PATH: Final = "/auth/callback/oauth"
CLIENT_ID: Final = "client_id"
CLIENT_SECRET: Final = "client_secret"  # noqa: S105  # a field's name
FIELD_LIMIT: Final = 16 * 1024  # characters; the longest keys known (service-account JSON) have under 4,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller asks for; None leaves the choice to the provider's definition."""

    provider: str
    connection: str = DEFAULT_CONNECTION
    flow: Flow | None = None
    scopes: tuple[str, ...] = ()
    force: bool = False
    verify: bool = True
    """Whether to try the credential on its provider before it is stored."""
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField:
    """One thing to ask for."""

    name: str
    label: str
    secret: bool
    required: bool
    hint: str | None


class Logins:
    """The use cases around logins."""

    def __init__(self, context: Context, *, base_url: str) -> None:
        self._context = context
        self._redirect_uri = base_url + CALLBACK_PATH
        self._changed = threading.Condition()

    def begin(self, caller: Caller, wanted: Wanted) -> Login:
        """Start a login; it awaits input, or the callback when nothing has to be asked.

        Raises:
            ProviderNotFound: no such provider.
            RequestInvalid: the provider does not offer that flow, or a variable's value is not allowed.
            ConnectionExists: the connection is there already and `force` was not given.
        """
        context = self._context
        provider = context.catalog.get(wanted.provider)
        flow = wanted.flow or provider.flow
        if flow not in provider.flows:
            offered = ", ".join(provider.flows)
            raise RequestInvalid(f"{provider.name} does not offer the flow {flow}", hint=f"it offers: {offered}")
        now = context.clock()
        request = LoginRequest(
            id=secrets.token_urlsafe(16),
            vault_id=caller.vault_id,
            identity=caller.identity.handle,
            provider=provider.name,
            connection=_checked_name(wanted.connection),
            flow=flow,
            scopes=wanted.scopes or (provider.oauth.scopes if provider.oauth else ()),
            force=wanted.force,
            verify=wanted.verify,
            variables=provider.checked_variables(wanted.variables, _kind(flow), partial=True),
            browser_key=Secret(secrets.token_urlsafe(32)),
            created_at=now,
            expires_at=now + LIFETIME,
        )
        sealer = context.sealers.for_vault(caller.vault_id)
        with context.database.transaction(durable=True) as tx:
            stored = connections.get(tx, caller.vault_id, provider.name, request.connection)
            if stored is not None and not wanted.force and stored.status_at(now) is Status.CONNECTED:
                raise ConnectionExists(f"{provider.name} is connected already as {request.connection}")
            logins.purge(tx, now)
            client = clients.get(tx, sealer, provider.name) if flow is Flow.PKCE else None
            login: Login = AwaitingInput(request=request, problem=None)
            if client is not None and not provider.missing_variables(_kind(flow), request.variables):
                login = self._send_to_provider(request, provider, client.client_id, client.client_secret)
            logins.put(tx, sealer, login)
        return login

    def get(self, caller: Caller, login_id: str) -> Login:
        """The caller's own login.

        Raises:
            LoginNotFound: there is none of that id in the caller's vault.
        """
        login = self._find(login_id)
        if login is None or login.request.vault_id != caller.vault_id:
            raise LoginNotFound
        return login

    def wait(
        self, caller: Caller, login_id: str, until: Callable[[Login], bool], patience: timedelta, stop: threading.Event
    ) -> Login:
        """The login as soon as `until` holds for it, or as it is when `patience` or the daemon ends."""
        deadline = time.monotonic() + patience.total_seconds()
        with self._changed:
            while True:
                login = self.get(caller, login_id)
                left = deadline - time.monotonic()
                if until(login) or left <= 0 or stop.is_set():
                    return login
                self._changed.wait(min(left, 1.0))  # a second at most: the daemon may be stopping

    def opened(self, login_id: str, browser_key: Secret[str]) -> Login:
        """The login that a browser was sent to.

        Raises:
            LoginNotFound: no such login, or this browser was not sent by its owner.
        """
        login = self._find(login_id)
        if login is None or login.request.browser_key != browser_key:
            raise LoginNotFound
        return login

    def fields(self, login: Login) -> tuple[InputField, ...]:
        """What a login that awaits input asks for."""
        provider, request = self._context.catalog.get(login.request.provider), login.request
        kind = _kind(request.flow)
        missing = provider.missing_variables(kind, request.variables)
        asked = tuple(_variable_field(each) for each in (*missing, *provider.optional_variables(kind)))
        if missing and kind is Kind.OAUTH2 and self._client(request) is not None:
            return asked
        return asked + self._credential_fields(provider, request.flow)

    def _client(self, request: LoginRequest) -> Client | None:
        sealer = self._context.sealers.for_vault(request.vault_id)
        with self._context.database.read() as reader:
            return clients.get(reader, sealer, request.provider)

    def _credential_fields(self, provider: Provider, flow: Flow) -> tuple[InputField, ...]:
        if flow is Flow.API_KEY:
            assert provider.api_key is not None
            return tuple(
                InputField(name=each.name, label=each.label, secret=each.secret, required=True, hint=each.hint)
                for each in provider.api_key.fields
            )
        assert provider.oauth is not None
        needs_secret = provider.oauth.client_secret == "required"  # noqa: S105  # a setting
        asked = [InputField(name=CLIENT_ID, label="Client ID", secret=False, required=True, hint=None)]
        if provider.oauth.client_secret != "none":  # noqa: S105  # a setting
            hint = None if needs_secret else "leave empty for a public client"
            asked.append(
                InputField(name=CLIENT_SECRET, label="Client secret", secret=True, required=needs_secret, hint=hint)
            )
        return tuple(asked)

    def submit(self, login: Login, given: Mapping[str, Secret[str]]) -> Login:
        """Take the input that a login awaits: the API key, or the OAuth client.

        Input that does not fit, or that the provider refuses, leaves the login waiting, with the `problem` in words.

        Raises:
            LoginNotFound: the login does not await input (any more).
        """
        context = self._context
        provider = context.catalog.get(login.request.provider)
        asked = self.fields(login)
        trimmed = {name: Secret(value.reveal().strip()) for name, value in given.items()}
        with self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(login.request.vault_id)
            current = logins.get(tx, sealer, login.request.id)
            if not isinstance(current, AwaitingInput):
                raise LoginNotFound("this login does not await input any more")
            request, problem = _with_variables(provider, current.request, trimmed)
            problem = _problem(provider, request.flow, asked, trimmed) or problem
            if problem is not None:
                outcome: Login = replace(current, problem=problem)
            elif request.flow is Flow.API_KEY:
                outcome = Exchanging(request=request)
            elif CLIENT_ID in trimmed:
                secret = trimmed.get(CLIENT_SECRET)
                outcome = self._send_to_provider(request, provider, trimmed[CLIENT_ID].reveal(), secret or None)
            else:
                known = clients.get(tx, sealer, provider.name)
                assert known is not None  # or it had been asked for
                outcome = self._send_to_provider(request, provider, known.client_id, known.client_secret)
            logins.put(tx, sealer, outcome)
            self._changed.notify_all()
        if isinstance(outcome, Exchanging):
            assert provider.api_key is not None
            return self._take_key(
                request, provider, {each.name: trimmed[each.name] for each in provider.api_key.fields}
            )
        return outcome

    def callback(self, query: str, browser_keys: Callable[[str], Secret[str] | None]) -> Login:
        """Take the provider's answer, exchange its code and store the credential.

        Args:
            query: the callback's query, as it came.
            browser_keys: the key that this browser holds for a login of that id, if any.

        Returns:
            The login, completed or failed.

        Raises:
            AuthenticationFailed: `state` is missing, unknown, or spent. No token request is sent.
            NotAllowed: another browser began this login.
        """
        context = self._context
        state = authorization.callback_state(query)
        if state is None:
            raise AuthenticationFailed("the answer carries no state", hint="start again with `authsome login`")
        with self._changed, context.database.transaction(durable=True) as tx:
            login = logins.by_state(tx, context.sealers, state)
            if not isinstance(login, AwaitingCallback) or login.request.expires_at <= context.clock():
                raise AuthenticationFailed(
                    "no login awaits this answer: it was answered, cancelled, or took too long",
                    hint="start again with `authsome login`",
                )
            key = browser_keys(login.request.id)
            if key is None or key != login.request.browser_key:
                raise NotAllowed(
                    "this login was begun in another browser", hint="open the link that `authsome login` printed here"
                )
            sealer = context.sealers.for_vault(login.request.vault_id)
            try:
                code = self._code(login, query)
                login = self._with_callback(login, query)
            except AuthsomeError as error:
                return self._fail(tx, login.request, error)
            logins.put(tx, sealer, Exchanging(request=login.request))
            self._changed.notify_all()
        return self._exchange(login, code)

    def cancel(self, caller: Caller, login_id: str) -> Login:
        """End a login that its owner no longer wants; one that has ended stays as it is."""
        return self.abandon(self.get(caller, login_id))

    def abandon(self, login: Login) -> Login:
        """End a login; one that has ended stays as it is."""
        with self._changed, self._context.database.transaction(durable=True) as tx:
            sealer = self._context.sealers.for_vault(login.request.vault_id)
            current = logins.get(tx, sealer, login.request.id)
            if isinstance(current, AwaitingInput | AwaitingCallback):
                return self._fail(tx, current.request, Cancelled("the login was cancelled"))
        return current or login

    def recover(self) -> None:
        """End the logins whose exchange a previous daemon did not finish: their codes are spent."""
        with self._changed, self._context.database.transaction(durable=True) as tx:
            for login in logins.list_exchanging(tx, self._context.sealers):
                error = AuthsomeError("the daemon stopped while the login was being finished", hint="start again")
                self._fail(tx, login.request, error)

    def _find(self, login_id: str) -> Login | None:
        context = self._context
        with context.database.read() as reader:
            login = logins.find(reader, context.sealers, login_id)
        if isinstance(login, AwaitingInput | AwaitingCallback) and login.request.expires_at <= context.clock():
            with self._changed, context.database.transaction(durable=True) as tx:
                return self._fail(tx, login.request, TimedOut("the login took too long and was given up"))
        return login

    def _take_key(self, request: LoginRequest, provider: Provider, values: Secrets) -> Login:
        """Try a key on its provider, outside any transaction; store it unless the provider says no."""
        proof = self._verify(request, provider, Kind.API_KEY, values)
        with self._changed, self._context.database.transaction(durable=True) as tx:
            if isinstance(proof, verify.Refused):
                outcome: Login = AwaitingInput(request=request, problem=f"the key is not accepted: {proof.reason}")
            else:
                outcome = self._complete(tx, request, Kind.API_KEY, values, None, proof=proof)
            logins.put(tx, self._context.sealers.for_vault(request.vault_id), outcome)
            self._changed.notify_all()
        return outcome

    def _verify(self, request: LoginRequest, provider: Provider, kind: Kind, values: Secrets) -> verify.Outcome | None:
        return verify.attempt(self._context, provider, kind, request.variables, values) if request.verify else None

    def _send_to_provider(
        self, request: LoginRequest, provider: Provider, client_id: str, client_secret: Secret[str] | None
    ) -> AwaitingCallback:
        assert provider.oauth is not None
        oauth = provider.oauth.resolved(request.variables)
        verifier = pkce.new_verifier()
        state = authorization.new_state()
        url = authorization.authorization_url(
            endpoint=oauth.authorization_url,
            client_id=client_id,
            redirect_uri=self._redirect_uri,
            scopes=request.scopes,
            scope_separator=oauth.scope_separator,
            state=state,
            code_challenge=None if oauth.pkce == "unsupported" else pkce.challenge(verifier),
            params=oauth.authorization_params,
            names=oauth.parameter_names,
        )
        return AwaitingCallback(
            request=request,
            state=state,
            code_verifier=verifier,
            redirect_uri=self._redirect_uri,
            authorization_url=url,
            client_id=client_id,
            client_secret=client_secret,
        )

    def _code(self, login: AwaitingCallback, query: str) -> Secret[str]:
        provider = self._context.catalog.get(login.request.provider)
        assert provider.oauth is not None
        issuer = provider.oauth.resolved(login.request.variables).issuer
        return authorization.parse_callback(query, state=login.state, issuer=issuer, issuer_required=False)

    def _with_callback(self, login: AwaitingCallback, query: str) -> AwaitingCallback:
        """The login with those variables that the callback says."""
        provider = self._context.catalog.get(login.request.provider)
        assert provider.oauth is not None
        wanted = provider.oauth.callback_variables
        said = {name: authorization.callback_value(query, parameter) for name, parameter in wanted.items()}
        told = {name: value for name, value in said.items() if value is not None}
        return replace(login, request=_told(provider, login.request, wanted, told))

    def _exchange(self, login: AwaitingCallback, code: Secret[str]) -> Login:
        context = self._context
        try:
            provider = context.catalog.get(login.request.provider)
            assert provider.oauth is not None
            oauth = provider.oauth.resolved(login.request.variables)
            request = token.code_request(
                oauth,
                ClientCredentials(client_id=login.client_id, client_secret=login.client_secret),
                code=code,
                redirect_uri=login.redirect_uri,
                code_verifier=None if oauth.pkce == "unsupported" else login.code_verifier,
            )
            response = context.send(request, provider.allow_private_addresses)
            sent = (code, login.code_verifier, login.client_secret or Secret(""))
            tokens = token.parse_token_response(response, oauth, now=context.clock(), sent=sent)
            login = replace(login, request=_told(provider, login.request, oauth.token_variables, tokens.variables))
        except AuthsomeError as error:
            with self._changed, context.database.transaction(durable=True) as tx:
                return self._fail(tx, login.request, error)
        held = {ACCESS_TOKEN: tokens.access_token}
        if tokens.refresh_token is not None:
            held[REFRESH_TOKEN] = tokens.refresh_token
        proof = self._verify(login.request, provider, Kind.OAUTH2, held)
        with self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(login.request.vault_id)
            clients.put(
                tx,
                sealer,
                provider=login.request.provider,
                client_id=login.client_id,
                client_secret=login.client_secret,
                now=context.clock(),
            )
            outcome = self._complete(tx, login.request, Kind.OAUTH2, held, tokens, proof=proof)
            logins.put(tx, sealer, outcome)
            self._changed.notify_all()
        return outcome

    def _complete(  # noqa: PLR0913  # what is known of a credential
        self,
        tx: Transaction,
        request: LoginRequest,
        kind: Kind,
        held: Secrets,
        tokens: token.Tokens | None,
        *,
        proof: verify.Outcome | None,
    ) -> Completed:
        account = proof.account if isinstance(proof, verify.Proven) else None
        now = self._context.clock()
        scopes: tuple[str, ...] = ()
        if tokens is not None:
            scopes = tokens.scopes if tokens.scopes is not None else request.scopes
        connection = connections.put(
            tx,
            self._context.sealers.for_vault(request.vault_id),
            provider=request.provider,
            name=request.connection,
            kind=kind,
            secrets=held,
            scopes=scopes,
            account=account or (tokens.account if tokens else None),
            expires_at=tokens.expires_at if tokens else None,
            variables=request.variables,
            now=now,
        )
        audit.append(tx, self._entry(Event.LOGIN, request, f"by {request.flow}"))
        unverified = proof.reason if isinstance(proof, verify.Refused | verify.Unclear) else None
        return Completed(request=request, connection=connection, unverified=unverified)

    def _fail(self, tx: Transaction, request: LoginRequest, error: AuthsomeError) -> Failed:
        outcome = Failed(request=request, code=error.code, message=error.message, hint=error.hint)
        logins.put(tx, self._context.sealers.for_vault(request.vault_id), outcome)
        audit.append(tx, self._entry(Event.LOGIN_FAILED, request, error.message))
        self._changed.notify_all()
        return outcome

    def _entry(self, event: Event, request: LoginRequest, detail: str) -> Entry:
        return Entry(
            event=event,
            at=self._context.clock(),
            vault_id=request.vault_id,
            identity=request.identity,
            provider=request.provider,
            connection=request.connection,
            detail=detail,
        )


def _kind(flow: Flow) -> Kind:
    """What a login by that flow ends in."""
    return Kind.API_KEY if flow is Flow.API_KEY else Kind.OAUTH2


def _variable_field(variable: Variable) -> InputField:
    label = variable.description or variable.name.replace("_", " ")
    default = variable.default
    hint = f"usually {default}" if default else f"as in {variable.example}" if variable.example else None
    return InputField(name=variable.name, label=label, secret=False, required=default is None, hint=hint)


def _with_variables(
    provider: Provider, request: LoginRequest, given: Mapping[str, Secret[str]]
) -> tuple[LoginRequest, str | None]:
    """The request with the variables that were given; or, instead, what is wrong with them."""
    names = {each.name for each in provider.variables}
    chosen = {name: value.reveal() for name, value in given.items() if name in names and value}
    try:
        found = provider.checked_variables({**request.variables, **chosen}, _kind(request.flow))
    except RequestInvalid as error:
        return request, error.message
    return replace(request, variables=found), None


def _told(provider: Provider, request: LoginRequest, wanted: Iterable[str], told: Mapping[str, str]) -> LoginRequest:
    """The request with the variables that the provider said, once they are found to be allowed.

    Raises:
        EndpointRefused: one is missing, or not allowed.
    """
    for name in wanted:
        if name not in told:
            raise EndpointRefused(f"{provider.name} did not say its {name}", hint="start again with `authsome login`")
    try:
        return replace(request, variables={**request.variables, **provider.told_variables(told)})
    except ValueError as error:
        raise EndpointRefused(f"{provider.name} {error}") from error


def _checked_name(name: str) -> str:
    allowed = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not allowed or len(name) > 64 or not name[0].isalnum():
        raise RequestInvalid(
            f"{name[:64]!r} is not a connection name", hint="letters, digits, `-`, `_` and `.`, 64 at most"
        )
    return name


def _problem(
    provider: Provider, flow: Flow, asked: tuple[InputField, ...], given: Mapping[str, Secret[str]]
) -> str | None:
    """What is wrong with the input, in words for the one who gave it; None if nothing."""
    unknown = sorted(set(given) - {field.name for field in asked})
    if unknown:
        return f"{unknown[0]} is not asked for; asked: {', '.join(field.name for field in asked)}"
    for field in asked:
        value = given.get(field.name)
        text = value.reveal() if value is not None else ""
        if not text and field.required:
            return f"{field.label} is missing"
        if len(text) > FIELD_LIMIT or not text.isprintable():
            return f"{field.label} is too long or holds control characters"
    if flow is Flow.API_KEY and provider.api_key is not None:
        return provider.api_key.problem(given)
    return None
