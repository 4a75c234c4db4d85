"""The bundled definitions: each is complete, canonical, and gives its credential to its own hosts only."""

import json
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import provider_page
from authsome.broker.catalog import Catalog, bundled_directory
from authsome.errors import RequestInvalid
from authsome.models import injection
from authsome.models.api_key import is_placeholder
from authsome.models.connection import Kind
from authsome.models.provider import ApiKey, Provider, definition_to_json, parse_definition
from authsome.models.route import HostPattern, Route, RouteTable
from authsome.secret import Secret

FILES: Final = sorted(bundled_directory().glob("*.json"))
PROVIDERS: Final = {path.stem: parse_definition(json.loads(path.read_bytes()), source=path.name) for path in FILES}
ROWS: Final = json.loads((Path(__file__).parent / "vectors" / "providers.json").read_text("utf-8"))
"""What each provider is expected to be, written apart from the definitions."""
ACCESS_TOKEN: Final = {"access_token": Secret("the-access-token"), "refresh_token": Secret("the-refresh-token")}

every_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def defaults(provider: Provider) -> dict[str, str]:
    """Values for all variables, those that a provider says itself included."""
    return {each.name: each.sample for each in provider.variables}


def secrets(provider: Provider, kind: Kind) -> dict[str, Secret[str]]:
    if kind is Kind.OAUTH2:
        return ACCESS_TOKEN
    assert provider.api_key is not None
    return {field.name: Secret(f"the-{field.name}") for field in provider.api_key.fields}


def injected(name: str, kind: Kind, host: str, path: str = "/") -> tuple[dict[str, str], dict[str, str]]:
    """The headers that are set, and the defaults."""
    provider = PROVIDERS[name]
    rules = provider.injections(kind, defaults(provider), host=host, path=path)
    found = injection.apply(rules, secrets(provider, kind))
    return {header: value.reveal() for header, value in found.headers}, dict(found.defaults)


def test_the_catalogue_is_there():
    """As many as were promised, all of upstream's among them by name."""
    assert len(PROVIDERS) >= 120
    assert len([name for name, row in ROWS.items() if row["group"] == "upstream45"]) == 45
    assert set(ROWS) == set(PROVIDERS)


def test_upstreams_defects_have_their_rows():
    """What is wrong in upstream's own definitions, each held right by the row that says so."""
    assert len([name for name, row in ROWS.items() if "upstream" in row]) >= 26


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_canonical(path: Path):
    """A file is what is written when it is read: nothing is lost, nothing is said that goes without saying."""
    provider = PROVIDERS[path.stem]
    assert path.read_text() == json.dumps(definition_to_json(provider), indent=2, ensure_ascii=False) + "\n"
    assert parse_definition(definition_to_json(provider), source=path.name) == provider
    assert provider.name == path.stem


@every_provider
def test_definition_is_complete(provider: Provider):
    """Everybody is told what the provider is, where to make a key or client, how a key looks, and how it is proven."""
    assert provider.description
    assert provider.docs_url
    assert bool(provider.export.env) == (provider.name not in WITHOUT_VARIABLES)
    assert not provider.allow_private_addresses
    assert provider.unverified == (ROWS[provider.name]["src"] == "memory")
    for field in provider.api_key.fields if provider.api_key else ():
        assert bool(field.pattern) == bool(field.hint), field.name
        assert field.env_var in {variable.name for variable in provider.export.env}
    for each in provider.variables:
        assert each.default or each.example, each.name
    if provider.oauth:
        provider.oauth.resolved(defaults(provider))


@every_provider
def test_each_login_is_named_or_says_why_not(provider: Provider):
    """Every kind of login comes to know whose it is, or a reader is told why not; and is tried, or told why not."""
    row = ROWS[provider.name]
    for kind in provider.kinds:
        expected = row[kind.value]
        named = [expected[name][3] for name in ("verify", "named") if name in expected]
        told = kind is Kind.OAUTH2 and provider.oauth is not None and provider.oauth.response.account is not None
        assert provider.names_account(kind) == (told or any(named))
        assert (provider.untried(kind) is None) == bool(provider.verifications(kind)) == bool(named), kind
        assert provider.names_account(kind) != bool(provider.unnamed(kind)), kind


