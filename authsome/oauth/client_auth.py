"""How a client shows who it is to the token endpoint (RFC 6749 §2.3)."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from authsome.models.oauth import AuthMethod
from authsome.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """An OAuth client: public when it has no secret."""

    client_id: str
    client_secret: Secret[str] | None = None


def authenticate(
    params: Mapping[str, str], headers: Mapping[str, str], *, method: AuthMethod, client: ClientCredentials
) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters and headers of a token request with the client's credentials added.

    A public client names itself in the body whatever the method (RFC 6749 §3.2.1). A secret is sent in one place only
    (§2.3). Header names are in lower case.
    """
    secret = client.client_secret
    if secret is None or method == "none":
        return {**params, "client_id": client.client_id}, dict(headers)
    if method == "client_secret_post":
        return {**params, "client_id": client.client_id, "client_secret": secret.reveal()}, dict(headers)
    pair = (
        f"{quote_plus(client.client_id)}:{quote_plus(secret.reveal())}"  # form-encoded first: either may hold a colon
    )
    return dict(params), {**headers, "authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
