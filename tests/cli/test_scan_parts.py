"""The parts of a scan: where it looks, what it reads there, whose key a value is, and how a file is changed."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsome.cli.scan import dotenv, known, places, rewrite, tools
from authsome.cli.scan.found import Found, Place
from authsome.cli.scan.known import KeyForm
from authsome.cli.scan.rewrite import Change
from authsome.errors import NotAllowed, UsageError
from authsome.models.pattern import Pattern
from authsome.secret import Secret

HERE = Path(".env")
KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"


def values(found: Sequence[Found]) -> list[tuple[str | None, str | None, str, int]]:
    return [(each.variable, each.host, each.value.reveal(), each.place.line) for each in found]


# ---- .env files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"A=abc", "abc"),
        (b"  export A = abc  ", "abc"),
        (b'A="abc def"', "abc def"),
        (b"A='abc' # comment", "abc"),
        (b"A=abc # comment", "abc"),
        (b"A=abc#def", "abc#def"),
        (b"\xef\xbb\xbfA=abc", "abc"),
        (b"A=abc\r", "abc"),
        (b'A="abc"\r', "abc"),
        (b'A="abc', None),  # goes on in the next line
        (b"A=", None),
        (b"A= # nothing", None),
        (b"# A=abc", None),
        (b"A abc", None),
        (b"A.B=abc", None),
        (b"1A=abc", None),
        (b"A=\xc3\xa4bc", None),
        (b"A: abc", None),
    ],
)
def test_assignments(line: bytes, value: str | None):
    """A value is what stands after the name, without quotes and comment; its span is exactly its bytes."""
    data = b"FIRST=1\n" + line + b"\nLAST=2"
    found = list(dotenv.read(data, HERE))
    assert values(found)[0] == ("FIRST", None, "1", 1)
    assert values(found)[-1] == ("LAST", None, "2", 3)
    assert [each.value.reveal() for each in found[1:-1]] == ([] if value is None else [value])
    for each in found:
        assert each.place.span is not None
        assert data[slice(*each.place.span)].decode() == each.value.reveal()


@given(st.binary(max_size=300))
def test_whatever_a_file_holds_is_read(data: bytes):
    """No file stops a scan, and every span holds its value."""
    for each in dotenv.read(data, HERE):
        assert each.place.span is not None
        assert data[slice(*each.place.span)].decode() == each.value.reveal()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (".env", True),
        (".env.local", True),
        (".env.production.local", True),
        ("prod.env", True),
        (".envrc", True),
        (".env.example", False),
        (".env.sample", False),
        ("example.env", False),
        ("env", False),
        (".environment", False),
        ("env.py", False),
    ],
)
def test_names_of_env_files(name: str, is_one: bool):  # noqa: FBT001  # the table's column
    assert dotenv.is_dotenv(name) is is_one


# ---- the files of tools ----------------------------------------------------------------------------------------------


NPMRC = """registry=https://x
//registry.npmjs.org/:_authToken=npm_abc
; //a/:_authToken=no
//b:8080/x/:_authToken = t
//c/:_authToken=${NPM_TOKEN}
_authToken=bare"""
NETRC = """machine api.acme.test login me password one
machine b.test
  login password
  password two
default login x password three
# machine c password no"""
PYPIRC = """[distutils]
index-servers =
    pypi
[pypi]
username = __token__
password = pypi-abc
[own]
repository = https://pypi.acme.test/legacy/
password: def"""
GH_HOSTS = """github.com:
    users:
        me:
            oauth_token: gho_a
    oauth_token: gho_a
ghe.acme.test:
    oauth_token: 'gho_b'
"""
AWS = """[default]
aws_access_key_id = AKIA
aws_secret_access_key = abc
[x]
aws_session_token=def
"""


PIP = """[global]
index-url = https://__token__:glpat-abc@gitlab.com/api/v4/projects/1/packages/pypi/simple
extra-index-url =
    https://pypi.org/simple
    https://only%2Da%2Dlong%2Dtoken@pypi.acme.test:8443/simple
    https://${USER}:${TOKEN}@c.test/
; https://a:no@d.test/"""
DOCKER = """{
  "auths": {
    "ghcr.io": {"auth": "bWU6Z2hwX2FiYw=="},
    "https://index.docker.io/v1/": {"auth": "bWU6ZGNrcl86YWJj"},
    "kept.by.a.helper": {},
    "odd.test": {"auth": "***"},
    "registry.gitlab.com": {"identitytoken": "idt"}
  },
  "credsStore": "desktop"
}"""
GLAB = """git_protocol: ssh
hosts:
    gitlab.com:
        token: !!null glpat-a
        api_host: gitlab.com
    git.acme.test:
        token: 'glpat-b'
        user: me
"""
COMPOSER = """{"github-oauth": {"github.com": "gho_a"},
 "http-basic": {"repo.test": {"username": "me", "password": "pw"}},
 "gitlab-token": {"gitlab.com": {"username": "me", "token": "glpat-c"}}, "bearer": []}"""


