"""The plan of the house, held by machine: who may import whom, which library belongs where, and what no module does.

The two tables are the plan; to change the house, change them in the same commit and say why (docs/decisions/).
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "authsome"

# ---- the tables --------------------------------------------------------------------------------------------

_PURE: Final = frozenset({"errors", "message", "models", "secret"})

MAY_IMPORT: Final[Mapping[str, frozenset[str]]] = {
    # the ground
    "errors": frozenset(),
    "clock": frozenset(),
    "secret": frozenset({"errors"}),
    "message": frozenset({"errors", "secret"}),
    "models": frozenset({"errors", "secret"}),
    # pure protocol: values in, values out
    "crypto": _PURE,
    "identity": _PURE,
    "oauth": _PURE,
    # disk and network, each in one place
    "home": frozenset({"errors", "secret"}),
    "address": frozenset({"errors", "models"}),
    "outbound": frozenset({"address", "errors", "secret"}),
    "transport": frozenset({"address", "errors", "message", "outbound", "secret"}),
    # the server tower: holds secrets
    "vault": frozenset({"clock", "crypto", "errors", "home", "models", "secret"}),
    "broker": _PURE | {"clock", "home", "identity", "oauth", "transport", "vault"},
    "daemon": _PURE | {"address", "archive", "broker", "clock", "home", "identity", "outbound", "transport", "vault"},
    # the client tower: holds an identity key, and cannot import what decrypts
    "client": _PURE | {"archive", "clock", "home", "identity"},
    "proxy": _PURE
    | {"address", "archive", "client", "clock", "home", "identity", "outbound"},  # `run` signs one request
    # the roof: the only part that knows both towers; it reaches the vault through the daemon
    "cli": _PURE
    | {"address", "archive", "client", "clock", "daemon", "home", "identity", "outbound", "proxy", "transport"},
    # stands alone: it runs before there is anything to import, and then hands over to the command line
    "archive": frozenset({"cli"}),
    "__main__": frozenset({"cli"}),
}
"""Which part of the package may import which other; every one may import itself and `authsome.__version__`."""

SERVER_TOWER: Final = frozenset({"broker", "daemon", "vault"})
CLIENT_TOWER: Final = frozenset({"client", "proxy"})

BELONGS_TO: Final[Mapping[str, frozenset[str]]] = {
    "argon2": frozenset({"crypto"}),
    "argparse": frozenset({"cli"}),
    "asyncio": frozenset({"proxy"}),
    "backports.zstd": frozenset({"proxy/codings"}),
    "brotli": frozenset({"proxy/codings"}),
    "compression.zstd": frozenset({"proxy/codings"}),
    "cryptography": frozenset({"cli/doctor", "cli/tour", "crypto", "identity", "proxy"}),
    "getpass": frozenset({"cli", "proxy"}),
    "http.client": frozenset({"cli/tour", "transport"}),
    "http.server": frozenset({"cli/tour", "daemon"}),
    "keyring": frozenset({"vault"}),
    "mitmproxy": frozenset({"proxy"}),
    "segno": frozenset({"cli/qr", "daemon/dashboard"}),
    "socket": frozenset({"address", "cli", "client", "daemon", "outbound", "proxy", "transport"}),
    "socketserver": frozenset({"cli/tour", "daemon"}),
    "sqlite3": frozenset({"vault"}),
    "ssl": frozenset({"cli/tour", "client", "proxy", "transport"}),
    "subprocess": frozenset({"cli", "client", "daemon/notify", "proxy"}),
    "webbrowser": frozenset({"cli"}),
    "zipfile": frozenset({"archive"}),
    "zstandard": frozenset({"proxy/codings"}),
    # nowhere: they do what another part already does with more care, or must not be done at all
    "email": frozenset({"cli/doctor"}),  # the date of an answer, to tell a wrong clock
    "jwt": frozenset(),
    "marshal": frozenset(),
    "pickle": frozenset(),
    "random": frozenset(),
    "requests": frozenset(),
    "shelve": frozenset(),
    "urllib.request": frozenset(),
}
"""Which parts, or files in them, may import a library; those that are not named here are anybody's."""

ENVIRONMENT: Final = frozenset({"archive", "cli", "home", "proxy"})
"""The parts that may read the process environment."""

