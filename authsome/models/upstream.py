"""Definitions written for upstream authsome (0.3.1, 0.7.2), put into the words of our own: pure, JSON to JSON.

Rules:
1. Only what upstream says in other words is changed; everything else is left to the one strict reader, unknown fields
   included, so that no second reader decides what is valid.
2. A definition of our own comes out as it went in.
3. What is wrong with a field that only upstream knows is said here, by the name that its author gave it.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from authsome.models import regex_hosts
from authsome.models.connection import ACCESS_TOKEN, REFRESH_TOKEN, Kind
from authsome.models.injection import AUTHORIZATION
from authsome.models.pattern import Pattern
from authsome.models.section import ENVIRONMENT_VARIABLE, Section
from authsome.models.template import TOKEN

Json = Mapping[str, object]

_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|//[^\n]*|/\*(?:.*?\*/)?', re.DOTALL)
_PICTURES: Final = ("logo", "type", "metadata")
"""What upstream shows in its own pages."""
_NOTHING: Final = ("docs_url", "description", "display_name")
"""Texts that upstream takes empty."""
_SUPPORTS: Final = {"supports_device_code": "device_authorization_url", "supports_dcr": "registration_endpoint"}
_OAUTH_ONLY: Final = ("authorization_method", "base_url", "device_token_request", *_SUPPORTS)
_METHODS: Final = {"body": "client_secret_post", "basic": "client_secret_basic"}
_TOKEN_SOURCES: Final = frozenset({"access_token", "api_token"})
_PLAIN_SOURCES: Final = frozenset({"base_url", "api_url"})
_FIELDS: Final = {"access_token": ACCESS_TOKEN, "api_key": TOKEN}
_BARE: Final = re.compile(r"[A-Za-z0-9._*-]+(?::[0-9]+)?(?:/.*)?\Z")


def without_comments(text: str) -> str:
    """JSON with `//` and `/* */` taken for spaces, so that errors still name the right line and column.

    Raises:
        json.JSONDecodeError: a comment begins and does not end.
    """

    def blank(found: re.Match[str]) -> str:
        if found[0] == "/*":
            raise json.JSONDecodeError("a comment begins here, and no */ ends it", text, found.start())
        return found[0] if found[0][0] == '"' else re.sub(r"[^\n]", " ", found[0])

    return _COMMENT.sub(blank, text)


def translated(document: Json, *, source: str) -> dict[str, object]:
    """The definition in our words.

    Args:
        document: the definition as it was written.
        source: the file's name, for errors.

    Raises:
        ProviderInvalid: a field of upstream's holds what cannot be meant; names the field and, where there is one,
            the fix.
    """
    found = {key: value for key, value in document.items() if not key.startswith("_") and key not in _PICTURES}
    for key in _NOTHING:
        if found.get(key) == "":
            del found[key]
    found.setdefault("schema_version", 1)
    whole = Section(found, source=source)
    _refuse_browser(whole)
    _api_url(found)
    _oauth(found, whole)
    _api_key(found, whole)
    _export(found, whole)
    return found


def _refuse_browser(whole: Section) -> None:
    for key in ("auth_type", "flow"):
        if whole.raw(key) == "browser":
            raise whole.error(
                key,
                "cookies of a browser are not supported",
                hint="an API key or OAuth client of the service does the same, and can be revoked alone",
            )


def _api_url(found: dict[str, object]) -> None:
    """Say hosts for a `regex:`, and a whole URL for a host with a port or a path."""
    written = found.get("api_url")
    entries = written if isinstance(written, list) else [written]
    if not all(isinstance(each, str) for each in entries):
        return
    said: list[str] = []
    for entry in map(str, entries):
        text = entry.strip()
        if text.lower().startswith(regex_hosts.PREFIX):
            said += regex_hosts.expand(text) or (text,)
        elif _BARE.match(text) and set(text) & set("/:"):
            said.append(f"https://{text}")
        else:
            said.append(text)
    if isinstance(written, str) and len(said) == 1:
        found["api_url"] = said[0]
    else:
        found["api_url"] = list(dict.fromkeys(said))


# ---- oauth, registration ---------------------------------------------------------------------------------------------


def _oauth(found: dict[str, object], whole: Section) -> None:
    oauth = found.get("oauth")
    registration = whole.section("registration")
    if found.pop("registration", None) and oauth is None:
        raise whole.error("registration", "is said without oauth")
    if not isinstance(oauth, dict):
        return
    section = whole.section("oauth")
    said = {key: value for key, value in oauth.items() if not key.startswith("_") and key not in _OAUTH_ONLY}
    endpoint = registration.optional_text("registration_endpoint")
    registration.close()
    if endpoint is not None:
        said.setdefault("registration_endpoint", endpoint)
    for flag, endpoint in _SUPPORTS.items():
        if section.has(flag) and not section.boolean(flag):
            said.pop(endpoint, None)
    if isinstance(said.get("pkce"), bool):
        said["pkce"] = "supported" if said["pkce"] else "unsupported"
    method = section.choice("authorization_method", tuple(_METHODS), "body")
    if method != "body":
        said.setdefault("token_endpoint_auth_method", _METHODS[method])
    if section.choice("device_token_request", ("oauth2_form", "json"), "oauth2_form") == "json":
        said.setdefault("token_body", "json")
    _base_url(found, said, section)
    found["oauth"] = said


def _base_url(found: dict[str, object], oauth: Json, section: Section) -> None:
    """A default that no URL uses says nothing, and is left out."""
    base_url = section.optional_text("base_url")
    urls = found.get("api_url")
    written = [*oauth.values(), *(urls if isinstance(urls, list) else [urls])]
    if base_url is not None and any(isinstance(each, str) and "{base_url}" in each for each in written):
        found.setdefault("base_url", base_url.rstrip("/"))


# ---- api_key ---------------------------------------------------------------------------------------------------------


def _api_key(found: dict[str, object], whole: Section) -> None:
    api_key = found.get("api_key")
    if api_key is None and found.get("auth_type") == Kind.API_KEY.value:
        found["api_key"] = api_key = {}
    if not isinstance(api_key, dict) or "inject" in found:
        return
    section = whole.section("api_key")
    said = {key: value for key, value in api_key.items() if not key.startswith("_")}
    is_ours = "header_name" not in said and "header_prefix" not in said
    name = section.text("header_name", AUTHORIZATION)
    prefix = said.get("header_prefix", "Bearer")
    for key in ("header_name", "header_prefix"):
        said.pop(key, None)
    _whole_pattern(said, is_ours=is_ours)
    found["api_key"] = said
    if is_ours:
        return
    section.check_header("header_name", name, "")
    if prefix and not isinstance(prefix, str):
        raise section.error("header_prefix", "must be a text or null")
    if prefix and (not str(prefix).isascii() or set(str(prefix)) & set("{}")):
        raise section.error("header_prefix", "must be plain ASCII without braces")
    template = f"{prefix} {{{TOKEN}}}" if prefix else f"{{{TOKEN}}}"
    injection: dict[str, object] = {"header": name, "template": template}
    if isinstance(found.get("oauth"), dict):
        bearer = {"header": AUTHORIZATION, "template": f"Bearer {{{TOKEN}}}", "auth": Kind.OAUTH2.value}
        found["inject"] = [{**injection, "auth": Kind.API_KEY.value}, bearer]
    else:
        found["inject"] = injection


def _whole_pattern(api_key: dict[str, object], *, is_ours: bool) -> None:
    """Upstream matches the whole key, whether or not the pattern is anchored; ours always is at its beginning."""
    pattern = api_key.get("key_pattern")
    if not isinstance(pattern, str) or not pattern or (is_ours and pattern.startswith("^")):
        return
    body = pattern.removeprefix("^").removesuffix("$") if not pattern.endswith("\\$") else pattern.removeprefix("^")
    api_key["key_pattern"] = f"^(?:{body})$" if _divides(body) else f"^{body}$"


def _divides(pattern: str) -> bool:
    """Whether a `|` stands outside of brackets, so that an anchor would hold for one choice only."""
    left, before = re.sub(r"\\.|\[[^\]]*\]", "", pattern), ""
    while left != before:
        left, before = re.sub(r"\([^()]*\)", "", left), left
    return "|" in left


# ---- export ----------------------------------------------------------------------------------------------------------


def _export(found: dict[str, object], whole: Section) -> None:
    """Both of upstream's shapes: `{"ACME_KEY": "API_TOKEN"}` and `{"env": {"api_key": "ACME_KEY"}}`."""
    export = found.get("export")
    if isinstance(export, dict) and isinstance(export.get("env"), dict | None):
        section = whole.section("export")
        said = {**_by_field(section.section("env"), found), **_by_variable(section, found)}
        found["export"] = {"env": said} if said else {}


