"""Provider definitions: read whole or refused with the file, the field and the fix; and what a good one answers."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from authsome.errors import ProviderInvalid, RequestInvalid
from authsome.models.connection import Kind
from authsome.models.login import Flow
from authsome.models.provider import Claim, Provider, claim, definition_to_json, parse_definition
from authsome.models.route import HostPattern

KEY = {"schema_version": 1, "name": "acme", "api_url": "api.acme.test", "auth_type": "api_key", "api_key": {}}
OAUTH = {
    "schema_version": 1,
    "name": "acme",
    "api_url": ["api.acme.test", "https://git.acme.test/v1/"],
    "oauth": {"authorization_url": "https://acme.test/authorize", "token_url": "https://acme.test/token"},
}
EVERYTHING = {
    "schema_version": 1,
    "name": "acme-2_x",
    "display_name": "Acmé",
    "description": "Everything a definition can say",
    "docs_url": "https://acme.test/docs?x=1#keys",
    "auth_type": "oauth2",
    "flow": "pkce",
    "api_url": [
        "https://api.acme.test:8443/v1/",
        "*.acme.test",
        "{base_url}/api/",
        "https://{region}.acme.example",
        "{instance_url}",
    ],
    "base_url": "https://acme.example",
    "variables": {
        "region": {"default": "eu", "pattern": "^(eu|us)$", "description": "where the data lie"},
        "team": {"pattern": "^[a-z]+$", "example": "blue", "auth": "api_key"},
        "instance_url": {
            "pattern": "^https://[a-z]+\\.acme\\.example$",
            "example": "https://one.acme.example",
            "from_token": "instance.url",
        },
        "realm": {"pattern": "^[0-9]{1,9}$", "example": "7", "from_callback": "realmId"},
    },
    "oauth": {
        "authorization_url": "{base_url}/authorize",
        "token_url": "{base_url}/token",
        "revocation_url": "{base_url}/revoke",
        "device_authorization_url": "{base_url}/device",
        "registration_endpoint": "{base_url}/register",
        "issuer": "{base_url}",
        "scopes": ["read", "write"],
        "scope_separator": ",",
        "pkce": "required",
        "parameter_names": {"client_id": "client_key", "scope": "user_scope"},
        "authorization_params": {"prompt": "consent"},
        "token_params": {"audience": "api"},
        "token_headers": {"Acme-Version": "1"},
        "token_endpoint_auth_method": "client_secret_basic",
        "token_body": "json",
        "client_secret": "required",
        "response": {
            "access_token": "authed_user.access_token",
            "expires_at": "ends",
            "ok": "ok",
            "account": "team.name",
        },
        "refresh": {"url": "{base_url}/refresh", "rotates": True, "params": {"again": "1"}},
        "expires_in_default": 3600,
    },
    "api_key": {
        "fields": [
            {
                "name": "user",
                "label": "User",
                "secret": False,
                "env_var": "ACME_USER",
                "pattern": "^[a-z]+$",
                "hint": "small",
            },
            {"name": "password", "label": "Password"},
        ]
    },
    "inject": [
        {"header": "Authorization", "template": "Bearer {access_token}"},
        {"basic": {"username": "{user}", "password": "{password}"}, "hosts": ["*.acme.test", "{base_url}/api/"]},
        {"header": "X-Password", "template": "{password}", "hosts": ["https://api.acme.test:8443/v1/"]},
        {"query": "key", "template": "{password}", "hosts": ["https://{region}.acme.example"]},
        {"path": "placeholder", "template": "{user}"},
        {"header": "Acme-Version", "template": "1", "if_absent": True, "auth": "oauth2"},
    ],
    "verify": [
        {
            "method": "POST",
            "url": ["{base_url}/api/me/{user}", "{base_url}/api/me?all=1"],
            "headers": {"Content-Type": "application/json"},
            "body": "{}",
            "account": "{user}",
            "ok": "ok",
            "proof": "data",
            "refused_by": [401],
            "known_by": "missing_scope",
        },
        {
            "auth": "oauth2",
            "url": "{base_url}/api/realms/{realm}",
            "account": "data.name",
            "account_header": "Acme-Account",
            "refused_by": [],
        },
    ],
    "export": {
        "env": {
            "ACME_TOKEN": "{access_token}",
            "ACME_USER": {"value": "{user}", "placeholder": "placeholder"},
            "ACME_LOGIN": {"value": "{user}:{password}", "placeholder": "a:b"},
            "ACME_URL": "https://{region}.acme.example",
            "ACME_TEAM": "{team}",
            "ACME_MODE": {"value": "token", "placeholder": "token"},
        }
    },
    "allow_private_addresses": True,
    "unverified": True,
}


def parse(data: object) -> Provider:
    return parse_definition(data, source="acme.json")


def changed(base: dict[str, object], path: str, value: object) -> dict[str, object]:
    """A deep copy in which the member at a path of names is another one, or gone if the value is `...`."""
    data = copy.deepcopy(base)
    *parents, last = path.split(".")
    target: object = data
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target[name]  # type: ignore[index]
    key = int(last) if isinstance(target, list) else last
    if value is ...:
        del target[key]  # type: ignore[attr-defined]
    else:
        target[key] = value  # type: ignore[index]
    return data


@pytest.mark.parametrize("definition", [KEY, OAUTH, EVERYTHING])
def test_round_trip(definition: dict[str, object]):
    """What is read is what is written is what is read."""
    provider = parse(definition)
    written = definition_to_json(provider)
    assert parse(written) == provider
    assert definition_to_json(parse(written)) == written


def test_everything_is_kept():
    """No field of the contract is lost: the full definition is written as it was."""
    assert definition_to_json(parse(EVERYTHING)) == EVERYTHING


@pytest.mark.parametrize(
    ("base", "path", "value", "where", "hint"),
    [
        (KEY, "schema_version", ..., "schema_version: must be 1", None),
        (KEY, "schema_version", 2, "schema_version: must be 1", "newer authsome"),
        (KEY, "schema_version", True, "schema_version: must be 1", None),
        (KEY, "schema_version", "1", "schema_version: must be 1", None),
        (KEY, "name", ..., "name: is missing", None),
        (KEY, "name", 7, "name: must be a text, not a number", None),
        (KEY, "name", "..", "name: '..' is not a provider name", "small letters"),
        (KEY, "name", "../x", "is not a provider name", None),
        (KEY, "name", "Acme", "is not a provider name", None),
        (KEY, "name", "gıthub", "is not a provider name", None),  # noqa: RUF001  # a look-alike
        (KEY, "name", "a/b", "is not a provider name", None),
        (KEY, "name", "x" * 65, "is not a provider name", None),
        (KEY, "display_name", "", "display_name: is empty", "leave the field out"),
        (KEY, "display_name", "x\x1b[31m", "display_name: holds a character that does not print", None),
        (KEY, "display_name", "x" * 3000, "display_name: is longer", None),
        (KEY, "description", " x", "description: begins or ends with a space", None),
        (KEY, "docs_url", "javascript:alert(1)", "docs_url: must be an https URL", None),
        (KEY, "docs_url", "http://acme.test", "docs_url: must be an https URL", None),
        (KEY, "auth_type", "oauth3", "auth_type: is 'oauth3'", "one of: oauth2, api_key"),
        (KEY, "auth_type", "oauth2", "oauth: is missing", None),
        (KEY, "api_key", ..., "says no way to log in", "oauth"),
        (KEY, "docs_url", "https://wiki.acme.localhost/keys", "docs_url: wiki.acme.localhost is no public name", None),
        (KEY, "flow", "telepathy", "flow: is 'telepathy'", "one of: pkce"),
        (KEY, "flow", "pkce", "flow: is pkce, but auth_type is api_key", None),
        (OAUTH, "auth_type", "api_key", "api_key: is missing", '"api_key": {}'),
        (KEY, "api_url", ..., "api_url: is missing", "hosts"),
        (KEY, "api_url", [], "api_url: is missing", None),
        (KEY, "api_url", "*", "api_url: '*': a * stands for the first labels of a host alone", None),
        (KEY, "api_url", "https://api.*.acme.test/v1", "a * stands for the first labels of a host alone", None),
        (KEY, "api_url", {}, "api_url: must be a text or a list of texts, not an object", None),
        (KEY, "api_url", [None], "api_url[0]: must be a text, not null", None),
        (KEY, "api_url", ["a.test", "a.test"], "api_url: names something twice", None),
        (KEY, "api_url", ["a.test", "https://A.test/"], "names the same place as 'a.test'", None),
        (KEY, "api_url", "*.com", "would give the credential to whoever has a name below com", None),
        (KEY, "api_url", "http://a.test", "api_url: 'http://a.test': must be an https URL", None),
        (KEY, "api_url", "127.0.0.1", "only `allow_private_addresses` lets", None),
        (KEY, "api_url", r"regex:.*\.acme\.test", "never by a regular expression", "say '*.acme.test'"),
        (KEY, "api_url", "regex:(a+)+$", "never by a regular expression", None),
        (KEY, "api_url", "{base_url}", "there is no variable base_url", None),
        (KEY, "api_url", "https://x/{base_url}", "there is no variable base_url", None),
        (EVERYTHING, "oauth.token_url", "https://a.test/{base_url}", "oauth.token_url: {base_url} is a whole URL", None),  # noqa: E501
        (KEY, "api_url", "a{.test", "a brace that belongs to no {name}", None),
        (KEY, "base_url", "http://a.test", "base_url: must be an https URL", None),
        (KEY, "base_url", "https://u@a.test", "base_url: must be an https URL without user", None),
        (KEY, "base_url", "https://a.test?x", "base_url: must be an https URL", None),
        (KEY, "base_url", "https://a.test/", "base_url: should be written https://a.test", None),
        (KEY, "base_url", "https://a.test", "variables: base_url is used nowhere", None),
        (EVERYTHING, "variables.region.pattern", "^(a+)+$", "variables.region.pattern: repeats a group", None),
        (EVERYTHING, "variables.region.pattern", "^eu", "variables.region.pattern: must begin with ^ and end with $", None),  # noqa: E501
        (EVERYTHING, "variables.region.default", "asia", "variables.region.default: must match ^(eu|us)$", None),
        (EVERYTHING, "variables.region.example", "asia", "variables.region.example: must match ^(eu|us)$", None),
        (EVERYTHING, "variables.realm.pattern", ..., "variables.realm.pattern: is missing", "the provider's word"),
        (EVERYTHING, "variables.realm.example", ..., "variables.realm.example: is missing", "the provider's word"),
        (EVERYTHING, "variables.realm.default", "7", "variables.realm.default: is never used", None),
        (EVERYTHING, "variables.realm.from_token", "a", "variables.realm.from_callback: cannot stand beside", None),
        (EVERYTHING, "variables.realm.from_callback", "a b", "variables.realm.from_callback: is not the name", None),
        (EVERYTHING, "variables.instance_url.from_token", "a..b", "from_token: must be names joined by dots", None),
        (EVERYTHING, "variables.team.auth", "basic", "variables.team.auth: is 'basic'", "one of: oauth2, api_key"),
        (EVERYTHING, "variables.user", {}, "variables: user means something else already", None),
        (EVERYTHING, "variables.client_id", {}, "variables: client_id means something else already", None),
        (KEY, "variables", {"team": {"auth": "oauth2"}}, "variables: team is used nowhere", None),
        (EVERYTHING, "oauth.token_url", "{instance_url}/token", "oauth.token_url: there is no variable instance_url", None),  # noqa: E501
        (EVERYTHING, "oauth.token_url", "https://{team}.acme.example/", "oauth.token_url: there is no variable team", None),  # noqa: E501
        (EVERYTHING, "oauth.parameter_names", {"state": "s"}, "parameter_names.state: cannot be renamed", "one of: client_id"),  # noqa: E501
        (EVERYTHING, "oauth.parameter_names", {"scope": "state"}, "parameter_names.scope: 'state' is not a name", None),
        (EVERYTHING, "oauth.parameter_names", {"scope": "x", "client_id": "x"}, "parameter_names: gives two", None),
        (EVERYTHING, "export.env.ACME_TEAM", {"value": "{team}", "placeholder": "x"}, "ACME_TEAM.placeholder: is never", None),  # noqa: E501
        (EVERYTHING, "export.env.ACME_TEAM", "{team}{realm}", "ACME_TEAM: uses variables that no login has", None),
        (EVERYTHING, "export.env.ACME_MODE", {"value": "a", "placeholder": "b"}, "ACME_MODE: holds no {field}", "a constant"),  # noqa: E501
        (EVERYTHING, "variables.Region", {}, "variables: 'Region' is not a name", None),
        (EVERYTHING, "variables.base_url", {}, "variables.base_url: stands already at the top", None),
        (OAUTH, "oauth", [], "oauth: must be an object, not a list", None),
        (OAUTH, "oauth.token_url", ..., "oauth.token_url: is missing", None),
        (OAUTH, "oauth.token_url", "http://acme.test/token", "oauth.token_url: must be an https URL", None),
        (OAUTH, "oauth.token_url", "http://127.0.0.1:7998/providers", "oauth.token_url: 127.0.0.1 is no public name", None),  # noqa: E501
        (OAUTH, "oauth.token_url", "https://acme.test/token?grant_type=x", "oauth.token_url: has a query with grant_type", None),  # noqa: E501
        (OAUTH, "oauth.authorization_url", "https://acme.test/a?state=x", "has a query with state, which is set", None),
        (OAUTH, "oauth.authorization_url", "https://acme.test/a?p", "has a query that is not of the form", None),
        (OAUTH, "oauth.revocation_url", "https://acme.test/a?p=1", "must be an https URL without user, query", None),
        (OAUTH, "oauth.token_url", "https://169.254.169.254/", "oauth.token_url: 169.254.169.254 is no public name", None),  # noqa: E501
        (OAUTH, "oauth.registration_endpoint", "file:///x", "oauth.registration_endpoint: must be an https URL", None),
        (OAUTH, "oauth.issuer", "{tenant}", "oauth.issuer: there is no variable tenant", None),
        (OAUTH, "oauth.token_uri", "https://x.test", "oauth: there is no field 'token_uri'", "did you mean 'token_url'?"),  # noqa: E501
        (OAUTH, "oauth.scopes", ["a b"], "oauth.scopes[0]: is not a scope", "one entry for each scope"),
        (OAUTH, "oauth.scope_separator", ";", "oauth.scope_separator: must be a space or a comma", None),
        (OAUTH, "oauth.pkce", True, "oauth.pkce: must be a text, not true or false", None),
        (OAUTH, "oauth.pkce", "maybe", "oauth.pkce: is 'maybe'", "one of: required, supported, unsupported"),
        (OAUTH, "oauth.authorization_params", {"state": "x"}, "oauth.authorization_params.state: is set by the flow", None),  # noqa: E501
        (OAUTH, "oauth.authorization_params", {"a": 1}, "oauth.authorization_params.a: must be a text", None),
        (OAUTH, "oauth.token_params", {"code": "x"}, "oauth.token_params.code: is set by the flow itself", None),
        (OAUTH, "oauth.token_headers", {"Host": "x"}, "the header Host belongs to the transport", None),
        (OAUTH, "oauth.token_headers", {"Transfer-Encoding": "x"}, "belongs to the transport", None),
        (OAUTH, "oauth.token_headers", {"Authorization": "x"}, "is set by the request itself", None),
        (OAUTH, "oauth.token_headers", {"A B": "x"}, "'A B' is not a header name", None),
        (OAUTH, "oauth.token_headers", {"X": "a\r\nY: b"}, "holds a character that does not print", None),
        (OAUTH, "oauth.token_headers", {"X": "é"}, "must be ASCII", None),
        (OAUTH, "oauth.token_body", "xml", "oauth.token_body: is 'xml'", "one of: form, json"),
        (OAUTH, "oauth.client_secret", "none", ..., None),
        (OAUTH, "oauth.response", {"access_token": "a..b"}, "oauth.response.access_token: must be names joined", None),
        (OAUTH, "oauth.response", {"tokens": "a"}, "oauth.response: there is no field 'tokens'", None),
        (OAUTH, "oauth.refresh", {"rotates": "yes"}, "oauth.refresh.rotates: must be true or false, not a text", None),
        (OAUTH, "oauth.expires_in_default", "3600", "oauth.expires_in_default: must be a whole number", None),
        (OAUTH, "oauth.expires_in_default", 0, "oauth.expires_in_default: must be a whole number", None),
        (KEY, "api_key", {"key_pattern": "sk-"}, "api_key.key_pattern: must begin with ^", None),
        (KEY, "api_key", {"key_pattern": "^(a|a)+$"}, "api_key.key_pattern: repeats a group", None),
        (KEY, "api_key", {"env_var": "acme key"}, "api_key.env_var: must be the name of an environment variable", None),
        (KEY, "api_key", {"fields": []}, "api_key.fields: must name 1 to 8 fields", None),
        (KEY, "api_key", {"fields": [{"name": "a"}]}, "api_key.fields[0].label: is missing", None),
        (KEY, "api_key", {"fields": [{"name": "token", "label": "T"}]}, "token means something else in templates", None),  # noqa: E501
        (KEY, "api_key", {"fields": [{"name": "A", "label": "T"}]}, "'A' is not a name", None),
        (KEY, "api_key", {"fields": [{"name": "a", "label": "A"}] * 2}, "api_key.fields: names something twice", None),
        (KEY, "api_key", {"fields": [{"name": "a", "label": "A"}], "env_var": "A"}, "api_key.env_var: belongs into", None),  # noqa: E501
        (KEY, "inject", [{}], "inject[0]: must say one of header, query, basic, path", None),
        (KEY, "inject", {"header": "A", "query": "b", "template": "{token}"}, "must say one of header", None),
        (KEY, "inject", {"header": "A", "template": "{access_token}"}, "no login has; there are {api_key}, {token}", None),  # noqa: E501
        (KEY, "inject", {"header": "A", "template": "{refresh_token}"}, "inject.template: uses a name that no login has", None),  # noqa: E501
        (KEY, "inject", {"header": "Content-Length", "template": "{token}"}, "belongs to the transport", None),
        (KEY, "inject", {"header": "A", "template": "{token}", "if_absent": True}, "is for a header without a secret", None),  # noqa: E501
        (KEY, "inject", {"header": "A", "template": "x"}, "inject: says nothing for api.acme.test", None),
        (KEY, "inject", {"query": "a b", "template": "{token}"}, "is not the name of a parameter", None),
        (KEY, "inject", {"query": "key", "template": "x"}, "inject.template: holds no {field}", None),
        (KEY, "inject", {"path": "short", "template": "{token}"}, "inject.path: must be a placeholder", None),
        (KEY, "inject", {"basic": {"username": "a:b", "password": "{token}"}}, "basic.username: cannot hold a colon", None),  # noqa: E501
        (KEY, "inject", {"basic": {"username": "a", "password": "b"}}, "inject.basic: holds no {field}", None),
        (KEY, "inject", {"header": "A", "template": "{token}", "hosts": ["b.test"]}, "'b.test' is no entry of api_url", None),  # noqa: E501
        (KEY, "inject", {"header": "A", "template": "{token}", "auth": "oauth2"}, "inject.auth: is oauth2, and such a login", None),  # noqa: E501
        (KEY, "inject", [{"header": "A", "template": "{token}"}, {"header": "a", "template": "{api_key}"}], "sets something twice", None),  # noqa: E501
        (KEY, "api_key", {"fields": [{"name": "a", "label": "A"}, {"name": "b", "label": "B"}]}, "inject: is missing", "fields"),  # noqa: E501
        (KEY, "verify", {"url": "https://other.test/"}, "verify.url: lies where the credential may not go", "api_url"),
        (KEY, "verify", {"url": "https://api.acme.test:8443/"}, "verify.url: lies where the credential may not go", None),  # noqa: E501
        (KEY, "verify", {"url": "https://api.acme.test/{api_key}"}, "{api_key} is no variable, and no field", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "method": "DELETE"}, "verify.method: is 'DELETE'", None),
        (EVERYTHING, "verify.0.url", "https://{user}.acme.test/", "verify[0].url: a field may stand in the path only", None),  # noqa: E501
        (KEY, "verify", [{"url": "https://api.acme.test/"}] * 3, "verify[2].url: a login is tried by 2 requests", None),
        (KEY, "verify", {"url": ["https://api.acme.test/"] * 2}, "verify.url: names something twice", None),
        (KEY, "verify", {"url": []}, "verify.url: is missing", None),
        (KEY, "verify", {"url": [f"https://api.acme.test/{n}" for n in range(5)]}, "must name 1 to 4 URLs", None),
        (KEY, "verify", {"url": "https://api.acme.test/?a={api_key}"}, "its query must be the same for everybody", "`inject`"),  # noqa: E501
        (KEY, "verify", {"url": "https://api.acme.test/?a"}, "verify.url: has a query that is not of the form", None),
        (KEY, "verify", {"url": "https://api.acme.test/?a=1&a=2"}, "has a query that names something", None),
        (KEY, "verify", {"url": "https://api.acme.test?a=1"}, "verify.url: has a query without a path", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "account": "{api_key}"}, "verify.account: {api_key} is no", None),  # noqa: E501
        (KEY, "verify", {"url": "https://api.acme.test/", "account_header": "a b"}, "is not a header name", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "refused_by": 401}, "verify.refused_by: must be a list", None),  # noqa: E501
        (KEY, "verify", {"url": "https://api.acme.test/", "refused_by": [429]}, "must name answers from 400", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "refused_by": [403, 401]}, "in order, each once", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "refused_by": [True]}, "must name answers from 400", None),
        (KEY, "verify", {"url": "https://api.acme.test/", "account": "id", "unnamed": "why"}, "verify.unnamed: cannot", None),  # noqa: E501
        (KEY, "verify", [{"url": "https://api.acme.test/", "account": "id"}, {"url": "https://api.acme.test/a", "unnamed": "why"}], "either named or unnamed", None),  # noqa: E501
        (KEY, "verify", [{"url": "https://api.acme.test/"}, {"untried": "why"}], "verify[1].untried: a login is either", None),  # noqa: E501
        (KEY, "verify", {"untried": "why", "url": "https://api.acme.test/"}, "there is no field 'url'", None),
        (KEY, "verify", {"untried": "why", "auth": "oauth2"}, "verify.auth: is oauth2, which nobody", None),
        (EVERYTHING, "verify.1.url", "{base_url}/api/{user}", "verify[1].auth: is 'oauth2'", "one of: api_key"),
        (KEY, "verify", {"url": "https://api.acme.test/", "auth": "oauth2"}, "verify.auth: is oauth2, which nobody", None),  # noqa: E501
        (KEY, "export", {"environment": {}}, "export: there is no field 'environment'", None),
        (KEY, "export", {"env": {"acme": "{token}"}}, "'acme' is not the name of an environment variable", None),
        (KEY, "export", {"env": {"ACME": "plain"}}, "export.env.ACME: holds no {field}", None),
        (KEY, "export", {"env": {"ACME": "{nothing}"}}, "export.env.ACME: uses a name that no login has", None),
        (KEY, "export", {"env": {"ACME": {"value": "{token}", "placeholder": "a b"}}}, "ACME.placeholder: must be ASCII", None),  # noqa: E501
        (KEY, "unverified", "yes", "unverified: must be true or false, not a text", None),
        (KEY, "verify_tls", False, "there is no field 'verify_tls'", None),
        (OAUTH, "oauth.insecure", True, "oauth: there is no field 'insecure'", None),
        (KEY, "colour", "red", "there is no field 'colour'", "fields here:"),
        (KEY, "api_keys", {}, "there is no field 'api_keys'", "did you mean 'api_key'?"),
    ],
)  # fmt: skip
def test_refused(base: dict[str, object], path: str, value: object, where: object, hint: str | None):
    """A field that is not what the contract says is refused by file, field and, where there is one, fix."""
    # SEC-98, SEC-99, SEC-103, SEC-110
    data = changed(base, path, value)
    if where is ...:
        parse(data)
        return
    with pytest.raises(ProviderInvalid) as caught:
        parse(data)
    assert caught.value.message.startswith("acme.json: ")
    assert where in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_documents_on_a_private_network():
    """Where the hosts may lie, what is written about them may, too."""
    definition = {**KEY, "allow_private_addresses": True, "docs_url": "https://wiki.acme.localhost/keys"}
    assert parse(definition).docs_url == "https://wiki.acme.localhost/keys"


@pytest.mark.parametrize("data", [None, [], "x", 7, True])
def test_no_object(data: object):
    with pytest.raises(ProviderInvalid, match=r"acme\.json: must be an object"):
        parse(data)


def test_placeholder_must_look_like_the_key():
    """A placeholder that fails the provider's own pattern would fail the SDK's check as well."""
    definition = KEY | {
        "api_key": {"key_pattern": "^sk-[a-z]{4}$"},
        "export": {"env": {"ACME": {"value": "{api_key}", "placeholder": "pk-abcd"}}},
    }
    with pytest.raises(ProviderInvalid, match=r"export\.env\.ACME\.placeholder: does not match"):
        parse(definition)


def test_flows():
    """Both sections offer both flows; the one that `auth_type` means comes first."""
    both = OAUTH | {"api_key": {}}
    assert parse(KEY).flows == (Flow.API_KEY,)
    assert parse(OAUTH).flows == (Flow.PKCE,)
    assert parse(both).flows == (Flow.PKCE, Flow.API_KEY)
    assert parse(both | {"auth_type": "api_key"}).flows == (Flow.API_KEY, Flow.PKCE)
    assert parse(both).kinds == (Kind.OAUTH2, Kind.API_KEY)
    assert parse(both | {"auth_type": "api_key"}).auth_type is Kind.API_KEY


def test_patterns():
    """Entries with variables name what the connection's values make of them."""
    provider = parse(EVERYTHING)
    assert provider.patterns({"base_url": "https://git.acme.org:444/sub", "region": "us"}) == (
        HostPattern(host="api.acme.test", port=8443, path_prefix="/v1/"),
        HostPattern(host="acme.test", is_suffix=True),
        HostPattern(host="git.acme.org", port=444, path_prefix="/sub/api/"),
        HostPattern(host="us.acme.example"),
    )


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        ({}, "https://acme.example"),
        ({"base_url": "https://Git.Acme.org/"}, "https://git.acme.org"),
        ({"base_url": "https://git.acme.org:8443/sub/"}, "https://git.acme.org:8443/sub"),
        ({"base_url": "http://localhost:8080"}, "http://localhost:8080"),  # this definition allows private addresses
    ],
)
def test_variables(given: dict[str, str], base_url: str):
    assert parse(EVERYTHING).checked_variables(given) == {"base_url": base_url, "region": "eu"}


