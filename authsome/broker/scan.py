"""What a scan for keys in files needs to know: how each provider's keys look, and which of them are stored already.

Rule: what was found does not come here. The client sends likenesses under a key that it drew for this one question,
and is told which of its own vault's connections they are of; that it asked is on record. Whoever may ask may have the
values exported, too, so nobody learns by it what was closed to him.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from authsome.broker import reach, record
from authsome.broker.context import Context
from authsome.errors import VaultDamaged
from authsome.models import fingerprint
from authsome.models.audit import Event
from authsome.models.connection import ACCESS_TOKEN
from authsome.models.export import DEFAULT_PLACEHOLDER
from authsome.models.principal import Caller
from authsome.models.provider import Provider
from authsome.models.template import TOKEN
from authsome.vault import audit, connections
from authsome.vault.database import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyForm:
    """How one field of a provider's key looks, and where it commonly lies."""

    provider: Provider
    field: str
    is_secret: bool
    placeholders: Mapping[str, str]
    """By environment variable, what stands in for the value there."""
    pattern: str | None
    is_importable: bool
    """Whether it can be stored as it is; an OAuth token is got by logging in."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The likeness of something that was found."""

    provider: str
    likeness: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is stored of a candidate's provider, by name of connection."""

    same: tuple[str, ...]
    others: tuple[str, ...]


class Scan:
    """The use cases."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def forms(self) -> Iterator[KeyForm]:
        """How the keys of all providers look."""
        for entry in self._context.catalog.all():
            if entry.provider is not None:
                yield from _forms(entry.provider)

    def compare(self, caller: Caller, key: bytes, candidates: Sequence[Candidate]) -> list[Comparison]:
        """Which of the caller's connections hold what was found, with the question on record.

        Args:
            caller: whose vault is looked at.
            key: what the likenesses were made with.
            candidates: what was found.

        Raises:
            NotAllowed: the caller gets no secret in clear.
        """
        caller.require_clear()
        providers = sorted({each.provider for each in candidates})
        with self._context.database.transaction(durable=True) as tx:
            stored = {name: list(self._likenesses(tx, caller, name, key)) for name in providers}
            found = [_compared(each, stored[each.provider]) for each in candidates]
            for name in providers:
                own = [answer for each, answer in zip(candidates, found, strict=True) if each.provider == name]
                same = sum(bool(answer.same) for answer in own)
                detail = f"{len(own)} compared, {same} the same"
                audit.append(tx, record.about_provider(Event.SCAN, caller, name, self._context.clock(), detail))
        return found

    def _likenesses(
        self, reader: Reader, caller: Caller, provider: str, key: bytes
    ) -> Iterator[tuple[str, Mapping[str, str]]]:
        sealer = self._context.sealers.for_vault(caller.vault_id)
        for connection in reach.list_of(reader, caller, provider):
            try:
                held = connections.secrets(reader, sealer, connection)
            except VaultDamaged:  # which `doctor` tells; here it is like nothing
                held = {}
            yield connection.name, {name: fingerprint.of(key, value) for name, value in held.items()}


def _compared(candidate: Candidate, stored: Iterable[tuple[str, Mapping[str, str]]]) -> Comparison:
    same, others = [], []
    for name, likenesses in stored:
        # a token that was pasted as a key, and a key that is a token: both are the one credential of a connection
        if any(fingerprint.is_same(candidate.likeness, each) for each in likenesses.values()):
            same.append(name)
        else:
            others.append(name)
    return Comparison(tuple(same), tuple(others))


def _forms(provider: Provider) -> Iterator[KeyForm]:
    key = provider.api_key
    if key is None:
        placeholders = _placeholders(provider, {ACCESS_TOKEN, TOKEN}, None)
        if placeholders:
            yield KeyForm(
                provider=provider,
                field=ACCESS_TOKEN,
                is_secret=True,
                placeholders=placeholders,
                pattern=None,
                is_importable=False,
            )
        return
    for field in key.fields:
        names = {field.name, TOKEN} if len(key.fields) == 1 else {field.name}
        yield KeyForm(
            provider=provider,
            field=field.name,
            is_secret=field.secret,
            placeholders=_placeholders(provider, names, field.env_var),
            pattern=field.pattern.text if field.pattern else None,
            is_importable=True,
        )


def _placeholders(provider: Provider, names: set[str], usual: str | None) -> dict[str, str]:
    """The variables that hold exactly one of these fields."""
    texts = {f"{{{name}}}" for name in names}
    found = {
        each.name: each.placeholder or DEFAULT_PLACEHOLDER for each in provider.export.env if each.value.text in texts
    }
    if usual is not None:
        found.setdefault(usual, next(iter(found.values()), DEFAULT_PLACEHOLDER))
    return found
