"""What happens to the heads of requests and responses on their way through.

Plain values, no I/O and no engine.

Rule: what the child sent under a name that the credential uses, or that any sibling of it uses, in whatever spelling,
is gone before ours is set; so a request carries one credential or none. A placeholder of the same connection that the
child put elsewhere is replaced there (`placeholders`), before, so that nothing is looked for in what was set.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, cast
from urllib.parse import quote, unquote_plus

from authsome.errors import DaemonUnavailable, RequestInvalid
from authsome.models.replacement import EVERYWHERE, KINDS, Replacement
from authsome.proxy import digests, placeholders
from authsome.proxy.placeholders import Placeholders
from authsome.secret import Secret

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names as they came."""

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
    }
)
"""RFC 9110 §7.6.1, and what reaches only the next hop by custom. Transfer-Encoding is the engine's business."""
_FRAMING: Final = frozenset({b"content-length", b"host", b"transfer-encoding", b"content-type", b"content-encoding"})
_NOT_IN_TRAILERS: Final = (
    "Authsome-Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "Trailer",
    "Transfer-Encoding",
)
_KEPT_OPTIONS: Final = frozenset({b"close", b"keep-alive"})
_H2C: Final = b"h2c"
DROPPED_OF_ANSWERS: Final = _HOP_BY_HOP | {b"alt-svc"}
"""Alt-Svc (RFC 7838) would invite the child to HTTP/3, around us."""
_CHOICE: Final = b"authsome-connection"
_CONNECTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_UNFIT: Final = re.compile(rb"[\r\n\0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a request, without the authority, which is checked and not changed."""

    target: bytes
    """Path and query as they are sent (origin form, RFC 9112 §3.2.1)."""
    fields: Fields = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the daemon says goes on one request."""

    provider: str
    connection: str
    credential_id: str
    """Names the credential and its revision, and tells nothing about it."""
    set: tuple[tuple[str, Secret[str]], ...] = ()
    default: tuple[tuple[str, str], ...] = ()
    """Companions that the child may choose itself."""
    remove: tuple[str, ...] = ()
    query: tuple[tuple[str, Secret[str]], ...] = ()
    path: Secret[str] | None = None
    """A path that replaces the request's, without the query."""
    placeholders: Placeholders = ()
    """What goes in the place of which text, where the child has put that itself."""
    replacement: Replacement = EVERYWHERE
    """Where on a request that is done."""
    secrets: tuple[Secret[str], ...] = ()
    """What must not come back in an answer: the secrets that the above is made of."""
    reusable_seconds: float = 0.0
    """How long the daemon would give the same answer to the same question, if nothing changes."""
    is_for_any_path: bool = False
    """Whether it would to one about another path of that host."""


def forwardable(
    fields: Fields, *, keep_trailers_option: bool = False, dropped: frozenset[bytes] = frozenset()
) -> Fields:
    """The fields of a message without those that are meant for one hop only (RFC 9110 §7.6.1), nor those of some names.

    Kept are the wish to close the connection, an upgrade (RFC 9110 §7.8) other than to h2c, and with
    `keep_trailers_option` a `TE` of just `trailers`, which HTTP/2 passes on and gRPC needs (RFC 9113 §8.2.2).
    The names in `dropped` are in lower case.

    Raises:
        RequestInvalid: a field holds CR, LF or NUL (a folded line is that too), or Connection names a field that the
            message cannot be read without.
    """
    text = b"".join(chain.from_iterable(fields))
    if b"\r" in text or b"\n" in text or b"\0" in text:  # ten times as fast as a pattern, and done for every head
        raise RequestInvalid("a header holds a line break or a NUL")
    lowered = [name.lower() for name, _ in fields]
    named = zip(lowered, fields, strict=True)
    options = _options([value for name, (_, value) in named if name == b"connection"])
    if options & _FRAMING:
        raise RequestInvalid("Connection names a header that every hop needs")
    gone = _HOP_BY_HOP | options | dropped
    kept = [pair for name, pair in zip(lowered, fields, strict=True) if name not in gone]
    if keep_trailers_option and any(name.lower() == b"te" and value.strip() == b"trailers" for name, value in fields):
        kept.append((b"te", b"trailers"))
    stays = sorted(options & _KEPT_OPTIONS)
    if b"upgrade" in options:
        upgrades = [value for name, value in fields if name.lower() == b"upgrade"]
        if len(upgrades) == 1 and _H2C not in upgrades[0].lower():
            kept.append((b"Upgrade", upgrades[0]))
            stays.append(b"Upgrade")
    if stays:
        kept.append((b"Connection", b", ".join(stays)))
    return tuple(kept)


def trailers(fields: Fields) -> Fields:
    """What may stand behind a message's body: nothing that says how it is read or where it goes (RFC 9110 §6.5.1).

    Some servers put trailers among the headers.

    Raises:
        RequestInvalid: see `forwardable`.
    """
    return without(forwardable(fields), _NOT_IN_TRAILERS)


def _options(values: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(option.strip().lower() for value in values for option in value.split(b","))


def injected(head: Head, credential: Credential) -> Head:
    """The head with the credential in place of whatever the child sent in its stead.

    Raises:
        DaemonUnavailable: the credential cannot be a header's value; it is not sent in part.
    """
    names = (*(name for name, _ in credential.set), *credential.remove)
    fields = list(_replaced(head.fields, names, credential) if credential.placeholders else without(head.fields, names))
    present = {_spelling(name) for name, _ in fields}
    for name, value in credential.set:
        fields.append((_ascii(name), _header_value(value.reveal())))
    for name, text in credential.default:
        if _spelling(_ascii(name)) not in present:
            fields.append((_ascii(name), _header_value(text)))
    return Head(target=injected_target(head.target, credential), fields=tuple(fields))


def injected_target(target: bytes, credential: Credential) -> bytes:
    """The path and query with the credential in them.

    Raises:
        DaemonUnavailable: it cannot be there.
    """
    may_hold = placeholders.may_be_in(target, credential.placeholders)
    if not may_hold and credential.path is None and not credential.query:
        return target
    path, question, query = target.partition(b"?")
    if credential.path is not None:
        path = _ascii(credential.path.reveal())
    elif may_hold:
        path = placeholders.in_path(path, credential.placeholders, credential.replacement)
    if may_hold:
        query = placeholders.in_query(query, credential.placeholders, credential.replacement)
    if credential.query:
        question, query = b"?", _with_parameters(query, credential.query)
    return path + question + query


def takes_body(fields: Fields, credential: Credential) -> bool:
    """Whether the body of a request with these fields may hold placeholders that are to be replaced."""
    return bool(credential.placeholders) and placeholders.takes_body(fields, credential.replacement)


def injected_body(fields: Fields, body: bytes, credential: Credential) -> tuple[Fields, bytes]:
    """A body, one that `takes_body` says so of, with the credential in it, and the fields with its length and digests.

    Expect goes: who reads a body to its end has asked for it.

    Raises:
        RequestInvalid: it is signed, or has a digest that cannot be made anew, and holds a placeholder.
    """
    found = placeholders.in_body(fields, body, credential.placeholders, credential.replacement)
    length = b"%d" % len(found)
    kept = tuple(
        (name, length if name.lower() == b"content-length" else value)
        for name, value in fields
        if name.lower() != b"expect"
    )
    return kept if found == body else digests.renewed(kept, body, found), found


def _replaced(fields: Fields, names: Iterable[str], credential: Credential) -> Iterator[tuple[bytes, bytes]]:
    """The fields with the values in place of the placeholders, and without these names.

    Where no header is set, what stays is one of these by which the child shows a placeholder: it is its own way to
    show the credential, and the only one.
    """
    gone = {_spelling(_ascii(name)) for name in names}
    for name, value in fields:
        is_gone = _spelling(name) in gone
        if is_gone and credential.set:
            continue
        found = placeholders.in_field(name, value, credential.placeholders, credential.replacement)
        if not (is_gone and found == value):
            yield name, found


def without(fields: Fields, names: Iterable[str]) -> Fields:
    """The fields without any spelling of these names: any case, and `_` for `-`, which CGI-like servers take alike."""
    gone = {_spelling(_ascii(name)) for name in names}
    return tuple((name, value) for name, value in fields if _spelling(name) not in gone)


def chosen_connection(fields: Fields) -> tuple[Fields, str | None]:
    """The fields without `Authsome-Connection`, which is meant for us, and the connection that it asks for.

    Raises:
        RequestInvalid: there is more than one, or it is no connection's name.
    """
    wanted = [value for name, value in fields if _spelling(name) == _CHOICE]
    if not wanted:
        return fields, None
    name = wanted[0].decode("latin-1")
    if len(wanted) > 1 or not _CONNECTION.fullmatch(name):
        raise RequestInvalid("Authsome-Connection names one connection", hint="as in Authsome-Connection: work")
    return without(fields, (_CHOICE.decode(),)), name


def response_fields(fields: Fields) -> Fields:
    """The fields of an intercepted host's response for the child."""
    return forwardable(fields, dropped=DROPPED_OF_ANSWERS)


def _spelling(name: bytes) -> bytes:
    return name.strip().lower().replace(b"_", b"-")


def _with_parameters(query: bytes, added: tuple[tuple[str, Secret[str]], ...]) -> bytes:
    ours = {name for name, _ in added}
    kept = [part for part in query.split(b"&") if part and _parameter(part) not in ours]
    kept += [f"{quote(name, safe='')}={quote(value.reveal(), safe='')}".encode() for name, value in added]
    return b"&".join(kept)


def _parameter(part: bytes) -> str:
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"), encoding="utf-8", errors="replace")


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise DaemonUnavailable("the daemon answered with a name that is not ASCII") from error


def _header_value(text: str) -> bytes:
    try:
        value = text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise DaemonUnavailable("the daemon answered with a value that no header can hold") from error
    if _UNFIT.search(value):
        raise DaemonUnavailable("the daemon answered with a value that no header can hold")
    return value


def credential_from_json(data: Mapping[str, object]) -> Credential:
    """Read the daemon's answer to `/proxy/resolve`.

    Raises:
        DaemonUnavailable: it is not of the agreed form.
    """
    path = data.get("path")
    return Credential(
        provider=_text(data, "provider"),
        connection=_text(data, "connection"),
        credential_id=_text(data, "credential_id"),
        set=tuple((name, Secret(value)) for name, value in _pairs(data.get("set", []))),
        default=_pairs(data.get("default", [])),
        remove=tuple(_texts(data.get("remove", []))),
        query=tuple((name, Secret(value)) for name, value in _pairs(data.get("query", []))),
        path=Secret(path) if isinstance(path, str) else None,
        placeholders=_placeholders(data.get("placeholders", [])),
        replacement=_replacement(data.get("replaced_in")),
        secrets=tuple(Secret(text) for text in _texts(data.get("secrets"))),
        reusable_seconds=_seconds(data.get("reusable_seconds")),
        is_for_any_path=data.get("any_path") is True,
    )


def credential_to_json(credential: Credential) -> dict[str, object]:
    """A credential as the daemon writes it, for another process of the proxy's."""
    return {
        "provider": credential.provider,
        "connection": credential.connection,
        "credential_id": credential.credential_id,
        "set": [(name, value.reveal()) for name, value in credential.set],
        "default": credential.default,
        "remove": credential.remove,
        "query": [(name, value.reveal()) for name, value in credential.query],
        "path": credential.path.reveal() if credential.path is not None else None,
        "placeholders": [(text, value.reveal()) for text, value in credential.placeholders],
        "replaced_in": credential.replacement.named,
        "secrets": [secret.reveal() for secret in credential.secrets],
    }


def _placeholders(value: object) -> Placeholders:
    found = _pairs(value)
    if any(_UNFIT.search(held.encode()) or not text.isascii() or not text for text, held in found):
        raise DaemonUnavailable("the daemon answered with a value that no request can hold")
    return tuple((text, Secret(held)) for text, held in found)


def _replacement(value: object) -> Replacement:
    if value is None:
        return EVERYWHERE
    if not isinstance(value, dict) or not value.keys() <= set(KINDS):
        raise DaemonUnavailable("the daemon's answer is not of the agreed form")
    header, query, form, path = (tuple(_texts(value.get(kind, []))) for kind in KINDS)
    return Replacement(header=header, query=query, form=form, path=path)


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise DaemonUnavailable(f"the daemon's answer has no {name}")
    return value


def _texts(value: object) -> Collection[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DaemonUnavailable("the daemon's answer is not of the agreed form")
    return cast("list[str]", value)


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        raise DaemonUnavailable("the daemon's answer is not of the agreed form")
    found = []
    for pair in value:
        texts = list(_texts(pair))
        if len(texts) != 2:
            raise DaemonUnavailable("the daemon's answer is not of the agreed form")
        found.append((texts[0], texts[1]))
    return tuple(found)
