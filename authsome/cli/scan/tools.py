"""The files in which common tools keep tokens, each read for what is a credential in it and nothing else.

Rule: nothing is guessed; a file of another form holds nothing.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from authsome.cli.scan.found import Found, Place
from authsome.message import json_document
from authsome.secret import Secret

Reader = Callable[[str, Path], Iterator[Found]]

_SECTION: Final = re.compile(r"\[([^\]]{1,200})\]\s*\Z")
_PAIR: Final = re.compile(r"([A-Za-z0-9_.-]{1,64})\s*[=:]\s*(\S.*)\Z")
_NPM: Final = re.compile(r"//([A-Za-z0-9.-]{1,253})(?::\d+)?/[^=\s]*:_(?:authToken|password)\s*=\s*(\S+)\Z")
_NETRC_KEYS: Final = frozenset({"account", "login", "machine", "password"})
_STRIPE_KEYS: Final = ("live_mode_api_key", "test_mode_api_key")
_COMPOSER_KINDS: Final = ("github-oauth", "gitlab-oauth", "gitlab-token", "bitbucket-oauth", "bearer", "http-basic")
_URL_USER: Final = re.compile(r"https?://([^\s/:@]{1,1024})(?::([^\s/@]{1,2048}))?@([A-Za-z0-9.-]{1,253})(?=[:/\s]|\Z)")
_TOKEN_LENGTH: Final = 20  # characters: few names have as many, and no token fewer
_YAML_HOST: Final = re.compile(r"([A-Za-z0-9.-]{1,253}):\s*\Z")
_YAML_TOKEN: Final = re.compile(r"\s+oauth_token:\s*(\S+)\s*\Z")


def places(environ: Mapping[str, str]) -> Iterator[tuple[Path, Reader]]:
    """The files that there may be, and how each is read."""
    home = Path(environ.get("HOME") or _home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    yield Path(environ.get("NPM_CONFIG_USERCONFIG") or home / ".npmrc"), npmrc
    yield Path(environ.get("NETRC") or home / ".netrc"), netrc
    yield home / ".pypirc", pypirc
    yield Path(environ.get("GH_CONFIG_DIR") or config / "gh") / "hosts.yml", gh_hosts
    yield Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"), aws_credentials
    yield Path(environ.get("HF_TOKEN_PATH") or cache / "huggingface/token"), bare("HF_TOKEN")
    yield (
        Path(environ.get("CARGO_HOME") or home / ".cargo") / "credentials.toml",
        pairs({"token": "CARGO_REGISTRY_TOKEN"}),
    )
    for path in _pip_settings(environ, home, config):
        yield path, pip_settings
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json", registries
    yield Path(environ.get("REGISTRY_AUTH_FILE") or config / "containers/auth.json"), registries
    yield home / ".git-credentials", git_credentials
    yield config / "git/credentials", git_credentials
    yield Path(environ.get("GLAB_CONFIG_DIR") or config / "glab-cli") / "config.yml", glab_settings
    yield Path(environ.get("COMPOSER_HOME") or config / "composer") / "auth.json", composer_auth
    yield home / ".sentryclirc", pairs({"token": "SENTRY_AUTH_TOKEN"})
    yield config / "stripe/config.toml", pairs(dict.fromkeys(_STRIPE_KEYS, "STRIPE_API_KEY"))
    yield config / "doctl/config.yaml", pairs({"access-token": "DIGITALOCEAN_ACCESS_TOKEN"})
    yield home / ".fly/config.yml", pairs({"access_token": "FLY_API_TOKEN"})


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user without an entry, who has no files either
        return Path("/")


def npmrc(text: str, path: Path) -> Iterator[Found]:
    """npm: `//registry.npmjs.org/:_authToken=…`; a `${VARIABLE}` is none."""
    for number, line in _lines(text):
        if (found := _NPM.match(line)) and not found[2].startswith("${"):
            yield _found(found[2], path, number, variable="NPM_TOKEN", host=found[1])


def netrc(text: str, path: Path) -> Iterator[Found]:
    """curl, git and others: `machine HOST login NAME password SECRET`, on one line or several."""
    host: str | None = None
    key = ""
    for number, line in _lines(text):
        for word in line.split():
            if key == "machine":
                host = word
            elif key == "password":
                yield _found(word, path, number, host=host)
            elif not key and word == "default":
                host = None
            key = word if not key and word in _NETRC_KEYS else ""


def pypirc(text: str, path: Path) -> Iterator[Found]:
    """Twine and others: `password` below `[pypi]` or another repository's name."""
    repository: str | None = None
    for number, section, name, value in _ini(text):
        if not name:
            repository = section if "." in section else None
        elif name == "repository":
            repository = value.partition("://")[2].partition("/")[0]
        elif name == "password":
            yield _found(value, path, number, variable="PYPI_TOKEN", host=repository)