@pytest.mark.parametrize(
    ("read", "text", "wanted"),
    [
        (
            tools.pip_settings,
            PIP,
            [(None, "gitlab.com", "glpat-abc", 2), (None, "pypi.acme.test", "only-a-long-token", 5)],
        ),
        (
            tools.git_credentials,
            "https://me:ghp_a%2Fb@github.com\nhttps://b.test\nhttps://octocat@c.test\n",
            [(None, "github.com", "ghp_a/b", 1)],
        ),
        (
            tools.registries,
            DOCKER,
            [
                (None, "ghcr.io", "ghp_abc", 3),
                (None, "index.docker.io", "dckr_:abc", 4),
                (None, "registry.gitlab.com", "idt", 7),
            ],
        ),
        (tools.registries, "[]", []),
        (tools.registries, '{"auths": [1], "auths": 2}', []),
        (
            tools.glab_settings,
            GLAB,
            [("GITLAB_TOKEN", "gitlab.com", "glpat-a", 4), ("GITLAB_TOKEN", "git.acme.test", "glpat-b", 7)],
        ),
        (
            tools.composer_auth,
            COMPOSER,
            [(None, "github.com", "gho_a", 1), (None, "gitlab.com", "glpat-c", 3), (None, "repo.test", "pw", 2)],
        ),
        (tools.npmrc, NPMRC, [("NPM_TOKEN", "registry.npmjs.org", "npm_abc", 2), ("NPM_TOKEN", "b", "t", 4)]),
        (tools.netrc, NETRC, [(None, "api.acme.test", "one", 1), (None, "b.test", "two", 4), (None, None, "three", 5)]),
        (tools.pypirc, PYPIRC, [("PYPI_TOKEN", None, "pypi-abc", 6), ("PYPI_TOKEN", "pypi.acme.test", "def", 9)]),
        (tools.gh_hosts, GH_HOSTS, [("GH_TOKEN", "github.com", "gho_a", 4), ("GH_TOKEN", "ghe.acme.test", "gho_b", 7)]),
        (
            tools.aws_credentials,
            AWS,
            [("AWS_SECRET_ACCESS_KEY", None, "abc", 3), ("AWS_SESSION_TOKEN", None, "def", 5)],
        ),
        (tools.bare("HF_TOKEN"), "hf_abc\n", [("HF_TOKEN", None, "hf_abc", 1)]),
        (tools.bare("HF_TOKEN"), "two words", []),
        (tools.pairs({"access-token": "T"}), "access-token: abc\nother: 1", [("T", None, "abc", 1)]),
        (tools.pairs({"token": "T"}), '[registry]\ntoken = "abc"\nother = 1', [("T", None, "abc", 2)]),
    ],
)
def test_tools(read: tools.Reader, text: str, wanted: list[tuple[str | None, str | None, str, int]]):
    """What is a credential there is found with its line, its host and the variable that means the same."""
    assert values(list(read(text, HERE))) == wanted


@given(st.text(max_size=300))
def test_whatever_a_tool_keeps_is_read(text: str):
    """No file stops a scan."""
    for _, read in tools.places({"HOME": "/nowhere"}):
        assert all(each.is_key for each in read(text, HERE))


# ---- where it looks --------------------------------------------------------------------------------------------------


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A=abc")


def test_the_walk(tmp_path: Path):
    """`.env` files at any depth that a project has, none of what others made, none through a link."""
    put(tmp_path, ".env", "a/b/.env.local", "node_modules/x/.env", ".git/.env", "a/.env.example", "outside/.env")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (tmp_path / "outside").rename(outside)
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "a" / ".env").symlink_to(outside / ".env")
    walk = places.Walk()
    assert [path.relative_to(tmp_path).as_posix() for path in walk.files([tmp_path])] == [".env", "a/b/.env.local"]
    assert not walk.is_cut


