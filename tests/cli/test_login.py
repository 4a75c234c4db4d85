"""A login waits for its end, takes keys from a terminal, a pipe or the form, and stores nothing when left half-way."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsome.cli import login
from fakes import definitions
from fakes.api import Answer, ApiServer
from fakes.endpoint import Endpoint, answer, tokens
from fakes.oidc import BASIC, PUBLIC, Client, OidcServer
from fakes.patience import settled
from fakes.program import Program
from fakes.terminal import CTRL_D

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ_-k"
OTHER = "sk-proj-9876543210jihgfedcbaJIHGFEDCBA_-k"
NO_BROWSER = {"BROWSER": None}
PLAIN = {"NO_COLOR": "1"}


def connections(program: Program) -> list[dict[str, object]]:
    return [each for provider in program.json("list", "--connected")["providers"] for each in provider["connections"]]


def define_acme(program: Program, server: OidcServer, client: Client = PUBLIC) -> None:
    """A provider definition of the user's own."""
    definitions.put(program.home, server.definition("acme", client=client, api_url="api.example.localhost"))


# ---- from a pipe -----------------------------------------------------------------------------------------------------


def test_a_key_from_a_pipe(program: Program):
    # SEC-142
    done = program("login", "openai", "--stdin", input=KEY + "\n")
    assert (done.returncode, done.stdout) == (0, "logged in to openai\n")
    assert KEY not in done.stderr
    stored = connections(program)
    assert [(each["provider"], each["connection"], each["status"]) for each in stored] == [
        ("openai", "default", "connected")
    ]


def test_a_key_as_json(program: Program):
    answer = json.loads(program("login", "openai", "--stdin", "--json", input=KEY).stdout)
    assert (answer["provider"], answer["connection"], answer["status"]) == ("openai", "default", "connected")


def test_a_key_is_tried_on_its_provider(program: Program, api_server: ApiServer):
    """Whose it is is said; a refused one is not stored; `--no-verify` asks nobody."""
    api = api_server.url("/", host="api.example.localhost")
    definitions.put(
        program.home,
        {
            "schema_version": 1,
            "name": "keyed",
            "api_url": api,
            "allow_private_addresses": True,
            "api_key": {},
            "verify": {"url": f"{api}user", "account": "login"},
        },
    )
    api_server.protected["/user"] = ("authorization", f"Bearer {KEY}")
    api_server.answers["/user"] = Answer(body=b'{"login": "octocat"}')
    refused = program("login", "keyed", "--stdin", input=OTHER)
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "the key is not accepted: api.example.localhost" in refused.stderr
    assert "refuses it (401)" in refused.stderr
    assert connections(program) == []
    assert program("login", "keyed", "--stdin", input=KEY).stdout == "logged in to keyed as octocat\n"
    work = program("login", "keyed", "--stdin", "--connection", "work", input=KEY)
    assert work.stdout == "logged in to keyed as octocat (connection work)\n"
    asked = len(api_server.requests)
    other = program("login", "keyed", "--stdin", "--no-verify", "--connection", "other", input=OTHER)
    assert other.stdout == "logged in to keyed (connection other)\n"
    assert len(api_server.requests) == asked


@pytest.mark.parametrize(
    ("verify", "field", "said"),
    [
        ({"url": "https://acme.example/user", "unnamed": "it names nobody"}, "unnamed",
         "keyed took it and does not say whose it is: it names nobody"),
        ({"untried": "each request is billed"}, "untried",
         "it was stored without being tried: each request is billed"),
    ],
)  # fmt: skip
def test_a_login_without_a_name_says_why(program: Program, api_server: ApiServer, verify, field, said):
    """What the definition knows of it is shown, and left out where nothing was to be tried."""
    api = api_server.url("/", host="api.example.localhost")
    verify = {name: text.replace("https://acme.example/", api) for name, text in verify.items()}
    definition = {"schema_version": 1, "name": "keyed", "api_url": api, "allow_private_addresses": True, "api_key": {}}
    definitions.put(program.home, {**definition, "verify": verify})
    done = program("login", "keyed", "--stdin", input=KEY)
    assert done.stdout == "logged in to keyed\n"
    assert said in done.stderr
    answer = json.loads(program("login", "keyed", "--stdin", "--force", "--json", input=KEY).stdout)
    assert answer[field] == verify[field]
    assert {answer["unnamed"], answer["untried"], answer["unverified"]} == {None, verify[field]}
    quiet = program("login", "keyed", "--stdin", "--force", "--no-verify", input=KEY)
    assert (quiet.stdout, verify[field] in quiet.stderr) == ("logged in to keyed\n", False)


