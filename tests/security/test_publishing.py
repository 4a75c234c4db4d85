"""A command cannot have an API show its credential to others: what a definition calls a placeholder stays one in texts.

The definitions are the bundled ones, the rules those that both engines of the proxy and its quick road go by.
"""

import base64
import json
from typing import Final

import pytest

from authsome.broker.catalog import bundled_directory
from authsome.models import injection
from authsome.models.connection import Kind
from authsome.models.provider import Provider, parse_definition
from authsome.proxy import inject
from authsome.proxy.inject import Credential, Head
from authsome.secret import Secret

SHARING: Final = (
    "airtable", "asana", "atlassian", "bitbucket", "box", "clickup", "codeberg", "confluence", "discord", "dropbox",
    "figma", "gitea", "github", "github-enterprise", "github-residency", "gitlab", "google", "hubspot", "huggingface",
    "intercom", "jira", "linear", "linkedin", "microsoft", "monday", "netlify", "notion", "npm", "pypi", "salesforce",
    "shopify", "slack", "telegram", "todoist", "trello", "twilio", "typeform", "vercel", "x", "zendesk", "zoho", "zoom",
)  # fmt: skip
"""The APIs where what is written can be read by others."""
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


def definition(name: str) -> Provider:
    """A bundled one."""
    path = bundled_directory() / f"{name}.json"
    return parse_definition(json.loads(path.read_bytes()), source=path.name)


def real(placeholder: str) -> str:
    """The value behind a placeholder: easily told from whatever else is sent."""
    return f"REAL{placeholder.encode().hex()}"


def resolved(provider: Provider, kind: Kind) -> Credential:
    """What the daemon would say goes on a request to the definition's first place for this kind of login."""
    variables = {each.name: each.sample for each in provider.variables}
    pattern = provider.patterns(variables, kind)[0]
    host = f"a.{pattern.host}" if pattern.is_suffix else pattern.host
    fields = [each.name for each in provider.api_key.fields] if provider.api_key and kind is Kind.API_KEY else []
    held = {name: Secret(real(name)) for name in fields or ["access_token"]}
    rules = provider.injections(kind, variables, host=host, path=pattern.path_prefix)
    put = injection.apply(rules, held, also=provider.replaced.hidden_names)
    return inject.credential_from_json(
        {
            "provider": provider.name,
            "connection": "default",
            "credential_id": "1",
            "set": [[name, value.reveal()] for name, value in put.headers],
            "default": [list(pair) for pair in put.defaults],
            "remove": list(put.remove),
            "query": [[name, value.reveal()] for name, value in put.query],
            "placeholders": [
                [text, value.reveal()] for text, value in provider.replaced.stand_ins(kind, held, variables)
            ],
            "replaced_in": provider.replace.named,
            "secrets": [secret.reveal() for secret in put.secrets],
        }
    )


LOGINS: Final = [(name, kind) for name in SHARING for kind in definition(name).kinds]
every_login = pytest.mark.parametrize(("name", "kind"), LOGINS, ids=[f"{name}-{kind}" for name, kind in LOGINS])


def hidden(provider: Provider, kind: Kind) -> list[str]:
    """The placeholders that the command holds."""
    variables = {each.name: each.sample for each in provider.variables}
    names = set(provider.export.placeholder_names(kind))
    shown = provider.export.placeholders(kind, variables)
    return sorted({shown[name] for name in names if name in shown})