def test_the_walk_ends(tmp_path: Path):
    """A tree that is too deep is left, and that is said."""
    put(tmp_path, "/".join(["d"] * (places.DEPTH + 1)) + "/.env", "/".join(["e"] * places.DEPTH) + "/.env")
    walk = places.Walk()
    assert [path.parts[-2] for path in walk.files([tmp_path])] == ["e"]
    assert walk.is_cut


def test_named_files_are_read_whatever_they_are_called(tmp_path: Path):
    """A file that is named is looked at; a path that is not there is an error."""
    put(tmp_path, "secrets.txt")
    assert values(list(places.in_files(list(places.Walk().files([tmp_path / "secrets.txt"]))))) == [
        ("A", None, "abc", 1)
    ]
    with pytest.raises(UsageError, match="nothing at"):
        list(places.Walk().files([tmp_path / "nowhere"]))


def test_what_is_no_file_is_not_read(tmp_path: Path):
    """A pipe does not hang a scan, and a huge file is none of anybody's settings."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(b"A" * (places.LARGEST + 1))
    assert [places.read_file(tmp_path / name) for name in ("pipe", "huge", "nowhere", ".")] == [None] * 4


def test_the_environment():
    """What is ours is no finding."""
    found = list(places.in_environment({"B": "b", "A": "a", "EMPTY": "", "AUTHSOME_MASTER_KEY": "x"}))
    assert [(each.variable, each.place.shown) for each in found] == [("A", "environment"), ("B", "environment")]


# ---- whose key it is -------------------------------------------------------------------------------------------------


def form(
    provider: str, pattern: str | None, *variables: str, hosts: tuple[str, ...] = (), field: str = "api_key"
) -> KeyForm:
    return KeyForm(
        provider=provider,
        field=field,
        is_secret=True,
        placeholders=dict.fromkeys(variables, "placeholder"),
        pattern=Pattern.parse(pattern) if pattern else None,
        hosts=hosts,
        is_importable=True,
    )


FORMS = [
    form("wide", "^sk-[A-Za-z0-9_-]{20,}$", "WIDE_KEY"),
    form("narrow", "^sk-ant-[A-Za-z0-9_-]{20,}$", "NARROW_KEY"),
    form("plain", "^[A-Za-z0-9]{20}$", "PLAIN_KEY", hosts=("api.plain.test", "*.plain.io")),
    form("twin", "^xo-[a-z0-9]{10}$", "TWIN_KEY", "SHARED"),
    form("other", "^xo-[a-z0-9]{10}$", "OTHER_KEY", "SHARED"),
]


@pytest.mark.parametrize(
    ("value", "variable", "host", "providers"),
    [
        ("sk-" + "aB3" * 10, None, None, ["wide"]),
        ("sk-ant-" + "aB3" * 10, None, None, ["narrow"]),
        ("sk-ant-" + "aB3" * 10, "WIDE_KEY", None, ["wide"]),  # its name says more than its form
        ("sk-" + "aB3" * 10, "NARROW_KEY", None, ["wide"]),  # it is no key of what its name says
        ("a1b2c" * 4, "PLAIN_KEY", None, ["plain"]),
        ("a1b2c" * 4, None, None, []),  # twenty letters are anything
        ("a1b2c" * 4, None, "API.plain.test", ["plain"]),
        ("a1b2c" * 4, None, "x.plain.io", ["plain"]),
        ("a1b2c" * 4, None, "evilplain.io", []),
        ("a1b2c" * 4, None, "api.plain.test.evil.test", []),
        ("xo-abcde12345", None, None, ["twin", "other"]),
        ("xo-abcde12345", "OTHER_KEY", None, ["other"]),
        ("xo-abcde12345", "SHARED", None, ["twin", "other"]),
        ("sk-your-key-goes-here-please", "WIDE_KEY", None, []),
        ("sk-authsome-placeholder-000000000000000000000000", "WIDE_KEY", None, []),
        ("sk-" + "0" * 30, "WIDE_KEY", None, []),
        ("61757468736f6d6577d690c4480ea6e1", "PLAIN_KEY", None, []),
        ("61757468-736f-6d65-aa99-e6246fb3b4ab", "PLAIN_KEY", None, []),
        ("${OTHER_VARIABLE_THAT_IS_LONG}", "PLAIN_KEY", None, []),
        ("short", "PLAIN_KEY", None, []),
        ("", "PLAIN_KEY", None, []),
    ],
)
def test_whose_key(value: str, variable: str | None, host: str | None, providers: list[str]):
    """By its variable, else by its host, else by a form that nothing else has by chance."""
    found = Found(value=Secret(value), place=Place(), variable=variable, host=host)
    matches = known.match(FORMS, [found])
    names = [form.provider for each in matches for form in each.forms]
    assert names == providers


def test_a_credential_that_no_provider_takes():
    """What is a credential for certain is told even so; what only might be one is not."""
    found = [Found(value=Secret("abcdefgh123"), place=Place(), is_key=is_key) for is_key in (True, False)]
    assert [each.forms for each in known.match(FORMS, found)] == [()]


@pytest.mark.parametrize(
    ("pattern", "value", "shown"),
    [
        ("^sk-[A-Za-z0-9_-]{20,}$", KEY, "sk-…J_-k"),
        ("^sk-[A-Za-z0-9_-]{20,}$", "sk-" + "abcd" * 4, "sk-…"),
        ("^[a-z0-9]{32}$", "abcd" * 8, "…abcd"),
        (None, "abcdefgh12", "…"),
    ],
)
def test_what_is_shown_of_a_value(pattern: str | None, value: str, shown: str):
    """Its form's own beginning, and of a long one the end."""
    # SEC-143
    assert form("x", pattern).masked(Secret(value)) == shown