def test_variables_come_with_the_key(program: Program):
    """What differs between accounts is asked for beside the key, decides where that goes, and is no secret."""
    key = "shpat_" + "a1" * 16
    bare = program("login", "shopify", "--stdin", input=key)
    assert bare.returncode == 2
    assert '{"shop": "…", "api_key": "…"}' in bare.stderr
    wrong = program("login", "shopify", "--stdin", input=json.dumps({"shop": "evil.test/", "api_key": key}))
    assert (wrong.returncode, connections(program)) == (5, [])
    assert "shop must be a word" in wrong.stderr
    done = program("login", "shopify", "--stdin", input=json.dumps({"shop": "acme", "api_key": key}))
    assert done.returncode == 0, done.stderr
    assert "acme.myshopify.com" in done.stderr  # where it was to be tried
    child = program("run", "--", "printenv", "SHOPIFY_SHOP", "SHOPIFY_ACCESS_TOKEN")
    assert child.stdout.splitlines() == ["acme.myshopify.com", "shpat_AuthsomePlaceholder0000000000000"]


def test_a_provider_out_of_reach_costs_no_login(program: Program):
    """The key is stored, and both terminal and JSON say that nobody was asked."""
    done = program("login", "openai", "--stdin", input=KEY)
    assert done.stdout == "logged in to openai\n"
    assert "stored, but it could not be verified: api.openai.com" in done.stderr
    answer = json.loads(program("login", "openai", "--stdin", "--force", "--json", input=KEY).stdout)
    assert "api.openai.com" in answer["unverified"]


def test_several_fields_come_as_an_object(program: Program):
    fields = {"account_sid": "AC" + "1" * 32, "auth_token": "a" * 32}
    bare = program("login", "twilio", "--stdin", input="a" * 32)
    assert bare.returncode == 2
    assert '{"account_sid": "…", "auth_token": "…"}' in bare.stderr
    assert connections(program) == []
    done = program("login", "twilio", "--stdin", input=json.dumps(fields))
    assert done.returncode == 0, done.stderr
    unknown = program("login", "twilio", "--stdin", "--force", input=json.dumps(fields | {"colour": "x"}))
    assert unknown.returncode == 5
    assert "colour" in unknown.stderr


def test_a_key_that_fails_its_pattern_is_refused_with_the_hint(program: Program, said):
    done = program("login", "openai", "--stdin", input="not-a-key-but-a-secret")
    assert done.returncode == 5
    assert done.stdout == ""
    assert "begins with sk-" in done.stderr
    assert "not-a-key" not in done.stderr
    assert len(said(done.stderr)) == 2
    assert connections(program) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "there is nothing on standard input"),
        ("\n \n", "there is nothing on standard input"),
        (f"{KEY}\n{OTHER}\n", "more than one line"),
        ("{ not json", "begins like a JSON object"),
        ('{"api_key": 5}', "each field on standard input is to be a text"),
        ("x" * 70000, "more on standard input than any key holds"),
    ],
)
def test_what_is_no_key_at_all_is_refused_before_a_login_begins(daemon: Program, text, error):
    """And after the provider's name, which may be what is wrong."""
    done = daemon("login", "openai", "--stdin", input=text)
    assert done.returncode == 2
    assert error in done.stderr
    misspelt = daemon("login", "gihtub", "--stdin", input=text)
    assert misspelt.returncode == 4
    assert misspelt.stderr.splitlines() == [
        "authsome: error: no provider named gihtub",
        "authsome: hint: did you mean github?",
    ]
    assert {each["event"] for each in daemon.json("log")["events"]} <= {"register", "claim"}