def test_few_logins_stay_without_a_name():
    """The list of those that nobody names only gets shorter: who adds a provider looks for its request first."""
    logins = [(provider, kind) for provider in PROVIDERS.values() for kind in provider.kinds]
    assert len([0 for provider, kind in logins if provider.unnamed(kind)]) <= UNNAMED
    assert len([0 for provider, kind in logins if provider.untried(kind)]) <= UNTRIED


UNNAMED: Final = 28
UNTRIED: Final = 10

WITHOUT_VARIABLES: Final = frozenset(
    ["klaviyo-oauth", "notion_mcp", "reddit", "slack-mcp", "spotify", "strava", "tiktok", "xero", "zapier"]
)
"""No program is known that reads an access token from a variable."""
PORTS: Final = {"qdrant": 6333}


@every_provider
def test_hosts_are_plain(provider: Provider):
    """No regular expression, no unusual port, no shared domain."""
    assert not any("regex" in entry for entry in provider.api_url)
    for pattern in provider.patterns(defaults(provider)):
        assert pattern.port == PORTS.get(provider.name, 443)
        assert "." in pattern.host


@every_provider
def test_endpoints_get_no_credential(provider: Provider):
    """A child's own login at the provider is its own business: hosts that only issue tokens are no routes."""
    if provider.oauth is None:
        return
    issuing = {"oauth2.googleapis.com", "accounts.google.com"}
    assert not any(pattern.host in issuing for pattern in provider.patterns(defaults(provider)))


def is_refused(key: ApiKey, name: str, placeholder: str) -> bool:
    """Whether a placeholder is known for what it is when somebody gives it as the key."""
    only = ApiKey(fields=tuple(field for field in key.fields if field.name == name))
    return "placeholder" in (only.problem({name: Secret(placeholder)}) or "")


@every_provider
def test_placeholders_look_real_and_are_not(provider: Provider):
    """A placeholder passes the check that the key would pass, is evidently ours, and is refused as a key."""
    assert provider.name in WITHOUT_VARIABLES or any(
        provider.export.placeholders(kind, defaults(provider)) for kind in provider.kinds
    )
    for variable in provider.export.env:
        if variable.placeholder is None:  # no secret
            continue
        assert is_placeholder(variable.placeholder), variable.name
        field = provider.api_key.field(variable.value.text.strip("{}")) if provider.api_key else None
        if field is not None:
            assert provider.api_key is not None
            assert field.fits(variable.placeholder), variable.name
            assert is_refused(provider.api_key, field.name, variable.placeholder), variable.name


@every_provider
def test_refresh_token_goes_nowhere(provider: Provider):
    """A refresh token is for the token endpoint: no injection and no variable holds it."""
    for kind in provider.kinds:
        held = secrets(provider, kind)
        for entry in provider.patterns(defaults(provider)):
            host = f"x.{entry.host}" if entry.is_suffix else entry.host
            rules = provider.injections(kind, defaults(provider), host=host, path=entry.path_prefix)
            found = injection.apply(rules, held)
            values = [value.reveal() for _, value in (*found.headers, *found.query, *found.path)]
            values += [value.reveal() for value in provider.export.values(kind, held).values()]
            assert not any("the-refresh-token" in value for value in values)


def test_environment_variables_belong_to_one_provider():
    """Two connected providers never fight over a variable."""
    names = [variable.name for provider in PROVIDERS.values() for variable in provider.export.env]
    assert len(names) == len(set(names))


