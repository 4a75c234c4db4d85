"""The environment variables in which SDKs look for a credential: its value for `export`, a placeholder for `run`.

Rule: a placeholder looks like the real thing to a program and like nothing to its provider.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from authsome.models.api_key import ApiKey
from authsome.models.connection import Kind, Secrets
from authsome.models.injection import Names, is_fit, kinds_for, plain_values
from authsome.models.section import ENVIRONMENT_VARIABLE, Section
from authsome.models.template import Template
from authsome.secret import Secret

NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
DEFAULT_PLACEHOLDER: Final = "authsome-placeholder-00000000000000000000"
"""Stands in for a key of which no definition says more."""
SHORTEST_PLACEHOLDER: Final = 8
"""Characters of one that is replaced on requests: a shorter one is something that they hold by chance."""
LEAST_VARIED_PLACEHOLDER: Final = 5
"""Different characters of one that is: zeros alone are a usual value, of a commit or a UUID for example."""

_OBEYED: Final = frozenset(
    {
        "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BROWSER", "CARGO_HOME", "CC", "CDPATH", "CLASSPATH",
        "CURL_HOME", "CXX", "DOCKER_CONFIG", "DOCKER_HOST", "EDITOR", "ENV", "GCONV_PATH", "GOFLAGS", "GOROOT", "HOME",
        "IFS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "KUBECONFIG", "LESS", "LESSOPEN", "LUA_INIT", "MAKEFLAGS",
        "MANPAGER", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "NODE_PATH", "NODE_TLS_REJECT_UNAUTHORIZED", "OPENSSL_CONF",
        "PAGER", "PATH", "PERLLIB", "PHPRC", "PROMPT_COMMAND", "RUSTC_WRAPPER", "SHELL", "SHELLOPTS", "SSH_ASKPASS",
        "SSL_CERT_DIR", "TMPDIR", "VISUAL", "WGETRC", "ZDOTDIR", "_JAVA_OPTIONS",
    }
)  # fmt: skip
_OBEYED_PREFIXES: Final = (
    "AUTHSOME_", "BASH_", "DYLD_", "GIT_", "LD_", "NPM_CONFIG_", "PERL5", "PIP_", "PYTHON", "RUBY", "XDG_",
)  # fmt: skip
_OBEYED_SUFFIXES: Final = ("_CAINFO", "_CA_BUNDLE", "_CERT_FILE", "_PROXY")
"""Variables by which programs choose what they run or read, or whom they reach and trust: a definition that could set
one could start anything, or be in the middle of everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedVariable:
    """One environment variable."""

    name: str
    value: Template
    placeholder: str | None
    """What stands in for the value; None for one that is no secret, and shown as it is."""
    auth: Kind | None = None
    """The kind of login that it is set for; None for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A provider's environment variables."""

    env: tuple[ExportedVariable, ...] = ()

    def values(
        self, kind: Kind, secrets: Secrets, variables: Mapping[str, str] = NO_VARIABLES
    ) -> Mapping[str, Secret[str]]:
        """The variables with their real values; one whose fields the login does not hold is left out.

        Args:
            kind: the login's kind.
            secrets: its fields.
            variables: the values of the definition's variables that it was made with.
        """
        held = {**variables, **plain_values(secrets)}
        return {
            each.name: Secret(each.value.render(held))
            for each in self.env
            if each.auth in {None, kind} and each.value.names <= held.keys()
        }

    def placeholders(self, kind: Kind, variables: Mapping[str, str] = NO_VARIABLES) -> Mapping[str, str]:
        """The variables as a run's child sees them."""
        return {
            each.name: each.value.render(variables) if each.placeholder is None else each.placeholder
            for each in self.env
            if each.auth in {None, kind} and (each.placeholder is not None or each.value.names <= variables.keys())
        }

    def stand_ins(
        self, kind: Kind, secrets: Secrets, variables: Mapping[str, str] = NO_VARIABLES
    ) -> tuple[tuple[str, Secret[str]], ...]:
        """The placeholders and what each stands for; arguments as those of `values`.

        One that would stand for two things stands for none, and so does one that text may hold by chance. A value that
        a request cannot carry is left out.
        """
        values = self.values(kind, secrets, variables)
        found: dict[str, set[str]] = {}
        for each in self.env:
            if each.placeholder is not None and each.name in values:
                found.setdefault(each.placeholder, set()).add(values[each.name].reveal())
        return tuple(
            (text, Secret(value))
            for text, held in found.items()
            if len(held) == 1 and _is_rare(text) and is_fit(value := next(iter(held)))
        )

    def placeholder_names(self, kind: Kind) -> Iterator[str]:
        """The variables whose placeholders stand for something of a login of this kind."""
        return (each.name for each in self.env if each.auth in {None, kind} and each.placeholder is not None)

    @property
    def hidden_names(self) -> frozenset[str]:
        """The fields that placeholders stand for."""
        return frozenset[str]().union(*(each.value.names for each in self.env if each.placeholder is not None))

    @classmethod
    def from_json(
        cls, section: Section, provider: str, names: Names, api_key: ApiKey | None, variables: Mapping[str, Kind | None]
    ) -> "Export":
        """Read the section `export`: in `env` a template, or `value` and `placeholder`, by variable.

        Args:
            section: where it stands.
            provider: the definition's name.
            names: what templates may use of a login.
            api_key: the definition's key, whose form the placeholders have.
            variables: the definition's variables, and the kind of login that has each.
        """
        below = section.section("env")
        reader = _Reader(provider, below, names, api_key, variables)
        found = tuple(reader.variable(name) for name in below.keys())  # noqa: SIM118  # not a mapping
        section.close()
        return cls(env=found)

    def to_json(self, provider: str) -> dict[str, object]:
        """What `from_json` reads."""
        return {"env": {each.name: _variable_to_json(each, provider) for each in self.env}} if self.env else {}