MAY_REVEAL: Final = frozenset(
    {
        "broker/entrance.py",
        "broker/logins.py",
        "broker/questions.py",
        "broker/runs.py",
        "broker/spools.py",
        "broker/verify.py",
        "cli/backup.py",
        "cli/daemon.py",
        "cli/keys.py",
        "cli/login.py",
        "cli/scan/known.py",
        "cli/scan/rewrite.py",
        "client/api.py",
        "client/keys.py",
        "client/supervisor.py",
        "crypto/aead.py",
        "crypto/age.py",
        "crypto/envelope.py",
        "crypto/kdf.py",
        "crypto/password.py",
        "crypto/signing.py",
        "crypto/token.py",
        "crypto/upstream.py",
        "daemon/api/connections.py",
        "daemon/api/keys.py",
        "daemon/api/identities.py",
        "daemon/api/logins.py",
        "daemon/api/principals.py",
        "daemon/api/runs.py",
        "daemon/api/views.py",
        "daemon/cross_origin.py",
        "daemon/web/entrance.py",
        "daemon/web/principals.py",
        "daemon/web/visits.py",
        "identity/key.py",
        "models/api_key.py",
        "models/fingerprint.py",
        "models/export.py",
        "models/injection.py",
        "models/use.py",
        "oauth/authorization.py",
        "oauth/client_auth.py",
        "oauth/device.py",
        "oauth/registration.py",
        "oauth/pkce.py",
        "oauth/revocation.py",
        "oauth/token.py",
        "outbound.py",
        "proxy/broker.py",
        "proxy/grounds.py",
        "proxy/inject.py",
        "proxy/placeholders.py",
        "proxy/rules.py",
        "proxy/scrub.py",
        "secret.py",
        "vault/claims.py",
        "vault/clients.py",
        "vault/issuers.py",  # what an issuer says openly, which is sealed so that nobody changes it
        "vault/key_sources/passphrase.py",
        "vault/key_sources/source.py",
        "vault/key_sources/system_keyring.py",
        "vault/logins.py",
        "vault/upstream.py",
    }
)
"""The files that may take a secret out of its `Secret`: where it is sealed, sent, typed or signed with."""

MAY_CACHE: Final = frozenset({"proxy/codings.py"})  # which libraries are installed
"""The files that may keep results between calls (functools.cache): of what cannot change while a process lives."""

CHEAP: Final = ("errors", "secret", "clock", "message", "home", "models.", "client.", "cli.main")
"""What the road of a command imports, so that it has to be cheap."""

HEAVY: Final = frozenset(
    {
        "argon2",
        "argparse",
        "asyncio",
        "cryptography.x509",
        "email",
        "http.client",
        "jwt",
        "keyring",
        "mitmproxy",
        "segno",
        "sqlite3",
        "ssl",
        "subprocess",
        "urllib.request",
    }
)
"""Each costs a command 7 to 370 ms: imported where it is used, if at all."""


# ---- reading the code --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Module:
    """A source file of the package."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        """The path below the package."""
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def part(self) -> str:
        """The part of the house it belongs to; empty for the package's own `__init__`."""
        first = self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        return "" if first == "__init__" else first

    def stands_in(self, places: frozenset[str]) -> bool:
        """Whether it is, or lies in, one of these parts, packages or files (named without `.py`)."""
        return any(self.name == f"{place}.py" or self.name.startswith(f"{place}/") for place in places)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every import wherever it stands, as (line, dotted name); relative ones are refused elsewhere."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def calls(self, names: frozenset[str]) -> Iterator[int]:
        """The lines that name one of these attributes, written as `owner.attribute` or `.attribute`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else owner
                if f"{owner}.{node.attr}" in names or f".{node.attr}" in names:
                    yield node.lineno

    def strings(self) -> Iterator[tuple[int, str]]:
        """Every string that is not a docstring or other bare statement."""
        bare = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                yield node.lineno, node.value


MODULES: Final = tuple(
    Module(path, ast.parse(path.read_text("utf-8"), filename=str(path))) for path in sorted(PACKAGE.rglob("*.py"))
)


def below(dotted: str, package: str) -> bool:
    """Whether a dotted name is this package or something in it."""
    return dotted == package or dotted.startswith(f"{package}.")


# ---- who may import whom -----------------------------------------------------------------------------------


def test_every_part_has_a_row():
    """A new part of the package gets its row in the table before anything else."""
    assert {module.part for module in MODULES} - {""} <= MAY_IMPORT.keys()


def test_parts_import_only_what_their_row_names():
    """No part reaches past its neighbours, at the top of a module or inside a function."""
    offenders = []
    for module in MODULES:
        allowed = MAY_IMPORT.get(module.part, frozenset()) | {module.part, "__version__"}
        for line, name in module.imports():
            if below(name, "authsome") and [*name.split("."), ""][1] not in allowed:
                offenders.append(f"{module.name}:{line} imports {name}")
    assert offenders == []


def test_no_relative_imports():
    """Every import names its module in full, so that the tables can be checked."""
    found = [
        f"{module.name}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def test_the_towers_do_not_know_each_other():
    """What stands in the child's way cannot import, through any number of parts, what decrypts; nor the other way."""

    def reached(part: str) -> set[str]:
        found: set[str] = set()
        pending = [part]
        while pending:
            # The archive hands over to the command line when it starts; nobody gets further through it.
            new = MAY_IMPORT[pending.pop()] - found - {"archive"}
            found |= new
            pending.extend(new)
        return found

    assert all(not reached(part) & SERVER_TOWER for part in CLIENT_TOWER)
    assert all(not reached(part) & CLIENT_TOWER for part in SERVER_TOWER)


