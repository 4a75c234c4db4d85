"""Makes docs/providers.md from the bundled definitions: python3 tests/provider_page.py."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from authsome.broker.catalog import bundled_directory  # noqa: E402  # a script finds its checkout first
from authsome.models.connection import Kind  # noqa: E402
from authsome.models.injection import Basic, Header, Injection, PathText, Query  # noqa: E402
from authsome.models.provider import Provider, parse_definition  # noqa: E402

PAGE: Final = ROOT / "docs" / "providers.md"

_HEAD: Final = """\
# The providers

Made from the definitions in `providers/` by `python3 tests/provider_page.py`; do not edit. [Writing a provider
definition](provider-files.md) says what there is in one.

`{{NAME}}` in a host is asked for by `login`, or said by the provider when it is logged in to. A header's value is shown
with `TOKEN` where the credential stands. Every header by which a provider takes a credential is taken off the child's
own request first.

{count} providers. A login to {named} of them says whose the credential is (to some by one kind of login only), a login
to {tried} only tries it, and for {untried} no request is known that costs nothing and that every good credential may
make: theirs is stored untried.

| name | what it is | logs in by | its credential goes to | as | variables of its SDKs |
| --- | --- | --- | --- | --- | --- |
"""

_TAIL: Final = """
† Written from memory and never tried.

Where two of these name one host, the more specific one is used (Jira's before Atlassian's); `klaviyo` and
`klaviyo-oauth` are equal, so with both connected `authsome run --only` has to choose.

## Not supported yet

- AWS, DigitalOcean Spaces and others that sign their requests: the signature covers the request, so the proxy would
  have to sign it anew (SigV4).
- Google service accounts, Vertex AI, Box and Salesforce by JWT: a token is minted from a private key (RFC 7523).
- GitHub Apps as such: installation tokens are minted from the app's private key; a user's login to an app works
  (`github`).
- Docker Hub, ghcr.io and other container registries: their clients trade a password for a token by a protocol of
  their own, and the Docker daemon ignores a child's proxy.
- Kubernetes clusters: credentials come from exec plugins, and hosts are each cluster's own.
- Zoom's server-to-server apps: a grant of its own (`account_credentials`).
- OpenRouter's login in the browser: has neither a client nor a `state`; its keys work (`openrouter`).
- Trello's login in the browser: the token comes in the URL's fragment; its key and token work (`trello`).
- OAuth 1.0a (parts of X): each request is signed.
- Postiz's device login: a protocol of its own; its keys work (`postiz`).
- Slack's user token beside the bot's: one login holds one token; `slack-mcp` logs in as the user.
- Xero's `xero-tenant-id`: a header that each request chooses among the tenants of one login: the program sends it
  itself.
- Discord's gateway, and others that take the token in a WebSocket message: only the handshake of a WebSocket is
  changed.
- Keys in a JSON body (older Tavily clients): bodies are not changed.
"""


def page() -> str:
    """The whole page."""
    providers = [
        parse_definition(json.loads(path.read_bytes()), source=path.name)
        for path in sorted(bundled_directory().glob("*.json"))
    ]
    named = sum(_names_account(each) for each in providers)
    tried = sum(bool(each.verify) for each in providers if not _names_account(each))
    counts = {"count": len(providers), "named": named, "tried": tried, "untried": len(providers) - named - tried}
    return _HEAD.format(**counts) + "".join(map(_row, providers)) + _TAIL


def _names_account(provider: Provider) -> bool:
    told = provider.oauth is not None and provider.oauth.response.account is not None
    return told or any(each.account for each in provider.verify)


def _row(provider: Provider) -> str:
    cells = (
        f"`{provider.name}`" + ("†" if provider.unverified else ""),
        f"[{provider.display_name}]({provider.docs_url}): {provider.description}",
        ", ".join(f"`{flow}`" for flow in provider.flows),
        "<br>".join(f"`{entry.removeprefix('https://')}`" for entry in provider.api_url),
        "<br>".join(dict.fromkeys(_forms(provider))),
        "<br>".join(f"`{each.name}`" for each in provider.export.env) or "-",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _forms(provider: Provider) -> Iterator[str]:
    for each in provider.inject:
        kinds = {kind for kind in provider.kinds if each.auth in {None, kind}}
        note = f" ({'OAuth' if Kind.OAUTH2 in kinds else 'key'})" if len(kinds) < len(provider.kinds) else ""
        yield _form(each) + note


def _form(injection: Injection) -> str:
    match injection.form:
        case Header(name=name, value=value, if_absent=if_absent):
            return f"`{name}: {_shown(value.text)}`" + (" unless sent" if if_absent else "")
        case Query(name=name, value=value):
            return f"`?{name}={_shown(value.text)}`"
        case Basic(username=username, password=password):
            return f"Basic `{_shown(username.text)}:{_shown(password.text)}`"
        case PathText(value=value):
            return f"`{_shown(value.text)}` in the path"


def _shown(template: str) -> str:
    for name in ("token", "access_token", "api_key"):
        template = template.replace(f"{{{name}}}", "TOKEN")
    return template.replace("{", "").replace("}", "")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
