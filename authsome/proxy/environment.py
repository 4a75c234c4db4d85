"""The environment of a run's child, as a pure function of what it was before.

Rule 1: whatever would lead a program around the proxy, or past our roots, is overridden; whatever carries a secret of
ours is gone. A program that ignores all of it reaches its server directly, with a placeholder that the server refuses.

Rule 2: it is on the short road of `run`, and imports nothing.
"""

TYPE_CHECKING = False  # type checkers take it for typing's, whose import costs 9 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

RUN: "Final" = "AUTHSOME_RUN"
"""Marks a run's child; `export` refuses where it is set."""

REPLACED_ROOTS: "Final" = frozenset(
    {
        "AWS_CA_BUNDLE",  # aws, boto3
        "CARGO_HTTP_CAINFO",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",  # gcloud
        "CODEX_CA_CERTIFICATE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "HTTPLIB2_CA_CERTS",
        "NIX_SSL_CERT_FILE",
        "NPM_CONFIG_CAFILE",
        "PERL_LWP_SSL_CA_FILE",
        "PIP_CERT",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",  # OpenSSL, Go, Ruby, rustls-native-certs, uv, httpx
        "npm_config_cafile",  # npm reads either case; a global npmrc loses only against it
    }
)
"""Variables whose file takes the place of a program's roots."""
ADDED_ROOTS: "Final" = frozenset({"DENO_CERT", "NODE_EXTRA_CA_CERTS"})
"""Variables whose file is added to a program's roots."""

_PROXIES: "Final" = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY")
_TOOL_PROXIES: "Final" = (
    "CARGO_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_NOPROXY",
    "NPM_CONFIG_PROXY",
    "PIP_PROXY",  # with it, pip takes no notice of NO_PROXY
    "grpc_proxy",
    "no_grpc_proxy",
    "npm_config_https_proxy",
    "npm_config_noproxy",
    "npm_config_proxy",
)
"""Variables of single tools that would win over the common ones."""
_NPM_PROXIES: "Final" = ("npm_config_https_proxy", "npm_config_proxy")
"""Without them, a proxy in an npmrc wins over the common variables."""
_DIRECT: "Final" = ("localhost", "127.0.0.1", "::1")
_OURS: "Final" = frozenset({"AUTHSOME_MASTER_KEY", "AUTHSOME_MASTER_KEY_FILE", "AUTHSOME_IDENTITY_KEY"})


class Grant:
    """What a run's child is given. A plain class, because `dataclasses` would cost each run 12 ms."""

    __slots__ = ("hosts", "password", "placeholders", "run")

    def __init__(  # each by name
        self,
        *,
        run: str,
        password: str,
        hosts: "Iterable[tuple[str, bool]]",
        placeholders: "Mapping[str, str]",
    ) -> None:
        self.run = run
        self.password = password
        """The child's own: it opens the proxy, and nothing else."""
        self.hosts = tuple(hosts)
        """The hosts of the run's routes, each with whether it stands for all names below it."""
        self.placeholders = placeholders


def for_child(
    environ: "Mapping[str, str]", grant: Grant, *, port: int, bundle: str, node_preload: str
) -> dict[str, str]:
    """The child's environment.

    Args:
        environ: the caller's.
        grant: the run.
        port: where the worker listens.
        bundle: the roots, our authority among them.
        node_preload: the script that has Node's own clients use the proxy.
    """
    child = {name: value for name, value in environ.items() if name not in _OURS and name not in _TOOL_PROXIES}
    child.update(grant.placeholders)
    proxy = f"http://{grant.run}:{grant.password}@127.0.0.1:{port}"
    for name in _PROXIES:
        child[name] = child[name.lower()] = proxy
    exempt = no_proxy((environ.get("NO_PROXY", ""), environ.get("no_proxy", "")), grant.hosts)
    child["NO_PROXY"] = child["no_proxy"] = child["npm_config_noproxy"] = exempt
    child.update(dict.fromkeys(_NPM_PROXIES, proxy))
    child.update(_git_settings(environ, proxy))
    for name in REPLACED_ROOTS | ADDED_ROOTS:
        child[name] = bundle
    child["SYSTEM_WGETRC"] = wgetrc(bundle)
    child["NODE_USE_ENV_PROXY"] = "1"  # Node 24 and later
    child["NODE_OPTIONS"] = _node_options(environ.get("NODE_OPTIONS", ""), node_preload)
    child["GIT_HTTP_PROXY_AUTHMETHOD"] = "basic"  # else git asks without the credential first
    child[RUN] = grant.run
    return child


def wgetrc(bundle: str) -> str:
    """The file beside a bundle that tells wget of it; wget takes roots from no variable, only from its files."""
    return f"{bundle.removesuffix('.pem')}.wgetrc"


def caller_proxy(environ: "Mapping[str, str]", name: str) -> str:
    """A proxy variable of the caller's; inside another run it is that run's, and leads nowhere for us."""
    return "" if RUN in environ else environ.get(name) or environ.get(name.upper()) or ""


def no_proxy(inherited: "Iterable[str]", hosts: "Iterable[tuple[str, bool]]") -> str:
    """The hosts that programs reach directly: this machine, and what the caller exempted, but no host of a route."""
    hosts = tuple(hosts)
    entries = [*_DIRECT, *(entry.strip() for text in inherited for entry in text.split(","))]
    return ",".join(dict.fromkeys(entry for entry in entries if entry and not _exempts_route(entry, hosts)))


def _exempts_route(entry: str, hosts: "Iterable[tuple[str, bool]]") -> bool:
    """Whether any program might take a `NO_PROXY` entry to mean a host of a route; they read suffixes in many ways."""
    if "*" in entry:
        return True
    name = entry.rpartition(":")[0] if entry.rpartition(":")[2].isdigit() and entry.count(":") == 1 else entry
    name = name.lower().strip(".")
    return any(host.endswith(name) or (is_suffix and name.endswith("." + host)) for host, is_suffix in hosts)


def _git_settings(environ: "Mapping[str, str]", proxy: str) -> dict[str, str]:
    """A setting after those that the caller gave in the same way: it wins over any `http.proxy` in a file of git's."""
    given = environ.get("GIT_CONFIG_COUNT", "")
    count = int(given) if given.isascii() and given.isdigit() else 0
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "http.proxy",
        f"GIT_CONFIG_VALUE_{count}": proxy,
    }


def _node_options(inherited: str, preload: str) -> str:
    quoted = preload.replace("\\", "\\\\").replace('"', '\\"')
    option = f'--require "{quoted}"'
    return inherited if option in inherited else f"{inherited} {option}".strip()
