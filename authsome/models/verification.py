"""How a new credential is tried, and how its account is found: the section `verify` of a definition.

Rule: every kind of login either names its account or says why it cannot, and is tried or says why it is not; a
definition that leaves both out is one that nobody has looked into.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from authsome.errors import ProviderInvalid
from authsome.models import url
from authsome.models.api_key import ApiKey
from authsome.models.connection import Kind
from authsome.models.section import HEADER_NAME, Section
from authsome.models.template import Template
from authsome.models.variable import Variable, fill

Method = Literal["GET", "POST"]

MOST: Final = 2
"""Requests for one kind of login: one that proves it, and one that names its account where the first does not."""
MOST_URLS: Final = 4
REFUSALS: Final = (401, 403)
"""The answers that refuse a credential, unless a definition knows better."""

_METHODS: Final[tuple[Method, ...]] = ("GET", "POST")
_SAYING_NOTHING: Final = frozenset({408, 429})  # of the client's errors those that are about the moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """A request that proves a credential and names its account; the injections are put on it like on any other."""

    auth: Kind | None = None
    """The kind of login that it proves; None for each."""
    urls: tuple[Template, ...]
    """Most often one; several where nobody knows at which of them the account is, as for the regions of a service.

    They may hold variables, in their paths fields of a key that are not secret, and a query that is always the same.
    """
    method: Method = "GET"
    headers: Mapping[str, str]
    body: str | None = None
    account: str | None = None
    """Where in the answer the account is named: member names joined by dots."""
    account_header: str | None = None
    """The header of the answer that names it."""
    account_given: Template | None = None
    """What was given at the login and names it: variables, and fields that are not secret."""
    ok: str | None = None
    """A member of the answer that must be true, where errors come with status 200."""
    proof: str | None = None
    """A member that only the answer to a good credential has, where errors come with status 200 (GraphQL)."""
    refused_by: tuple[int, ...] = REFUSALS
    """The answers that refuse the credential: a 401 or 403 that is none says that it may only not do this.

    Without any, a 401 and a 403 say nothing: this provider gives them to good credentials as well.
    """
    known_by: str | None = None
    """A text by which a refusing answer says that it may only not do this."""
    unnamed: str | None = None
    """Why no answer names the account."""

    @property
    def names(self) -> frozenset[str]:
        """What the request needs of variables and fields."""
        given = self.account_given.names if self.account_given else frozenset[str]()
        return given.union(*(url.names for url in self.urls))

    @property
    def names_account(self) -> bool:
        """Whether a good answer says whose the credential is."""
        return bool(self.account or self.account_header or self.account_given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Untried:
    """Why a kind of login is stored as it is: there is no request that proves it and does nothing else."""

    auth: Kind | None = None
    reason: str


def from_json(section: Section, variables: Iterable[Variable], api_key: ApiKey | None) -> Verify | Untried:
    """Read one entry of `verify`."""
    shown = {field.name for field in api_key.fields if not field.secret} if api_key else set[str]()
    known = {each.name for each in variables} | shown
    if section.has("untried"):
        auth = section.choice("auth", tuple(Kind), Kind.OAUTH2) if section.has("auth") else None
        untried = Untried(auth=auth, reason=section.text("untried"))
        section.close()
        return untried
    urls, given = _urls(section, known), _given_account(section, known)
    used = frozenset[str]().union(*(each.names for each in (*urls, *((given,) if given else ()))))
    kinds = (Kind.API_KEY,) if used & shown else tuple(Kind)
    found = Verify(
        auth=section.choice("auth", kinds, kinds[0]) if section.has("auth") or len(kinds) == 1 else None,
        urls=urls,
        method=section.choice("method", _METHODS, "GET"),
        headers=section.headers("headers"),
        body=section.optional_text("body"),
        account=None if given else section.json_path("account"),
        account_header=_header(section, "account_header"),
        account_given=given,
        ok=section.json_path("ok"),
        proof=section.json_path("proof"),
        refused_by=_refusals(section),
        known_by=section.optional_text("known_by"),
        unnamed=section.optional_text("unnamed"),
    )
    if found.unnamed is not None and found.names_account:
        raise section.error("unnamed", "cannot stand beside what names the account")
    section.close()
    return found


def to_json(verify: Verify | Untried, variables: Iterable[Variable]) -> dict[str, object]:
    """What `from_json` reads, without what is usual."""
    if isinstance(verify, Untried):
        return {"auth": verify.auth.value, "untried": verify.reason} if verify.auth else {"untried": verify.reason}
    is_implied = not verify.names <= {each.name for each in variables}
    urls = [each.text for each in verify.urls]
    given = verify.account_given
    written = {
        "auth": verify.auth.value if verify.auth and not is_implied else None,
        "method": None if verify.method == "GET" else verify.method,
        "url": urls[0] if len(urls) == 1 else urls,
        "headers": dict(verify.headers) or None,
        "body": verify.body,
        "account": given.text if given else verify.account,
        "account_header": verify.account_header,
        "ok": verify.ok,
        "proof": verify.proof,
        "refused_by": None if verify.refused_by == REFUSALS else list(verify.refused_by),
        "known_by": verify.known_by,
        "unnamed": verify.unnamed,
    }
    return {key: value for key, value in written.items() if value or value == []}


def target(written: Template, values: Mapping[str, str], *, allow_private: bool) -> tuple[str, url.Url]:
    """The URL to ask, with these values in it, and the place that it names.

    Raises:
        ValueError: a value cannot stand there, or it is no URL that may be used.
    """
    base, mark, query = written.text.partition("?")
    found = fill(base, values) + mark + query
    return found, url.parse_with_query(found, allow_private=allow_private)


def check(entries: Iterable[tuple[str, Verify | Untried]], section: Section, kinds: Iterable[Kind]) -> None:
    """Refuse what contradicts itself: a login that is untried and tried, unnamed and named, or asked for too often."""
    seen: dict[Kind, list[Verify | Untried]] = {kind: [] for kind in kinds}
    for where, each in entries:
        if each.auth is not None and each.auth not in seen:
            raise section.error(f"{where}.auth", f"is {each.auth.value}, which nobody can log in with")
        for kind in (each.auth,) if each.auth is not None else tuple(seen):
            if (problem := _contradiction(seen[kind], each)) is not None:
                raise _contradicting(section, where, each, problem)
            seen[kind].append(each)


def _contradiction(earlier: list[Verify | Untried], added: Verify | Untried) -> str | None:
    if earlier and (isinstance(added, Untried) or isinstance(earlier[0], Untried)):
        return "a login is either tried or untried"
    if len(earlier) >= MOST:
        return f"a login is tried by {MOST} requests at most"
    reasons = [each for each in (*earlier, added) if isinstance(each, Verify) and each.unnamed]
    if reasons and any(isinstance(each, Verify) and each.names_account for each in (*earlier, added)):
        return "a login is either named or unnamed"
    return None


def _contradicting(section: Section, where: str, entry: Verify | Untried, problem: str) -> ProviderInvalid:
    return section.error(f"{where}.{'untried' if isinstance(entry, Untried) else 'url'}", problem)


def _urls(section: Section, known: Iterable[str]) -> tuple[Template, ...]:
    written = section.texts("url")
    if not 1 <= len(written) <= MOST_URLS:
        raise section.error("url", f"must name 1 to {MOST_URLS} URLs" if written else "is missing")
    for each in written:
        if "{" in each.partition("?")[2]:
            raise section.error("url", "its query must be the same for everybody", hint="`inject` puts a key there")
    return tuple(_template(section, "url", each, known) for each in written)


def _template(section: Section, key: str, written: str, known: Iterable[str]) -> Template:
    try:
        found = Template.parse(written)
    except ValueError as error:
        raise section.error(key, str(error)) from error
    if unknown := sorted(found.names - set(known)):
        raise section.error(key, f"{{{unknown[0]}}} is no variable, and no field that is not secret")
    return found


def _given_account(section: Section, known: Iterable[str]) -> Template | None:
    written = section.optional_text("account")
    return _template(section, "account", written, known) if written is not None and "{" in written else None


def _header(section: Section, key: str) -> str | None:
    found = section.optional_text(key)
    if found is not None and not HEADER_NAME.match(found):
        raise section.error(key, f"{found[:64]!r} is not a header name")
    return found


def _refusals(section: Section) -> tuple[int, ...]:
    written = section.raw("refused_by")
    if written is None:
        return REFUSALS
    if not isinstance(written, list):
        raise section.error("refused_by", "must be a list of numbers")
    for each in written:
        if not isinstance(each, int) or isinstance(each, bool) or not 400 <= each < 500 or each in _SAYING_NOTHING:
            raise section.error("refused_by", "must name answers from 400 to 499, and neither 408 nor 429")
    if sorted(set(written)) != written:
        raise section.error("refused_by", "must name the answers in order, each once")
    return tuple(written)