# ---- changing a file -------------------------------------------------------------------------------------------------


def change(data: bytes, before: str = KEY, after: str = "placeholder-0000") -> Change:
    start = data.index(before.encode())
    return Change(start=start, end=start + len(before), before=Secret(before), after=after)


@pytest.mark.parametrize(
    "data",
    [
        f'# c\r\nexport A="{KEY}" # why\r\nB=1'.encode(),
        f"A='{KEY}'\n\n".encode(),
        f"A={KEY}".encode() + b"\xff\xfe binary",
    ],
)
def test_only_the_value_changes(tmp_path: Path, data: bytes):
    """Quotes, comments, line ends, other bytes, mode and group stay; nothing else is left in the directory."""
    path = tmp_path / ".env"
    path.write_bytes(data)
    path.chmod(0o640)
    before = path.stat()
    rewrite.replace(path, [change(data)])
    assert path.read_bytes() == data.replace(KEY.encode(), b"placeholder-0000")
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert [each.name for each in tmp_path.iterdir()] == [".env"]


def test_several_values_change_at_once(tmp_path: Path):
    path = tmp_path / ".env"
    data = f"A={KEY}\nB=other-secret-value\nC=3\n".encode()
    path.write_bytes(data)
    rewrite.replace(path, [change(data), change(data, "other-secret-value", "p" * 40)])
    assert path.read_bytes() == b"A=placeholder-0000\nB=" + b"p" * 40 + b"\nC=3\n"


@pytest.mark.parametrize("spoil", ["link", "second name", "changed", "directory", "odd"])
def test_a_file_that_is_left_alone(tmp_path: Path, spoil: str):
    """What is not plainly the user's own file, as it was read, is not changed."""
    path = tmp_path / ".env"
    data = f"A={KEY}\n".encode()
    path.write_bytes(data)
    changes = [change(data, after="has spaces in it") if spoil == "odd" else change(data)]
    if spoil == "link":
        path.rename(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    elif spoil == "second name":
        os.link(path, tmp_path / "real")
    elif spoil == "changed":
        data = b"B=" + data
        path.write_bytes(data)
    elif spoil == "directory":
        path.unlink()
        path.mkdir()
    with pytest.raises(NotAllowed, match="is left alone"):
        rewrite.replace(path, changes)
    if spoil != "directory":
        assert path.read_bytes() == data
    assert {each.name for each in tmp_path.iterdir()} <= {".env", "real"}


def test_tools_are_found_where_they_are_told_to_be(tmp_path: Path):
    """A variable that moves a tool's file moves it for us, too."""
    moved: Mapping[str, str] = {"HOME": "/nowhere", "NETRC": str(tmp_path / "n"), "GH_CONFIG_DIR": str(tmp_path)}
    (tmp_path / "n").write_text("machine a.test login b password abc")
    (tmp_path / "hosts.yml").write_text("github.com:\n    oauth_token: def\n")
    assert [each.value.reveal() for each in places.in_tools(moved)] == ["abc", "def"]
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://me:ghi@a.test/simple\n")
    (tmp_path / "config.json").write_text('{"auths": {"a.test": {"auth": "bWU6amts"}}}')
    moved = {"HOME": "/nowhere", "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "DOCKER_CONFIG": str(tmp_path)}
    assert [each.value.reveal() for each in places.in_tools(moved)] == ["ghi", "jkl"]
