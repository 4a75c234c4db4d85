"""Logins: attempts to get a credential, from the first question to the stored connection.

Rule: what a login is waiting for is in the database, sealed, so that a restart loses none; a callback is spent before
the code in it is; and nothing that was stored changes until a new credential is complete. A login is finished by the
definition that it was begun by, or not at all: another one may send what comes of it elsewhere.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from authsome.broker import discovery, oauth_clients, questions, registration, verify
from authsome.broker.attempt import Attempt, Earned, check_flow, client_of
from authsome.broker.context import Context
from authsome.broker.device import Answer, Desk, Polls
from authsome.broker.providers import ADMINS_ONLY, Providers
from authsome.broker.questions import InputField
from authsome.errors import (
    AuthenticationFailed,
    AuthsomeError,
    Cancelled,
    ClientRefused,
    ConnectionExists,
    LoginNotFound,
    NotAllowed,
    ProviderExists,
    RequestInvalid,
    TimedOut,
)
from authsome.models import url
from authsome.models.audit import Entry, Event
from authsome.models.connection import DEFAULT_CONNECTION, Client, Status, checked_name
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
from authsome.models.provider import Provider, definition_digest, definition_to_json
from authsome.oauth import authorization, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret
from authsome.vault import audit, clients, connections, identities, logins, principals
from authsome.vault.database import Reader, Transaction

LIFETIME: Final = timedelta(minutes=10)
RETENTION: Final = timedelta(minutes=1)  # for whoever still asks to be told that it took too long
CALLBACK_PATH: Final = "/auth/callback/oauth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller asks for; None leaves the choice to the provider's definition."""

    provider: str = ""
    url: str | None = None
    """In place of the provider's name: the URL of an API or an issuer that says itself how to log in."""
    connection: str = DEFAULT_CONNECTION
    flow: Flow | None = None
    scopes: tuple[str, ...] = ()
    force: bool = False
    verify: bool = True
    """Whether to try the credential on its provider before it is stored."""
    variables: Mapping[str, str]