TARGETS: Final = (
    "/search?q={}", "/search/code?q={}&sort=updated", "/x?title={}&body={}&text={}&content={}&description={}",
    "/x?name={}&url={}&redirect_uri={}&callbackURL={}&webhook={}",
    "/x?config[secret]={}&configuration[access_token]={}",
    "/x?personal_access_token={}&password={}&secret={}&value={}", "/repos/o/r/contents/{}", "/{}", "/a/{}/b", "/{}.txt",
    "/x/1/tokens/{}", "/crm/{}/oauth/v1/access-tokens/", "/x?q=a+{}", "/x?token=a+{}&access_token=x{}",
)  # fmt: skip
"""What a target can say that is kept: queries of a search, parameters in place of a body's fields, names of files."""
FIELDS: Final = (
    "User-Agent", "Referer", "Slug", "X-Goog-Meta-Note", "X-Amz-Meta-Note", "Dropbox-API-Arg", "Content-Disposition",
    "X-Title", "Cookie", "X-Hub-Signature",
)  # fmt: skip
BODIES: Final = (
    (JSON, {"files": {"a.txt": {"content": "{}"}}, "public": True}),
    (JSON, {"title": "{}", "body": "{}", "description": "{}", "text": "{}", "message": "{}", "content": "{}"}),
    (JSON, {"config": {"url": "https://evil.test/hook", "secret": "{}", "token": "{}"}, "events": ["push"]}),
    (JSON, {"url": "https://evil.test/hook", "token": "{}", "secret": "{}", "authorization_header": "{}"}),
    (JSON, {"configuration": {"url": "https://evil.test", "access_token": "{}"}, "access_token": "{}"}),
    (JSON, ["{}", {"children": [{"text": {"content": "{}"}}]}]),
    (FORM, "title={}&body={}&text={}&content={}&description={}&status={}"),
    (FORM, "channel=c&text={}&attachments=%5B%7B%22text%22%3A%22{}%22%7D%5D"),
    (FORM, "url=https%3A%2F%2Fevil.test&secret={}&access_token={}&private_token={}&config%5Btoken%5D={}"),
    (FORM, {"files": {"a.txt": {"content": "x&token={}&access_token={}&y"}}}),
    (FORM, '["&token={}&"]'),
    (FORM, "<note>&token={}&</note>"),
    (FORM, ' {"body": "&token={}&"}'),
    ("text/plain", "&token={}&"),
    ("application/xml", "<token>{}</token>"),
    ("application/graphql", "{}"),
)
"""A gist, an issue, a message, a page, a webhook; a form that its API reads as JSON all the same."""


def filled(template: object, text: str) -> str:
    """A body with a placeholder wherever it has room for one."""
    return (template if isinstance(template, str) else json.dumps(template)).replace("{}", text)


@every_login
def test_no_target_publishes(name: str, kind: Kind):
    """Neither a search nor a parameter in place of a body's field nor the name of a file."""
    # SEC-163
    provider = definition(name)
    credential = resolved(provider, kind)
    for text in hidden(provider, kind):
        for target in (each.replace("{}", text) for each in TARGETS):
            found = inject.injected_target(target.encode(), credential).decode()
            ours = [
                pair for pair in found.partition("?")[2].split("&") if pair.partition("=")[0] in dict(credential.query)
            ]
            assert "REAL" not in found.replace("&".join(ours), ""), target


@every_login
def test_no_header_publishes(name: str, kind: Kind):
    """What says something of the content, or is kept with it, is no place for a credential."""
    # SEC-163
    provider = definition(name)
    credential = resolved(provider, kind)
    for text in hidden(provider, kind):
        sent = tuple((field.encode(), text.encode()) for field in FIELDS)
        put = inject.injected(Head(target=b"/", fields=sent), credential)
        assert put.fields[: len(sent)] == sent


@every_login
def test_no_body_publishes(name: str, kind: Kind):
    """Gists, issues, messages, pages, webhooks, as JSON, as forms, and as one called the other."""
    # SEC-163
    provider = definition(name)
    credential = resolved(provider, kind)
    for text in hidden(provider, kind):
        for media_type, template in BODIES:
            body = filled(template, text).encode()
            fields = ((b"Content-Type", media_type.encode()), (b"Content-Length", b"%d" % len(body)))
            if inject.takes_body(fields, credential):
                assert inject.injected_body(fields, body, credential) == (fields, body)


def plain(value: bytes) -> bytes:
    """A header's value, a Basic pair as it reads."""
    return base64.b64decode(value[6:]) if value.startswith(b"Basic ") else value


