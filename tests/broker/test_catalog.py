"""The catalogue: bundled and custom definitions, each for itself, and no taking of another's hosts."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from authsome.broker import catalog as catalogs
from authsome.broker.catalog import FILE_LIMIT, Catalog, bundled_directory
from authsome.errors import ProviderInvalid, ProviderNotFound
from authsome.models import summary


def definition(name: str, api_url: object = "api.acme.test", **more: object) -> dict[str, object]:
    return {"schema_version": 1, "name": name, "api_url": api_url, "auth_type": "api_key", "api_key": {}, **more}


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    directory = tmp_path / "bundled"
    directory.mkdir()
    for name, api_url in {
        "github": ["api.github.test", "github.test"],
        "wide": "*.wide.test",
        "gitlab": "{base_url}/api/",
    }.items():
        more = {"base_url": "https://gitlab.test"} if name == "gitlab" else {}
        (directory / f"{name}.json").write_text(json.dumps(definition(name, api_url, **more)))
    return directory


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    directory = tmp_path / "custom"
    directory.mkdir()
    return directory


@pytest.fixture
def catalog(bundled: Path, custom: Path) -> Catalog:
    return Catalog(bundled=bundled, custom=custom)


@pytest.fixture
def write(custom: Path) -> Callable[..., Path]:
    """Put a custom definition in place, as `register` would."""

    def put(name: str, content: object) -> Path:
        path = custom / f"{name}.json"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        temporary = custom / ".new"
        temporary.write_bytes(data)
        temporary.chmod(0o600)
        temporary.replace(path)
        return path

    return put


def test_bundled_directory_is_there():
    """The real catalogue is found from a checkout."""
    assert (bundled_directory() / "github.json").is_file()


def test_names_and_sources(catalog: Catalog, write: Callable[..., Path]):
    """Custom definitions stand beside the bundled ones, or instead of them under the same name."""
    write("acme", definition("acme"))
    write("github", definition("github", "github.internal.test", display_name="Ours"))
    assert catalog.names() == ("acme", "github", "gitlab", "wide")
    assert [catalog.source(name) for name in catalog.names()] == ["custom", "override", "bundled", "bundled"]
    assert catalog.get("github").display_name == "Ours"
    assert [entry.name for entry in catalog.all()] == list(catalog.names())


def test_no_custom_directory(bundled: Path, tmp_path: Path):
    """A home without `providers` is a home without custom providers."""
    assert Catalog(bundled=bundled, custom=tmp_path / "none").names() == ("github", "gitlab", "wide")


def test_did_you_mean(catalog: Catalog):
    """A misspelt name is answered with the nearest one."""
    with pytest.raises(ProviderNotFound) as caught:
        catalog.get("gihtub")
    assert caught.value.message == "no provider named gihtub"
    assert caught.value.hint == "did you mean github?"
    assert catalog.find("gihtub") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "", ".", "x" * 10_000, "github\n", "GitHub", "github.json"])
def test_odd_names_are_just_not_there(catalog: Catalog, name: str):
    """A name is looked up, never made a path of."""
    # SEC-110
    with pytest.raises(ProviderNotFound):
        catalog.get(name)


def test_changes_are_seen(catalog: Catalog, write: Callable[..., Path]):
    """A file that is added, changed or removed counts from the next call on."""
    assert catalog.find("acme") is None
    write("acme", definition("acme", display_name="One"))
    assert catalog.get("acme").display_name == "One"
    path = write("acme", definition("acme", display_name="Two"))
    assert catalog.get("acme").display_name == "Two"
    path.unlink()
    assert catalog.find("acme") is None


def test_editions(catalog: Catalog, write: Callable[..., Path]):
    """Another one for other files, broken ones too, and the same while they are."""
    seen = [catalog.edition()]
    path = write("acme", definition("acme"))
    seen.append(catalog.edition())
    write("acme", definition("acme", display_name="Another"))
    seen.append(catalog.edition())
    path.write_text("{")
    seen.append(catalog.edition())
    assert len(set(seen)) == len(seen)
    assert catalog.edition() == seen[-1]
    path.unlink()
    assert catalog.edition() == seen[0]


def test_a_definition_that_comes_while_hosts_are_looked_up_counts(
    catalog: Catalog, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    """At once, though the look began with what there was before: whoever is told of it asks at once."""
    look, looks = catalogs._index, []

    def late(*args):
        if not looks:
            looks.append(None)
            write("acme", definition("acme", "api.acme.example"))
            catalog.names()
        return look(*args)

    monkeypatch.setattr(catalogs, "_index", late)
    monkeypatch.setattr(catalogs, "FRESHNESS", 60.0)
    found = [{each.name for each in catalog.naming("api.acme.example", 443)} for _ in range(2)]
    assert found == [{"gitlab"}, {"acme", "gitlab"}]


def test_unchanged_files_are_not_read_again(catalog: Catalog, write: Callable[..., Path]):
    """The same object comes back while the files are the same, whatever happens to the others."""
    write("acme", definition("acme"))
    first = catalog.get("acme")
    write("other", definition("other", "other.test"))
    assert catalog.get("acme") is first
    assert catalog.get("github") is catalog.get("github")


def test_override_ends_with_its_file(catalog: Catalog, write: Callable[..., Path]):
    """Without the override the bundled definition is back."""
    path = write("github", definition("github", "github.internal.test"))
    assert catalog.source("github") == "override"
    path.unlink()
    assert catalog.source("github") == "bundled"
    assert catalog.get("github").api_url == ("api.github.test", "github.test")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON at line 1"),
        (b"{", "is not JSON at line 1"),
        (b"[]", "is not JSON that can be used: not a JSON object"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'\xef\xbb\xbf{"name": "acme"}', "is not JSON at line 1"),
        (b'{"name": "acme", "name": "acme"}', 'the member "name" is named twice'),
        (b'{"name": "acme", /* it', "is not JSON at line 1, column 18: a comment begins here, and no */ ends it"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "nested too deeply"),
        (b" " * (FILE_LIMIT + 1), "is larger than 256 KiB"),
        (json.dumps(definition("other")).encode(), "name: is other"),
        (json.dumps(definition("acme", "regex:(a+)+$")).encode(), "never by a regular expression"),
        (json.dumps(definition("acme", colour=1)).encode(), "there is no field 'colour'"),
        (json.dumps(definition("acme", api_url=7)).encode(), "api_url: must be a text or a list"),
    ],
)
def test_broken_file_breaks_itself_only(catalog: Catalog, write: Callable[..., Path], content: bytes, problem: str):
    """A broken definition says what is wrong with it; the others work, and it is listed as broken."""
    # SEC-110
    write("acme", content)
    write("fine", definition("fine", "fine.test"))
    with pytest.raises(ProviderInvalid) as caught:
        catalog.get("acme")
    assert caught.value.message.startswith("acme.json: ")
    assert problem in caught.value.message
    assert len(caught.value.message) < 300
    assert catalog.find("acme") is None
    assert catalog.get("fine").name == "fine"
    assert catalog.get("github").name == "github"
    assert [entry.name for entry in catalog.all() if entry.problem] == ["acme"]


def test_broken_override_is_no_way_back(catalog: Catalog, write: Callable[..., Path]):
    """While its override is broken, a bundled provider is not used: its owner wanted something else of it."""
    write("github", b"{")
    assert catalog.find("github") is None
    assert catalog.naming("api.github.test", 443) == (catalog.get("gitlab"),)


@pytest.mark.parametrize("name", ["GitHub", "gıthub", "gith\u0443b", "a b", "-x", "x\x1b[31m"])  # noqa: RUF001  # look-alikes
def test_file_names_that_are_no_names(catalog: Catalog, write: Callable[..., Path], name: str):
    """A look-alike of a name, or one that a terminal would act on, is listed as broken and cannot be used."""
    # SEC-110
    write(name, definition(name))
    broken = [entry for entry in catalog.all() if entry.problem]
    assert len(broken) == 1
    assert broken[0].provider is None
    assert "the file's name is no provider name" in broken[0].problem.message
    assert "\x1b" not in broken[0].problem.message + broken[0].name


@pytest.mark.parametrize(
    ("api_url", "owner"),
    [
        ("api.github.test", "github"),
        ("API.GitHub.test", "github"),
        (["acme.test", "github.test"], "github"),
        ("https://api.github.test/some/path/", "github"),
        ("https://api.github.test:8443", "github"),
        ("*.github.test", "github"),
        ("x.wide.test", "wide"),
        ("wide.test", "wide"),
        ("*.wide.test", "wide"),
        ("*.x.wide.test", "wide"),
        ("gitlab.test", "gitlab"),
    ],
)
def test_host_of_a_bundled_provider(catalog: Catalog, write: Callable[..., Path], api_url: object, owner: str):
    """A custom provider takes no host from a bundled one, at no port and on no path."""
    # SEC-110, SEC-111
    write("acme", definition("acme", api_url))
    with pytest.raises(ProviderInvalid, match=f"belongs to the bundled provider {owner}") as caught:
        catalog.get("acme")
    assert caught.value.hint == f"to change that provider, name the definition {owner}"
    assert catalog.get(owner).name == owner


@pytest.mark.parametrize(
    ("api_url", "is_its_own"),
    [
        ("https://shared.test/two/", True),
        ("shared.test", True),
        ("x.below.test", True),
        ("*.below.test", True),
        (["shared.test", "new.test"], True),
        ("*.shared.test", False),
        ("only-one.test", False),
        (["shared.test", "only-one.test"], False),
        ("*.test", False),
    ],
)
def test_hosts_that_bundled_providers_share(
    bundled: Path,
    custom: Path,
    write: Callable[..., Path],
    api_url: object,
    is_its_own: bool,  # noqa: FBT001  # the table's column
):
    """An override may name what its own bundled definition names, though another one does too; nothing of others'."""
    # SEC-110
    for name, hosts in {
        "one": ["shared.test", "only-one.test", "*.below.test"],
        "two": ["shared.test", "*.below.test"],
    }.items():
        (bundled / f"{name}.json").write_text(json.dumps(definition(name, hosts)))
    write("two", definition("two", api_url))
    found = Catalog(bundled=bundled, custom=custom).entry("two")
    assert (found.problem is None) is is_its_own, found.problem


