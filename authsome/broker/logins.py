"""Logins: attempts to get a credential, from the first question to the stored connection.

Rule: what a login is waiting for is in the database, sealed, so that a restart loses none; a callback is spent before
the code in it is; and nothing that was stored changes until a new credential is complete.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from authsome.broker import questions, verify
from authsome.broker.attempt import Attempt, Earned
from authsome.broker.context import Context
from authsome.broker.device import Answer, Desk, Polls
from authsome.broker.questions import InputField
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    Cancelled,
    ConnectionExists,
    LoginNotFound,
    NotAllowed,
    RequestInvalid,
    TimedOut,
)
from authsome.models.audit import Entry, Event
from authsome.models.connection import DEFAULT_CONNECTION, Status
from authsome.models.login import (
    Awaiting,
    AwaitingCallback,
    AwaitingDevice,
    AwaitingInput,
    Completed,
    Exchanging,
    Failed,
    Flow,
    Login,
    LoginRequest,
)
from authsome.models.principal import Caller
from authsome.oauth import authorization, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from authsome.vault import audit, clients, connections, logins
from authsome.vault.database import Reader, Transaction

LIFETIME: Final = timedelta(minutes=10)
CALLBACK_PATH: Final = "/auth/callback/oauth"


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


class Logins:
    """The use cases around logins."""

    def __init__(self, context: Context, *, base_url: str) -> None:
        self._context = context
        self._redirect_uri = base_url + CALLBACK_PATH
        self._changed = threading.Condition()
        desk = Desk(ask=self._ask_device, finish=self._take_device, fail=self._give_up)
        self._polls = Polls(context, self._changed, desk)

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
            variables=provider.checked_variables(wanted.variables, questions.kind_of(flow), partial=True),
            browser_key=Secret(secrets.token_urlsafe(32)),
            created_at=now,
            expires_at=now + LIFETIME,
        )
        with context.database.read() as reader:
            self._check_absent(reader, request)
        login: Login = AwaitingInput(request=request, problem=None)
        client = self._client(request)
        if client is not None and not provider.missing_variables(questions.kind_of(flow), request.variables):
            login = self._attempt(request).start(client, redirect_uri=self._redirect_uri)
        with context.database.transaction(durable=True) as tx:
            self._check_absent(tx, request)
            logins.purge(tx, now)
            logins.put(tx, context.sealers.for_vault(caller.vault_id), login)
        self._watch(login)
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
        request = login.request
        knows_client = self._client(request) is not None
        return questions.questions(self._context.catalog.get(request.provider), request, knows_client=knows_client)

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
            request, problem = questions.with_variables(provider, current.request, trimmed)
            problem = questions.problem_with(provider, request.flow, asked, trimmed) or problem
            if problem is not None:
                refused = replace(current, problem=problem)
                logins.put(tx, sealer, refused)
                self._changed.notify_all()
                return refused
            logins.put(tx, sealer, Exchanging(request=request))
            self._changed.notify_all()
        return self._go_on(request, lambda: self._with_input(request, trimmed))

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
                request, code = self._attempt(login.request).code(login, query)
            except AuthsomeError as error:
                return self._fail(tx, login.request, error)
            logins.put(tx, sealer, Exchanging(request=request))
            self._changed.notify_all()
        return self._go_on(request, lambda: self._attempt(request).exchange(login, code))

    def cancel(self, caller: Caller, login_id: str) -> Login:
        """End a login that its owner no longer wants; one that has ended stays as it is."""
        return self.abandon(self.get(caller, login_id))

    def abandon(self, login: Login) -> Login:
        """End a login; one that has ended stays as it is."""
        with self._changed, self._context.database.transaction(durable=True) as tx:
            sealer = self._context.sealers.for_vault(login.request.vault_id)
            current = logins.get(tx, sealer, login.request.id)
            if isinstance(current, Awaiting | Exchanging):
                return self._fail(tx, current.request, Cancelled("the login was cancelled"))
        return current or login

    def recover(self) -> None:
        """Take up what a previous daemon left: ask on about device logins, end exchanges, whose codes are spent."""
        with self._changed, self._context.database.transaction(durable=True) as tx:
            for login in logins.list_exchanging(tx, self._context.sealers):
                error = AuthsomeError("the daemon stopped while the login was being finished", hint="start again")
                self._fail(tx, login.request, error)
            waiting = logins.list_devices(tx, self._context.sealers)
        for each in waiting:
            self._polls.start(each)

    def close(self) -> None:
        """Ask no provider any more; what waits goes on with the next daemon."""
        self._polls.stop()

    def _find(self, login_id: str) -> Login | None:
        context = self._context
        with context.database.read() as reader:
            login = logins.find(reader, context.sealers, login_id)
        if isinstance(login, Awaiting) and login.request.expires_at <= context.clock():
            with self._changed, context.database.transaction(durable=True) as tx:
                return self._fail(tx, login.request, TimedOut("the login took too long and was given up"))
        return login

    def _check_absent(self, reader: Reader | Transaction, request: LoginRequest) -> None:
        """Raise when there is a connection of that name already that works, unless it may be replaced."""
        stored = connections.get(reader, request.vault_id, request.provider, request.connection)
        if stored is not None and not request.force and stored.status_at(request.created_at) is Status.CONNECTED:
            raise ConnectionExists(f"{request.provider} is connected already as {request.connection}")

    def _client(self, request: LoginRequest) -> ClientCredentials | None:
        """The OAuth client that earlier logins of this kind used."""
        if request.flow is Flow.API_KEY:
            return None
        sealer = self._context.sealers.for_vault(request.vault_id)
        with self._context.database.read() as reader:
            client = clients.get(reader, sealer, request.provider)
        return ClientCredentials(client_id=client.client_id, client_secret=client.client_secret) if client else None

    def _attempt(self, request: LoginRequest) -> Attempt:
        return Attempt(context=self._context, provider=self._context.catalog.get(request.provider), request=request)

    def _with_input(
        self, request: LoginRequest, given: Mapping[str, Secret[str]]
    ) -> AwaitingInput | AwaitingCallback | AwaitingDevice | Earned:
        """What follows from the input."""
        attempt = self._attempt(request)
        if request.flow is Flow.API_KEY:
            assert attempt.provider.api_key is not None
            return attempt.try_key({each.name: given[each.name] for each in attempt.provider.api_key.fields})
        client = questions.given_client(given) or self._client(request)
        assert client is not None  # or it had been asked for
        return attempt.start(client, redirect_uri=self._redirect_uri)

    def _go_on(self, request: LoginRequest, work: Callable[[], Awaiting | Earned]) -> Login:
        """Do what asks the provider, outside any transaction; then store what comes of it.

        Raises:
            LoginNotFound: the login was cancelled meanwhile, and nothing is stored.
        """
        context = self._context
        outcome: Awaiting | Earned | AuthsomeError
        try:
            outcome = work()
        except AuthsomeError as error:
            outcome = error
        with self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(request.vault_id)
            if not isinstance(logins.get(tx, sealer, request.id), Exchanging):
                raise LoginNotFound("this login was ended meanwhile")
            match outcome:
                case AuthsomeError():
                    return self._fail(tx, request, outcome)
                case Earned():
                    login: Login = self._complete(tx, outcome)
                case _:
                    login = outcome
            logins.put(tx, sealer, login)
            self._changed.notify_all()
        self._watch(login)
        return login

    def _watch(self, login: Login) -> None:
        if isinstance(login, AwaitingDevice):
            self._polls.start(login)

    def _ask_device(self, login: AwaitingDevice) -> Answer:
        return self._attempt(login.request).ask_device(login)

    def _take_device(self, login: AwaitingDevice, tokens: token.Tokens) -> None:
        """The code was entered: store what came of it, unless the login was cancelled meanwhile."""
        context, request = self._context, login.request
        with self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(request.vault_id)
            if not isinstance(logins.get(tx, sealer, request.id), AwaitingDevice):
                return
            logins.put(tx, sealer, Exchanging(request=request))
            self._changed.notify_all()
        client = ClientCredentials(client_id=login.client_id, client_secret=login.client_secret)
        self._go_on(request, lambda: self._attempt(request).earned(client, tokens))

    def _give_up(self, login: Login, error: AuthsomeError) -> None:
        """End a login that cannot succeed, unless it has ended."""
        with self._changed, self._context.database.transaction(durable=True) as tx:
            sealer = self._context.sealers.for_vault(login.request.vault_id)
            if isinstance(logins.get(tx, sealer, login.request.id), Awaiting | Exchanging):
                self._fail(tx, login.request, error)

    def _complete(self, tx: Transaction, earned: Earned) -> Completed:
        request, tokens, proof, now = earned.request, earned.tokens, earned.proof, self._context.clock()
        sealer = self._context.sealers.for_vault(request.vault_id)
        scopes: tuple[str, ...] = ()
        if tokens is not None:
            scopes = tokens.scopes if tokens.scopes is not None else request.scopes
        if (client := earned.client) is not None:
            clients.put(
                tx,
                sealer,
                provider=request.provider,
                client_id=client.client_id,
                client_secret=client.client_secret,
                now=now,
            )
        account = proof.account if isinstance(proof, verify.Proven) else None
        connection = connections.put(
            tx,
            sealer,
            provider=request.provider,
            name=request.connection,
            kind=earned.kind,
            secrets=earned.held,
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


def _checked_name(name: str) -> str:
    allowed = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not allowed or len(name) > 64 or not name[0].isalnum():
        raise RequestInvalid(
            f"{name[:64]!r} is not a connection name", hint="letters, digits, `-`, `_` and `.`, 64 at most"
        )
    return name