def test_binary_input_is_refused(program: Program):
    done = subprocess.run(
        program.argv("login", "openai", "--stdin"),
        input=b"\xff\xfe\x00",
        env=program.environment(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"not text" in done.stderr) == (2, True)


# ---- on a terminal ---------------------------------------------------------------------------------------------------


def test_a_key_on_a_terminal_is_masked(program: Program):
    # SEC-142
    with program.on_terminal("login", "openai", env=NO_BROWSER) as tty:
        tty.expect("API key: ")
        assert not tty.echoes()
        tty.send_line(KEY)
        tty.expect("logged in to openai")
        assert tty.wait() == 0
        assert tty.echoes()
        assert KEY not in tty.transcript


def test_a_wrong_key_is_asked_for_again_and_in_the_end_refused(program: Program):
    with program.on_terminal("login", "openai", "--no-browser") as tty:
        for _ in range(3):
            tty.expect("API key: ")
            tty.send_line("wrong")
            tty.expect("begins with sk-")
        assert tty.wait() == 5
    with program.on_terminal("login", "openai", "--no-browser") as tty:
        tty.expect("API key: ")
        tty.send_line("wrong")
        tty.expect("API key: ")
        tty.send_line(KEY)
        tty.expect("logged in")
        assert tty.wait() == 0


@pytest.mark.parametrize("leave", ["ctrl-c", "ctrl-d", "sigterm"])
def test_leaving_at_the_prompt_stores_nothing(program: Program, leave):
    with program.on_terminal("login", "openai", "--no-browser", env=PLAIN) as tty:
        tty.expect("API key: ")
        if leave == "ctrl-c":
            tty.send(b"sk-half")
            tty.interrupt()
        elif leave == "ctrl-d":
            tty.send(CTRL_D)
        else:
            tty.process.send_signal(signal.SIGTERM)
        tty.expect("authsome: error: (cancelled|terminated)")
        assert tty.wait() == 11
        assert tty.echoes()
    assert connections(program) == []


def test_an_oauth_client_is_asked_for_on_the_terminal(program: Program, oidc_server: OidcServer, visitor):
    """Its id is shown, its secret is not; then the link is printed, and the login is finished in a browser."""
    # SEC-67
    define_acme(program, oidc_server, BASIC)
    with program.on_terminal("login", "acme", "--no-browser") as tty:
        tty.expect("this needs an OAuth app of yours, once; it is made at acme")
        tty.expect(f"give it the redirect URI  {re.escape(program.callback)}")
        tty.expect("Client ID: ")
        tty.send_line(BASIC.id)
        tty.expect("Client secret: ")
        tty.send_line(str(BASIC.secret))
        link = tty.expect(r"(http://127\.0\.0\.1:\d+/auth/\S+)")[1]
        tty.expect(r"waiting for the browser, or for that address … \d:\d\d, Ctrl-C stops")
        callback = oidc_server.approve(visitor.open(link, stop_at=oidc_server.issuer))
        visitor.open(callback)
        tty.expect("logged in to acme")
        assert tty.wait() == 0
        assert str(BASIC.secret) not in tty.transcript
    assert "is connected" in visitor.page


# ---- without either --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_without_a_terminal_and_a_browser_it_says_what_to_do(program: Program, words):
    done = program("login", "openai", *words, env=NO_BROWSER)
    assert done.returncode == 5
    assert "authsome login openai --stdin" in done.stdout + done.stderr


def test_how_to_pipe_several_things_in_is_said(program: Program):
    """Of an OAuth client there are two; and a token may be all that somebody has."""
    done = program("login", "github", env=NO_BROWSER)
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1] == (
        'authsome: hint: pipe a JSON object of them ({"client_id": "…", "client_secret": "…"}) in: '
        "authsome login github --stdin; or a token alone, with --flow api_key"
    )

    several = program("login", "shopify", env=NO_BROWSER).stderr
    assert several.endswith('({"shop": "…", "api_key": "…"}) in: authsome login shopify --stdin\n')


def test_a_key_takes_no_scopes(program: Program):
    """What is asked for and cannot be had is refused, not passed over."""
    done = program("login", "openai", "--stdin", "--scopes", "read", input=KEY)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: leave --scopes away" in done.stderr
    assert connections(program) == []


def test_json_never_asks(program: Program):
    with program.on_terminal("login", "openai", "--json", "--no-browser") as tty:
        assert tty.wait() == 5
        assert "API key:" not in tty.transcript


