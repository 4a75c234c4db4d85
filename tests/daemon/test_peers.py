"""Other users of this machine: told no before anything that they send is looked at."""

import dataclasses
import errno
import json
import os
import pwd
import socket
import struct
import subprocess
import time

import pytest

from authsome.daemon import peers
from authsome.daemon.peers import Gone, Owner, Peers
from authsome.errors import UsageError

NOBODY = pwd.getpwnam("nobody").pw_uid
HERE = [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
AS_NOBODY = ("setpriv", "--reuid=nobody", "--clear-groups")
"""What makes the tests' programs another user's; the tests themselves have to be root's for it."""


def connect(address, family):
    """The two ends of a connection, that of the listener first."""
    with socket.create_server((address, 0), family=family) as listener:
        other = socket.socket(family)
        other.connect(listener.getsockname())
        return listener.accept()[0], other


def ends(accepted):
    return accepted.getpeername()[:2], accepted.getsockname()[:2]


@pytest.fixture
def judge():
    """One who lets in nobody but root and us."""
    found = Peers(frozenset())
    yield found
    found.close()


def curl(*args):
    """What curl says as another user: the status, and the problem."""
    command = [*AS_NOBODY, "curl", "-s", "--max-time", "20", "-w", "\n%{http_code}", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", timeout=60)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


# ---- through the whole program -----------------------------------------------------------------------------


def test_another_user_is_told_no(daemon):
    """Whatever he asks, /health too, and before a body that he announces; root, who the tests are, is served."""
    url = daemon.url
    for args in ([f"{url}/health"], [f"{url}/nowhere"], ["-X", "POST", "-d", "@/etc/services", f"{url}/identities"]):
        status, problem = curl(*args)
        assert (status, problem["code"]) == (403, "not_allowed"), problem
        assert "another user" in problem["detail"]
        assert "users" in problem["hint"]
    assert daemon("whoami").returncode == 0


def test_a_user_who_is_named_may_connect(program):
    """`users` in config.json: as the user of a reverse proxy has to be. He still proves who asks."""
    program.home.mkdir(mode=0o700, parents=True)
    (program.home / "config.json").write_text(json.dumps({"users": ["nobody"]}))
    (program.home / "config.json").chmod(0o600)
    assert program("daemon", "start").returncode == 0
    assert curl(f"{program.url}/health")[0] == 200
    status, problem = curl(f"{program.url}/whoami")
    assert (status, problem["code"]) == (401, "authentication_failed")


def test_a_proxy_that_is_not_let_in_is_told_who_can_do_it(program):
    """What somebody on another machine is told is not that he should have a daemon of his own there."""
    shared = dataclasses.replace(
        program, variables={**program.variables, "AUTHSOME_SERVER_BASE_URL": "https://vault.example.test"}
    )
    assert shared("daemon", "start").returncode == 0
    status, problem = curl(f"{program.url}/health")
    assert (status, problem["code"]) == (403, "not_allowed")
    assert "its proxy's" in problem["detail"]
    assert '"users" in config.json there' in problem["hint"]


@pytest.mark.parametrize("users", ["nobody", {"nobody": 1}, [1.5], [True], ["nobody-of-that-name"], [-1]])
def test_users_that_cannot_be_meant(users):
    with pytest.raises(UsageError, match="users"):
        peers.allowed_by({"users": users})


def test_users_by_name_and_number():
    assert peers.allowed_by({"users": ["nobody", 4711]}) == {NOBODY, 4711}
    assert peers.allowed_by({}) == frozenset()


# ---- on the wire -------------------------------------------------------------------------------------------


def test_a_stranger_is_refused_unread_and_others_are_served(served, judge, monkeypatch):
    """Not even a head that is none is parsed; the connection ends; and it keeps nobody from being answered."""
    monkeypatch.setattr(served.server, "_peers", judge)
    monkeypatch.setattr(judge, "_allowed", frozenset())
    with served.client() as client:
        client.send(b"\0 this is no request")
        answer = client.expect(403)
        assert json.loads(answer.body)["code"] == "not_allowed"
        assert client.is_closed()
    monkeypatch.setattr(judge, "_allowed", frozenset({os.geteuid()}))
    served.get("/")
    assert len(served.requests) == 1


def test_a_judgement_costs_little(judge):
    """Once a connection, and so little that nobody feels it, whatever else is open on the machine."""
    accepted, other = connect(*HERE[0])
    with accepted, other:
        assert judge.admits(accepted)
        before = time.thread_time()
        for _ in range(500):
            judge.admits(accepted)
        assert (time.thread_time() - before) / 500 < 0.002


# ---- what the kernel says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "family"), HERE)
def test_the_kernel_and_its_table_name_the_same_owner(judge, address, family):
    accepted, other = connect(address, family)
    with accepted, other:
        inode = os.fstat(other.fileno()).st_ino
        assert judge._owner(*ends(accepted)) == Owner(os.geteuid(), inode)
        assert peers.from_table(*ends(accepted)) == Owner(os.geteuid(), inode)


@pytest.mark.parametrize(("address", "family"), HERE)
def test_a_socket_of_another_user(judge, address, family):
    """Its maker owns it, both ways of asking."""
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        script = f"exec 3<>/dev/tcp/{address}/{port}; read -u 3 end"
        with subprocess.Popen([*AS_NOBODY, "bash", "-c", script], cwd="/") as process:
            accepted, _ = listener.accept()
            with accepted:
                assert judge._owner(*ends(accepted)).uid == NOBODY
                assert peers.from_table(*ends(accepted)).uid == NOBODY
                assert not judge.admits(accepted)
                judge._allowed |= {NOBODY}
                assert judge.admits(accepted)
            assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("netlink", [True, False])
def test_a_socket_that_was_closed_is_nobodys(judge, netlink):
    """The kernel calls its owner root then, as whom nobody shall pass who connects, sends and closes."""
    accepted, other = connect(*HERE[0])
    other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    other.close()
    judge._has_netlink = netlink
    with accepted:
        assert not judge.admits(accepted)


def test_where_the_kernel_may_not_be_asked_its_table_is_read(judge, monkeypatch):
    """As in a sandbox without netlink sockets."""

    def forbidden(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    accepted, other = connect(*HERE[0])
    with accepted, other:
        monkeypatch.setattr(judge, "_ask", forbidden)
        assert judge.admits(accepted)
        monkeypatch.setattr(judge, "_allowed", frozenset())
        assert not judge.admits(accepted)


def test_where_the_system_tells_nothing_nobody_is_judged(tmp_path):
    assert peers.from_table(("127.0.0.1", 1), ("127.0.0.1", 2), directory=tmp_path) is None


def test_a_socket_that_is_not_in_the_table_is_gone():
    with pytest.raises(Gone):
        peers.from_table(("127.0.0.1", 1), ("127.0.0.1", 2))


def test_ipv4_within_ipv6_is_found_as_what_it_is(judge):
    """A listener on `::` sees an IPv4 client under a mapped address; the client's socket is plain IPv4."""
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen()
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as other:
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getpeername()[0].startswith("::ffff:")
                inode = os.fstat(other.fileno()).st_ino
                assert judge._owner(*ends(accepted)) == Owner(os.geteuid(), inode)
                assert peers.from_table(*ends(accepted)) == Owner(os.geteuid(), inode)
                judge._allowed = frozenset()
                assert not judge.admits(accepted)


def test_another_machine_has_no_user_here(judge):
    """What does not come from loopback is not judged."""

    class Far:
        def getpeername(self):
            return ("192.0.2.1", 50000)

        def getsockname(self):
            return ("192.0.2.2", 7998)

    assert judge.admits(Far())


@pytest.mark.parametrize("data", [b"", b"\0" * 15, struct.pack("=IHHII", 16, 3, 0, 1, 0)])
def test_answers_that_make_no_sense(data):
    with pytest.raises(OSError, match="sock_diag"):
        peers.answered(data)
