"""gRPC through the proxy, by Google's own libraries on both sides.

Rule: as in test_clients.py, a test names what it runs (`CLIENT grpcio`), and docs/clients.md has a row for each.
"""

import json
from collections.abc import Iterator

import grpc
import pytest

from fakes import daemon_api
from fakes.authority import Authority
from proxy import grpc_server
from proxy.conftest import ENGINES
from proxy.grpc_server import GrpcServer
from proxy.support import HOST, TOKEN, Runner
from proxy.test_clients import NODE_PACKAGES

PYTHON = """
import grpc, json, os, sys
options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(), options)
name, sent = sys.argv[2], [("authorization", "Bearer " + os.environ["EXAMPLE_API_KEY"])]
path = "/test.Words/" + name
told = {}
try:
    if name == "Repeat":
        words = ["yes", "s", "sk-real", "", "no secrets"]
        heard = []
        def said():
            for number, word in enumerate(words):
                yield word.encode()
                while len(heard) <= number:
                    waiting.acquire()
        import threading
        waiting = threading.Semaphore(0)
        for message in channel.stream_stream(path)(said(), metadata=sent, timeout=60):
            heard.append(message.decode())
            waiting.release()
        told["messages"] = heard
    elif name == "Count":
        told["messages"] = [m.decode() for m in channel.unary_stream(path)(b"1000", metadata=sent)]
    elif name == "Talk":
        heard = []
        def words():
            for number in range(50):
                yield b"word %d" % number
                while len(heard) <= number:
                    waiting.acquire()
        import threading
        waiting = threading.Semaphore(0)
        for message in channel.stream_stream(path)(words(), metadata=sent):
            heard.append(message.decode())
            waiting.release()
        told["messages"] = heard
    elif name == "Wait":
        told["messages"], seconds = [], 1
        while not told["messages"]:  # a slow machine may need more than a second for the first
            try:
                for message in channel.unary_stream(path)(b"begun", metadata=sent, timeout=seconds):
                    told["messages"].append(message.decode())
            except grpc.RpcError as error:
                told["error"] = error.code().name
            seconds *= 2
    else:
        body = b"x" * (12 << 20) if name == "Echo" else b"it is "
        message, call = channel.unary_unary(path).with_call(body, metadata=sent)
        told["length"], told["end"] = len(message), message[-60:].decode()
        told["trailers"] = {k: v.hex() if isinstance(v, bytes) else v for k, v in call.trailing_metadata()}
except grpc.RpcError as error:
    told["error"] = [error.code().name, error.details()]
print(json.dumps(told))
"""
NODE = """
const grpc = require('@grpc/grpc-js');
const [address, name] = process.argv.slice(1);
const options = {'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1};
const client = new grpc.Client(address, grpc.credentials.createSsl(), options);
const sent = new grpc.Metadata(); sent.set('authorization', 'Bearer ' + process.env.EXAMPLE_API_KEY);
const path = '/test.Words/' + name, same = (bytes) => bytes, told = {};
const done = (error) => {
  if (error) told.error = [grpc.status[error.code], error.details];
  console.log(JSON.stringify(told)); process.exit(0);
};
if (name === 'Count' || name === 'Talk') {
  told.messages = [];
  const call = name === 'Count' ? client.makeServerStreamRequest(path, same, same, Buffer.from('1000'), sent)
    : client.makeBidiStreamRequest(path, same, same, sent);
  const say = () => told.messages.length < 50 ? call.write(Buffer.from('word ' + told.messages.length)) : call.end();
  call.on('data', (bytes) => { told.messages.push(bytes.toString()); if (name === 'Talk') say(); });
  call.on('error', done); call.on('end', () => done());
  if (name === 'Talk') say();
} else if (name === 'Wait') {
  told.messages = [];
  const attempt = (seconds) => {
    const deadline = Date.now() + 1000 * seconds;
    const call = client.makeServerStreamRequest(path, same, same, Buffer.from('begun'), sent, {deadline});
    call.on('data', (bytes) => told.messages.push(bytes.toString()));
    call.on('error', (error) => {
      told.error = grpc.status[error.code];
      told.messages.length ? done() : attempt(2 * seconds);
    });
  };
  attempt(1);
} else {
  const body = name === 'Echo' ? Buffer.alloc(12 << 20, 'x') : Buffer.from('it is ');
  const call = client.makeUnaryRequest(path, same, same, body, sent, (error, message) => {
    if (error) return done(error);
    told.length = message.length; told.end = message.subarray(-60).toString();
  });
  call.on('status', (status) => {
    if (status.code) return;
    told.trailers = {};
    for (const [key, value] of Object.entries(status.metadata.getMap()))
      told.trailers[key] = Buffer.isBuffer(value) ? value.toString('hex') : value;
    done();
  });
}
"""
LIBRARIES = ("grpcio", "@grpc/grpc-js")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """HTTP/2 is served by the full engine, whichever begins the connection."""
    name: str = request.param
    return name


