"""Real programs as children: each uses the proxy by its environment alone, and none of them sees the credential.

Rule: a test names the clients that it runs (`CLIENT curl`), and docs/clients.md has a row for each.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from fakes import api, daemon_api
from fakes.authority import Authority
from fakes.program import NOWHERE
from proxy import git_server, websocket_server
from proxy.conftest import ENGINES
from proxy.support import HOST, OTHER_HOST, PLACEHOLDER, TOKEN, Runner

NODE_PACKAGES = str(Path(daemon_api.__file__).with_name("node_modules"))
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every program gets along with both engines."""
    name: str = request.param
    return name


def authorized(runner: Runner) -> set[tuple[str, ...]]:
    """The Authorization headers that the server was sent."""
    return {request.all("authorization") for request in runner.server.requests}


PYTHON_CLIENTS = {
    "urllib": "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
    "requests": "import sys, requests; print(requests.get(sys.argv[1], headers={'Authorization': H}).text)",
    "requests session": "import sys, requests; s = requests.Session(); u = sys.argv[1]; s.get(u); print(s.get(u).text)",
    "httpx": "import sys, httpx; print(httpx.get(sys.argv[1], headers={'Authorization': H}).text)",
    "httpx http2": "import sys, httpx; print(httpx.Client(http2=True).get(sys.argv[1]).text)",
    "httpx async": (
        "import sys, httpx, asyncio\n"
        "async def main():\n"
        "    async with httpx.AsyncClient() as c: print((await c.get(sys.argv[1])).text)\n"
        "asyncio.run(main())"
    ),
    "httpx2": "import sys, httpx2; print(httpx2.get(sys.argv[1], headers={'Authorization': H}).text)",
    "httpx2 http2": "import sys, httpx2; print(httpx2.Client(http2=True).get(sys.argv[1]).text)",
    "aiohttp": (
        "import sys, aiohttp, asyncio\n"
        "async def main():\n"
        "    async with aiohttp.ClientSession(trust_env=True) as c, c.get(sys.argv[1]) as r: print(await r.text())\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
def test_python(runner: Runner, name: str):
    """Python's HTTP libraries, synchronous and not."""
    # CLIENT urllib, requests, httpx, httpx2, aiohttp
    # SEC-167
    code = f"import os; H = 'Bearer ' + os.environ['EXAMPLE_API_KEY']\n{PYTHON_CLIENTS[name]}"
    url = runner.server.url("/echo?x=1", host=HOST)
    answer = json.loads(runner.output(runner.python, "-c", code, url))
    assert answer["target"] == "/echo?x=1"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


HTTPLIB2 = "import sys, httplib2; print(httplib2.Http().request(sys.argv[1])[1].decode())"


def test_httplib2(runner: Runner):
    """With PySocks, by which it knows proxies at all."""
    # CLIENT httplib2
    url = runner.server.url("/echo", host=HOST)
    assert json.loads(runner.output(runner.python, "-c", HTTPLIB2, url))["target"] == "/echo"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_httplib2_without_pysocks_fails_closed(runner: Runner):
    """It ignores the proxy: it goes directly, to a name that only the proxy finds here, with nothing to show."""
    # CLIENT httplib2
    # SEC-168
    code = f"import sys; sys.modules['socks'] = None; {HTTPLIB2.replace('import sys, ', 'import ')}"
    done = runner(runner.python, "-c", code, runner.server.url("/echo", host=HOST))
    assert done.returncode == 1
    assert b"ServerNotFoundError" in done.stderr
    assert runner.server.requests == runner.daemon.resolved == []


DENO = """
const answer = await fetch(Deno.args[0], {headers: {Authorization: `Bearer ${Deno.env.get("EXAMPLE_API_KEY")}`}});
console.log(await answer.text());
"""


def test_deno(runner: Runner, authority: Authority):
    """Its `fetch`; to a server behind a tunnel, which is its own affair, it shows the run's password as well."""
    # CLIENT Deno
    # SEC-156
    (deno,) = Path(NODE_PACKAGES).glob("@deno/*/deno*")
    environ = {"DENO_DIR": str(runner.directory / "deno"), "DENO_NO_UPDATE_CHECK": "1"}
    url = runner.server.url("/echo", host=HOST)
    assert json.loads(runner.output(str(deno), "eval", DENO, url, environ=environ))["target"] == "/echo"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}
    assert [request.header("proxy-authorization") for request in runner.server.requests] == [None]
    with api.serve(leaf=authority.issue(OTHER_HOST)) as other:
        runner.output(str(deno), "eval", DENO, other.url("/echo", host=OTHER_HOST), environ=environ)
        (request,) = other.requests
        assert request.header("authorization") == f"Bearer {PLACEHOLDER}"
        assert (request.header("proxy-authorization") or "").startswith("Basic ")


@pytest.mark.parametrize("options", [("--http1.1",), ("--http2",), ("-H", f"Authorization: Bearer {PLACEHOLDER}")])
def test_curl(runner: Runner, options: tuple[str, ...]):
    """Curl, whatever it offers."""
    # CLIENT curl
    url = runner.server.url("/echo", host=HOST)
    runner.output("curl", "-sS", "--fail", *options, url)
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_wget(runner: Runner):
    """Wget has its roots from a file of ours, whatever TLS library it was built with."""
    # CLIENT wget
    runner.output("wget", "-q", "-O-", "--tries=1", runner.server.url("/echo", host=HOST))
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_wget_with_roots_of_its_own_fails_closed(runner: Runner, rogue: Authority):
    """A program that trusts only what its own settings name sends nothing."""
    # CLIENT wget
    # SEC-168
    (runner.directory / ".wgetrc").write_text(f"ca_certificate = {rogue.certificate}\nca_directory = /none\n")
    done = runner("wget", "-q", "-O-", "--tries=1", runner.server.url("/echo", host=HOST))
    assert done.returncode == 5, done.stderr  # its word for a certificate that does not verify
    assert runner.server.requests == []


def test_gh(runner: Runner):
    """GitHub's program, at a host of one's own and with a placeholder as its token."""
    # CLIENT gh
    runner.daemon.environment = {"GH_ENTERPRISE_TOKEN": PLACEHOLDER, "GH_TOKEN": PLACEHOLDER}
    out = runner.output("gh", "api", runner.server.url("/api/v3/user", host=HOST))
    assert json.loads(out)["target"] == "/api/v3/user"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_go(runner: Runner, go_program: Path):
    """Go's net/http."""
    # CLIENT Go net/http
    answer = json.loads(runner.output(str(go_program), runner.server.url("/echo", host=HOST)))
    assert answer["target"] == "/echo"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


JAVA = """
import java.io.FileInputStream;
import java.net.*;
import java.net.http.*;
import java.security.KeyStore;
import java.security.cert.*;
import javax.net.ssl.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient.Builder builder = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1);
        if (arguments.length > 1) configure(builder);
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Authorization", "Bearer " + System.getenv("EXAMPLE_API_KEY")).build();
        System.out.println(builder.build().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }

    static void configure(HttpClient.Builder builder) throws Exception {
        System.setProperty("jdk.http.auth.tunneling.disabledSchemes", "");
        URI proxy = URI.create(System.getenv("HTTPS_PROXY"));
        String[] pair = proxy.getUserInfo().split(":", 2);
        builder.proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
        builder.authenticator(new Authenticator() {
            protected PasswordAuthentication getPasswordAuthentication() {
                if (getRequestorType() != RequestorType.PROXY) return null;
                return new PasswordAuthentication(pair[0], pair[1].toCharArray());
            }
        });
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null);
        try (FileInputStream file = new FileInputStream(System.getenv("SSL_CERT_FILE"))) {
            for (Certificate each : CertificateFactory.getInstance("X.509").generateCertificates(file))
                roots.setCertificateEntry("root " + roots.size(), each);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        builder.sslContext(context);
    }
}
"""


@pytest.fixture(scope="module")
def java_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a compiled class `Client`."""
    directory = tmp_path_factory.mktemp("java")
    (directory / "Client.java").write_text(JAVA)
    subprocess.run(["javac", "Client.java"], cwd=directory, check=True)
    return directory


def test_java_by_its_own_code(runner: Runner, java_program: Path):
    """Java takes no proxy and no roots from the environment; a program that reads the variables itself gets along."""
    # CLIENT Java
    url = runner.server.url("/echo", host=HOST)
    answer = json.loads(runner.output("java", "-cp", str(java_program), "Client", url, "configure"))
    assert answer["target"] == "/echo"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_java_fails_closed(runner: Runner, java_program: Path, authority: Authority, tmp_path: Path):
    """Any other goes to its server directly, and has nothing but a placeholder to send."""
    # CLIENT Java
    # SEC-168
    root = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    store = pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(root, b"root")], NoEncryption())
    (tmp_path / "roots.p12").write_bytes(store)
    (tmp_path / "hosts").write_text(f"127.0.0.1 {HOST}\n")
    options = (f"-Djdk.net.hosts.file={tmp_path}/hosts", f"-Djavax.net.ssl.trustStore={tmp_path}/roots.p12")
    runner.output("java", *options, "-cp", str(java_program), "Client", runner.server.url("/echo", host=HOST))
    assert authorized(runner) == {(f"Bearer {PLACEHOLDER}",)}


NODE_CLIENTS = {
    "fetch": "const r = await fetch(url, {headers: {authorization: key}}); console.log(await r.text())",
    "fetch twice": "await (await fetch(url)).text(); console.log(await (await fetch(url)).text())",
    "fetch post": "const r = await fetch(url, {method: 'POST', body: 'hello'}); console.log(await r.text())",
    "https": "console.log(await get(url, {}))",
    "https own agent": "console.log(await get(url, {agent: new https.Agent({keepAlive: true})}))",
    "https headers": "console.log(await get(url, {headers: {Authorization: key}}))",
    "undici": "console.log(await (await require('undici').request(url)).body.text())",
    "undici fetch": "console.log(await (await require('undici').fetch(url)).text())",
    "undici after Response": (
        "new Response(''); await null; console.log(await (await require('undici').request(url)).body.text())"
    ),
    "undici after fetch": (
        "await (await fetch(url)).text(); console.log(await (await require('undici').request(url)).body.text())"
    ),
    "undici own dispatcher": (
        "const { request, EnvHttpProxyAgent } = require('undici');"
        "console.log(await (await request(url, {dispatcher: new EnvHttpProxyAgent()})).body.text())"
    ),
    "axios": "console.log(JSON.stringify((await require('axios').get(url)).data))",
}


@pytest.mark.parametrize("name", NODE_CLIENTS)
def test_node(runner: Runner, name: str):
    """Node's own clients, in a version that ignores HTTPS_PROXY too, a program's own agent, and packages."""
    # CLIENT Node fetch, Node https, undici, axios
    # SEC-167 SEC-168
    code = (
        "const https = require('https'); const url = process.argv[1]; const key = process.env.EXAMPLE_API_KEY;"
        "const get = (u, o) => new Promise((ok, no) => https.get(u, o, (r) => {"
        "  let b = ''; r.on('data', (d) => b += d); r.on('end', () => ok(b)); }).on('error', no));"
        f"(async () => {{ {NODE_CLIENTS[name]}; process.exit(0); }})()"
        ".catch((e) => { console.error(e, e.cause); process.exit(1); });"
    )
    url = runner.server.url("/echo", host=HOST)
    answer = json.loads(runner.output("node", "-e", code, url, environ={"NODE_PATH": NODE_PACKAGES}))
    assert answer["target"] == "/echo"
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_node_says_why_it_was_refused(runner: Runner, free_port: int):
    """What the proxy answers to CONNECT reaches the program as its error."""
    code = "fetch(process.argv[1]).catch((e) => console.log(e.cause.message))"
    out = runner.output("node", "-e", code, f"https://elsewhere.example.localhost:{free_port}/")
    assert b"connection refused" in out


def test_node_keeps_its_options(runner: Runner):
    """The caller's NODE_OPTIONS stay in force."""
    out = runner.output(
        "node",
        "-p",
        "process.title + process.execArgv + process.env.NODE_OPTIONS",
        environ={"NODE_OPTIONS": "--title=mine"},
    )
    assert out.startswith(b"mine")


def test_git(runner: Runner, authority: Authority, tmp_path: Path):
    """Clone, commit four megabytes, push, clone again: Basic by the proxy, nothing in git's hands."""
    # CLIENT git
    # SEC-179
    root = tmp_path / "repositories"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str, cwd: Path = tmp_path) -> None:
        command = ["git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run([*command, *arguments], cwd=cwd, env=environ, check=True, capture_output=True)

    git("init", "--bare", str(root / "thing.git"))
    git("config", "http.receivepack", "true", cwd=root / "thing.git")
    runner.environ["GIT_TERMINAL_PROMPT"] = "0"
    git("config", "--global", "http.proxy", NOWHERE)  # as a company's setup leaves it; the run's wins
    with git_server.serve(root, authority.issue(HOST), username="x-access-token", password=TOKEN) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        runner.daemon.credentials[HOST] = daemon_api.basic("x-access-token", TOKEN)
        url = f"https://{HOST}:{server.port}/thing.git"
        runner.output("git", "clone", "-q", url, "first")
        content = os.urandom(4 * 1024 * 1024)
        (tmp_path / "first" / "large").write_bytes(content)
        git("checkout", "-q", "-b", "main", cwd=tmp_path / "first")
        git("add", "large", cwd=tmp_path / "first")
        git("commit", "-q", "-m", "large", cwd=tmp_path / "first")
        runner.output("git", "-C", "first", "push", "-q", "origin", "main")
        runner.output("git", "clone", "-q", "-b", "main", url, "second")
    assert (tmp_path / "second" / "large").read_bytes() == content
    assert len(set(server.authorizations)) == 1
    assert TOKEN not in (tmp_path / "first" / ".git" / "config").read_text()


def test_pip(runner: Runner, tmp_path: Path):
    """Pip installs from a private index."""
    # CLIENT pip
    # SEC-179
    wheel = tmp_path / "files" / "thing-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing.py", "VALUE = 42\n")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "thing.py,,\nthing-1.0.dist-info/METADATA,,\n")
    page = tmp_path / "files" / "simple" / "thing" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../{wheel.name}">{wheel.name}</a>')
    runner.server.files = tmp_path / "files"
    runner.server.protected["/files"] = ("Authorization", f"Bearer {TOKEN}")
    options = ("--isolated", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--target", "installed")
    index = runner.server.url("/files/simple/", host=HOST)
    # --isolated ignores PIP_*, so pip has its roots from REQUESTS_CA_BUNDLE or SSL_CERT_FILE here; without it, PIP_CERT
    for isolated in (options, options[1:]):
        shutil.rmtree(tmp_path / "installed", ignore_errors=True)
        runner.output(runner.python, "-m", "pip", "install", "-q", *isolated, "--index-url", index, "thing")
        assert (tmp_path / "installed" / "thing.py").read_text() == "VALUE = 42\n"


def test_npm(runner: Runner, tmp_path: Path):
    """Npm installs from a private registry."""
    # CLIENT npm
    # SEC-179
    manifest = {"name": "thing", "version": "1.0.0", "main": "index.js"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (("package.json", json.dumps(manifest)), ("index.js", "module.exports = 42;\n")):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    files = tmp_path / "files" / "npm"
    files.mkdir(parents=True)
    (files / "thing-1.0.0.tgz").write_bytes(packed.getvalue())
    registry = runner.server.url("/files/npm/", host=HOST)
    dist = {
        "tarball": f"{registry}thing-1.0.0.tgz",
        "shasum": hashlib.sha1(packed.getvalue(), usedforsecurity=False).hexdigest(),
    }
    document = {"name": "thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    (files / "thing").write_text(json.dumps(document))
    runner.server.files = tmp_path / "files"
    runner.server.protected["/files"] = ("Authorization", f"Bearer {TOKEN}")
    (tmp_path / ".npmrc").write_text(f"proxy={NOWHERE}\nhttps-proxy={NOWHERE}\n")  # the run's wins
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "project", "version": "1.0.0"}')
    runner.output(
        *("npm", "install", "--prefix", str(project), "--registry", registry, "--no-audit", "--no-fund"),
        *("--cache", str(tmp_path / "cache"), "--loglevel", "error", "thing"),
    )
    assert (project / "node_modules" / "thing" / "index.js").read_text() == "module.exports = 42;\n"


WEBSOCKET_CLIENTS = {
    "websocket-client": (
        "import sys, websocket\n"
        "ws = websocket.create_connection(sys.argv[1], header=['Authorization: Bearer mine'], timeout=60)\n"
        "ws.send('hello'); assert ws.recv() == 'hello'\n"
        "data = bytes(range(256)) * 280\n"
        "ws.send_binary(data); assert ws.recv() == data\n"
        "ws.ping(b'x'); op, frame = ws.recv_data_frame(control_frame=True); assert op == 10, op\n"
        "ws.close(); print('done')"
    ),
    "websockets": (
        "import sys, asyncio, websockets\n"
        "async def main():\n"
        "    async with websockets.connect(sys.argv[1], additional_headers={'Authorization': 'Bearer mine'}) as ws:\n"
        "        await ws.send('hello'); assert await ws.recv() == 'hello'\n"
        "        data = bytes(range(256)) * 280\n"
        "        await ws.send(data); assert await ws.recv() == data\n"
        "        await (await ws.ping())\n"
        "    print('done')\n"
        "asyncio.run(main())"
    ),
    "websockets without asyncio": (
        "import sys\n"
        "from websockets.sync.client import connect\n"
        "with connect(sys.argv[1]) as ws:\n"
        "    ws.send('hello'); assert ws.recv() == 'hello'\n"
        "print('done')"
    ),
    "aiohttp": (
        "import sys, aiohttp, asyncio\n"
        "async def main():\n"
        "    async with aiohttp.ClientSession(trust_env=True) as c, c.ws_connect(sys.argv[1]) as ws:\n"
        "        await ws.send_str('hello'); assert await ws.receive_str() == 'hello'\n"
        "        data = bytes(range(256)) * 280\n"
        "        await ws.send_bytes(data); assert await ws.receive_bytes() == data\n"
        "    print('done')\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("name", WEBSOCKET_CLIENTS)
def test_websocket(runner: Runner, authority: Authority, name: str):
    """Text, 70 kB of bytes, ping and close through an upgraded connection whose handshake got the credential."""
    # CLIENT websocket-client, websockets, aiohttp
    # SEC-166
    with websocket_server.serve(authority.issue(HOST)) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        url = f"wss://{HOST}:{server.port}/socket"
        out = runner.output(runner.python, "-c", WEBSOCKET_CLIENTS[name], url)
    assert out == b"done\n"
    assert [fields["authorization"] for fields in server.handshakes] == [f"Bearer {TOKEN}"]


def test_a_run_inside_a_run(runner: Runner):
    """A child may start a run of its own: the inner proxy serves the inner child, and both end."""
    inner = runner.plan("curl", "-sS", "--fail", runner.server.url("/echo", host=HOST))
    runner.output(*inner)
    assert authorized(runner) == {(f"Bearer {TOKEN}",)}


def test_the_child_has_no_secret(runner: Runner):
    """Neither the credential nor a key of ours is in the child's environment; a placeholder stands for it."""
    # SEC-141
    given = {"AUTHSOME_MASTER_KEY": "bWFzdGVyLWtleS1jYW5hcnktMDAwMDAwMDAwMDAwMDA=", "EXAMPLE_API_KEY": "sk-mine"}
    environ = json.loads(runner.output(runner.python, "-c", SHOW, environ=given))
    assert environ["EXAMPLE_API_KEY"] == PLACEHOLDER
    assert TOKEN not in json.dumps(environ)
    assert "AUTHSOME_MASTER_KEY" not in environ
    assert environ["AUTHSOME_RUN"] == runner.daemon.run