@pytest.mark.parametrize("api_url", ["github.test.acme.example", "xgithub.test", "api.github.example", "*.acme.test"])
def test_hosts_of_nobody(catalog: Catalog, write: Callable[..., Path], api_url: str):
    """A host that only resembles a bundled one is free to be named."""
    write("acme", definition("acme", api_url))
    assert catalog.get("acme").api_url == (api_url,)


def test_default_of_a_variable_is_a_claim(catalog: Catalog, write: Callable[..., Path]):
    """A host that a definition names by way of a default is named all the same."""
    # SEC-111
    write("acme", definition("acme", "{base_url}", base_url="https://api.github.test"))
    with pytest.raises(ProviderInvalid, match="belongs to the bundled provider github"):
        catalog.get("acme")


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
def test_modes_that_are_fine(catalog: Catalog, write: Callable[..., Path], mode: int):
    """A definition holds no secret: others may read it."""
    write("acme", definition("acme")).chmod(mode)
    assert catalog.get("acme").name == "acme"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_writable_by_others(catalog: Catalog, write: Callable[..., Path], mode: int):
    """A definition decides where a credential goes: nobody else may have written it."""
    # SEC-119
    write("acme", definition("acme")).chmod(mode)
    with pytest.raises(ProviderInvalid, match="can be written by others"):
        catalog.get("acme")