def test_hosts_belong_to_one_provider(tmp_path: Path):
    """With everything connected there is no request that two providers claim alike, but for those that are one."""
    catalog = Catalog(bundled=bundled_directory(), custom=tmp_path / "none")
    found: set[frozenset[str]] = set()
    for provider in PROVIDERS.values():
        for pattern in provider.patterns(defaults(provider)):
            host = f"x.{pattern.host}" if pattern.is_suffix else pattern.host
            rivals = {
                other.name
                for other in catalog.naming(host, pattern.port)
                for each in other.patterns(defaults(other))
                if each == pattern
            }
            assert provider.name in rivals
            found |= {frozenset(rivals)} if len(rivals) > 1 else set()
    assert found == {frozenset({"klaviyo", "klaviyo-oauth"})}


def test_one_login_serves_a_product_of_atlassian_or_all():
    """Jira's and Confluence's own logins are more specific than the one for everything, so none is ambiguous."""
    routes = RouteTable(
        routes=tuple(
            Route(provider=name, connection="default", pattern=pattern)
            for name in ("atlassian", "jira", "confluence")
            for pattern in PROVIDERS[name].patterns({"site": "acme"})
        )
    )
    for host, path, name in (
        ("api.atlassian.com", "/ex/jira/1/rest", "jira"),
        ("api.atlassian.com", "/ex/confluence/1/rest", "confluence"),
        ("api.atlassian.com", "/me", "atlassian"),
        ("acme.atlassian.net", "/rest/api/3/myself", "jira"),
        ("acme.atlassian.net", "/wiki/rest/api", "confluence"),
        ("acme.atlassian.net", "/gateway", "atlassian"),
    ):
        route = routes.decide(host, 443, path)
        assert isinstance(route, Route)
        assert route.provider == name
    assert routes.decide("api.atlassian.com", 443, "/ex/jira/../confluence/1") == "ambiguous"  # SEC-171
    assert routes.decide("api.atlassian.com", 443, "/ex%2fjira/1") == "ambiguous"


@pytest.mark.parametrize(
    ("name", "kind", "host", "path", "headers", "companions"),
    [
        ("github", Kind.OAUTH2, "api.github.com", "/user", {"Authorization": "Bearer the-access-token"}, {}),
        ("github", Kind.API_KEY, "raw.githubusercontent.com", "/a/b", {"Authorization": "Bearer the-api_key"}, {}),
        ("github", Kind.OAUTH2, "github.com", "/o/r.git/info/refs",
         {"Authorization": "Basic eC1hY2Nlc3MtdG9rZW46dGhlLWFjY2Vzcy10b2tlbg=="}, {}),
        ("github", Kind.OAUTH2, "api.githubcopilot.com", "/mcp/", {"Authorization": "Bearer the-access-token"}, {}),
        ("github", Kind.OAUTH2, "api.githubcopilot.com", "/chat", {}, {}),
        ("gitlab", Kind.OAUTH2, "gitlab.com", "/api/v4/user", {"Authorization": "Bearer the-access-token"}, {}),
        ("gitlab", Kind.API_KEY, "gitlab.com", "/api/v4/user", {"PRIVATE-TOKEN": "the-api_key"}, {}),
        ("gitlab", Kind.API_KEY, "gitlab.com", "/g/p.git/info/refs",
         {"Authorization": "Basic b2F1dGgyOnRoZS1hcGlfa2V5"}, {}),
        ("linear", Kind.OAUTH2, "api.linear.app", "/graphql", {"Authorization": "Bearer the-access-token"}, {}),
        ("linear", Kind.API_KEY, "api.linear.app", "/graphql", {"Authorization": "the-api_key"}, {}),
        ("anthropic", Kind.API_KEY, "api.anthropic.com", "/v1/messages",
         {"x-api-key": "the-api_key"}, {"anthropic-version": "2023-06-01"}),
        ("notion", Kind.OAUTH2, "api.notion.com", "/v1/users/me",
         {"Authorization": "Bearer the-access-token"}, {"Notion-Version": "2022-06-28"}),
        ("openai", Kind.API_KEY, "api.openai.com", "/v1/models", {"Authorization": "Bearer the-api_key"}, {}),
        ("stripe", Kind.API_KEY, "api.stripe.com", "/v1/account", {"Authorization": "Bearer the-api_key"}, {}),
        ("huggingface", Kind.API_KEY, "huggingface.co", "/api/whoami-v2", {"Authorization": "Bearer the-api_key"}, {}),
        ("slack", Kind.OAUTH2, "slack.com", "/api/auth.test", {"Authorization": "Bearer the-access-token"}, {}),
        ("slack", Kind.OAUTH2, "files.slack.com", "/upload/v1/x", {}, {}),
        ("slack", Kind.OAUTH2, "hooks.slack.com", "/services/T/B/x", {}, {}),
        ("sentry", Kind.API_KEY, "us.sentry.io", "/api/0/projects/", {"Authorization": "Bearer the-api_key"}, {}),
        ("sentry", Kind.API_KEY, "sentry.io", "/api/42/envelope/", {}, {}),
        ("sentry", Kind.API_KEY, "o1.ingest.sentry.io", "/api/0/", {}, {}),
        ("twilio", Kind.API_KEY, "verify.twilio.com", "/v2/Services",
         {"Authorization": "Basic dGhlLWFjY291bnRfc2lkOnRoZS1hdXRoX3Rva2Vu"}, {}),
        ("google", Kind.OAUTH2, "gmail.googleapis.com", "/gmail/v1/users/me",
         {"Authorization": "Bearer the-access-token"}, {}),
        ("google", Kind.OAUTH2, "oauth2.googleapis.com", "/token", {}, {}),
        ("google", Kind.OAUTH2, "storage.googleapis.com.evil.test", "/", {}, {}),
    ],
)  # fmt: skip
def test_form(name: str, kind: Kind, host: str, path: str, *, headers: dict[str, str], companions: dict[str, str]):
    """Each provider gets its credential in the form that it takes, where it takes one."""
    assert injected(name, kind, host, path) == (headers, companions)