def test_variables_of_a_kind():
    """Some are asked of those only who log in by that kind; what the provider says itself is asked of nobody."""
    provider = parse(EVERYTHING)
    usual = {"base_url": "https://acme.example", "region": "eu"}
    assert [each.name for each in provider.missing_variables(Kind.API_KEY, usual)] == ["team"]
    assert provider.missing_variables(Kind.OAUTH2, usual) == ()
    assert [each.name for each in provider.optional_variables(Kind.OAUTH2)] == ["region"]
    with pytest.raises(RequestInvalid, match="team is missing"):
        provider.checked_variables({}, Kind.API_KEY)
    assert provider.checked_variables({}, Kind.API_KEY, partial=True) == usual
    assert provider.checked_variables({"team": "red"}, Kind.API_KEY) == usual | {"team": "red"}
    for name in ("team", "realm", "instance_url"):
        with pytest.raises(RequestInvalid, match=f"takes no '{name}'"):
            provider.checked_variables({name: "red"}, Kind.OAUTH2)


def test_a_provider_is_not_taken_at_its_word():
    """What it says of itself decides where a credential goes, so it must be of the definition's form."""
    provider = parse(EVERYTHING)
    said = {"realm": "12", "instance_url": "https://two.acme.example/"}
    assert provider.told_variables(said) == {"realm": "12", "instance_url": "https://two.acme.example"}
    for wrong in (
        {"realm": "12/../x"},
        {"realm": "evil.test"},
        {"realm": ""},
        {"instance_url": "https://evil.test"},
        {"instance_url": "https://evil.test/.acme.example"},
        {"instance_url": "https://two.acme.example@evil.test"},
        {"instance_url": "https://two.acme.example:444"},
        {"instance_url": "http://two.acme.example"},
        {"instance_url": "two.acme.example"},
    ):
        with pytest.raises(ValueError, match=rf"said a {next(iter(wrong))} that must"):
            provider.told_variables(wrong)