@pytest.mark.parametrize(
    ("plant", "problem"),
    [
        (lambda target, path: path.symlink_to(target), "is a symbolic link"),
        (lambda target, path: path.hardlink_to(target), "has more than one name"),
        (lambda _, path: path.mkdir(), "is not a regular file"),
        (lambda _, path: os.mkfifo(path), "is not a regular file"),
        (lambda _, path: path.symlink_to("/dev/zero"), "is a symbolic link"),
        (lambda _, path: path.symlink_to(path), "is a symbolic link"),
    ],
)
def test_what_is_no_file_of_ours(
    catalog: Catalog, custom: Path, tmp_path: Path, plant: Callable[[Path, Path], None], problem: str
):
    """Links, pipes and devices are refused at once, not read."""
    # SEC-119
    target = tmp_path / "target.json"
    target.write_text(json.dumps(definition("acme")))
    target.chmod(0o600)
    plant(target, custom / "acme.json")
    with pytest.raises(ProviderInvalid, match=problem):
        catalog.get("acme")
    assert catalog.get("github").name == "github"


@pytest.mark.parametrize(
    ("host", "port", "names"),
    [
        ("api.github.test", 443, {"github", "gitlab"}),
        ("API.GITHUB.TEST", 443, {"github", "gitlab"}),
        ("api.github.test", 8443, {"gitlab"}),
        ("x.wide.test", 443, {"wide", "gitlab"}),
        ("a.b.wide.test", 443, {"wide", "gitlab"}),
        ("wide.test", 443, {"gitlab"}),
        ("evilwide.test", 443, {"gitlab"}),
        ("acme.test", 8443, {"acme", "gitlab"}),
        ("unknown.test", 443, {"gitlab"}),
        ("api.github.test.", 443, set()),
        ("", 443, set()),
    ],
)
def test_naming(catalog: Catalog, write: Callable[..., Path], host: str, port: int, names: set[str]):
    """Those that name an address, and those whose hosts depend on the connection."""
    write("acme", definition("acme", "https://acme.test:8443"))
    assert {provider.name for provider in catalog.naming(host, port)} == names


def test_files_that_are_none_of_ours(catalog: Catalog, custom: Path):
    """Editors' and other programs' files are left alone."""
    for name in (".acme.json", "acme.json~", "README", "acme.json.bak"):
        (custom / name).write_text("not a definition")
    assert catalog.names() == ("github", "gitlab", "wide")