def test_sibling_headers_of_anthropic_are_removed():
    """A child that was set up with ANTHROPIC_AUTH_TOKEN sends Authorization: it goes."""
    rules = PROVIDERS["anthropic"].injections(Kind.API_KEY, {}, host="api.anthropic.com", path="/v1/messages")
    # SEC-154
    assert rules.remove == ("authorization", "x-api-key")


def test_account_of_twilio_in_the_path():
    """The SDK puts the account's SID into paths: the placeholder that it was given is replaced there."""
    provider = PROVIDERS["twilio"]
    rules = provider.injections(Kind.API_KEY, {}, host="api.twilio.com", path="/2010-04-01/Accounts/x.json")
    found = injection.apply(rules, secrets(provider, Kind.API_KEY))
    placeholder = provider.export.placeholders(Kind.API_KEY)["TWILIO_ACCOUNT_SID"]
    assert [(text, value.reveal()) for text, value in found.path] == [(placeholder, "the-account_sid")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google", {"authorization_params": {"access_type": "offline", "prompt": "consent",
                                             "include_granted_scopes": "true"},
                    "client_secret": "required"}),
        ("notion", {"pkce": "unsupported", "token_body": "json", "token_endpoint_auth_method": "client_secret_basic",
                    "authorization_params": {"owner": "user"}}),
        ("slack", {"scope_separator": ",", "pkce": "unsupported", "token_endpoint_auth_method": "client_secret_basic"}),
        ("linear", {"scope_separator": ",", "authorization_params": {"prompt": "consent"}}),
        ("github", {"token_headers": {"Accept": "application/json"}, "client_secret": "required", "pkce": "supported"}),
        ("gitlab", {"expires_in_default": 7200, "issuer": "{base_url}"}),
    ],
)  # fmt: skip
def test_oddities(name: str, expected: dict[str, object]):
    """What each provider does in its own way is in its file."""
    oauth = PROVIDERS[name].oauth
    assert {field: getattr(oauth, field) for field in expected} == expected


def test_slack_says_no_with_status_200():
    """Slack's `ok` must be true, and the workspace's name lies one level down."""
    oauth = PROVIDERS["slack"].oauth
    assert oauth is not None
    assert (oauth.response.ok, oauth.response.account) == ("ok", "team.name")


