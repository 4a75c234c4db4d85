"""Any provider on loopback, as one row of `vectors/providers.json` describes it: token endpoint, refresh, and its API.

It is strict: a token request in another form, with other client authentication or with parameters too many is refused
as the provider would refuse it, and its API answers 401 to everything without the very credential. What the row calls
https://HOST/PATH is found here below /HOST/PATH.
"""

import base64
import hashlib
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fakes import wire

CLIENT_ID: Final = "our client:id"
CLIENT_SECRET: Final = "our secret/&+:"
CODE: Final = "the-code"
DEVICE_CODE: Final = "the-device-code"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"

Row = Mapping[str, Any]
Trial = tuple[str, str | list[str], object, str | None]
"""A request about the account: its method, its URL or several, the answer, and whom that names."""


@dataclass(slots=True, kw_only=True)
class ProviderServer:
    """A running server; `play` makes it the provider of a row."""

    port: int = 0
    kind: str = ""
    row: Row = field(default_factory=dict)
    redirect_uri: str = ""
    challenge: str | None = None
    access_token: str = ""
    refresh_token: str = ""
    strange: Mapping[str, object] = field(default_factory=dict)
    """Members that the next token answer has otherwise."""
    limited: bool = False
    """Whether the credential may do little: the API knows it, and answers so."""
    revoked: list[str] = field(default_factory=list)
    """The tokens that were ended."""
    seen: list[str] = field(default_factory=list)
    """The URLs that were asked for, as the row has them."""
    complaints: list[str] = field(default_factory=list)
    """Why requests were refused."""

    @property
    def url(self) -> str:
        """What to put before a URL's host."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, kind: str, row: Row) -> None:
        """Be the provider of this row, for a login of this kind."""
        self.kind, self.row, self.challenge, self.strange = kind, row, None, {}
        self.limited = False
        self.access_token, self.refresh_token = "", "" if row.get("lasting") else "refresh-0"
        for noted in (self.seen, self.complaints, self.revoked):
            noted.clear()

    def filled(self, text: str) -> str:
        """A value of the row with the current access token in it; `Basic:USER:PASSWORD` is encoded."""
        text = text.replace("$AT", self.access_token)
        scheme, _, pair = text.partition(":")
        return "Basic " + base64.b64encode(pair.encode()).decode() if scheme == "Basic" else text

    def serve(self, connection: wire.Connection) -> None:
        """Answer one request."""
        request = wire.read_request(connection.reader, connection.writer)
        if request is None:
            return
        url = "https:/" + request.path
        self.seen.append(url)
        headers: Mapping[str, str] = {}
        if url == self.row.get("token") and self._grant(request) == "authorization_code":
            status, answer = self._exchange(request)
        elif url == self.row.get("device"):
            status, answer = self._device(request)
        elif url == self.row.get("token") and self._grant(request) == DEVICE_GRANT:
            wanted = {"grant_type": DEVICE_GRANT, "device_code": DEVICE_CODE, **self._client()}
            status, answer = self._answer(request, self._parameters(request), wanted, proven=True)
        elif url == self.row.get("revocation"):
            status, answer = self._revoke(request)
        elif url == self.row.get("register"):
            status, answer = self._register(request)
        elif url == self.row.get("refresh", self.row.get("token")):
            status, answer = self._refresh(request)
        else:
            status, answer, headers = self._api(request, url)
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        connection.writer.flush()

    # ---- the token endpoint

    def _exchange(self, request: wire.Recorded) -> tuple[int, object]:
        sent = self._parameters(request)
        verifier = sent.pop("code_verifier", None)
        digest = hashlib.sha256((verifier or "").encode()).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() if verifier else None
        uri = self._name("redirect_uri")
        wanted = {"grant_type": "authorization_code", "code": CODE, uri: self.redirect_uri, **self._client()}
        return self._answer(request, sent, wanted, proven=made == self.challenge)

    def _refresh(self, request: wire.Recorded) -> tuple[int, object]:
        wanted = {"grant_type": "refresh_token", "refresh_token": self.refresh_token, **self._client()}
        return self._answer(request, self._parameters(request), wanted, proven=True)

    def _answer(
        self, request: wire.Recorded, sent: dict[str, str], wanted: dict[str, str], *, proven: bool
    ) -> tuple[int, object]:
        kind = {"form": "application/x-www-form-urlencoded", "json": "application/json"}[self.row["body"]]
        header = self._basic() if self.row["client"] == "basic" else None
        own = {name: request.header(name) for name in self.row.get("headers", {})}
        for problem, holds in {
            f"sent {sorted(sent)} instead of {sorted(wanted)}": sent == wanted,
            f"sent a body of the type {request.header('content-type')}": request.header("content-type") == kind,
            "another client authentication": request.header("authorization") == header,
            f"headers {own}": own == self.row.get("headers", {}),
            "the verifier": proven,
            "another method": request.method == "POST",
        }.items():
            if not holds:
                self.complaints.append(problem)
        if self.complaints:
            status, answer = self.row.get("refused", [400, {"error": "invalid_request"}])
            return status, answer
        number = int(self.access_token.rpartition("-")[2] or "0") + 1 if self.access_token else 1
        self.access_token = f"access-{number}"
        found: dict[str, object] = {"access_token": self.access_token, "token_type": "Bearer", "expires_in": 3600}
        if self.row.get("rotates") or wanted["grant_type"] != "refresh_token":
            self.refresh_token = f"refresh-{number}"
            found["refresh_token"] = self.refresh_token
        if self.row.get("expires_at"):
            found |= {"expires_in": None, "expires_at": self.row["now"] + 3600}
        return 200, found | dict(self.row.get("answer", {})) | dict(self.strange)

    def _grant(self, request: wire.Recorded) -> str:
        return self._parameters(request).get("grant_type", "")

    def _parameters(self, request: wire.Recorded) -> dict[str, str]:
        if self.row["body"] == "form":
            return request.form
        try:
            value: dict[str, str] = json.loads(request.body)
        except ValueError:
            return {}
        return value

    def _name(self, name: str) -> str:
        found: str = self.row.get("names", {}).get(name, name)
        return found

    def _client(self) -> dict[str, str]:
        method = self.row["client"]
        if method == "basic":
            return {}
        secret = {} if method == "none" else {self._name("client_secret"): CLIENT_SECRET}
        return {self._name("client_id"): CLIENT_ID} | secret

    def _basic(self) -> str:
        pair = ":".join(urllib.parse.quote_plus(part) for part in (CLIENT_ID, CLIENT_SECRET))  # RFC 6749 §2.3.1
        return "Basic " + base64.b64encode(pair.encode()).decode()

    # ---- device codes (RFC 8628) and revocation (RFC 7009)

    def _device(self, request: wire.Recorded) -> tuple[int, object]:
        scope = {self._name("scope"): self.row["scope"]} if self.row.get("scope") else {}
        sent = self._parameters(request)
        if sent != {**self._client(), **scope} or not self._is_client(request):
            self.complaints.append(f"asked for a code with {sorted(sent)}")
            return 400, {"error": "invalid_client"}
        given = {"device_code": DEVICE_CODE, "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 1}
        return 200, {**given, "verification_uri": "https://provider.example/device"}

    def _revoke(self, request: wire.Recorded) -> tuple[int, object]:
        sent = self._parameters(request)
        if sent.keys() != {*self._client(), "token", "token_type_hint"} or not self._is_client(request):
            self.complaints.append(f"asked for the end of a token with {sorted(sent)}")
            return 400, {"error": "invalid_client"}
        self.revoked.append(sent["token"])
        return 200, {}

    def _is_client(self, request: wire.Recorded) -> bool:
        basic = self._basic() if self.row["client"] == "basic" else None
        return request.header("authorization") == basic and self._client().items() <= self._parameters(request).items()

    # ---- registration (RFC 7591)

    def _register(self, request: wire.Recorded) -> tuple[int, object]:
        asked = json.loads(request.body)
        method = {"basic": "client_secret_basic", "post": "client_secret_post", "none": "none"}[self.row["client"]]
        if asked.get("token_endpoint_auth_method") != method:
            self.complaints.append(f"registered as {asked.get('token_endpoint_auth_method')}")
        return 201, {**asked, "client_id": CLIENT_ID}

    # ---- the API

    def _api(self, request: wire.Recorded, url: str) -> tuple[int, object, Mapping[str, str]]:
        """What the API says to a request about the account: of several places the last one has it."""
        expected = self.row.get("trial") or self.row["requests"][0][1]
        is_known = all(
            request.query.get(name[1:]) == value if name[0] == "?" else request.header(name) == self.filled(value)
            for name, value in expected.items()
            if name[0] not in "+/"
        )
        sent = {name: value for name, value in request.query.items() if f"?{name}" not in expected}
        for method, wanted, good, _ in self.trials:
            base, _, query = _places(wanted)[-1].partition("?")
            if is_known and (request.method, url, sent) == (method, base, dict(urllib.parse.parse_qsl(query))):
                status, answer = self.row["limited"] if self.limited else (200, good)
                return status, answer, self.row.get("answer_headers", {})
        if not any((url, is_known) == (place.partition("?")[0], True) for place in self.places):
            self.complaints.append(f"{request.method} {request.target} with {request.headers}")
        return *self.row.get("refusal", (401, {"message": "bad credentials"})), {}

    @property
    def trials(self) -> list[Trial]:
        """The requests that the provider knows: one that proves a credential, and maybe one that names its account."""
        return [self.row[name] for name in ("verify", "named") if name in self.row]

    @property
    def places(self) -> list[str]:
        """The URLs of all of them."""
        return [place for trial in self.trials for place in _places(trial[1])]


def _places(written: str | list[str]) -> list[str]:
    return [written] if isinstance(written, str) else written


@contextmanager
def serve() -> Iterator[ProviderServer]:
    """Run the server on a free port of 127.0.0.1 until the block ends."""
    server = ProviderServer()
    with wire.listen(server.serve) as server.port:
        yield server