# ---- in the browser --------------------------------------------------------------------------------------------------


def test_the_form_opens_in_the_browser_and_the_command_waits_for_it(program: Program, visitor):
    process = program.start("login", "openai")
    link = program.wait_opened()
    visitor.open(link)
    assert "OpenAI" in visitor.page
    visitor.submit({"api_key": "wrong"})
    assert "begins with sk-" in visitor.page
    assert process.poll() is None
    visitor.submit({"api_key": KEY})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "logged in to openai\n")
    assert link in err
    assert "is connected" in visitor.page
    assert program.opened == [link]


def test_an_oauth_login_with_the_client_from_a_pipe(program: Program, oidc_server: OidcServer, visitor):
    define_acme(program, oidc_server, BASIC)
    process = program.start(
        "login",
        "acme",
        "--stdin",
        "--json",
        "--connection",
        "work",
        input=json.dumps({"client_id": BASIC.id, "client_secret": BASIC.secret}),
    )
    link = program.wait_opened()
    visitor.log_in(link, oidc_server)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    answer = json.loads(out)
    assert (answer["provider"], answer["connection"], answer["kind"]) == ("acme", "work", "oauth2")
    assert len(oidc_server.token_requests("authorization_code")) == 1


def test_a_refused_login_ends_at_once_and_says_why(program: Program, oidc_server: OidcServer, visitor):
    # SEC-58
    define_acme(program, oidc_server)
    process = program.start("login", "acme", "--stdin", "--no-browser", input=PUBLIC.id)
    assert process.stderr is not None
    link = next(line.strip() for line in process.stderr if line.strip().startswith("http"))
    visitor.log_in(link, oidc_server, decision="deny")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "access_denied" in err
    assert connections(program) == []


def test_ctrl_c_while_waiting_ends_the_login_for_good(program: Program, oidc_server: OidcServer, visitor):
    """The link is dead afterwards: nobody finishes what its owner gave up."""
    define_acme(program, oidc_server)
    process = program.start("login", "acme", "--stdin", input=PUBLIC.id)
    authorization = visitor.open(program.wait_opened(), stop_at=oidc_server.issuer)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (11, "")
    assert err.splitlines()[-1] == "authsome: error: cancelled"
    visitor.open(oidc_server.approve(authorization))
    assert visitor.status >= 400
    assert oidc_server.token_requests() == ()
    assert connections(program) == []


def test_over_ssh_no_browser_is_opened_and_the_way_in_is_told(program: Program, oidc_server: OidcServer):
    define_acme(program, oidc_server)
    ssh = {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22", "BROWSER": None, "DISPLAY": ":0"}
    process = program.start("login", "acme", "--stdin", env=ssh, input=PUBLIC.id)
    assert process.stderr is not None
    way = next(line for line in process.stderr if "ssh -L" in line)
    assert re.search(r"ssh -L (\d+):127\.0\.0\.1:\1", way)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 11


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("http://127.0.0.1:7998/auth/1", 7998),
        ("http://[::1]:7998/auth/1", 7998),
        ("https://authsome.example.com/auth/1", None),
        ("https://authsome.example.com:8443/auth/1", None),
        ("", None),
        ("http://[", None),
    ],
)
def test_only_what_is_on_this_machine_needs_a_way_in(address, port):
    assert login._port_here(address) == port


def test_a_login_piped_in_is_taken_apart_strictly(program: Program):
    for text in ('{"a":' * 12_000, '{"api_key": "x", "api_key": "y"}', '{"api_key": 1}'):
        done = program("login", "openai", "--stdin", input=text)
        assert done.returncode == 2, done.stderr
        assert "standard input" in done.stderr


