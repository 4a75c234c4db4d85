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

{count} providers. A login to {named} of them says whose the credential is. The others take it and do not say, or
have no request to try it with; [which, and why](#logins-that-nobody-names).

| name | what it is | logs in by | its credential goes to | as | variables of its SDKs |
| --- | --- | --- | --- | --- | --- |
"""

_UNNAMED: Final = """
† Written from memory and never tried.

Where two of these name one host, the more specific one is used (Jira's before Atlassian's); `klaviyo` and
`klaviyo-oauth` are equal, so with both connected `authsome run --only` has to choose.

A variable belongs to one provider. `gh` reads `GH_TOKEN` for github.com and for `SUBDOMAIN.ghe.com` alike (and
`GH_ENTERPRISE_TOKEN` for a server of one's own), and that is `github`'s: with `github-residency` alone connected write
`GH_TOKEN=$GHE_TOKEN gh …` in a run. With both, no token is to be set: the host says which credential a request gets,
whatever the variable holds. Which host that is, `gh` takes from the repository that it is called in, else from
`GH_HOST`: outside of one write `GH_HOST=SUBDOMAIN.ghe.com gh …`, and so for a server of one's own. A run sets no
`GH_HOST`, which would take `gh` away from github.com.

## Logins that nobody names

For these `authsome login` shows no account. The first take the credential, so that a wrong one is refused, and do not
say whose it is; the second have no request that tries it and does nothing else, and it is stored as it is.

| tried, not named | why |
| --- | --- |
{unnamed}
| not tried | why |
| --- | --- |
{untried}"""

_TAIL: Final = """
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
    named = sum(any(each.names_account(kind) for kind in each.kinds) for each in providers)
    untried = [(each, kind) for each in providers for kind in each.kinds if each.untried(kind)]
    unnamed = [(each, kind) for each in providers for kind in each.kinds if each.unnamed(kind)]
    reasons = _UNNAMED.format(
        unnamed="".join(_reason(*each, each[0].unnamed(each[1])) for each in unnamed if each not in untried),
        untried="".join(_reason(*each, each[0].untried(each[1])) for each in untried),
    )
    head = _HEAD.format(count=len(providers), named=named)
    return head + "".join(map(_row, providers)) + reasons + _TAIL


def _reason(provider: Provider, kind: Kind, reason: str | None) -> str:
    note = f" ({'OAuth' if kind is Kind.OAUTH2 else 'key'})" if len(provider.kinds) > 1 else ""
    return f"| `{provider.name}`{note} | {reason} |\n"


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