def test_definitions_of_upstream_are_read(catalog: Catalog, write: Callable[..., Path]):
    """A file that was written for upstream authsome, comments and all, serves where it lies."""
    text = """// Acme
    {"name": "acme", "display_name": "Acme", "auth_type": "api_key", "flow": "api_key", /* hosts */
     "api_url": "regex:^(api\\\\.acme\\\\.test|acme\\\\.test)", "logo": "img",
     "api_key": {"header_name": "X-Key", "header_prefix": ""}, "export": {"ACME_KEY": "API_TOKEN"}}"""
    write("acme", text.encode())
    assert catalog.get("acme").api_url == ("api.acme.test", "acme.test")
    assert catalog.get("acme").export.env[0].name == "ACME_KEY"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('// one\n{"name": "acme",,}', "acme.json: is not JSON at line 2, column 17"),
        ('/* open\n{"name": "acme"}', "acme.json: is not JSON at line 1, column 1"),
    ],
)
def test_comments_do_not_move_errors(catalog: Catalog, write: Callable[..., Path], text: str, problem: str):
    """An error names the place in the file as its author sees it."""
    write("acme", text.encode())
    with pytest.raises(ProviderInvalid) as caught:
        catalog.get("acme")
    assert caught.value.message.startswith(problem)


def test_bundled_definitions_are_read_when_they_are_asked_for(catalog: Catalog, bundled: Path):
    """However many there are, a daemon that starts pays for none of them, and a login for one."""
    assert catalog.names() == ("github", "gitlab", "wide")
    (bundled / "wide.json").write_text("{")
    assert catalog.get("github").name == "github"
    assert {provider.name for provider in catalog.naming("x.wide.test", 443)} == {"gitlab"}
    with pytest.raises(ProviderInvalid, match=r"wide\.json"):
        catalog.get("wide")


@pytest.mark.parametrize(
    ("entry", "mine", "taken"),
    [
        ("{shop}.shops.test", "acme.shops.test", True),
        ("{shop}.shops.test", "*.acme.shops.test", True),
        ("{shop}.shops.test", "shops.test", True),
        ("{shop}.shops.test", "evilshops.test", False),
        ("https://{shop}.shops.test/admin/", "https://acme.shops.test:8443/other/", True),
        ("{shop_url}", "example.shops.test", True),
        ("{shop_url}", "acme.shops.test", False),
    ],
)
def test_hosts_of_templates_are_taken(
    catalog: Catalog, bundled: Path, write: Callable[..., Path], entry: str, mine: str, *, taken: bool
):
    """What a bundled provider's variables may make of a host is nobody else's, as far as can be said. # SEC-110"""
    variables = {"shop_url": {"example": "https://example.shops.test"}} if "_url" in entry else {"shop": {}}
    (bundled / "shops.json").write_text(json.dumps(definition("shops", entry, variables=variables)))
    write("acme", definition("acme", mine))
    assert (catalog.find("acme") is None) == taken
    if taken:
        with pytest.raises(ProviderInvalid, match="belongs to the bundled provider shops"):
            catalog.get("acme")


def test_bundled_definitions_are_listed_as_they_are():
    """What a list shows without reading a definition whole is what the definition says."""
    whole = Catalog(bundled=bundled_directory(), custom=Path("/nonexistent"))
    quick = Catalog(bundled=bundled_directory(), custom=Path("/nonexistent"))
    listed = {each.name: each for each in quick.list_all()}
    for entry in whole.all():
        assert entry.provider is not None
        assert summary.of_document(json.loads(entry.path.read_bytes())) == summary.of(entry.provider)
        assert listed[entry.name] == catalogs.listed(entry)
    assert [*listed] == [*whole.names()]


def test_what_is_not_bundled_is_listed_beside_it(catalog, write):
    """A definition of one's own and an override by what they say, a broken one by its name and what is wrong."""
    write("mine", definition("mine", display_name="My own"))
    write("github", definition("github", ["api.github.test"], display_name="Our GitHub"))
    write("broken", b"{")
    listed = {each.name: each for each in catalog.list_all()}
    assert {name: (each.source, each.summary.title) for name, each in listed.items()} == {
        "broken": ("custom", "broken"),
        "github": ("override", "Our GitHub"),
        "gitlab": ("bundled", "gitlab"),
        "mine": ("custom", "My own"),
        "wide": ("bundled", "wide"),
    }
    assert "is not JSON" in listed["broken"].problem.message
    assert [each.name for each in catalog.own()] == ["broken", "github", "mine"]
    assert catalog.titles(["mine", "wide", "gone"]) == {"mine": "My own", "wide": "wide", "gone": "gone"}