def _by_field(section: Section, found: Json) -> dict[str, object]:
    """`{"api_key": "ACME_KEY"}`, or our own shape, which is left alone."""
    said: dict[str, object] = {}
    for key in section.keys():  # noqa: SIM118  # not a mapping
        if key not in _FIELDS:
            said[key] = section.raw(key)
        elif (name := section.variable_name(key)) is not None and _FIELDS[key] == _token(found):
            said[name] = _exported(found)
    return {name: value for name, value in said.items() if name != REFRESH_TOKEN}  # for the token endpoint alone


def _by_variable(section: Section, found: Json) -> dict[str, object]:
    """`{"ACME_KEY": "API_TOKEN"}`; what upstream says of URLs is no secret, and so not ours to set."""
    said: dict[str, object] = {}
    for key in section.keys():  # noqa: SIM118  # not a mapping
        if key == "env" or key.startswith("_"):
            continue
        if not ENVIRONMENT_VARIABLE.match(key):
            problem = f"{key[:64]!r} is not the name of an environment variable"
            raise section.error("", problem, hint="capitals, digits, _")
        meant = section.text(key)
        if meant.lower() in _TOKEN_SOURCES:
            said[key] = _exported(found)
        elif meant.lower() not in _PLAIN_SOURCES:
            raise section.error(key, f"is {meant[:64]!r}", hint="ACCESS_TOKEN or API_TOKEN")
    return said


def _token(found: Json) -> str:
    """What a template calls the one secret of the usual login."""
    return TOKEN if found.get("auth_type") == Kind.API_KEY.value else ACCESS_TOKEN


def _exported(found: Json) -> object:
    """The value, with a placeholder that passes the check which programs make of the key's form."""
    value, api_key = f"{{{_token(found)}}}", found.get("api_key")
    pattern = api_key.get("key_pattern") if isinstance(api_key, dict) and _token(found) == TOKEN else None
    if not isinstance(pattern, str):
        return value
    try:
        return {"value": value, "placeholder": Pattern.parse(pattern).sample()}
    except ValueError:  # which the reader of definitions says better
        return value
