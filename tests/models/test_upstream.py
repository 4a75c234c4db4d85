"""Definitions in upstream's words mean here what they mean there; those in our words are left alone."""

import json
from pathlib import Path

import pytest

from authsome.errors import ProviderInvalid
from authsome.models.connection import Kind
from authsome.models.injection import apply
from authsome.models.provider import Provider, definition_to_json, parse_definition
from authsome.models.upstream import translated, without_comments
from authsome.secret import Secret

PROVIDERS = sorted((Path(__file__).resolve().parents[2] / "providers").glob("*.json"))
OAUTH = {"authorization_url": "https://acme.test/authorize", "token_url": "https://acme.test/token"}
NAMES = {"schema_version": 1, "name": "acme", "display_name": "Acme"}


def key(**more: object) -> dict[str, object]:
    """A key's definition as upstream writes one."""
    return {**NAMES, "auth_type": "api_key", "flow": "api_key", "api_url": "api.acme.test", "api_key": {}, **more}


def oauth(more: dict[str, object] | None = None, **top: object) -> dict[str, object]:
    """An OAuth definition as upstream writes one."""
    section = {**OAUTH, "scopes": ["read"], "pkce": True, "supports_device_code": False, **(more or {})}
    return {**NAMES, "auth_type": "oauth2", "flow": "pkce", "api_url": "api.acme.test", "oauth": section, **top}


def read(document: dict[str, object]) -> Provider:
    return parse_definition(translated(document, source="acme.json"), source="acme.json")


@pytest.mark.parametrize("path", PROVIDERS, ids=lambda path: path.stem)
def test_our_own_words_stay(path: Path):
    """A definition of ours comes out as it went in."""
    document = json.loads(path.read_text())
    assert translated(document, source=path.name) == document
    assert json.loads(without_comments(path.read_text())) == document


@pytest.mark.parametrize(
    ("api_key", "header"),
    [
        ({}, ("Authorization", "Bearer k")),
        ({"header_name": "X-Api-Key"}, ("X-Api-Key", "Bearer k")),
        ({"header_name": "X-Api-Key", "header_prefix": ""}, ("X-Api-Key", "k")),
        ({"header_name": "X-Api-Key", "header_prefix": None}, ("X-Api-Key", "k")),
        ({"header_prefix": "Token"}, ("Authorization", "Token k")),
        (
            {"header_name": "Authorization", "header_prefix": "Bearer", "_comment": "as usual"},
            ("Authorization", "Bearer k"),
        ),
    ],
)
def test_the_key_goes_where_upstream_puts_it(api_key: dict[str, object], header: tuple[str, str]):
    """`header_name` and `header_prefix` are an injection."""
    rules = read(key(api_key=api_key)).injections(Kind.API_KEY, {}, host="api.acme.test", path="/")
    injected = apply(rules, {"api_key": Secret("k")})
    assert [(name, value.reveal()) for name, value in injected.headers] == [header]


def test_a_key_beside_oauth():
    """A definition with both sections puts each credential on in its own way."""
    provider = read(oauth(api_key={"header_name": "X-Api-Key", "header_prefix": ""}))
    for kind, secrets, header in (
        (Kind.API_KEY, {"api_key": Secret("k")}, ("X-Api-Key", "k")),
        (Kind.OAUTH2, {"access_token": Secret("t")}, ("Authorization", "Bearer t")),
    ):
        injected = apply(provider.injections(kind, {}, host="api.acme.test", path="/"), secrets)
        assert [(name, value.reveal()) for name, value in injected.headers] == [header]


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("^sk-[a-z]{3}$", "sk-abc", "sk-abcd"),
        ("sk-[a-z]{3}", "sk-abc", "xsk-abc"),
        ("^sk-[a-z]{3}", "sk-abc", "sk-abcd"),
        ("^(ghp_|github_pat_)[A-Za-z0-9_]+$", "ghp_abc", "ghx_abc"),
        ("aa|bb", "bb", "aab"),
        (r"^a\$", "a$", "a$b"),
    ],
)
def test_a_pattern_says_all_of_a_key(pattern: str, fits: str, does_not: str):
    """Upstream matches the whole key, however the pattern is anchored."""
    api_key = read(key(api_key={"header_name": "X-Api-Key", "key_pattern": pattern})).api_key
    assert api_key is not None
    field = api_key.fields[0]
    assert (field.fits(fits), field.fits(does_not)) == (True, False)