class Logins:
    """The use cases around logins."""

    def __init__(self, context: Context, providers: Providers, *, base_url: str) -> None:
        self._context = context
        self._providers = providers
        self._base_url = base_url
        self._registering: dict[tuple[str, str], threading.Lock] = {}
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
            NotAllowed: the caller is limited in what it uses.
        """
        caller.require_wide()
        context = self._context
        provider, is_new = self._wanted_provider(caller, wanted)
        flow = wanted.flow or provider.flow
        if flow not in provider.flows:
            offered = ", ".join(provider.flows)
            raise RequestInvalid(f"{provider.name} does not offer the flow {flow}", hint=f"it offers: {offered}")
        if wanted.scopes and flow is Flow.API_KEY:
            raise RequestInvalid(
                f"a key of {provider.name} takes no scopes: it may do what it was made for", hint="leave --scopes away"
            )
        now = context.clock()
        request = LoginRequest(
            id=secrets.token_urlsafe(16),
            vault_id=caller.vault_id,
            identity=caller.handle,
            proof=caller.proof,
            provider=provider.name,
            connection=checked_name(wanted.connection),
            flow=flow,
            scopes=wanted.scopes or _usual_scopes(provider, flow),
            force=wanted.force,
            verify=wanted.verify,
            variables=provider.checked_variables(wanted.variables, questions.kind_of(flow), partial=True),
            browser_key=Secret(secrets.token_urlsafe(32)),
            definition=provider if is_new else None,
            is_new_provider=is_new,
            begun_by=None if is_new else definition_digest(provider),
            created_at=now,
            expires_at=now + LIFETIME,
        )
        with context.database.read() as reader:
            self._check_absent(reader, request)
        login: Login = AwaitingInput(request=request, problem=None)
        if flow is not Flow.API_KEY and not provider.missing_variables(questions.kind_of(flow), request.variables):
            request = self._prepared(request)
            client = self._known_client(request)
            login = AwaitingInput(request=request, problem=None)
            if client is not None:
                started = self._attempt(request).start(client, redirect_uri=self._redirect_uri)
                assert not isinstance(started, Earned)  # only a client that was asked for earns anything by itself
                login = started
        with context.database.transaction(durable=True) as tx:
            self._check_absent(tx, request)
            logins.purge(tx, before=now - RETENTION)
            logins.put(tx, context.sealers.for_vault(caller.vault_id), login)
        self._watch(login)
        return login

    def get(self, caller: Caller, login_id: str) -> Login:
        """The caller's own login.

        Raises:
            LoginNotFound: there is none of that id in the caller's vault.
        """
        login = self._find(login_id)
        if login is None or login.request.vault_id != caller.vault_id or caller.limits.is_narrow:
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

    def provider(self, request: LoginRequest) -> Provider:
        """The provider of a login: as discovery found it, or as the catalogue has it."""
        return request.definition or self._context.catalog.get(request.provider)

    def fields(self, login: Login) -> tuple[InputField, ...]:
        """What a login that awaits input asks for."""
        request = login.request
        knows_client = self._may_know_client(request)
        client_hint = None if knows_client else self._client_hint(request)
        return questions.questions(self.provider(request), request, knows_client=knows_client, client_hint=client_hint)

    def submit(self, login: Login, given: Mapping[str, Secret[str]]) -> Login:
        """Take the input that a login awaits: the API key, or the OAuth client.

        Input that does not fit, or that the provider refuses, leaves the login waiting, with the `problem` in words.

        Raises:
            LoginNotFound: the login does not await input (any more).
            NotAllowed: the provider's definition was changed since the login began, which has ended by that.
        """
        context = self._context
        if (change := self._change_of_definition(login.request)) is not None:
            self._give_up(login, change)
            raise change
        provider = self.provider(login.request)
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

        def check(login: AwaitingCallback) -> None:
            key = browser_keys(login.request.id)
            if key is None or key != login.request.browser_key:
                raise NotAllowed(
                    "this login was begun in another browser", hint="open the link that `authsome login` printed here"
                )

        return self._answered(query, check)

    def paste(self, caller: Caller, login_id: str, address: Secret[str]) -> Login:
        """Take the provider's answer from the one who began the login, who read it in a browser somewhere else.

        The browser key proves that browser and login belong together; here the identity does, and the `state` in the
        address, which has to be that of this very login.

        Args:
            caller: who pastes it.
            login_id: the login.
            address: where the browser was sent, or what follows its question mark.

        Raises:
            LoginNotFound: no such login, or another identity began it.
            AuthenticationFailed: the address is no answer to this login, which goes on waiting.
        """
        login = self.get(caller, login_id)
        if login.request.identity != caller.handle:
            raise LoginNotFound
        text = address.reveal().strip()
        query = (text.partition("?")[2] if "?" in text else text).partition("#")[0]

        def check(found: AwaitingCallback) -> None:
            if found.request.id != login_id:
                raise NotAllowed("this is the answer to another login")

        return self._answered(query, check)

    def _answered(self, query: str, check: Callable[[AwaitingCallback], None]) -> Login:
        """Take an answer to a login that waits for it, once `check` has said by raising nothing that it may come."""
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
            check(login)
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
            if isinstance(current, AwaitingCallback):
                registration.forget(self._context, tx, current.request, is_certain=False)
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
        if not isinstance(login, Awaiting) or login.request.expires_at > context.clock():
            return login
        with self._changed, context.database.transaction(durable=True) as tx:
            login = logins.find(tx, context.sealers, login_id)
            if not isinstance(login, Awaiting):  # it was answered just in time
                return login
            if isinstance(login, AwaitingCallback):
                registration.forget(context, tx, login.request, is_certain=False)
            return self._fail(tx, login.request, TimedOut("the login took too long and was given up"))

    def _check_absent(self, reader: Reader | Transaction, request: LoginRequest) -> None:
        """Raise when there is a connection of that name already that works, unless it may be replaced."""
        stored = connections.get(reader, request.vault_id, request.provider, request.connection)
        if stored is not None and not request.force and stored.status_at(request.created_at) is Status.CONNECTED:
            raise ConnectionExists(f"{request.provider} is connected already as {request.connection}")

    def _wanted_provider(self, caller: Caller, wanted: Wanted) -> tuple[Provider, bool]:
        """The provider that is meant, and whether it is one that discovery has just made of a URL.

        Raises:
            ProviderInvalid, NotAllowed: what was found may not become a definition, or this caller may not add one.
        """
        context = self._context
        if wanted.url is None:
            return context.catalog.get(wanted.provider), False
        is_here = url.is_loopback(urlsplit(self._base_url).hostname or "")
        address = discovery.read_address(wanted.url, allow_local=is_here)
        known = discovery.provider_of(context.catalog, address)
        if known is not None:
            return known, False
        caller.require_admin(ADMINS_ONLY)
        found = json.dumps(discovery.definition_for(context, address)).encode()
        return self._providers.examine(caller, found, source=address.host).provider, True

    def _prepared(self, request: LoginRequest) -> LoginRequest:
        """The request with the endpoints that the issuer's metadata names, when the definition names none.

        Raises:
            EndpointUnreachable, EndpointRefused: the metadata cannot be had, or names none for this flow.
        """
        provider = self.provider(request)
        assert provider.oauth is not None
        if not provider.oauth.needs_discovery:
            return request
        oauth = discovery.completed(self._context, request.vault_id, provider.oauth, request.variables)
        completed = replace(provider, oauth=oauth)
        check_flow(completed, request.flow)
        return replace(request, definition=completed)

    def _client(self, request: LoginRequest) -> ClientCredentials | None:
        """The OAuth client that earlier logins of this kind used; one that is an account itself is never another's."""
        if request.flow in {Flow.API_KEY, Flow.CLIENT_CREDENTIALS}:
            return None
        sealer = self._context.sealers.for_vault(request.vault_id)
        with self._context.database.read() as reader:
            client = oauth_clients.find(reader, sealer, self.provider(request), request.variables, request.flow)
        return ClientCredentials.of(client) if client and oauth_clients.serves(client, request.flow) else None

    def _clients(self, request: LoginRequest) -> list[Client]:
        """The OAuth clients that the provider knows, at any of its servers."""
        with self._context.database.read() as reader:
            return clients.list_of(reader, self._context.sealers.for_vault(request.vault_id), request.provider)

    def _may_know_client(self, request: LoginRequest) -> bool:
        """Whether no client is to be asked for yet: one is known, or is looked for once it is clear at which server."""
        if oauth_clients.server_of(self.provider(request), request.variables) is not None:
            return self._client(request) is not None
        return any(oauth_clients.serves(each, request.flow) for each in self._clients(request))

    def _client_hint(self, request: LoginRequest) -> str | None:
        """Why a client is asked for although we are registered there."""
        if request.flow is not Flow.DEVICE_CODE or not any(
            not oauth_clients.serves(each, request.flow) for each in self._clients(request)
        ):
            return None
        return f"the client that registered itself at {request.provider} is for logins in a browser"

    def _known_client(self, request: LoginRequest) -> ClientCredentials | None:
        """The OAuth client for a login that nobody has to be asked for: an earlier one's, or one registered now."""
        if request.flow is not Flow.DCR_PKCE:
            return self._client(request)
        attempt = self._attempt(request)
        alone = self._registering.setdefault((request.vault_id, request.provider), threading.Lock())
        with alone:  # two logins at once: one registration
            return registration.obtain(
                self._context,
                request,
                attempt.oauth,
                allow_private=attempt.provider.allow_private_addresses,
                base_url=self._base_url,
                redirect_uri=self._redirect_uri,
            )

    def _change_of_definition(self, request: LoginRequest) -> NotAllowed | None:
        """Why the catalogue's definition can no longer finish a login; None: it is the one that it was begun by."""
        if request.begun_by is None:
            return None
        present = self._context.catalog.find(request.provider)
        if present is not None and definition_digest(present) == request.begun_by:
            return None
        return NotAllowed(
            f"the definition of {request.provider} was changed since this login began",
            hint="start again with `authsome login`",
        )

    def _end_of_beginner(self, tx: Transaction, request: LoginRequest) -> NotAllowed | None:
        """Why whoever began a login may not have it finished; None: that one may still act."""
        try:
            caller = _beginner(tx, request)
            caller.require_wide()
        except NotAllowed as error:
            return error
        if caller.limits.has_ended(self._context.clock()):
            return NotAllowed("the time of the identity that began this login is over")
        return None

    def _attempt(self, request: LoginRequest) -> Attempt:
        if (change := self._change_of_definition(request)) is not None:
            raise change
        return Attempt(context=self._context, provider=self.provider(request), request=request)

    def _with_input(
        self, request: LoginRequest, given: Mapping[str, Secret[str]]
    ) -> AwaitingInput | AwaitingCallback | AwaitingDevice | Earned:
        """What follows from the input."""
        if request.flow is Flow.API_KEY:
            attempt = self._attempt(request)
            assert attempt.provider.api_key is not None
            return attempt.try_key({each.name: given[each.name] for each in attempt.provider.api_key.fields})
        request = self._prepared(request)
        client = questions.given_client(given) or self._known_client(request)
        if client is None:
            return AwaitingInput(request=request, problem=None)
        return self._attempt(request).start(client, redirect_uri=self._redirect_uri)

    def _go_on(self, request: LoginRequest, work: Callable[[], Awaiting | Earned]) -> Login:
        """Do what asks the provider, outside any transaction; then store what comes of it.

        Raises:
            LoginNotFound: the login was cancelled meanwhile, and nothing is stored.
        """
        context = self._context
        outcome: Awaiting | Earned | AuthsomeError
        try:
            outcome = work()
            if isinstance(outcome, Earned):
                self._keep_provider(outcome.request)
        except AuthsomeError as error:
            outcome = error
        except BaseException:  # a fault of ours: else it would seem to be under way for good
            self._give_up(
                Exchanging(request=request),
                AuthsomeError("the login could not be finished", hint="see `authsome doctor`"),
            )
            raise
        with self._providers.unchanged(), self._changed, context.database.transaction(durable=True) as tx:
            sealer = context.sealers.for_vault(request.vault_id)
            if not isinstance(logins.get(tx, sealer, request.id), Exchanging):
                raise LoginNotFound("this login was ended meanwhile")
            if isinstance(outcome, Earned):
                outcome = self._change_of_definition(request) or self._end_of_beginner(tx, request) or outcome
            match outcome:
                case AuthsomeError():
                    if isinstance(outcome, ClientRefused):
                        registration.forget(context, tx, request, is_certain=True)
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
        self._go_on(request, lambda: self._attempt(request).earned(client_of(login), tokens))

    def _give_up(self, login: Login, error: AuthsomeError) -> None:
        """End a login that cannot succeed, unless it has ended."""
        request = login.request
        with self._changed, self._context.database.transaction(durable=True) as tx:
            sealer = self._context.sealers.for_vault(request.vault_id)
            if isinstance(logins.get(tx, sealer, request.id), Awaiting | Exchanging):
                self._fail(tx, request, error)

    def _keep_provider(self, request: LoginRequest) -> None:
        """Write down the provider that discovery found, now that a login by it has succeeded."""
        if not request.is_new_provider or request.definition is None:
            return
        context = self._context
        with context.database.read() as reader:
            caller = _beginner(reader, request)
        written = json.dumps(definition_to_json(request.definition)).encode()
        try:
            self._providers.register(
                caller,
                written,
                source=request.provider,
                allow_private_addresses=request.definition.allow_private_addresses,
            )
        except ProviderExists:  # another login to the same URL was sooner; any other provider is not to get the token
            if context.catalog.get(request.provider).api_url != request.definition.api_url:
                raise

    def _complete(self, tx: Transaction, earned: Earned) -> Completed:
        request, tokens, proof, now = earned.request, earned.tokens, earned.proof, self._context.clock()
        sealer = self._context.sealers.for_vault(request.vault_id)
        scopes: tuple[str, ...] = ()
        if tokens is not None:
            scopes = tokens.scopes if tokens.scopes is not None else request.scopes
        if earned.client is not None:
            self._keep_client(tx, request, earned.client)
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
            flow=request.flow.value,
            now=now,
        )
        audit.append(tx, self._entry(tx, Event.LOGIN, request, f"by {request.flow}"))
        unverified = proof.reason if isinstance(proof, verify.Refused | verify.Unclear) else None
        return Completed(request=request, connection=connection, unverified=unverified)

    def _keep_client(self, tx: Transaction, request: LoginRequest, client: ClientCredentials) -> None:
        """Keep the OAuth client that has just served for the next login at its server."""
        sealer = self._context.sealers.for_vault(request.vault_id)
        server = oauth_clients.server_of_login(self._context, request)
        assert server is not None  # it has just been asked
        known = clients.get(tx, sealer, request.provider, server)
        if known is not None and not oauth_clients.serves(known, request.flow):
            server = oauth_clients.apart(server)
            known = clients.get(tx, sealer, request.provider, server)
        if known is not None and ClientCredentials.of(known) == client:
            return
        clients.put(
            tx,
            sealer,
            provider=request.provider,
            server=server,
            client_id=client.client_id,
            client_secret=client.client_secret,
            now=self._context.clock(),
        )

    def _fail(self, tx: Transaction, request: LoginRequest, error: AuthsomeError) -> Failed:
        outcome = Failed(request=request, code=error.code, message=error.message, hint=error.hint)
        logins.put(tx, self._context.sealers.for_vault(request.vault_id), outcome)
        audit.append(tx, self._entry(tx, Event.LOGIN_FAILED, request, error.message))
        self._changed.notify_all()
        return outcome

    def _entry(self, tx: Transaction, event: Event, request: LoginRequest, detail: str) -> Entry:
        owner = principals.of_vault(tx, request.vault_id)
        return Entry(
            event=event,
            at=self._context.clock(),
            vault_id=request.vault_id,
            principal=owner.id if owner else None,
            identity=request.identity,
            proof=request.proof,
            provider=request.provider,
            connection=request.connection,
            detail=detail,
        )


def _beginner(reader: Reader, request: LoginRequest) -> Caller:
    """Who began a login, as far as that one may still act."""
    if request.identity is None:
        identity, principal = None, principals.of_vault(reader, request.vault_id)
    else:
        identity, principal = identities.caller(reader, request.identity) or (None, None)
    if principal is None or (identity is not None and identity.revoked_at is not None):
        raise NotAllowed("whoever began this login is no longer there")
    return Caller(identity=identity, principal=principal)


def _usual_scopes(provider: Provider, flow: Flow) -> tuple[str, ...]:
    """What is asked for when nobody says; a user's scopes are nothing for a client that comes for itself."""
    is_of_users = flow is Flow.CLIENT_CREDENTIALS and provider.flow is not flow
    return provider.oauth.scopes if provider.oauth and not is_of_users else ()
