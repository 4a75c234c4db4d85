"""The pages of a login: whatever comes from outside is text, secrets are not shown, links are https."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from authsome.daemon.dashboard import bridge
from authsome.daemon.dashboard.bridge import DeviceCode, Done, FormField, InputForm

EVIL = "\"><img src=x onerror=alert(1)><script>alert(1)</script>'{{x}}"

KEY = InputForm(
    provider="OpenAI",
    fields=(FormField(name="api_key", label="API key", secret=True, hint="starts with `sk-`"),),
    action="/auth/sessions/1/input",
    form_token="token",
    cancel_action="/auth/sessions/1/cancel",
    docs_url="https://platform.openai.example/keys",
    hosts=("api.openai.com",),
)
CLIENT = replace(
    KEY,
    provider="GitHub",
    fields=(
        FormField(name="client_id", label="Client ID", secret=False, value="Iv1.0"),
        FormField(name="client_secret", label="Client secret", secret=True, required=False),
    ),
    redirect_uri="http://127.0.0.1:7998/auth/callback/oauth",
)

EVENTS = "/auth/sessions/login_1/events?stage=device"
DEVICE = DeviceCode(
    provider="GitHub",
    user_code="WDJB-MJHT",
    verification_uri="https://github.example/device",
    verification_uri_complete=None,
    form_token="token",
    cancel_action="/auth/sessions/1/abandon",
)

PAGES = {
    "key": lambda text: bridge.input_page(replace(KEY, provider=text, problem=text, hosts=(text,))),
    "client": lambda text: bridge.input_page(
        replace(
            CLIENT,
            provider=text,
            problem=text,
            docs_url=f"https://x{text}",
            redirect_uri=text,
            action=text,
            cancel_action=text,
            form_token=text,
            fields=(FormField(name=text, label=text, secret=False, hint=text, value=text),),
        )
    ),
    "device": lambda text: bridge.device_page(
        replace(DEVICE, provider=text, user_code=text, verification_uri=text, form_token=text, cancel_action=text),
        events=text,
    ),
    "waiting": lambda text: bridge.waiting_page(text, events=text),
    "onward": lambda text: bridge.onward_page(text, "https://provider.example/authorize?a=b"),
    "done": lambda text: bridge.done_page(text, Done(connection=text, account=text, unverified=text, unnamed=text)),
    "failed": lambda text: bridge.failed_page(text, text, text),
    "error": lambda text: bridge.error_page(404, text, text),
    "expired": lambda _: bridge.expired_page(),
    "locked": lambda _: bridge.locked_page(is_new=False),
}


class Reader(HTMLParser):
    """What a browser makes of a page, as far as it matters here."""

    def __init__(self, page):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the last that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text."""
        self.text += data

    def all(self, tag):
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_pages_are_whole(page):
    """One language, one title, one heading, every tag closed; labels, hints and problems point at what is there."""
    read = Reader(page("GitHub"))
    assert read.open == []
    assert read.all("html") == [{"lang": "en"}]
    assert [tag for tag, _ in read.tags].count("title") == 1
    assert [tag for tag, _ in read.tags].count("h1") == 1
    assert {attributes["href"] for attributes in read.all("link")} == {"/ui/style.css", "/ui/icon.svg"}
    identifiers = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    inputs = [attributes for attributes in read.all("input") if attributes["type"] != "hidden"]
    assert [attributes["id"] for attributes in inputs] == [attributes["for"] for attributes in read.all("label")]
    for attributes in inputs:
        assert set(attributes["aria-describedby"].split()) <= set(identifiers)
    assert sum("autofocus" in attributes for attributes in inputs) == bool(inputs)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_comes_from_outside_is_text(page):
    """Provider, label, hint, problem, account, host, message and path may be anything."""  # SEC-38 SEC-97
    plain, hostile = Reader(page("x")), Reader(page(EVIL))
    assert [tag for tag, _ in hostile.tags if tag != "a"] == [tag for tag, _ in plain.tags if tag != "a"]
    assert {name for _, attributes in hostile.tags for name in attributes} <= {
        name for _, attributes in plain.tags for name in attributes
    }
    if page not in {PAGES["expired"], PAGES["locked"]}:
        assert "<script>alert(1)</script>'{{x}}" in hostile.text


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "http://docs.example",
        "//docs.example",
        "https:docs.example",
        "https://",
        "https:///x",
        " https://docs.example",
        "https://docs.example/a b",
        "https://docs.example/\n",
        "",
    ],
)
def test_only_https_becomes_a_link(url):
    """A definition's documentation is a link when it is an https URL, and nothing otherwise."""  # SEC-39
    for form in (KEY, CLIENT):
        assert Reader(bridge.input_page(replace(form, docs_url=url))).all("a") == []


