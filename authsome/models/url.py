"""URLs and hosts as definitions write them, read in one way only.

Rule: https to a host name; plain http, numeric addresses and names of one label only where the definition says that
its hosts may lie on a private network. No user, no query, no fragment, nothing that two readers could take apart
differently.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from authsome.models.route import HTTPS_PORT, HostPattern, canonical_host

HTTP_PORT: Final = 80
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\*\.[A-Za-z0-9.-]+|[A-Za-z0-9.-]+|\[::1\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()+,;=:@/-]|%[0-9A-Fa-f]{2})*)?\Z"
)
_QUERY: Final = re.compile(  # application/x-www-form-urlencoded (RFC 6749 §3.1, App. B), every pair with its name
    r"[A-Za-z0-9._~-]{1,64}=(?:[A-Za-z0-9._~!$'()*+,;:@/-]|%[0-9A-Fa-f]{2})*"
    r"(?:&[A-Za-z0-9._~-]{1,64}=(?:[A-Za-z0-9._~!$'()*+,;:@/-]|%[0-9A-Fa-f]{2})*)*\Z"
)
_SLASHES_BEFORE_PATH: Final = 3  # https://host/
_WORD: Final = re.compile(r"[a-z0-9-]{3,}")
_LINK: Final = re.compile(r"https://[A-Za-z0-9\[][!-~]*|http://(?:127\.0\.0\.1|localhost|\[::1\])(?:[:/?][!-~]*)?")
_REGEX_HOST: Final = re.compile(r"(?:[a-z0-9-]+\\?\.)+[a-z]{2,}")
_COUNTRY_SECOND_LEVEL: Final = frozenset(
    {"ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "gv", "id", "mil", "ne", "net", "or", "org", "sch"}
)
# Names below these belong to different people. Not the whole Public Suffix List, which changes every week: what a
# definition's author is likely to meet.
_SHARED_SUFFIXES: Final = frozenset(
    {
        "amazonaws.com",
        "a.run.app",
        "appspot.com",
        "azurewebsites.net",
        "blogspot.com",
        "cloudapp.net",
        "cloudflare.net",
        "cloudfront.net",
        "deno.dev",
        "firebaseapp.com",
        "fly.dev",
        "github.dev",
        "github.io",
        "githubusercontent.com",
        "gitlab.io",
        "herokuapp.com",
        "hf.space",
        "linodeobjects.com",
        "lovable.app",
        "myshopify.com",
        "netlify.app",
        "ngrok-free.app",
        "ngrok.app",
        "ngrok.io",
        "onrender.com",
        "pages.dev",
        "r2.dev",
        "railway.app",
        "replit.app",
        "repl.co",
        "run.app",
        "supabase.co",
        "trycloudflare.com",
        "up.railway.app",
        "vercel.app",
        "web.app",
        "windows.net",
        "workers.dev",
    }
)
_SHARED_DEEPLY: Final = (".amazonaws.com", ".windows.net", ".cloudapp.net")  # customers at every depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A URL taken apart."""

    scheme: str
    host: str
    """Canonical, or `[::1]`."""
    port: int
    path: str
    """Empty, or begins with `/`."""

    @property
    def text(self) -> str:
        """The URL in one spelling: host in lower case, no default port."""
        default = HTTPS_PORT if self.scheme == "https" else HTTP_PORT
        port = "" if self.port == default else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


def parse(text: str, *, allow_private: bool) -> Url:
    """Read an absolute URL.

    Args:
        text: the URL.
        allow_private: whether it may be http to this machine, a numeric address, or a name of one label.

    Raises:
        ValueError: it may not be used, in words that follow the field's name.
    """
    found = _URL.match(text)
    host = found["host"] if found else ""
    if found is None or host.startswith("*"):
        raise ValueError("must be an https URL without user, query and fragment")
    name = host if host == "[::1]" else canonical_host(host)
    if name is None:
        raise ValueError(f"{host} is not a host name")
    if is_local(name) and not allow_private:
        raise ValueError(f"{name} is no public name, and only `allow_private_addresses` lets a definition use it")
    if found["scheme"] == "http" and not is_loopback(name):
        raise ValueError("must be an https URL: http is taken for this machine only")
    port = int(found["port"] or (HTTPS_PORT if found["scheme"] == "https" else HTTP_PORT))
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return Url(scheme=found["scheme"], host=name, port=port, path=found["path"] or "")