def test_a_pattern_of_ours_may_say_the_beginning():
    """Without upstream's words a pattern is read as ours: what follows is free."""
    api_key = read(key(api_key={"key_pattern": "^sk-"})).api_key
    assert api_key is not None
    assert api_key.fields[0].fits("sk-abc")


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, {"pkce": "supported"}),
        ({"pkce": False}, {"pkce": "unsupported"}),
        ({"authorization_method": "basic"}, {"token_endpoint_auth_method": "client_secret_basic"}),
        ({"authorization_method": "body"}, {"token_endpoint_auth_method": "client_secret_post"}),
        ({"device_token_request": "json"}, {"token_body": "json"}),
        ({"device_token_request": "oauth2_form", "_comment": "x"}, {"token_body": "form"}),
        ({"revocation_url": None, "device_authorization_url": None}, {"revocation_url": None}),
        ({"device_authorization_url": "https://acme.test/device"}, {"device_authorization_url": None}),
        (
            {"device_authorization_url": "https://acme.test/device", "supports_device_code": True},
            {"device_authorization_url": "https://acme.test/device"},
        ),
        ({"authorization_params": {"duration": "permanent"}}, {"authorization_params": {"duration": "permanent"}}),
        ({"base_url": "https://acme.test/"}, {"authorization_url": "https://acme.test/authorize"}),
    ],
)
def test_oauth_fields(more: dict[str, object], wanted: dict[str, object]):
    """Each field of upstream's has its counterpart."""
    found = read(oauth(more)).oauth
    assert found is not None
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_registration():
    """The registration endpoint has a section of its own there; without support for it, it is not used."""
    for supports, endpoint in ((True, "https://acme.test/register"), (False, None)):
        document = oauth(
            {"supports_dcr": supports}, registration={"registration_endpoint": "https://acme.test/register"}
        )
        found = read(document).oauth
        assert found is not None
        assert found.registration_endpoint == endpoint


def test_base_url():
    """A service's URL that others may replace is a variable with a default, wherever it is said."""
    more = {"base_url": "https://acme.test/", "authorization_url": "{base_url}/a", "token_url": "{base_url}/t"}
    provider = read(oauth(more, api_url=["api.acme.test", "{base_url}/api/"]))
    assert provider.checked_variables({}) == {"base_url": "https://acme.test"}
    assert [each.host for each in provider.patterns({"base_url": "https://own.test"})] == ["api.acme.test", "own.test"]


@pytest.mark.parametrize(
    ("api_url", "wanted"),
    [
        ("api.acme.test", ["api.acme.test"]),
        (" api.acme.test ", ["api.acme.test"]),
        ("https://api.acme.test/v1", ["https://api.acme.test/v1"]),
        ("api.acme.test/v1", ["https://api.acme.test/v1"]),
        ("api.acme.test:8443", ["https://api.acme.test:8443"]),
        (["api.acme.test", r"regex:.*\.acme\.test$"], ["api.acme.test", "*.acme.test"]),
        (r"regex:^(api\.acme\.test|acme\.test)", ["api.acme.test", "acme.test"]),
        (["api.acme.test", r"regex:(api|x)\.acme\.test$"], ["api.acme.test", "x.acme.test"]),
    ],
)
def test_api_url(api_url: object, wanted: list[str]):
    """Hosts may be written with what belongs to a URL, and by an expression that names no others."""
    assert list(read(key(api_url=api_url)).api_url) == wanted


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (key(export={"ACME_KEY": "API_TOKEN", "ACME_URL": "BASE_URL"}), {"ACME_KEY": "{token}"}),
        (
            key(export={"ACME_KEY": "api_token", "ACME_TOKEN": "ACCESS_TOKEN"}),
            {"ACME_KEY": "{token}", "ACME_TOKEN": "{token}"},
        ),
        (key(export={"env": {"api_key": "ACME_KEY", "access_token": "ACME_OTHER"}}), {"ACME_KEY": "{token}"}),
        (oauth(export={"env": {"access_token": "A", "refresh_token": "B", "api_key": "C"}}), {"A": "{access_token}"}),
        (
            oauth(export={"A": "ACCESS_TOKEN", "env": {"access_token": "B"}}),
            {"A": "{access_token}", "B": "{access_token}"},
        ),
        (key(export={"env": {"ACME_KEY": "{token}"}}), {"ACME_KEY": "{token}"}),
        (key(export={"ACME_URL": "API_URL"}), {}),
        (key(export={"env": {}}), {}),
        (key(export=None), {}),
    ],
)
def test_export(document: dict[str, object], wanted: dict[str, str]):
    """Both of upstream's shapes, and ours; a refresh token goes to nobody."""
    assert {each.name: each.value.text for each in read(document).export.env} == wanted


def test_a_placeholder_of_the_right_form():
    """Programs that check a key's form before they use it are content."""
    api_key = {"header_name": "X-Api-Key", "key_pattern": "^(sk_live_|sk_test_)[A-Za-z0-9]{30,}$"}
    provider = read(key(api_key=api_key, export={"ACME_KEY": "API_TOKEN"}))
    placeholder = provider.export.placeholders(Kind.API_KEY)["ACME_KEY"]
    assert placeholder == "sk_live_" + "0" * 30
    assert provider.api_key is not None
    assert "placeholder" in (provider.api_key.problem({"api_key": Secret(placeholder)}) or "")