# ---- look-alikes --------------------------------------------------------------------------------------------------

PATTERNS: Final = [
    (provider.name, pattern) for provider in PROVIDERS.values() for pattern in provider.patterns(defaults(provider))
]
OWNED: Final = {(pattern.host, pattern.is_suffix, pattern.port) for _, pattern in PATTERNS}
CONFUSABLE: Final = {"a": "а", "e": "е", "o": "о", "i": "і", "c": "с", "p": "р", "s": "ѕ", "k": "\u212a", ".": "。"}  # noqa: RUF001  # on purpose


def is_owned(host: str, port: int) -> bool:
    """The rule, written down a second time: the very name, or more labels below a suffix; and the very port."""
    return any(
        port == its_port and (host.endswith("." + owned) if is_suffix else host == owned)
        for owned, is_suffix, its_port in OWNED
    )


@st.composite
def look_alikes(draw: st.DrawFn) -> tuple[str, int]:
    """An address that resembles one of the catalogue."""
    _, pattern = draw(st.sampled_from(PATTERNS))
    host = ("api." if pattern.is_suffix else "") + pattern.host
    cut = draw(st.integers(0, len(host)))
    label = draw(st.sampled_from(["evil", "x", "api", "xn--pi-7kc", "0", "-", "_", ""]))
    swapped = draw(st.sampled_from(sorted(CONFUSABLE)))
    host = draw(
        st.sampled_from(
            [
                f"{label}{host}",
                f"{label}.{host}",
                f"{label}-{host}",
                f"{host}.{label}.test",
                f"{host}{label}",
                f"{host}.",
                f"{host}..",
                f".{host}",
                host.upper(),
                host.title(),
                host.replace(".", draw(st.sampled_from(["", "-", "..", "。", "\u2024", "%2e"])), 1),
                host.replace(swapped, CONFUSABLE[swapped], 1),
                host[:cut] + draw(st.characters()) + host[cut:],
                host[:cut] + host[cut + 1 :],
                f"{label}@{host}",
                f"{host}@evil.test",
                f"{host}:443",
                f"{host}/",
                f"{host}\\.evil.test",
                f"{host}#.evil.test",
                f"{host}\x00.evil.test",
                f" {host}",
                f"{host}\n",
                f"https://{host}",
                pattern.host.partition(".")[2],
            ]
        )
    )
    return host, draw(st.sampled_from([443, 443, 443, 80, 8443, 4443, 6333, 0, -443, 65979]))