def test_links_tell_nobody_where_they_stood():
    """The documentation opens apart, without opener or referrer."""  # SEC-41
    (link,) = Reader(bridge.input_page(KEY)).all("a")
    assert link == {
        "href": "https://platform.openai.example/keys",
        "target": "_blank",
        "rel": "noreferrer noopener",
    }


def test_secrets_are_typed_unseen():
    """Secret fields are passwords without memory, and come back empty after an error; others come back filled."""
    # SEC-48
    form = replace(
        CLIENT,
        problem="the client secret was refused",
        fields=(
            FormField(name="client_id", label="Client ID", secret=False, value="Iv1.0"),
            FormField(name="client_secret", label="Client secret", secret=True, value="sesame"),
        ),
    )
    page = bridge.input_page(form)
    assert "sesame" not in page
    read = Reader(page)
    (sent,) = read.all("form")
    assert (sent["method"], sent["action"], sent["autocomplete"]) == ("post", "/auth/sessions/1/input", "off")
    hidden, client_id, client_secret = read.all("input")
    assert (hidden["type"], hidden["name"], hidden["value"]) == ("hidden", "form_token", "token")
    assert (client_id["type"], client_id["value"]) == ("text", "Iv1.0")
    assert (client_secret["type"], client_secret["value"]) == ("password", "")
    for attributes in (client_id, client_secret):
        assert attributes["autocomplete"] == "off"
        assert attributes["spellcheck"] == "false"
        assert attributes["aria-invalid"] == "true"
        assert attributes["aria-describedby"] == "problem"
    assert "The client secret was refused." in read.text


def test_a_form_says_what_it_is_for():
    """Where the values come from, what to register, where they will go, and how to give up."""
    key, client = bridge.input_page(KEY), bridge.input_page(CLIENT)
    assert "Where do I get this?" in key
    assert "Starts with <code>sk-</code>." in key
    assert "and sent only to:" in key
    assert "<code>api.openai.com</code>" in key
    assert "used only to sign in" in client
    assert '<code class="copy">http://127.0.0.1:7998/auth/callback/oauth</code>' in client
    assert 'formaction="/auth/sessions/1/cancel" formnovalidate' in client
    fields = {attributes["name"]: attributes for attributes in Reader(client).all("input")}
    assert "required" in fields["client_id"]
    assert "required" not in fields["client_secret"]
    assert "(optional)" in client
    bare = bridge.input_page(replace(KEY, cancel_action=None, docs_url=None, hosts=()))
    assert "Cancel" not in bare
    assert "never shown to the programs that use it" in bare


def test_a_client_that_is_the_account():
    """Nobody signs in and nothing redirects: id and secret are asked for, and it is said what becomes of them."""
    alone = bridge.input_page(replace(CLIENT, redirect_uri=None, is_account=True))
    assert "it is the account itself" in alone
    assert "redirect" not in alone
    assert "used only to get tokens. Those are sent only to:" in alone


def test_a_device_code():
    """The code, the address as a link and as a QR code that says the same, with the code in it when there is one."""
    read = Reader(bridge.device_page(DEVICE, events=EVENTS))
    assert "WDJB-MJHT" in read.text
    assert [link["href"] for link in read.all("a")] == ["https://github.example/device"]
    ((_, drawing),) = [(tag, attributes) for tag, attributes in read.tags if tag == "svg"]
    assert set(drawing) <= {"class", "viewbox"}
    direct = "https://github.example/device?user_code=WDJB-MJHT"
    complete = bridge.device_page(replace(DEVICE, verification_uri_complete=direct), events=EVENTS)
    assert [link["href"] for link in Reader(complete).all("a")] == [direct]
    assert qr_of(complete) != qr_of(bridge.device_page(DEVICE, events=EVENTS))
    assert qr_of(complete) == qr_of(bridge.device_page(replace(DEVICE, verification_uri=direct), events=EVENTS))
    assert "style=" not in complete


def qr_of(page):
    """The drawing of the QR code."""
    return page.partition("<svg")[2].partition("</svg>")[0]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "file:///etc/passwd", "http://github.example/", "x y"])