def test_the_table_has_no_circles():
    """The parts stand on each other; no two lean on each other."""
    order: list[str] = []
    left = {part: set(allowed) for part, allowed in MAY_IMPORT.items()}
    left["archive"].clear()  # it starts the command line, which never hands back
    while ready := [part for part, needs in left.items() if needs <= set(order)]:
        order.extend(ready)
        for part in ready:
            del left[part]
    assert left == {}


def test_libraries_stay_in_their_part():
    """SQL is spoken in the vault, mitmproxy lives in the proxy, and so on."""
    offenders = [
        f"{module.name}:{line} imports {name}"
        for module in MODULES
        for line, name in module.imports()
        for library, parts in BELONGS_TO.items()
        if below(name, library) and not module.stands_in(parts)
    ]
    assert offenders == []


def test_importing_a_cheap_module_loads_nothing_heavy():
    """The modules on the road of a command load no library that would be felt."""
    names = [
        "authsome." + module.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for module in MODULES
        if module.part
    ]
    cheap = [
        name
        for name in names
        if f"{name.removeprefix('authsome.')}.".startswith(tuple(f"{c.rstrip('.')}." for c in CHEAP))
    ]
    offenders = {}
    for name in cheap:
        code = f"import sys, json; import {name}; print(json.dumps(sorted(sys.modules)))"
        command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
        loaded = set(json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout))
        if heavy := loaded & HEAVY:
            offenders[name] = heavy
    assert offenders == {}
    assert cheap


def test_a_starting_daemon_loads_no_more_than_a_run_needs():
    """Whoever starts it waits: pages, logins, administration and the way out to providers come after that."""
    code = (
        "import sys, json, authsome.daemon.main, authsome.vault.database, authsome.broker.broker, authsome.daemon.api"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}; print(*sys.modules)"]
    loaded = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    late = ("email", "http.client", "ssl", "tarfile", "authsome.transport", "authsome.daemon.dashboard")
    late += ("authsome.daemon.web", "authsome.daemon.api.table", "authsome.vault.backup", "authsome.vault.upstream")
    late += tuple(f"authsome.broker.{name}" for name in ("backups", "claims", "entrance", "logins", "scan", "upstream"))
    assert [name for name in loaded if f"{name}.".startswith(tuple(f"{each}." for each in late))] == []


# ---- what no module does -----------------------------------------------------------------------------------


def test_every_module_says_what_it_is():
    """A room states its law at its door: the docstring's first line is a sentence of its own."""
    silent = [module.name for module in MODULES if not (ast.get_docstring(module.tree) or "").partition("\n")[0]]
    assert silent == []


def test_only_the_clock_reads_the_clock():
    """Time is handed in; `time.monotonic`, which measures durations, is anybody's."""
    wall = frozenset(
        {
            "date.today",
            "datetime.now",
            "datetime.today",
            "datetime.utcnow",
            "time.ctime",
            "time.gmtime",
            "time.localtime",
            "time.strftime",
            "time.time",
            "time.time_ns",
        }
    )
    found = [f"{module.name}:{line}" for module in MODULES if module.part != "clock" for line in module.calls(wall)]
    found += [
        f"{module.name}:{line}"
        for module in MODULES
        for line, name in module.imports()
        if name in {"time.time", "time.time_ns"}
    ]
    assert found == []


def test_only_the_edges_read_the_environment():
    """Settings are read once, and handed in."""
    reading = frozenset({"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"})
    found = [
        f"{module.name}:{line}"
        for module in MODULES
        if module.part not in ENVIRONMENT
        for line in [*module.calls(reading), *(line for line, name in module.imports() if name in reading)]
    ]
    assert found == []