@given(look_alikes())
def test_look_alikes_get_nothing(address: tuple[str, int]):
    """No host that only resembles one of the catalogue's, and no other port, matches; upper case is the same host."""
    # SEC-151
    host, port = address
    matched = [name for name, pattern in PATTERNS if pattern.matches_address(host, port)]
    expected = (
        host.isascii()
        and is_owned(host.lower(), port)
        and set(host.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    )
    if not expected:
        assert matched == []
    elif matched == []:
        # what is owned and does not match is no name that could be dialled
        assert any(not part or part[0] == "-" or part[-1] == "-" or len(part) > 63 for part in host.split("."))


@given(st.text(max_size=80), st.integers(-1, 70000))
def test_arbitrary_addresses_get_nothing(host: str, port: int):
    """Random text is nobody's host."""
    assert not any(pattern.matches_address(host, port) for _, pattern in PATTERNS) or is_owned(host.lower(), port)


@pytest.mark.parametrize(
    "host",
    [
        "evilgithubusercontent.com",
        "raw.githubusercontent.com.evil.test",
        "githubusercontent.com",
        "objects.githubusercontent.com",
        "googleapis.attacker.example",
        "googleapis.com",
        "evil.googleapis.com.attacker.example",
        "api.github.com.evil.test",
        "api-github.com",
        "api.github.com.",
        "API.GITHUB.COM.",
        "github.com.",
        "aрi.github.com",  # noqa: RUF001  # the second letter is Cyrillic
        "xn--pi-7kc.github.com",
        "twilio.com",
        "eviltwilio.com",
        "twilio.com.evil.test",
        "user@api.openai.com",
        "api.openai.com:443",
        "api.openai.com@evil.test",
        "slack.com.evil.test",
        "notslack.com",
    ],
)
def test_known_look_alikes(host: str):
    """The ones that have been seen, among them two that upstream's expressions let through."""
    # SEC-151
    assert not any(pattern.matches_address(host, 443) for _, pattern in PATTERNS)


ANCHORS: Final = {
    "atlassian": ("api.atlassian.com", ".atlassian.net", "auth.atlassian.com"),
    "azure-openai": (".openai.azure.com",),
    "confluence": ("api.atlassian.com", ".atlassian.net", "auth.atlassian.com"),
    "datadog": (".datadoghq.com", ".datadoghq.eu", ".ddog-gov.com"),
    "github-residency": (".ghe.com",),
    "intercom": (".intercom.io", ".intercom.com"),
    "jira": ("api.atlassian.com", ".atlassian.net", "auth.atlassian.com"),
    "mailchimp": (".mailchimp.com", "api.mailchimp.com"),
    "microsoft": ("graph.microsoft.com", "login.microsoftonline.com"),
    "qdrant": (".cloud.qdrant.io",),
    "quickbooks": ("quickbooks.api.intuit.com", "oauth.platform.intuit.com", "appcenter.intuit.com"),
    "salesforce": (".salesforce.com",),
    "shopify": (".myshopify.com",),
    "supabase-project": (".supabase.co",),
    "zendesk": (".zendesk.com",),
    "zoho": (
        *(f"{place}.{end}" for place in ("www.zohoapis", "accounts.zoho") for end in ("com", "eu", "in", "jp", "sa")),
        *("www.zohoapis.com.au", "www.zohoapis.com.cn", "accounts.zoho.com.au", "accounts.zoho.com.cn"),
    ),
}
"""The hosts of a provider with variables, whatever these are; one that begins with a dot is an end."""
OWN_SERVERS: Final = {"codeberg", "gitea", "github-enterprise", "gitlab", "okta"}
"""Anybody may run these, at any host."""


def test_every_variable_is_anchored():
    """A definition whose variables choose a host says where that ends."""
    assert ANCHORS.keys() | OWN_SERVERS == {provider.name for provider in PROVIDERS.values() if provider.variables}


@st.composite
def values_of_variables(draw: st.DrawFn) -> tuple[Provider, dict[str, str]]:
    """A provider with values for its variables, most of them meant to lead elsewhere."""
    provider = PROVIDERS[draw(st.sampled_from(sorted(ANCHORS)))]
    found = {}
    for variable in provider.variables:
        good = variable.sample
        cut = draw(st.integers(0, len(good)))
        found[variable.name] = draw(
            st.sampled_from(
                [
                    good,
                    good.upper(),
                    f"{good}.evil.test",
                    f"{good}/.evil.test",
                    f"{good}@evil.test",
                    f"evil.test#{good}",
                    f"evil.test?{good}",
                    f"evil.test/{good}",
                    f"{good}:8443",
                    f"{good}\n",
                    f"{good}.",
                    f"https://evil.test/{good.removeprefix('https://')}",
                    f"https://evil.test#.{good.removeprefix('https://')}",
                    f"https://{good.removeprefix('https://').replace('.', 'x', 1)}",
                    good[:cut] + draw(st.characters()) + good[cut:],
                    draw(st.text(max_size=40)),
                    draw(st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True)),
                ]
            )
        )
    return provider, found