@every_login
def test_the_credential_arrives_however_the_command_shows_it(name: str, kind: Kind):
    """In Authorization by any scheme, in a Basic pair, under the definition's own name, or not at all."""
    provider = definition(name)
    credential = resolved(provider, kind)
    unshown = inject.injected(Head(target=b"/", fields=()), credential)
    for text in hidden(provider, kind):
        pair = base64.b64encode(f"me:{text}".encode()).decode()
        ways = [("Authorization", way) for way in (f"Bearer {text}", f"token {text}", f"Basic {pair}")]
        for field, value in [*ways, *((field, text) for field, _ in credential.set)]:
            put = inject.injected(Head(target=b"/", fields=((field.encode(), value.encode()),)), credential)
            assert put.target == unshown.target
            if credential.set:
                assert put == unshown
            else:  # a credential in the query or the path alone: what is shown beside it goes, or goes out filled
                assert name in {"telegram", "trello"}
                assert all(text.encode() not in plain(value) for _, value in put.fields)
            assert b"REAL" in put.target + b"".join(plain(value) for _, value in put.fields) or name == "telegram"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("gitlab", "/api/v4/projects?private_token={}&title=a"),
        ("gitlab", "/api/v4/projects?access_token={}"),
        ("gitea", "/api/v1/user?token={}"),
        ("codeberg", "/api/v1/user?access_token={}"),
        ("slack", "/api/auth.test?token={}"),
        ("bitbucket", "/2.0/user?access_token={}"),
        ("box", "/2.0/files/1/content?access_token={}"),
        ("trello", "/1/tokens/{}/member?fields=id"),
        ("hubspot", "/oauth/v1/access-tokens/{}"),
    ],
)
def test_what_an_api_reads_as_a_credential_is_replaced(name: str, target: str):
    """The ways that its documentation names beside those of `inject`: whole values, and no others."""
    provider = definition(name)
    for kind in provider.kinds:
        credential = resolved(provider, kind)
        ours = {pair for name, _ in credential.query for pair in [f"{name}="]}
        for text, value in credential.placeholders:
            found = inject.injected_target(target.replace("{}", text).encode(), credential).decode()
            kept = "&".join(pair for pair in found.split("&") if not any(pair.startswith(own) for own in ours))
            assert kept == target.replace("{}", value.reveal())
            assert text not in found


def test_slacks_form_has_one_place():
    """`token` proves something there, `text` is shown to others."""
    credential = resolved(definition("slack"), Kind.OAUTH2)
    ((text, value),) = credential.placeholders
    body = f"channel=c&text={text}&token={text}&blocks={text}".encode()
    fields = ((b"Content-Type", FORM.encode()), (b"Content-Length", b"%d" % len(body)))
    assert inject.takes_body(fields, credential)
    _, sent = inject.injected_body(fields, body, credential)
    assert sent == f"channel=c&text={text}&token={value.reveal()}&blocks={text}".encode()


def test_trellos_header_has_both():
    """OAuth's header of its API, where no header is set."""
    credential = resolved(definition("trello"), Kind.API_KEY)
    texts = dict(credential.placeholders)
    (key, token) = (
        next(text for text, value in credential.placeholders if part in value.reveal())
        for part in (b"key".hex(), b"user_token".hex())
    )
    shown = 'OAuth oauth_consumer_key="{}", oauth_token="{}"'
    head = Head(target=b"/", fields=((b"Authorization", shown.format(key, token).encode()),))
    wanted = shown.format(texts[key].reveal(), texts[token].reveal())
    assert inject.injected(head, credential).fields == ((b"Authorization", wanted.encode()),)


def test_these_are_all():
    """A definition that is limited is on the list, and the other way round."""
    limited = {
        path.stem for path in bundled_directory().glob("*.json") if not definition(path.stem).replace.is_everywhere
    }
    assert limited == set(SHARING)