def test_places_of_a_connection():
    """An entry is no place without its variables, nor for a kind of login that gets nothing there."""
    provider = parse(changed(EVERYTHING, "inject.0.hosts", ["{instance_url}", "{base_url}/api/", "*.acme.test"]))
    usual = {"base_url": "https://acme.example", "region": "eu"}
    assert {pattern.host for pattern in provider.patterns(usual, Kind.OAUTH2)} == {"acme.test", "acme.example"}
    told = usual | {"instance_url": "https://two.acme.example"}
    assert {pattern.host for pattern in provider.patterns(told, Kind.OAUTH2)} == {
        "acme.test",
        "acme.example",
        "two.acme.example",
    }
    assert "api.acme.test" in {pattern.host for pattern in provider.patterns(usual, Kind.API_KEY)}


def test_claims():
    """Whatever a variable may stand for that begins a host belongs to the provider."""
    assert parse(EVERYTHING).claims == (
        Claim(HostPattern(host="api.acme.test", port=8443, path_prefix="/v1/")),
        Claim(HostPattern(host="acme.test", is_suffix=True)),
        Claim(HostPattern(host="acme.example", path_prefix="/api/"), is_open=True),
        Claim(HostPattern(host="acme.example", is_suffix=True)),
        Claim(HostPattern(host="one.acme.example"), is_open=True),
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{shop}.myshopify.com", Claim(HostPattern(host="myshopify.com", is_suffix=True))),
        ("https://{a}.b.test:8443/x/", Claim(HostPattern(host="b.test", is_suffix=True, port=8443, path_prefix="/x/"))),
        ("https://{a}.b.test/{a}/", Claim(HostPattern(host="b.test", is_suffix=True, path_prefix="/one/"))),
        ("api.{a}.test", Claim(HostPattern(host="api.one.test"), is_open=True)),
        ("{a}.{b}.test", Claim(HostPattern(host="one.two.test"), is_open=True)),
        ("{c_url}/v1", Claim(HostPattern(host="c.test", path_prefix="/v1/"), is_open=True)),
    ],
)
def test_claim(entry: str, expected: Claim):
    """What is claimed leaves out no place that some value of the variables makes, unless it says so."""
    assert claim(entry, {"a": "one", "b": "two", "c_url": "https://c.test"}) == expected


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"base_url": "git.acme.org"}, "base_url must be an https URL"),
        ({"base_url": "http://git.acme.org"}, "base_url must be an https URL"),
        ({"base_url": "https://user:pw@git.acme.org"}, "base_url must be an https URL without user"),
        ({"base_url": "https://git.acme.org?x=1"}, "base_url must be an https URL"),
        ({"base_url": "https://git.acme.org\r\nHost: x"}, "base_url must be an https URL"),
        ({"region": "asia"}, "region must match"),
        ({"region": "eu.evil.test/"}, "region must be a word"),
        ({"region": "eu@evil.test"}, "region must be a word"),
        ({"region": "eu\n"}, ...),
        ({"tenant": "x"}, "takes no 'tenant'"),
    ],
)
def test_variables_refused(given: dict[str, str], problem: object):
    """A variable decides where a credential goes, so its value is checked when it is given."""
    provider = parse(EVERYTHING)
    if problem is ...:
        assert provider.checked_variables(given)["region"] == "eu"
        return
    with pytest.raises(RequestInvalid, match=str(problem)):
        provider.checked_variables(given)