@pytest.fixture
def words(runner: Runner, authority: Authority) -> Iterator[GrpcServer]:
    """The server, which the route leads to."""
    with grpc_server.serve(authority.issue(HOST)) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        yield server


def call(runner: Runner, server: GrpcServer, library: str, method: str) -> dict[str, object]:
    """What a client is told, which has nothing but the environment of a run."""
    command = (runner.python, "-c", PYTHON) if library == "grpcio" else ("node", "-e", NODE)
    where = f"{HOST}:{server.port}"
    environ = {"NODE_PATH": NODE_PACKAGES, "grpc_proxy": "http://127.0.0.1:9", "no_grpc_proxy": HOST}
    told: dict[str, object] = json.loads(runner.output(*command, where, method, environ=environ))
    assert set(server.authorizations) == {f"Bearer {TOKEN}"}
    return told


every_library = pytest.mark.parametrize("library", LIBRARIES)


@every_library
def test_one_message(runner: Runner, words: GrpcServer, library: str):
    """Of twelve megabytes there and back, and with trailers, in text and in binary."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-177
    told = call(runner, words, library, "Echo")
    assert told["length"] == 12 << 20
    assert told["trailers"] == {"x-length": str(12 << 20), "x-data-bin": "00ff"}


@every_library
def test_a_stream_of_the_servers(runner: Runner, words: GrpcServer, library: str):
    """Each message, in order."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-177
    assert call(runner, words, library, "Count") == {"messages": [str(number) for number in range(1000)]}


@every_library
def test_a_stream_of_both(runner: Runner, words: GrpcServer, library: str):
    """Each side waits for the other's message before it sends its next: nothing is held back."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-164
    assert call(runner, words, library, "Talk") == {"messages": [f"WORD {number}" for number in range(50)]}


def test_a_message_that_ends_as_a_secret_begins_is_not_held(runner: Runner, words: GrpcServer):
    """Its end is the end: nothing is held back of it, for which the client would wait before it says its next."""
    # CLIENT grpcio
    # SEC-164
    told = call(runner, words, "grpcio", "Repeat")
    assert told == {"messages": ["yes", "s", "sk-real", "", "no secrets"]}


@every_library
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_that_are_compressed_unasked(runner: Runner, authority: Authority, library: str, compression):
    """As servers by Google's library do, if their program says so: each is undone, and looked through."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-163
    with grpc_server.serve(authority.issue(HOST), compression=compression) as server:
        runner.daemon.routes = [daemon_api.route(HOST, port=server.port)]
        told = call(runner, server, library, "Tell")
        assert str(told["end"]) == f"it is Bearer {'authsome-placeholder-authsome-placeholder'[: len(TOKEN)]}"
        assert call(runner, server, library, "Count") == {"messages": [str(number) for number in range(1000)]}
        told = call(runner, server, library, "Echo")
        assert told["length"] == 12 << 20
        assert told["trailers"] == {"x-length": str(12 << 20), "x-data-bin": "00ff"}


@every_library
def test_an_error_in_the_trailers(runner: Runner, words: GrpcServer, library: str):
    """With its text; the answer has no message."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-177
    assert call(runner, words, library, "Refuse") == {"error": ["NOT_FOUND", "no such word: ü"]}


@every_library
def test_a_deadline(runner: Runner, words: GrpcServer, library: str):
    """The client gives up, and the server comes to know it."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-173
    told = call(runner, words, library, "Wait")
    assert told == {"messages": ["begun"], "error": "DEADLINE_EXCEEDED"}
    assert words.cancelled.wait(60)


@every_library
def test_an_echo_is_scrubbed(runner: Runner, words: GrpcServer, library: str):
    """The secret in a message: as long as it was, so that the message's frame is right."""
    # CLIENT grpcio, @grpc/grpc-js
    # SEC-163
    told = call(runner, words, library, "Tell")
    assert told["length"] == len(f"it is Bearer {TOKEN}")
    assert str(told["end"]).startswith("it is Bearer authsome-placeholder")
