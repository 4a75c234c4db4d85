"""How a client shows who it is to the token endpoint (RFC 6749 §2.3)."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from authsome.models.connection import CLIENT_ID, CLIENT_SECRET, AuthMethod, Client, Secrets
from authsome.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """An OAuth client: public when it has no secret."""

    client_id: str
    client_secret: Secret[str] | None = None
    method: AuthMethod | None = None
    """How it was registered to authenticate; None: as the provider's definition says."""

    @classmethod
    def of(cls, client: Client) -> "ClientCredentials":
        """A stored client's."""
        method = client.registration.method if client.registration is not None else None
        return cls(client_id=client.client_id, client_secret=client.client_secret, method=method)

    @classmethod
    def held_in(cls, secrets: Secrets) -> "ClientCredentials | None":
        """The client that a connection holds because it is the account (RFC 6749 §4.4)."""
        if CLIENT_ID not in secrets or CLIENT_SECRET not in secrets:
            return None
        return cls(client_id=secrets[CLIENT_ID].reveal(), client_secret=secrets[CLIENT_SECRET])


def authenticate(
    params: Mapping[str, str], headers: Mapping[str, str], *, method: AuthMethod, client: ClientCredentials
) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters and headers of a token request with the client's credentials added.

    A public client names itself in the body whatever the method (RFC 6749 §3.2.1). A secret is sent in one place only
    (§2.3). Header names are in lower case.
    """
    secret, method = client.client_secret, client.method or method
    if secret is None or method == "none":
        return {**params, "client_id": client.client_id}, dict(headers)
    if method == "client_secret_post":
        return {**params, "client_id": client.client_id, "client_secret": secret.reveal()}, dict(headers)
    # form-encoded first: either may hold a colon
    pair = f"{quote_plus(client.client_id)}:{quote_plus(secret.reveal())}"
    return dict(params), {**headers, "authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