def gh_hosts(text: str, path: Path) -> Iterator[Found]:
    """The GitHub command line: `oauth_token` below a host; it keeps some in the keyring instead."""
    host: str | None = None
    seen: set[tuple[str | None, str]] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _YAML_HOST.match(line):
            host = found[1]
        elif (found := _YAML_TOKEN.match(line)) and (host, found[1]) not in seen:
            seen.add((host, found[1]))
            yield _found(found[1].strip("'\""), path, number, variable="GH_TOKEN", host=host)


def glab_settings(text: str, path: Path) -> Iterator[Found]:
    """The GitLab command line: `token` below a host."""
    host: str | None = None
    for number, line in _lines(text):
        if (found := _YAML_HOST.match(line)) and "." in found[1]:
            host = found[1]
        elif (pair := _PAIR.match(line)) and pair[1] == "token":
            value = pair[2].removeprefix("!!null").strip().strip("'\"")
            if value:
                yield _found(value, path, number, variable="GITLAB_TOKEN", host=host)


def pip_settings(text: str, path: Path) -> Iterator[Found]:
    """pip: a user in the URL of an index, which may stand on a line of its own below `extra-index-url`."""
    for number, line in _lines(text):
        yield from _in_urls(line, path, number)


def git_credentials(text: str, path: Path) -> Iterator[Found]:
    """Git's `store` helper: a URL with user and password on each line."""
    for number, line in _lines(text):
        yield from _in_urls(line, path, number)


def registries(text: str, path: Path) -> Iterator[Found]:
    """Docker and podman: user and password, or a token, for each registry; what a helper keeps is not in the file."""
    for registry, entry in _members(_member(_json(text), "auths")):
        host = registry.partition("://")[2] or registry
        auth, identity = _member(entry, "auth"), _member(entry, "identitytoken")
        if isinstance(auth, str) and (password := _password(auth)):
            yield _found(password, path, _line_of(text, auth), host=host.partition("/")[0])
        if isinstance(identity, str) and identity:
            yield _found(identity, path, _line_of(text, identity), host=host.partition("/")[0])


def composer_auth(text: str, path: Path) -> Iterator[Found]:
    """Composer: tokens by kind and host, some of them within an object."""
    data = _json(text)
    for kind in _COMPOSER_KINDS:
        for host, entry in _members(_member(data, kind)):
            for value in (entry, _member(entry, "token"), _member(entry, "password")):
                if isinstance(value, str) and value:
                    yield _found(value, path, _line_of(text, value), host=host)


def aws_credentials(text: str, path: Path) -> Iterator[Found]:
    """AWS: secret keys and session tokens, below the profiles' names."""
    for number, _, name, value in _ini(text):
        if name in {"aws_secret_access_key", "aws_session_token"}:
            yield _found(value, path, number, variable=name.upper())


def bare(variable: str) -> Reader:
    """A file that holds nothing but the token."""

    def read(text: str, path: Path) -> Iterator[Found]:
        value = text.strip()
        if value and len(value.split()) == 1:
            yield _found(value, path, 1, variable=variable)

    return read


def pairs(names: Mapping[str, str]) -> Reader:
    """A file of sections and pairs (INI, plain TOML and YAML), some of which are tokens."""

    def read(text: str, path: Path) -> Iterator[Found]:
        for number, _, name, value in _ini(text):
            if name in names:
                yield _found(value.strip("\"'"), path, number, variable=names[name])

    return read


def _pip_settings(environ: Mapping[str, str], home: Path, config: Path) -> Iterator[Path]:
    if named := environ.get("PIP_CONFIG_FILE"):
        yield Path(named)
    yield config / "pip/pip.conf"
    yield home / ".pip/pip.conf"


def _in_urls(line: str, path: Path, number: int) -> Iterator[Found]:
    """The passwords in a line's URLs, and users without one that are as long as tokens are."""
    for user, password, host in _URL_USER.findall(line):
        value = unquote(password or (user if len(user) >= _TOKEN_LENGTH else ""))
        if value and not value.startswith("${"):
            yield _found(value, path, number, host=host)


def _password(auth: str) -> str:
    """What follows the first colon of Basic authentication's pair; empty if it is none."""
    try:
        return base64.b64decode(auth, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _json(text: str) -> object:
    try:
        return json_document(text.encode())
    except ValueError:
        return None


def _members(data: object) -> Iterator[tuple[str, object]]:
    if isinstance(data, dict):
        yield from ((str(name), value) for name, value in data.items())


def _member(data: object, name: str) -> object:
    return data.get(name) if isinstance(data, dict) else None


def _line_of(text: str, value: str) -> int:
    """The line that a value stands in, if it stands there as it is."""
    return text[: max(text.find(value), 0)].count("\n") + 1


def _ini(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line, section, name and value of each pair; a section's own line has neither name nor value."""
    section = ""
    for number, line in _lines(text):
        if head := _SECTION.match(line):
            section = head[1]
            yield number, section, "", ""
        elif pair := _PAIR.match(line):
            yield number, section, pair[1], pair[2].strip()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and stripped[0] not in "#;":
            yield number, stripped


def _found(value: str, path: Path, line: int, *, variable: str | None = None, host: str | None = None) -> Found:
    place = Place(path=path, line=line)
    return Found(value=Secret(value), place=place, variable=variable, host=host, is_key=True)