def test_word_without_pattern_is_one_label():
    """A variable that nobody gave a pattern cannot choose another domain."""
    definition = KEY | {"api_url": "https://{tenant}.acme.test", "variables": {"tenant": {}}}
    provider = parse(definition)
    assert provider.checked_variables({"tenant": "blue"}) == {"tenant": "blue"}
    for wrong in ("a.b", "evil.test", "a_b", "A", "-a", "a" * 64):
        with pytest.raises(RequestInvalid, match="tenant must"):
            provider.checked_variables({"tenant": wrong})
    with pytest.raises(RequestInvalid, match="tenant is missing"):
        provider.checked_variables({})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda variables: variables | {"base_url": "https://x.test/a?b="},
        lambda variables: variables | {"base_url": "https://evil.test\\"},
        lambda variables: variables | {"region": "evil.test/"},
        lambda variables: {"region": variables["region"]},
    ],
)
def test_stored_variables_are_checked_again(spoil: Callable[[dict[str, str]], dict[str, str]]):
    """A value that got past the door still makes no pattern."""
    provider = parse(changed(EVERYTHING, "allow_private_addresses", ...))
    variables = spoil({"base_url": "https://acme.example", "region": "eu"})
    try:
        patterns = provider.patterns(variables)
    except ProviderInvalid:
        return
    assert all(pattern.host.endswith(("acme.test", "acme.example")) for pattern in patterns)