def parse_with_query(text: str, *, allow_private: bool) -> Url:
    """Read an absolute URL that may have a query, which is checked and not part of what is returned.

    Raises:
        ValueError: it may not be used, in words that follow the field's name.
    """
    base, mark, query = text.partition("?")
    if mark and not _QUERY.match(query):
        raise ValueError("has a query that is not of the form name=value&name=value")
    if mark and base.count("/") < _SLASHES_BEFORE_PATH:
        raise ValueError("has a query without a path before it")
    names = [pair.partition("=")[0] for pair in query.split("&")]
    if len(set(names)) != len(names):
        raise ValueError("has a query that names something twice")
    return parse(base, allow_private=allow_private)


def host_pattern(text: str, *, allow_private: bool) -> HostPattern:
    """Read where a credential may go: `api.example.com`, `*.example.com`, `https://api.example.com:8443/v1/`.

    Raises:
        ValueError: it names no such place, or too many, in words that follow the field's name.
    """
    if text.lower().startswith("regex:"):
        raise ValueError("a host is named exactly or by a suffix, never by a regular expression")
    written = text if "://" in text else f"https://{text}"
    if "://" not in text and set(text) & set("/:"):
        raise ValueError(f"a port or a path needs the whole URL: https://{text}")
    if "*" in written.partition("://")[2].partition("/")[0].removeprefix("*."):
        raise ValueError("a * stands for the first labels of a host alone, as in *.example.com")
    found = _URL.match(written)
    is_suffix = found is not None and found["host"].startswith("*.")
    if found is not None and is_suffix and _is_shared(found["host"][2:].lower()):
        name = found["host"][2:]
        raise ValueError(f"*.{name} would give the credential to whoever has a name below {name}")
    return _pattern(written, allow_private=allow_private)


def suffix_pattern(written: str) -> HostPattern:
    """Every name below a suffix, `https://*.example.com/v1/`, even of a domain that different people share.

    For what is claimed; nothing goes to all of it.

    Raises:
        ValueError: it is no such URL.
    """
    return _pattern(written, allow_private=True)


def _pattern(written: str, *, allow_private: bool) -> HostPattern:
    is_suffix = written.startswith("https://*.")
    url = parse(written.replace("*.", "", 1) if is_suffix else written, allow_private=allow_private)
    if url.scheme != "https":
        raise ValueError("must be https: a credential is never sent in the clear")
    if canonical_host(url.host) is None:
        raise ValueError(f"{url.host} is an address; say localhost")
    prefix = url.path.rstrip("/") + "/"
    pattern = HostPattern(host=url.host, is_suffix=is_suffix, port=url.port, path_prefix=prefix)
    if not pattern.matches_path(prefix):
        raise ValueError("its path could be read in two ways")
    return pattern


def safe_form(regex: str, known: Iterable[str] = ()) -> str | None:
    """The pattern that the author of a `regex:` host most likely meant.

    Args:
        regex: the entry as it was written.
        known: hosts that the definition names elsewhere, to be gone by when the entry holds no whole name.
    """
    text = regex.lower().removeprefix("regex:")
    hosts = _REGEX_HOST.findall(text)
    if not hosts:
        return _suffix_with(_WORD.findall(text), known)
    host: str = max(hosts, key=len).replace("\\", "")
    exact = text.strip("^$").replace("\\", "") == host
    return host if exact or _is_shared(host) else f"*.{host}"


def _suffix_with(words: Iterable[str], known: Iterable[str]) -> str | None:
    """The names below a label that the definition names elsewhere, too: `*.acme.com` for `acme` and `api.acme.com`."""
    for host in known:
        labels = host.split(".")
        for place, label in enumerate(labels[:-1]):
            suffix = ".".join(labels[place:])
            if label in words and not _is_shared(suffix):
                return f"*.{suffix}"
    return None


def is_link(text: str) -> bool:
    """Whether somebody else's text is an address that a person may be sent to: https, or http on this machine."""
    return _LINK.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether a canonical host is this machine by definition (RFC 6761 §6.3, RFC 1122 §3.2.1.3)."""
    return host in {"localhost", "[::1]"} or host.endswith(".localhost") or (_is_numeric(host) and host[:4] == "127.")


def is_local(host: str) -> bool:
    """Whether a canonical host is no name of the public DNS: this machine, a numeric address, or one label."""
    return is_loopback(host) or _is_numeric(host) or "." not in host


def _is_numeric(host: str) -> bool:
    return host.rpartition(".")[2].isdigit()


def _is_shared(host: str) -> bool:
    labels = host.split(".")
    if len(labels) < 2 or host in _SHARED_SUFFIXES or host.endswith(_SHARED_DEEPLY):
        return True
    return len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _COUNTRY_SECOND_LEVEL