def usual_placeholder(provider: str, value: Template) -> str:
    """What stands in for a value where a definition says nothing: the same each time, and for no other value."""
    told = hashlib.sha256(f"{provider} {value.text}".encode()).hexdigest()
    return DEFAULT_PLACEHOLDER.rstrip("0") + told[: DEFAULT_PLACEHOLDER.count("0")]


def _is_rare(text: str) -> bool:
    return len(text) >= SHORTEST_PLACEHOLDER and len(set(text)) >= LEAST_VARIED_PLACEHOLDER


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the entries of `export.env`."""

    provider: str
    below: Section
    names: Names
    api_key: ApiKey | None
    variables: Mapping[str, Kind | None]

    def variable(self, name: str) -> ExportedVariable:
        below = self.below
        if not ENVIRONMENT_VARIABLE.match(name):
            raise below.error(
                "", f"{name[:64]!r} is not the name of an environment variable", hint="capitals, digits, _"
            )
        if name in _OBEYED or name.startswith(_OBEYED_PREFIXES) or name.endswith(_OBEYED_SUFFIXES):
            raise below.error(name, "is a variable that programs obey, not one in which they look for a credential")
        placeholder: str | None = None
        if isinstance(below.raw(name), str):
            written = below.text(name)
        else:
            each = below.section(name)
            written, placeholder = each.text("value"), each.optional_text("placeholder")
            each.close()
        try:
            value = Template.parse(written)
        except ValueError as error:
            raise below.error(name, str(error)) from error
        if value.names <= self.variables.keys():
            return self._plain(name, value, placeholder)
        return self._secret(
            name, value, usual_placeholder(self.provider, value) if placeholder is None else placeholder
        )

    def _secret(self, name: str, value: Template, placeholder: str) -> ExportedVariable:
        try:
            fitting = kinds_for(value.names, self.names)
        except ValueError as error:
            raise self.below.error(name, str(error)) from error
        _check_placeholder(self.below, name, value, placeholder, self.api_key)
        return ExportedVariable(
            name=name, value=value, placeholder=placeholder, auth=fitting[0] if len(fitting) == 1 else None
        )

    def _plain(self, name: str, value: Template, placeholder: str | None) -> ExportedVariable:
        """A value without a secret: made of variables, or a constant, which says so by being its own placeholder."""
        if not value.names and placeholder != value.text:
            raise self.below.error(name, "holds no {field} of a login", hint="a constant is its own placeholder")
        if value.names and placeholder is not None:
            raise self.below.error(f"{name}.placeholder", "is never used: the value is no secret")
        kinds = {self.variables[each] for each in value.names} - {None}
        if len(kinds) > 1:
            raise self.below.error(name, "uses variables that no login has together")
        return ExportedVariable(name=name, value=value, placeholder=None, auth=next(iter(kinds), None))


def _check_placeholder(below: Section, name: str, value: Template, placeholder: str, api_key: ApiKey | None) -> None:
    where = f"{name}.placeholder"
    if not placeholder.isascii() or set(placeholder) & set(" {}"):
        raise below.error(where, "must be ASCII without spaces and braces")
    field = api_key.field(value.text.strip("{}")) if api_key else None
    if field is not None and not field.fits(placeholder):
        pattern = field.pattern.text if field.pattern else ""
        raise below.error(where, f"does not match {pattern}", hint="programs that check the key's form would refuse it")


def _variable_to_json(each: ExportedVariable, provider: str) -> object:
    if each.placeholder == usual_placeholder(provider, each.value) or (each.placeholder is None and each.value.names):
        return each.value.text
    if each.placeholder is None:
        return {"value": each.value.text, "placeholder": each.value.text}
    return {"value": each.value.text, "placeholder": each.placeholder}
