"""URLs and hosts of definitions: one reading, or none."""

import pytest

from authsome.models import url
from authsome.models.route import HostPattern


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://API.Example.com/V1/", "https://api.example.com/V1/"),
        ("https://api.example.com:443/x", "https://api.example.com/x"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_parse(text: str, canonical: str):
    assert url.parse(text, allow_private=False).text == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com",
        "http://api.example.com",
        "ftp://api.example.com",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "gopher://api.example.com",
        "HTTPS://api.example.com",
        "https:/api.example.com",
        "https:///path",
        "https://",
        "https://user@api.example.com",
        "https://user:pass@api.example.com",
        "https://api.example.com@evil.test",
        "https://api.example.com?x=1",
        "https://api.example.com/#x",
        "https://api.example.com/?x",
        "https://api.example.com\\@evil.test",
        "https://api.example.com/a b",
        "https://api.example.com/\n",
        "https://api.example.com/%zz",
        "https://api.example.com.",
        "https://.example.com",
        "https://api..example.com",
        "https://-api.example.com",
        "https://api_x.example.com",
        "https://bücher.example",
        "https://api.example。com",
        "https://api.example.com:0",
        "https://api.example.com:65536",
        "https://api.example.com:443:443",
        "https://[2001:db8::1]/",
        "https://*.example.com/",
        # SEC-103: nothing that is not a public name
        "https://localhost",
        "https://api.localhost",
        "https://127.0.0.1",
        "https://127.1",
        "https://2130706433",
        "https://0x7f000001",
        "https://10.0.0.1",
        "https://8.8.8.8",
        "https://169.254.169.254",
        "https://[::1]/",
        "https://intranet",
        "http://localhost:8080",
        "http://127.0.0.1:7998/providers",
    ],
)
def test_refused(text: str):
    """Only https to a public name, in the one spelling there is."""
    # SEC-99 SEC-103
    with pytest.raises(ValueError, match=r"."):
        url.parse(text, allow_private=False)


@pytest.mark.parametrize(
    "text",
    [
        "https://localhost:9443",
        "https://api.example.localhost",
        "https://10.0.0.1",
        "https://intranet/api",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://login.example.localhost:8080",
        "http://[::1]:8080",
    ],
)
def test_private_addresses_are_taken_where_the_definition_says_so(text: str):
    assert url.parse(text, allow_private=True).text == text


@pytest.mark.parametrize(
    "text",
    [
        "http://api.example.com",
        "http://10.0.0.1",
        "http://intranet",
        "http://127.evil.test",
        "http://127.0.0.1.evil.test",
    ],
)
def test_http_never_leaves_the_machine(text: str):
    # SEC-99
    with pytest.raises(ValueError, match="http is taken for this machine only"):
        url.parse(text, allow_private=True)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("api.example.com", HostPattern(host="api.example.com")),
        ("API.example.com", HostPattern(host="api.example.com")),
        ("*.example.com", HostPattern(host="example.com", is_suffix=True)),
        ("https://api.example.com", HostPattern(host="api.example.com")),
        ("https://api.example.com/", HostPattern(host="api.example.com")),
        ("https://api.example.com/v1", HostPattern(host="api.example.com", path_prefix="/v1/")),
        ("https://api.example.com/v1/", HostPattern(host="api.example.com", path_prefix="/v1/")),
        ("https://api.example.com:8443", HostPattern(host="api.example.com", port=8443)),
        ("https://*.example.com/api/", HostPattern(host="example.com", is_suffix=True, path_prefix="/api/")),
        ("*.example.co.uk", HostPattern(host="example.co.uk", is_suffix=True)),
        ("*.acme.github.io", HostPattern(host="acme.github.io", is_suffix=True)),
    ],
)
def test_host_pattern(text: str, pattern: HostPattern):
    assert url.host_pattern(text, allow_private=False) == pattern


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.",
        "**.example.com",
        "*example.com",
        "api.*.com",
        "*.*.example.com",
        ".example.com",
        "api.example.com.",
        "api.example.com/v1",
        "api.example.com:8443",
        "user@api.example.com",
        "http://api.example.com",
        "https://api.example.com/a/../b/",
        "https://api.example.com/%2e%2e/",
        "https://*.com/",
        # SEC-110: names below these belong to different people
        "*.com",
        "*.io",
        "*.co.uk",
        "*.com.au",
        "*.github.io",
        "*.githubusercontent.com",
        "*.herokuapp.com",
        "*.s3.amazonaws.com",
        "*.us-east-1.amazonaws.com",
        "*.blob.core.windows.net",
        "*.vercel.app",
        "*.workers.dev",
        "regex:.*\\.example\\.com$",
        "Regex:.*",
        "аpi.example.com",  # noqa: RUF001  # the first letter is Cyrillic
    ],
)
def test_hosts_that_are_no_hosts(text: str):
    # SEC-110
    with pytest.raises(ValueError, match=r"."):
        url.host_pattern(text, allow_private=False)


@pytest.mark.parametrize(
    ("regex", "safe"),
    [
        (r"regex:.*\.linear\.app", "*.linear.app"),
        (r"regex:.*googleapis.*", None),
        (r"regex:.*googleapis\.com.*", "*.googleapis.com"),
        (r"regex:^api\.example\.com$", "api.example.com"),
        (r"regex:.*githubusercontent\.com$", "githubusercontent.com"),  # its suffix would be refused as well
        (r"regex:.*", None),
    ],
)
def test_safe_form(regex: str, safe: str | None):
    """Whoever wrote a `regex:` is told what to write instead, and that form is one that is taken."""
    assert url.safe_form(regex) == safe
    if safe is not None:
        url.host_pattern(safe, allow_private=False)


@pytest.mark.parametrize(
    ("regex", "known", "safe"),
    [
        ("regex:.*googleapis.*", ["accounts.google.com", "oauth2.googleapis.com"], "*.googleapis.com"),
        ("regex:.*acme.*", ["acme.com"], "*.acme.com"),
        ("regex:.*com.*", ["acme.com"], None),
        ("regex:.*github.*", ["github.io"], None),  # its suffix would be refused as well
        ("regex:.*", ["acme.com"], None),
    ],
)
def test_safe_form_by_what_is_known(regex: str, known: list[str], safe: str | None):
    """An expression without a whole name is read by the hosts that stand elsewhere in the definition."""
    assert url.safe_form(regex, known) == safe
    if safe is not None:
        url.host_pattern(safe, allow_private=False)
