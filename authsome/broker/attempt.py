"""What a login does at its provider: sends its user there, asks for codes and tokens, tries a credential.

Rule: nothing here is stored, and no transaction is open while a provider is asked. What comes back is the login's next
stage, or a credential that is to be kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from authsome.broker import verify
from authsome.broker.context import Context
from authsome.broker.device import Answer
from authsome.errors import EndpointRefused
from authsome.models.connection import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Kind, Secrets
from authsome.models.login import AwaitingCallback, AwaitingDevice, AwaitingInput, Flow, LoginRequest
from authsome.models.oauth import OAuth
from authsome.models.provider import Provider
from authsome.oauth import authorization, device, pkce, token
from authsome.oauth.client_auth import ClientCredentials
from authsome.secret import Secret

_OTHERWISE: Final = "choose another way to log in with --flow"


def check_flow(provider: Provider, flow: Flow) -> None:
    """Refuse a login by a flow whose endpoint neither the definition nor the issuer has named.

    Raises:
        EndpointRefused: there is none.
    """
    oauth = provider.oauth
    assert oauth is not None
    if flow is Flow.DEVICE_CODE and oauth.device_authorization_url is None:
        raise EndpointRefused(f"{provider.name} offers no login by device code", hint=_OTHERWISE)
    if flow in {Flow.PKCE, Flow.DCR_PKCE} and not oauth.authorization_url:
        raise EndpointRefused(f"{provider.name} offers no login in a browser", hint=_OTHERWISE)


def client_of(login: AwaitingCallback | AwaitingDevice) -> ClientCredentials:
    """The OAuth client of an attempt."""
    return ClientCredentials(client_id=login.client_id, client_secret=login.client_secret, method=login.client_method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """A credential that a login ends with, to be stored."""

    request: LoginRequest
    """With the variables that the provider said on the way."""
    kind: Kind
    held: Secrets
    tokens: token.Tokens | None = None
    """What else the provider said with them."""
    proof: verify.Outcome | None
    client: ClientCredentials | None = None
    """The OAuth client that it was granted to, which later logins use as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One login, as far as its provider is concerned."""

    context: Context
    provider: Provider
    request: LoginRequest

    @property
    def oauth(self) -> OAuth:
        """The provider's OAuth side, for this login's variables."""
        assert self.provider.oauth is not None
        return self.provider.oauth.resolved(self.request.variables)

    def start(self, client: ClientCredentials, *, redirect_uri: str) -> AwaitingCallback | AwaitingDevice | Earned:
        """What follows once the client is known: a URL to open, a code to enter, or the token at once."""
        check_flow(self.provider, self.request.flow)
        if self.request.flow is Flow.CLIENT_CREDENTIALS:
            return self._grant_to_client(client)
        if self.request.flow is Flow.DEVICE_CODE:
            return self._ask_for_code(client)
        return self._send_to_provider(client, redirect_uri)

    def try_key(self, values: Secrets) -> AwaitingInput | Earned:
        """Try a key on its provider, which alone may refuse it."""
        proof = self._verify(self.request, Kind.API_KEY, values)
        if isinstance(proof, verify.Refused):
            return AwaitingInput(request=self.request, problem=_refused(proof))
        return Earned(request=self.request, kind=Kind.API_KEY, held=values, proof=proof)

    def code(self, login: AwaitingCallback, query: str) -> tuple[LoginRequest, Secret[str]]:
        """The code that a callback brings, and the request with the variables that it says."""
        oauth = self.oauth
        code = authorization.parse_callback(
            query, state=login.state, issuer=oauth.issuer, issuer_required=oauth.iss_required
        )
        wanted = oauth.callback_variables
        said = {name: authorization.callback_value(query, parameter) for name, parameter in wanted.items()}
        return self._told(wanted, {name: value for name, value in said.items() if value is not None}), code

    def exchange(self, login: AwaitingCallback, code: Secret[str]) -> Earned:
        """Exchange the code that a callback brought."""
        oauth = self.oauth
        client = client_of(login)
        request = token.code_request(
            oauth,
            client,
            code=code,
            redirect_uri=login.redirect_uri,
            code_verifier=None if oauth.pkce == "unsupported" else login.code_verifier,
        )
        response = self.context.send(request, self.provider.allow_private_addresses)
        sent = (code, login.code_verifier, login.client_secret or Secret(""))
        tokens = token.parse_token_response(response, oauth, now=self.context.clock(), sent=sent)
        return self.earned(client, tokens)

    def ask_device(self, login: AwaitingDevice) -> Answer:
        """Ask whether the code was entered."""
        oauth = self.oauth
        request = device.token_request(oauth, client_of(login), device_code=login.device_code)
        response = self.context.send(request, self.provider.allow_private_addresses)
        sent = (login.device_code, login.client_secret or Secret(""))
        return device.parse_token_response(response, oauth, now=self.context.clock(), sent=sent)

    def earned(self, client: ClientCredentials, tokens: token.Tokens) -> Earned:
        """What tokens come to, once they were tried."""
        held = {ACCESS_TOKEN: tokens.access_token}
        if tokens.refresh_token is not None:
            held[REFRESH_TOKEN] = tokens.refresh_token
        request = self._told(self.oauth.token_variables, tokens.variables)
        proof = self._verify(request, Kind.OAUTH2, held)
        return Earned(request=request, kind=Kind.OAUTH2, held=held, tokens=tokens, proof=proof, client=client)

    def _grant_to_client(self, client: ClientCredentials) -> Earned:
        """Get a token for the client itself, which is kept with it: the same grant again is how it is refreshed."""
        oauth = self.oauth
        request = token.client_credentials_request(oauth, client, scopes=self.request.scopes)
        response = self.context.send(request, self.provider.allow_private_addresses)
        secret = client.client_secret or Secret("")
        tokens = token.parse_token_response(response, oauth, now=self.context.clock(), sent=(secret,))
        told = self._told(oauth.token_variables, tokens.variables)
        held = {ACCESS_TOKEN: tokens.access_token, CLIENT_ID: Secret(client.client_id), CLIENT_SECRET: secret}
        proof = self._verify(told, Kind.OAUTH2, held)
        return Earned(request=told, kind=Kind.OAUTH2, held=held, tokens=tokens, proof=proof)

    def _send_to_provider(self, client: ClientCredentials, redirect_uri: str) -> AwaitingCallback:
        oauth = self.oauth
        verifier = pkce.new_verifier()
        state = authorization.new_state()
        url = authorization.authorization_url(
            endpoint=oauth.authorization_url,
            client_id=client.client_id,
            redirect_uri=redirect_uri,
            scopes=self.request.scopes,
            scope_separator=oauth.scope_separator,
            state=state,
            code_challenge=None if oauth.pkce == "unsupported" else pkce.challenge(verifier),
            params=dict(oauth.authorization_params) | ({"resource": oauth.resource} if oauth.resource else {}),
            names=oauth.parameter_names,
        )
        return AwaitingCallback(
            request=self.request,
            state=state,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
            authorization_url=url,
            client_id=client.client_id,
            client_secret=client.client_secret,
            client_method=client.method,
        )

    def _ask_for_code(self, client: ClientCredentials) -> AwaitingDevice:
        oauth = self.oauth
        asked = device.authorization_request(oauth, client, scopes=self.request.scopes)
        response = self.context.send(asked, self.provider.allow_private_addresses)
        now = self.context.clock()
        sent = (client.client_secret or Secret(""),)
        given = device.parse_authorization_response(response, oauth, now=now, sent=sent)
        return AwaitingDevice(
            request=replace(self.request, expires_at=now + given.lifetime),
            device_code=given.device_code,
            user_code=given.user_code,
            verification_uri=given.verification_uri,
            verification_uri_complete=given.verification_uri_complete,
            interval=given.interval,
            client_id=client.client_id,
            client_secret=client.client_secret,
            client_method=client.method,
        )

    def _told(self, wanted: Iterable[str], told: Mapping[str, str]) -> LoginRequest:
        """The request with the variables that the provider said, once they are found to be allowed.

        Raises:
            EndpointRefused: one is missing, or not allowed.
        """
        name = self.provider.name
        for each in wanted:
            if each not in told:
                raise EndpointRefused(f"{name} did not say its {each}", hint="start again with `authsome login`")
        try:
            variables = {**self.request.variables, **self.provider.told_variables(told)}
        except ValueError as error:
            raise EndpointRefused(f"{name} {error}") from error
        return replace(self.request, variables=variables)

    def _verify(self, request: LoginRequest, kind: Kind, held: Secrets) -> verify.Outcome | None:
        return verify.attempt(self.context, self.provider, kind, request.variables, held) if request.verify else None


def _refused(proof: verify.Refused) -> str:
    return f"the key is not accepted: {proof.reason}; if it is right but may do little, --no-verify stores it"