def test_what_only_pictures_show_is_left_out():
    """Logos, categories, comments and empty texts say nothing about a credential."""
    document = key(logo="img.test/acme", type="llm", metadata={"a": 1}, _note="x", docs_url="", description="")
    del document["schema_version"]
    assert read(document) == read(key())


def test_the_written_form_is_ours():
    """What was translated once needs no translation again."""
    written = definition_to_json(read(oauth({"authorization_method": "basic"}, export={"A": "ACCESS_TOKEN"})))
    assert translated(written, source="acme.json") == written


@pytest.mark.parametrize(
    ("document", "field", "hint"),
    [
        (key(api_url="regex:.*acme.*"), "api_url", "name each host"),
        (key(api_url=r"regex:.*acme\.com"), "api_url", "say '*.acme.com'"),
        (oauth(api_url="regex:.*acme.*"), "api_url", "say '*.acme.test'"),
        (key(api_url=None), "api_url", "the hosts that the credential may be sent to"),
        (key(api_url=["a.test", 1]), "api_url[1]", None),
        (key(api_key={"header_name": "a b"}), "api_key.header_name", None),
        (key(api_key={"header_name": "Host"}), "api_key.header_name", None),
        (key(api_key={"header_name": 1}), "api_key.header_name", None),
        (key(api_key={"header_prefix": 1}), "api_key.header_prefix", None),
        (key(api_key={"header_prefix": "a{b"}), "api_key.header_prefix", None),
        (key(api_key={"header_name": "X", "key_pattern": "(a+)+"}), "api_key.key_pattern", None),
        (key(api_key={"colour": "red"}), "api_key", "fields here"),
        (key(api_key=[]), "api_key", None),
        (key(colour="red"), "colour", "fields here"),
        (oauth({"pkce": "yes"}), "oauth.pkce", "one of: required"),
        (oauth({"supports_dcr": "no"}), "oauth.supports_dcr", None),
        (oauth({"authorization_method": "jwt"}), "oauth.authorization_method", "one of: body, basic"),
        (oauth({"device_token_request": "xml"}), "oauth.device_token_request", "one of: oauth2_form, json"),
        (oauth({"token_url": "http://acme.test/token"}), "oauth.token_url", None),
        (oauth(registration={"endpoint": "x"}), "registration", "fields here"),
        (oauth(registration=[]), "registration", None),
        (key(registration={"registration_endpoint": "https://acme.test/"}), "registration", None),
        (key(export={"acme": "API_TOKEN"}), "export", "capitals"),
        (key(export={"ACME": "SECRET"}), "export.ACME", "ACCESS_TOKEN or API_TOKEN"),
        (key(export={"ACME": 1}), "export.ACME", None),
        (key(export={"env": {"api_key": "acme"}}), "export.env.api_key", "capitals"),
        (key(export={"env": []}), "export.env", None),
        (key(auth_type="browser", flow="browser"), "auth_type", "an API key"),
    ],
)
def test_refused(document: dict[str, object], field: str, hint: str | None):
    """What is wrong is named by the field that its author wrote, with the fix."""
    # SEC-110
    with pytest.raises(ProviderInvalid) as caught:
        read(document)
    name = field if field in caught.value.message else repr(field)
    assert caught.value.message.startswith("acme.json: ")
    assert name in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"a": 1} // x', '{"a": 1}     '),
        ('// x "y\n{"a": "//"}', '       \n{"a": "//"}'),
        ('{/* a\n"b" */"c": "/* d */"}', '{    \n      "c": "/* d */"}'),
        (r'{"a": "\"// b"}', r'{"a": "\"// b"}'),
        ('"open // x', '"open     '),
    ],
)
def test_comments(text: str, plain: str):
    """Comments become spaces, so that line and column of an error are those of the file; texts stay."""
    assert without_comments(text) == plain
    assert len(plain) == len(text)


def test_a_comment_that_does_not_end():
    """It is said where it begins; one within a text or a comment begins nothing."""
    with pytest.raises(json.JSONDecodeError) as caught:
        without_comments('{"a": "/*", // /*\n /* b */ /* open\n}')
    assert (caught.value.lineno, caught.value.colno) == (2, 10)
    assert caught.value.msg == "a comment begins here, and no */ ends it"


def test_many_quotes_take_no_long_time():
    """Reading comments takes time linear in the text."""
    # SEC-110
    assert len(without_comments('"' + "\\" * 100_001)) == 100_002
    assert len(without_comments("/*" * 50_000 + "*/")) == 100_002
    with pytest.raises(ValueError, match="a comment begins here"):
        without_comments("/* " * 50_000)