def test_endpoints_are_resolved_and_checked():
    """URLs of the OAuth side follow the variables, and are refused when these make something else of them."""
    provider = parse(EVERYTHING)
    assert provider.oauth is not None
    resolved = provider.oauth.resolved({"base_url": "https://git.acme.org/sub", "region": "eu"})
    assert resolved.token_url == "https://git.acme.org/sub/token"
    assert resolved.issuer == "https://git.acme.org/sub"
    assert resolved.refresh.url == "https://git.acme.org/sub/refresh"
    for wrong in ("http://git.acme.org", "https://git.acme.org?x=", "https://u@git.acme.org", "javascript:x"):
        with pytest.raises(ProviderInvalid, match=r"oauth\.authorization_url"):
            provider.oauth.resolved({"base_url": wrong, "region": "eu"})


def test_injections_follow_the_most_specific_entry():
    """Of two entries at one host the one with the longer path decides; elsewhere nothing is put on."""
    provider = parse(
        KEY
        | {
            "api_url": ["{base_url}", "{base_url}/api/"],
            "base_url": "https://acme.test",
            "inject": [
                {"header": "Private-Token", "template": "{token}", "hosts": ["{base_url}/api/"]},
                {"basic": {"username": "git", "password": "{token}"}, "hosts": ["{base_url}"]},
            ],
        }
    )
    variables = {"base_url": "https://git.acme.org"}

    def at(host: str, path: str, port: int = 443) -> tuple[object, ...]:
        rules = provider.injections(Kind.API_KEY, variables, host=host, path=path, port=port)
        assert rules.remove == ("authorization", "private-token")
        return rules.injections

    assert at("git.acme.org", "/api/v4/user") == provider.inject[:1]
    assert at("GIT.acme.org", "/group/project.git/info/refs") == provider.inject[1:]
    assert at("git.acme.org", "/apis") == provider.inject[1:]
    assert at("git.acme.org", "/api", 8443) == ()
    assert at("acme.test", "/api/v4/user") == ()