def test_the_last_address_is_pasted(program: Program, oidc_server: OidcServer):
    """A browser on some other machine cannot reach us: its last address is pasted, unseen, and the login ends here.

    Whatever else is pasted is refused, and the login goes on waiting. # SEC-54 # SEC-67
    """
    define_acme(program, oidc_server)
    with program.on_terminal("login", "acme", env={"BROWSER": None, "DISPLAY": None}) as tty:
        tty.expect("Client ID: ")
        tty.send_line(PUBLIC.id)
        authorization = tty.expect(rf"({re.escape(oidc_server.issuer)}/auth\S+)")[1]
        tty.expect("--flow device_code")
        tty.expect("waiting for the browser")
        assert not tty.echoes()
        for wrong in ("hello", "https://example.com/?state=x&code=y", "x" * 5000):
            tty.send_line(wrong)
            tty.expect("that is not the address: ")
        assert oidc_server.token_requests() == ()
        callback = oidc_server.approve(authorization)
        tty.send_line(callback)
        tty.expect("logged in to acme")
        assert tty.wait() == 0
        assert tty.echoes()
        assert callback.partition("code=")[2].partition("&")[0] not in tty.transcript
    assert len(oidc_server.token_requests("authorization_code")) == 1
    assert program.opened == []


@pytest.mark.parametrize("keys", [b"\x03", b"\x04"])
def test_leaving_while_an_address_may_be_pasted(program: Program, oidc_server: OidcServer, keys):
    """Ctrl-C and Ctrl-D end the login, and the terminal is as it was."""
    define_acme(program, oidc_server)
    with program.on_terminal("login", "acme", "--no-browser", env=PLAIN) as tty:
        tty.expect("Client ID: ")
        tty.send_line(PUBLIC.id)
        tty.expect("waiting for the browser")
        tty.send(keys)
        tty.expect("authsome: error: cancelled")
        assert tty.wait() == 11
        assert tty.echoes()
    assert connections(program) == []


# ---- for the client itself -------------------------------------------------------------------------------------------


def test_a_client_that_is_the_account(program: Program, oidc_server: OidcServer):
    """Id and secret come from a pipe or the masked prompt; no browser is needed. # SEC-142"""
    define_acme(program, oidc_server, BASIC)
    words = ("login", "acme", "--flow", "client_credentials")
    done = program(*words, "--stdin", input=json.dumps({"client_id": BASIC.id, "client_secret": BASIC.secret}))
    assert (done.returncode, done.stdout) == (0, "logged in to acme\n"), done.stderr
    with program.on_terminal(*words, "--connection", "typed", env=NO_BROWSER) as tty:
        tty.expect("Client ID: ")
        tty.send_line(BASIC.id)
        tty.expect("Client secret: ")
        tty.send_line(str(BASIC.secret))
        tty.expect("logged in to acme")
        assert tty.wait() == 0
        assert str(BASIC.secret) not in tty.transcript
    assert {each.status for each in oidc_server.token_requests("client_credentials")} == {200}
    assert len(connections(program)) == 2
    assert str(BASIC.secret) not in program("get", "acme").stdout


# ---- by device code --------------------------------------------------------------------------------------------------


def test_a_device_code_on_a_terminal(program: Program, oidc_server: OidcServer):
    """Link, code and QR code are shown, and what is waited for; entered elsewhere, the login ends. # SEC-67"""
    define_acme(program, oidc_server)
    with program.on_terminal("login", "acme", "--flow", "device_code", "--no-browser") as tty:
        tty.expect("Client ID: ")
        tty.send_line(PUBLIC.id)
        address = tty.expect(rf"({re.escape(oidc_server.issuer)}/device)\s")[1]
        code = tty.expect(r"enter the code  (\S+)")[1]
        tty.expect("▀")
        tty.expect(rf"waiting until you have entered {code} … 0:0\d, Ctrl-C stops")
        oidc_server.enter_code(address, code=code)
        tty.expect("logged in to acme")
        assert tty.wait() == 0
    ((stored,),) = [connections(program)]
    assert (stored["provider"], stored["status"]) == ("acme", "connected")
    assert oidc_server.log("/auth") == ()