def test_secrets_are_revealed_only_where_the_list_says():
    """The list of files that may call `.reveal()` is exact: none too few, none too many."""
    reveal = frozenset({".reveal"})
    revealing = {module.name for module in MODULES if any(module.calls(reveal))}
    assert revealing - MAY_REVEAL == set(), "these reveal, and are not on the list"
    stale = {name for name in MAY_REVEAL if (PACKAGE / name).exists()} - revealing - {"secret.py"}
    assert stale == set(), "these are on the list, and do not reveal"


_MUTABLE: Final = frozenset(
    {
        "BoundedSemaphore",
        "Condition",
        "Counter",
        "Event",
        "Lock",
        "OrderedDict",
        "Queue",
        "RLock",
        "Semaphore",
        "WeakValueDictionary",
        "bytearray",
        "count",
        "defaultdict",
        "deque",
        "dict",
        "list",
        "local",
        "set",
    }
)
_CHANGING: Final = frozenset(
    {
        "add",
        "append",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    }
)
_LITERALS: Final = (ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)


def changed_names(tree: ast.Module) -> Iterator[str]:
    """The last part of every name whose value some code changes: `x[1] = …`, `del x[1]`, `x += …`, `x.append(…)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed: ast.expr = node.value
        elif isinstance(node, ast.AugAssign):
            changed = node.target
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            changed = node.func.value
        else:
            continue
        yield ast.unparse(changed).rpartition(".")[2]


def state(tree: ast.Module, changed: frozenset[str]) -> Iterator[int]:
    """The lines that bind state at module level: something empty to be filled, made to change, or `changed`."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            value = ast.unparse(node.value)
            called = ast.unparse(node.value.func).rpartition(".")[2] if isinstance(node.value, ast.Call) else ""
            literal = isinstance(node.value, _LITERALS)
            if value in {"{}", "[]"} or called in _MUTABLE or (literal and name in changed):
                yield node.lineno


def test_no_module_has_state():
    """All mutable state is the database's, or an object's that somebody was handed; tables never change."""
    changed = frozenset(name for module in MODULES for name in changed_names(module.tree))
    found = [f"{module.name}:{line}" for module in MODULES for line in state(module.tree, changed)]
    found += [
        f"{module.name}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    found += [
        f"{module.name}:{line}"
        for module in MODULES
        if module.name not in MAY_CACHE
        for line, name in module.imports()
        if name in {"functools", "functools.cache", "functools.lru_cache"}
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("SEEN = {}", True),
        ("SEEN: Final[dict[str, int]] = {}", True),
        ("LOCK = threading.Lock()", True),
        ("ROWS = list(TABLE)", True),
        ("TABLE = {'a': 1}\ndef f():\n    TABLE['b'] = 2", True),
        ("TABLE = {'a': 1}\ndef f():\n    del TABLE['a']", True),
        ("TABLE = ['a']\ndef f():\n    TABLE.append('b')", True),
        ("TABLE = {'a'}\ndef f():\n    table.TABLE |= {'b'}", True),
        ("TABLE = {'a': 1}\ndef f():\n    return TABLE['a']", False),
        ("NAMES: Final = frozenset({'a'})", False),
        ("NAMES = ('a', 'b')", False),
        ("Alias = dict[str, int]", False),
        ("__all__ = ['a']", False),
    ],
)
def test_what_counts_as_state(code, refused):
    """The rule above catches what can change, and lets constants be."""
    tree = ast.parse(code)
    assert bool(list(state(tree, frozenset(changed_names(tree))))) is refused


def test_sql_is_spoken_in_the_vault_only():
    """Statements stand in the vault, definitions of tables in its schema alone."""
    statement = re.compile(r"\b(SELECT\b[^;]*\bFROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA \w)\b")
    definition = re.compile(r"\b(CREATE|ALTER|DROP) (UNIQUE )?(TABLE|INDEX|VIEW|TRIGGER)\b")
    found = [
        f"{module.name}:{line}"
        for module in MODULES
        for line, text in module.strings()
        if (statement.search(text) and module.part != "vault")
        or (definition.search(text) and module.name != "vault/schema.py")
    ]
    assert found == []


def test_no_provider_is_named_in_code():
    """Every quirk of a provider is a field of its definition."""
    names = {path.stem for path in (ROOT / "providers").glob("*.json")} - {"x"}  # which is a letter, too
    found = [f"{module.name}:{line} {text}" for module in MODULES for line, text in module.strings() if text in names]
    assert found == []