def test_default_injection():
    """Without `inject` there is a bearer token."""
    assert definition_to_json(parse(KEY))["inject"] == {"header": "Authorization", "template": "Bearer {token}"}


def test_every_field_is_documented():
    """Whoever writes a definition finds each field on the page, and nothing there that is none."""
    page = (Path(__file__).parents[2] / "docs" / "provider-files.md").read_text()
    named = {name.rpartition(".")[2] for name in re.findall(r"`([a-zA-Z_.]+)`", page)}

    def names(value: object, *, are_data: bool = False) -> set[str]:
        found: set[str] = set()
        for each in value if isinstance(value, list) else []:
            found |= names(each)
        for key, below in value.items() if isinstance(value, dict) else []:
            found |= set() if are_data else {key}
            found |= names(below, are_data=key in {"variables", "env"} and not are_data)
        return found

    data = {"prompt", "audience", "again", "Acme-Version", "Content-Type", "client_id", "scope"}
    key = KEY["api_key"] | {"label": "", "env_var": "", "key_pattern": "", "key_pattern_hint": ""}
    assert names([EVERYTHING, {"api_key": key}]) - data <= named


@pytest.mark.parametrize(
    ("oauth", "flows"),
    [
        ({"authorization_url": "https://a.test/a", "token_url": "https://a.test/t"}, ["pkce"]),
        ({"issuer": "https://a.test"}, ["pkce", "dcr_pkce", "device_code"]),
        ({"token_url": "https://a.test/t", "device_authorization_url": "https://a.test/d"}, ["device_code"]),
        ({"token_url": "https://a.test/t", "client_credentials": True}, ["client_credentials"]),
        (
            {
                "authorization_url": "https://a.test/a",
                "token_url": "https://a.test/t",
                "registration_endpoint": "https://a.test/r",
                "device_authorization_url": "https://a.test/d",
                "client_credentials": True,
                "resource": "https://api.a.test/v1",
                "iss_required": True,
                "client_id_metadata_document": True,
                "issuer": "https://a.test",
            },
            ["pkce", "dcr_pkce", "device_code", "client_credentials"],
        ),
    ],
)
def test_what_endpoints_make_possible(oauth, flows):
    """The endpoints say which flows there are, the first is the usual one, and all of it is written as it was read."""
    definition = {
        "schema_version": 1,
        "name": "acme",
        "display_name": "acme",
        "auth_type": "oauth2",
        "api_url": "api.a.test",
        "oauth": oauth,
    }
    found = parse_definition(definition, source="acme.json")
    assert list(found.flows) == flows
    again = definition_to_json(found)
    assert {name: again["oauth"][name] for name in oauth} == oauth
    assert parse_definition(again, source="acme.json") == found


@pytest.mark.parametrize(
    ("oauth", "field"),
    [
        ({}, "token_url"),
        ({"issuer": "https://a.test", "authorization_url": "https://a.test/a"}, "token_url"),
        ({"token_url": "https://a.test/t"}, "authorization_url"),
        ({"issuer": "https://a.test", "resource": "http://a.test/"}, "resource"),
        ({"issuer": "https://a.test", "authorization_params": {"resource": "x"}}, "authorization_params.resource"),
    ],
)
def test_endpoints_that_are_missing(oauth, field):
    definition = {"schema_version": 1, "name": "acme", "auth_type": "oauth2", "api_url": "api.a.test", "oauth": oauth}
    with pytest.raises(ProviderInvalid, match=rf"oauth\.{field}"):
        parse_definition(definition, source="acme.json")


def test_a_flow_that_nothing_makes_possible():
    oauth = {"authorization_url": "https://a.test/a", "token_url": "https://a.test/t"}
    definition = {
        "schema_version": 1,
        "name": "acme",
        "auth_type": "oauth2",
        "flow": "device_code",
        "api_url": "api.a.test",
        "oauth": oauth,
    }
    with pytest.raises(ProviderInvalid, match="flow: is device_code"):
        parse_definition(definition, source="acme.json")