@given(values_of_variables())
def test_no_variable_leads_elsewhere(given_: tuple[Provider, dict[str, str]]):
    """Whatever is given, and whatever a provider says of itself, its credential and its code stay with the provider."""
    # SEC-99, SEC-111, SEC-151
    provider, values = given_
    asked = {each.name: values[each.name] for each in provider.variables if each.is_asked}
    told = {each.name: values[each.name] for each in provider.variables if not each.is_asked}
    for kind in provider.kinds:
        mine = {each.name for each in provider.variables if each.auth in {None, kind}}
        try:
            checked = provider.checked_variables({name: asked[name] for name in asked if name in mine}, kind)
            checked |= provider.told_variables(told if kind is Kind.OAUTH2 else {})
        except (RequestInvalid, ValueError):
            continue
        hosts = {pattern.host for pattern in provider.patterns(checked, kind)}
        if kind is Kind.OAUTH2 and provider.oauth:
            oauth = provider.oauth.resolved(checked)
            hosts |= {urlsplit(url).hostname or "" for url in (oauth.token_url, oauth.authorization_url)}
        for host in hosts:
            assert any(host == end or (end[0] == "." and host.endswith(end)) for end in ANCHORS[provider.name]), host
        assert all(pattern.port == PORTS.get(provider.name, 443) for pattern in provider.patterns(checked, kind))


def test_upper_case_is_the_same_host():
    """DNS has no case (RFC 4343)."""
    assert HostPattern(host="api.github.com").matches_address("API.GitHub.com", 443)


def test_the_page_is_current():
    """docs/providers.md is what its maker makes of the definitions: python3 tests/provider_page.py."""
    assert provider_page.PAGE.read_text("utf-8") == provider_page.page()


@every_provider
def test_no_placeholder_stands_in_ordinary_traffic(provider: Provider):
    """Each says what it is, in letters or in the digits that its form allows, and is long; none is a usual value."""
    shown = {each.name: each.placeholder for each in provider.export.env if each.placeholder is not None}
    assert all(is_placeholder(text) and len(text) >= 20 for text in shown.values()), shown
    held = {name: Secret(f"held-{name}") for kind in provider.kinds for name in secrets(provider, kind)}
    for kind in provider.kinds:
        told = dict(provider.export.stand_ins(kind, held, defaults(provider)))
        names = provider.export.values(kind, held, defaults(provider))
        assert {text for name, text in shown.items() if name in names} == told.keys()


SHAPES: Final = {
    "codeberg": r"[0-9a-f]{40}",
    "datadog": r"[0-9a-f]{32}|[0-9a-f]{40}",
    "gitea": r"[0-9a-f]{40}",
    "hubspot": r"pat-na1-[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
    "mailchimp": r"[0-9a-f]{32}-us1",
    "new-relic": r"NRAK-[0-9A-Z]{27}",
    "postmark": r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "sentry": r"sntryu_[0-9a-f]{64}",
    "twilio": r"AC[0-9a-f]{32}|[0-9a-f]{32}",
    "wandb": r"[0-9a-f]{40}",
}
"""How the key looks where it has no room for letters; wandb counts to forty."""


@pytest.mark.parametrize("name", SHAPES)
def test_placeholders_pass_for_the_key(name: str):
    """A library that looks at the form before it sends anything is content; each is one value's."""
    shown = [each for each in PROVIDERS[name].export.env if each.placeholder is not None]
    assert shown
    assert all(re.fullmatch(SHAPES[name], each.placeholder or "") for each in shown)
    assert len({each.placeholder for each in shown}) == len({each.value.text for each in shown})


@every_provider
def test_where_few_placeholders_are_replaced_inject_serves_every_exported_field(provider: Provider):
    """A definition that limits `replace` loses nothing by it: its credential is put on in full anyway."""
    for kind in provider.kinds:
        fields = [field.name for field in provider.api_key.fields] if provider.api_key else []
        names = ["access_token"] if kind is Kind.OAUTH2 else fields or ["api_key"]
        held = {name: Secret(f"held-{name}") for name in names}
        hidden = {value.reveal() for _, value in provider.export.stand_ins(kind, held)}
        serving = [each for each in provider.inject if each.auth in {None, kind}]
        values = injection.plain_values(held)
        put_on = {values[name] for each in serving for name in each.names if name in values}
        assert provider.replace.is_everywhere or hidden <= put_on