def test_a_device_code_where_a_client_registered_itself(program: Program, oidc_server: OidcServer, visitor):
    """That client may have no device code (RFC 7591 section 2), so another is asked for, and it is said why.

    Each login is refreshed and revoked by the client that it was granted to.
    """
    definitions.put(program.home, oidc_server.definition("acme", api_url="api.example.localhost"))
    first = program.start("login", "acme", "--flow", "dcr_pkce")
    visitor.log_in(program.wait_opened(), oidc_server)
    assert "logged in to acme" in first.communicate(timeout=60)[0]
    words = ("login", "acme", "--flow", "device_code", "--connection", "code")
    nobody = program(*words, env=NO_BROWSER)
    assert nobody.returncode == 5
    assert f"hint: pipe it in: authsome {' '.join(words)} --stdin\n" in nobody.stderr
    with program.on_terminal(*words, "--no-browser") as tty:
        tty.expect("the client that registered itself at acme is for logins in a browser")
        tty.expect("Client ID: ")
        tty.send_line(PUBLIC.id)
        address = tty.expect(rf"({re.escape(oidc_server.issuer)}/device)\s")[1]
        oidc_server.enter_code(address, code=tty.expect(r"enter the code  (\S+)")[1])
        tty.expect("logged in to acme")
        assert tty.wait() == 0
    with program.on_terminal(*words[:-1], "again", "--no-browser") as tty:
        tty.expect("enter the code")  # that client is known now
        tty.interrupt()
        assert tty.wait() == 11
    program.make_due()
    for name in ("default", "code"):
        assert program("export", "acme", "--connection", name).returncode == 0
    assert {each.status for each in oidc_server.token_requests("refresh_token")} == {200}
    assert len(oidc_server.token_requests("refresh_token")) == 2
    done = program("revoke", "acme")
    assert done.returncode == 0, done.stderr
    assert "gave back the client that was registered at acme" in done.stdout


def test_ctrl_c_stops_a_device_login(program: Program, hostile: Endpoint):
    """Nothing is asked any more, and what the user agrees to afterwards is stored nowhere. # SEC-75"""
    pending = json.dumps({"error": "authorization_pending"}).encode()
    given = {"device_code": "a-device-code", "user_code": "AB\x1b[31mCD", "verification_uri": "javascript:alert(1)"}
    scripts = {"/device": answer(json.dumps({**given, "interval": 1}).encode()), "/token": answer(pending, status=400)}

    def play() -> Iterator[bytes | float]:
        return scripts[hostile.requests[-1].path]()

    hostile.script = play
    definition = {
        "schema_version": 1,
        "name": "acme",
        "auth_type": "oauth2",
        "flow": "device_code",
        "api_url": "api.example.localhost",
        "allow_private_addresses": True,
        "oauth": {"device_authorization_url": hostile.url("/device"), "token_url": hostile.url("/token")},
    }
    definitions.put(program.home, definition)
    with program.on_terminal("login", "acme", "--no-browser", env=PLAIN) as tty:
        tty.expect("Client ID: ")
        tty.send_line("our-client")
        tty.expect("Client secret: ")
        tty.send_line("")
        tty.expect(r"  javascript:alert\(1\)\r\n")  # SEC-74
        tty.expect("enter the code  ABCD")
        while not any(each.path == "/token" for each in hostile.requests):
            tty.expect("waiting until you have entered ABCD")
        tty.interrupt()
        tty.expect("authsome: error: cancelled")
        assert tty.wait() == 11
        assert "▀" not in tty.transcript
    asked = settled(lambda: len(hostile.requests))  # one may have been on its way
    scripts["/token"] = tokens()
    time.sleep(2)
    assert len(hostile.requests) == asked
    assert program.opened == []
    assert connections(program) == []


# ---- what else can be said -------------------------------------------------------------------------------------------


def test_a_provider_that_is_not_there(program: Program):
    done = program("login", "opnai", "--stdin", input=KEY)
    assert done.returncode == 4
    assert "did you mean openai?" in done.stderr


def test_a_connection_that_is_there_is_kept_unless_forced(connected: Program):
    again = connected("login", "openai", "--stdin", input=OTHER)
    assert again.returncode == 6
    assert "--force" in again.stderr
    assert json.loads(connected("export", "openai", "--format", "json").stdout) == {"OPENAI_API_KEY": KEY}
    assert connected("login", "openai", "--stdin", "--force", input=OTHER).returncode == 0
    assert json.loads(connected("export", "openai", "--format", "json").stdout) == {"OPENAI_API_KEY": OTHER}


def test_a_key_is_nowhere_but_in_the_vault(program: Program, tmp_path: Path):
    # SEC-144
    program("login", "openai", "--stdin", "--verbose", input=KEY, env={"AUTHSOME_LOG_LEVEL": "debug"})
    program("list", "--verbose")
    program("get", "openai", "--json")
    program("daemon", "stop")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