def test_an_address_that_is_none_is_only_text(address):
    """What a provider says of where to go becomes a link, or a QR code, only if it is an address of the web."""
    # SEC-39 SEC-74
    for page in (
        bridge.device_page(replace(DEVICE, verification_uri=address), events=EVENTS),
        bridge.device_page(replace(DEVICE, verification_uri_complete=address), events=EVENTS),
    ):
        read = Reader(page)
        assert read.all("a") == []
        assert read.all("svg") == []
    assert address in Reader(bridge.device_page(replace(DEVICE, verification_uri=address), events=EVENTS)).text


def test_going_on_to_the_provider():
    """By itself, and by a button that names the host; only to http(s)."""
    url = "https://user@provider.example/authorize?a=\"b'&c=;url=x"
    read = Reader(bridge.onward_page("GitHub", url))
    refresh = next(attributes for attributes in read.all("meta") if "http-equiv" in attributes)
    assert refresh["content"] == f"0; url={url}"
    assert read.all("a") == [{"class": "button", "href": url, "rel": "noreferrer"}]
    assert "provider.example" in read.text
    assert "user@" not in read.text


def test_going_on_to_a_provider_that_nobody_knew():
    """Where a token will go is read before anybody consents: nothing sends on by itself, and nothing is left out."""
    hosts = ("mcp.acme.example", "<b>files.acme.example")
    page = bridge.onward_page("Acme", "https://auth.acme.example/authorize", hosts=hosts)
    read = Reader(page)
    assert "http-equiv" not in page
    assert read.all("a") == [{"class": "button", "href": "https://auth.acme.example/authorize", "rel": "noreferrer"}]
    assert "sent only to" in read.text
    assert all(host in read.text for host in (*hosts, "auth.acme.example"))
    device = Reader(bridge.device_page(replace(DEVICE, hosts=hosts), events=EVENTS)).text
    assert all(host in device for host in hosts)
    assert "sent only to" not in Reader(bridge.device_page(DEVICE, events=EVENTS)).text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:,x", "//x", "https:x", "https://", "https://x y", ""])
def test_not_going_on_elsewhere(url):
    """A definition cannot make the browser run or open anything but a web page."""  # SEC-39 SEC-40
    with pytest.raises(ValueError, match="http"):
        bridge.onward_page("GitHub", url)


def test_the_outcome_is_told():
    """Who signed in, under which name it is kept, or what went wrong and what to do."""
    done = Reader(bridge.done_page("GitHub", Done(connection="work", account="octocat"))).text
    assert "GitHub is connected" in done
    assert "octocat" in done
    assert "work" in done
    assert "Account" not in bridge.done_page("GitHub", Done(connection="work"))
    quiet = Reader(bridge.done_page("Groq", Done(connection="work", unnamed="no answer has a name in it"))).text
    assert "not said: no answer has a name in it" in quiet
    untried = Reader(bridge.done_page("Acme", Done(connection="work", unverified="each request costs"))).text
    assert "each request costs" in untried
    failed = Reader(bridge.failed_page("GitHub", "the state is wrong", "run `authsome login github`")).text
    assert "The state is wrong." in failed
    assert "Run authsome login github." in failed
    error = Reader(bridge.error_page(404, "there is nothing at this address")).text
    assert "Not Found" in error
    assert "There is nothing at this address." in error


def test_what_began_in_the_dashboard_goes_on_there():
    """No word of the terminal, and a way back; any other hint stays."""
    again, check = "start again with `authsome login`", "check the client id"
    assert "authsome login" in bridge.failed_page("GitHub", "no", again)
    failed = bridge.failed_page("GitHub", "no", again, back="/ui/apps/github")
    assert "authsome login" not in failed
    assert [link["href"] for link in Reader(failed).all("a")] == ["/ui/apps/github"]
    assert "Check the client id." in bridge.failed_page("GitHub", "no", check, back="/ui/apps/github")
    lost = Reader(bridge.error_page(404, "there is nothing at this address", back="/ui/"))
    assert [link["href"] for link in lost.all("a")] == ["/ui/"]


@pytest.mark.parametrize(
    ("provider", "letter"), [("GitHub", "G"), ("élan", "É"), ('"> 1x', "1"), ("…", "•"), ("", "•")]
)
def test_monograms(provider, letter):
    """The first letter or digit, whatever stands before it."""
    assert f'aria-hidden="true">{letter}</span>' in bridge.done_page(provider, Done(connection="default"))
