"""The catalogue: bundled provider definitions, and the user's own beside or instead of them.

Rule: a broken file breaks itself only; and a custom provider takes no host from a bundled one. Whoever wants that
overrides the bundled definition under its own name, in a file that belongs to the vault's owner alone.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from authsome.errors import ProviderInvalid, ProviderNotFound, reason_of
from authsome.home import authorship_problem
from authsome.message import clean_line, json_object
from authsome.models import provider as definition
from authsome.models import summary, upstream
from authsome.models.provider import Claim, Provider
from authsome.models.route import HostPattern, canonical_host
from authsome.models.summary import Summary

Source = Literal["bundled", "custom", "override"]

FRESHNESS: Final = 0.05  # seconds for which routing may overlook an edited file
KEPT_ADDRESSES: Final = 256  # a host has 253 characters at most
FILE_LIMIT: Final = 256 * 1024  # bytes; the largest bundled definition has under 3 KiB

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One definition file, and what became of it."""

    name: str
    source: Source
    path: Path
    provider: Provider | None
    problem: ProviderInvalid | None
    """Why there is no provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One definition in a list."""

    name: str
    source: Source
    summary: Summary
    problem: ProviderInvalid | None
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read from a custom file, for as long as the file is the same."""

    stamp: _Stamp
    provider: Provider | None
    problem: ProviderInvalid | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """All that is known at one time; replaced whole, so that readers need no lock."""

    edition: int
    """Another one for other files."""
    reads: Mapping[str, _Read] = field(default_factory=dict)
    custom: Mapping[str, Entry] = field(default_factory=dict)
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class _Index:
    """Which providers name which hosts."""

    by_host: Mapping[str, tuple[tuple[str, HostPattern], ...]]
    """Provider and place, by host, and for a suffix by what follows its `*.`."""
    open: tuple[str, ...]
    """Providers that may name any host, depending on the connection."""
    named: dict[tuple[str, int], tuple[Provider, ...]] = field(default_factory=dict)
    """What follows from these for an address, once it was asked for."""


class _Entries(Mapping[str, Entry]):
    """Every definition by name: the user's own, and the bundled ones that none of these replaces."""

    def __init__(self, custom: Mapping[str, Entry], bundled: Mapping[str, Entry]) -> None:
        self._custom = custom
        self._bundled = bundled
        self._names = frozenset((*custom, *bundled))

    def __getitem__(self, name: str) -> Entry:
        return self._custom[name] if name in self._custom else self._bundled[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Bundled(Mapping[str, Entry]):
    """The bundled definitions by name, each read when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._paths = {path.stem: path for path in sorted(directory.glob("*.json"))}
        self._entries: dict[str, Entry] = {}
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._listed: dict[str, Listed] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            path = self._paths[name]
            found: Provider | None = None
            problem: ProviderInvalid | None = None
            try:
                found = _parse(path.read_bytes(), path.name, _read_bundled_definition)
            except ProviderInvalid as error:
                problem = error
            self._entries[name] = Entry(name=name, source="bundled", path=path, provider=found, problem=problem)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def claims(self, name: str) -> tuple[Claim, ...]:
        """What a definition claims, without reading the rest of it: a tenth of the work, times all of them."""
        if name not in self._claims:
            self._claims[name] = _claims(self._paths[name].read_bytes())
        return self._claims[name]

    def listed(self, name: str) -> Listed:
        """A definition as a list shows it, without reading the rest of it."""
        if name not in self._listed:
            try:
                found = summary.of_document(_document(self._paths[name].read_bytes(), name))
            except ProviderInvalid:
                found = None
            self._listed[name] = (
                listed(self[name])
                if found is None
                else Listed(name=name, source="bundled", summary=found, problem=None)
            )
        return self._listed[name]


class Catalog:
    """Every provider there is. Nothing is read before it is asked for; custom files are read again when they change."""

    def __init__(self, *, bundled: Path, custom: Path) -> None:
        self._bundled_directory = bundled
        self._custom_directory = custom
        self._bundled: _Bundled | None = None
        self._snapshot: _Snapshot | None = None
        self._indexed: tuple[_Snapshot, _Index] | None = None
        """Made when a request first asks for it: it needs a look into every definition."""
        self._looked_at = 0.0

    def names(self) -> tuple[str, ...]:
        """The names of all providers, broken ones included, in order."""
        return tuple(sorted(self._current().entries))

    def all(self) -> tuple[Entry, ...]:
        """Every definition, broken ones included, by name."""
        entries = self._current().entries
        return tuple(entries[name] for name in sorted(entries))

    def list_all(self) -> tuple[Listed, ...]:
        """Every definition as a list shows it, broken ones included, by name."""
        snapshot = self._current()
        return tuple(self._listed(snapshot, name) for name in sorted(snapshot.entries))

    def edition(self) -> int:
        """A number that is another one when a definition of the user's own has come, gone or changed."""
        return self._current().edition

    def own(self) -> tuple[Entry, ...]:
        """The definitions that are not bundled, broken ones included, by name."""
        custom = self._current().custom
        return tuple(custom[name] for name in sorted(custom))

    def titles(self, names: Collection[str]) -> dict[str, str]:
        """What people call these providers: their display names, or what they are called here."""
        snapshot = self._current()
        return {
            name: self._listed(snapshot, name).summary.title if name in snapshot.entries else name for name in names
        }

    def entry(self, name: str) -> Entry:
        """One definition, broken or not.

        Raises:
            ProviderNotFound: there is none of that name.
        """
        entries = self._current().entries
        if name not in entries:
            raise ProviderNotFound(f"no provider named {name[:64]}", hint=_suggestion(name, entries))
        return entries[name]

    def get(self, name: str) -> Provider:
        """One provider.

        Raises:
            ProviderNotFound: there is none of that name.
            ProviderInvalid: its definition is broken.
        """
        entry = self.entry(name)
        if entry.provider is None:
            assert entry.problem is not None
            raise ProviderInvalid(entry.problem.message, hint=entry.problem.hint)
        return entry.provider

    def find(self, name: str) -> Provider | None:
        """One provider, or None when there is none or it is broken."""
        entry = self._current().entries.get(name)
        return entry.provider if entry else None

    def source(self, name: str) -> Source:
        """Where a definition comes from.

        Raises:
            ProviderNotFound: there is none of that name.
        """
        return self.entry(name).source

    def examine(self, data: bytes, *, source: str) -> Provider:
        """Read a definition as if it lay among the custom ones, under its own name.

        Args:
            data: what the file would hold.
            source: the file's name, for errors.

        Raises:
            ProviderInvalid: it would be broken there; names the field and, where there is one, the fix.
        """
        if len(data) > FILE_LIMIT:
            raise ProviderInvalid(f"{source}: is larger than {FILE_LIMIT // 1024} KiB")
        found = _read_definition(data, source)
        _check_claims(found, source, self._bundled_entries())
        return found

    def bundled(self, name: str) -> Entry | None:
        """The bundled definition of that name, whether or not an override takes its place."""
        return self._bundled_entries().get(name)

    def custom_path(self, name: str) -> Path:
        """Where a custom definition or an override of that name lies, or would."""
        return self._custom_directory / f"{name}.json"

    def naming(self, host: str, port: int) -> tuple[Provider, ...]:
        """The providers that name this address, and those that may, depending on a connection's variables."""
        snapshot, indexed = self._recent(), self._indexed
        if indexed is None or indexed[0] is not snapshot:
            self._indexed = indexed = snapshot, _index(snapshot.custom, self._bundled_entries())
        index = indexed[1]
        found = index.named.get((host, port))
        if found is None:
            if len(index.named) >= KEPT_ADDRESSES:
                index.named.clear()
            found = index.named[host, port] = _naming(snapshot, index, host, port)
        return found

    def _listed(self, snapshot: _Snapshot, name: str) -> Listed:
        entry = snapshot.custom.get(name)
        return self._bundled_entries().listed(name) if entry is None else listed(entry)

    def _recent(self) -> _Snapshot:
        """What was known a moment ago: requests come by the thousand a second, edits of a file do not."""
        snapshot = self._snapshot
        if snapshot is not None and time.monotonic() - self._looked_at < FRESHNESS:
            return snapshot
        return self._current()

    def _current(self) -> _Snapshot:
        self._looked_at = time.monotonic()
        stamps = _stamps(self._custom_directory)
        snapshot = self._snapshot
        if snapshot is None or {file: read.stamp for file, read in snapshot.reads.items()} != stamps:
            self._snapshot = snapshot = self._load(stamps, snapshot.reads if snapshot else {})
        return snapshot

    def _load(self, stamps: Mapping[str, _Stamp], known: Mapping[str, _Read]) -> _Snapshot:
        bundled = self._bundled_entries()
        reads = {
            file: known[file]
            if file in known and known[file].stamp == stamp
            else self._read_custom(file, stamp, bundled)
            for file, stamp in stamps.items()
        }
        custom: dict[str, Entry] = {}
        for file, read in reads.items():
            name = clean_line(file.removesuffix(".json"), 64)
            custom[name] = Entry(
                name=name,
                source="override" if name in bundled else "custom",
                path=self._custom_directory / file,
                provider=read.provider,
                problem=read.problem,
            )
        edition = hash(frozenset(stamps.items()))
        return _Snapshot(edition=edition, reads=reads, custom=custom, entries=_Entries(custom, bundled))

    def _bundled_entries(self) -> _Bundled:
        if self._bundled is None:
            self._bundled = _Bundled(self._bundled_directory)
        return self._bundled

    def _read_custom(self, file: str, stamp: _Stamp, bundled: _Bundled) -> _Read:
        try:
            found = _parse(_read_file(self._custom_directory / file), file, _read_definition)
            _check_claims(found, file, bundled)
        except ProviderInvalid as problem:
            return _Read(stamp, None, problem)
        return _Read(stamp, found, None)


def bundled_directory() -> Path:
    """Where the bundled definitions lie: inside the package when installed or unpacked, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "providers"
    return inside if inside.is_dir() else package.parent / "providers"


def listed(entry: Entry) -> Listed:
    """A definition as a list shows it."""
    found = (
        Summary(title=entry.name, description=None, flows=()) if entry.provider is None else summary.of(entry.provider)
    )
    return Listed(name=entry.name, source=entry.source, summary=found, problem=entry.problem)


def _parse(data: bytes, file: str, read: Callable[[bytes, str], Provider]) -> Provider:
    """Read a definition; `file` is its file's name, which says its own."""
    shown, stem = clean_line(file, 80), file.removesuffix(".json")
    if not definition.NAME.match(stem):
        raise ProviderInvalid(f"{shown}: the file's name is no provider name", hint="small letters, digits, - and _")
    found = read(data, shown)
    if found.name != stem:
        raise ProviderInvalid(f"{shown}: name: is {found.name}", hint=f"rename the file to {found.name}.json")
    return found


def _read_bundled_definition(data: bytes, source: str) -> Provider:
    return definition.parse_definition(_document(data, source), source=source)


def _read_definition(data: bytes, source: str) -> Provider:
    """A custom definition: it may have comments, and may have been written for upstream authsome."""
    try:
        plain = upstream.without_comments(data.decode()).encode()
    except ValueError as error:
        raise ProviderInvalid(f"{source}: {_json_problem(error)}") from error
    document = upstream.translated(_document(plain, source), source=source)
    return definition.parse_definition(document, source=source)


def _document(data: bytes, source: str) -> dict[str, object]:
    try:
        return json_object(data)
    except ValueError as error:
        raise ProviderInvalid(f"{source}: {_json_problem(error)}") from error


def _json_problem(error: ValueError) -> str:
    line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
    if line is not None:
        return f"is not JSON at line {line}, column {column}: {getattr(error, 'msg', '')}"
    return "is not UTF-8" if isinstance(error, UnicodeError) else f"is not JSON that can be used: {error}"


def _read_file(path: Path) -> bytes:
    """A definition that nobody but this user can have written.

    Raises:
        ProviderInvalid: anybody else could have, or it cannot be read, or is too large.
    """
    shown, place = clean_line(path.name, 80), clean_line(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is a symbolic link" if path.is_symlink() else f"cannot be read: {reason_of(error)}"
        raise ProviderInvalid(f"{shown}: {what}", hint=f"put a file of your own there: {place}") from error
    try:
        if problem := authorship_problem(os.fstat(descriptor)):  # others may read it: it holds no secret
            raise ProviderInvalid(f"{shown}: {problem}", hint=f"look through it, then copy it anew: {place}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(FILE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(data) > FILE_LIMIT:
        raise ProviderInvalid(f"{shown}: is larger than {FILE_LIMIT // 1024} KiB")
    return data


def _check_claims(custom: Provider, source: str, bundled: _Bundled) -> None:
    """Refuse a custom provider that names a host of a bundled one: it would get that one's requests.

    What its own bundled definition names, an override may name as well: some services share a host.
    """
    own = [claim.pattern for claim in bundled.claims(custom.name)] if custom.name in bundled else []
    claimed = [mine for mine in custom.claims if not any(_covers(each, mine.pattern) for each in own)]
    for name in bundled:
        if name == custom.name:
            continue
        for theirs in bundled.claims(name):
            for mine in claimed:
                if _overlap(mine.pattern, theirs.pattern):
                    raise ProviderInvalid(
                        f"{source}: api_url: {mine.pattern.host} belongs to the bundled provider {name}",
                        hint=f"to change that provider, name the definition {name}",
                        field="api_url",
                    )


def _covers(one: HostPattern, other: HostPattern) -> bool:
    """Whether every host that the other names is named by the one."""
    if one.is_suffix:
        return other.host.endswith("." + one.host) or (other.is_suffix and other.host == one.host)
    return not other.is_suffix and one.host == other.host


def _overlap(one: HostPattern, other: HostPattern) -> bool:
    """Whether some host is named by both. Port and path are no excuse: they are the same people's."""
    if one.host == other.host:
        return True
    below_other = other.is_suffix and one.host.endswith("." + other.host)
    below_one = one.is_suffix and other.host.endswith("." + one.host)
    return below_other or below_one


def _stamps(directory: Path) -> dict[str, _Stamp]:
    """What tells a changed file from an unchanged one, for each custom file, by its name."""
    found: dict[str, _Stamp] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    except OSError:  # no directory, or one that vanished just now: no custom providers
        return found
    return found


def _claims(data: bytes) -> tuple[Claim, ...]:
    """What a bundled definition claims; nothing if it is broken."""
    try:
        document = json_object(data)
        written = document["api_url"]
        variables = document.get("variables", {})
        assert isinstance(variables, dict)
        samples = {name: each.get("default") or each.get("example") or "sample" for name, each in variables.items()}
        samples["base_url"] = document.get("base_url") or samples.get("base_url", "sample")
        entries = [written] if isinstance(written, str) else written
        assert isinstance(entries, list)
        return tuple(definition.claim(entry, samples) for entry in entries)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError):
        return ()


def _naming(snapshot: _Snapshot, index: _Index, host: str, port: int) -> tuple[Provider, ...]:
    name = canonical_host(host)
    if name is None:
        return ()
    labels = name.split(".")
    fitting = [
        provider
        for start in range(len(labels))
        for provider, pattern in index.by_host.get(".".join(labels[start:]), ())
        if pattern.matches_address(name, port)
    ]
    entries = (snapshot.entries[provider] for provider in dict.fromkeys((*fitting, *index.open)))
    return tuple(entry.provider for entry in entries if entry.provider is not None)


def _index(custom: Mapping[str, Entry], bundled: _Bundled) -> _Index:
    by_host: dict[str, tuple[tuple[str, HostPattern], ...]] = {}
    open_: list[str] = []
    for name in {**custom, **dict.fromkeys(bundled)}:
        entry = custom.get(name)
        provider = entry.provider if entry else None
        claims = bundled.claims(name) if entry is None else provider.claims if provider else ()
        for claim in claims:
            if claim.is_open:
                open_.append(name)
            else:
                host = claim.pattern.host
                by_host[host] = (*by_host.get(host, ()), (name, claim.pattern))
    return _Index(by_host, tuple(dict.fromkeys(open_)))


def _suggestion(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415  # 4 ms that only a mistake should cost

    near = get_close_matches(name[:64].lower(), list(known), n=1)
    return f"did you mean {near[0]}?" if near else None
