"""`admin principals`: who is let in, with which role, and how they go."""

import re

from fakes.program import Program


def members(program: Program) -> dict[str, tuple[str | None, str]]:
    answer = program.json("admin", "principals", "list")
    return {each["name"]: (each["email"], each["role"]) for each in answer["principals"]}


def test_programs_come_and_go(daemon: Program):
    """A principal for programs is added, made an admin, and removed."""
    assert daemon("admin", "principals", "add", "robot").stdout == "added robot, user\n"
    assert members(daemon) == {"owner": (None, "admin"), "robot": (None, "user")}
    assert daemon("admin", "principals", "role", "robot", "admin").stdout == "robot is admin\n"
    assert members(daemon)["robot"] == (None, "admin")
    gone = daemon("admin", "principals", "remove", "robot", "--yes")
    assert gone.stdout == "removed robot: 0 connections, 0 identities, 0 runs\n"
    assert members(daemon) == {"owner": (None, "admin")}
    assert daemon("admin", "principals", "remove", "robot", "--yes").returncode == 1


def test_a_name_is_one_segment_of_a_path(daemon: Program):
    """Whatever a name holds reaches that principal, or nobody; and one that would be another path is refused here."""
    for name in ("Zoë de Vries", "50%", "a%2Fb", "who?", "#1", "-"):
        assert daemon("admin", "principals", "add", name).returncode == 0
        assert daemon("admin", "principals", "role", name, "admin").stdout == f"{name} is admin\n"
        assert daemon("admin", "principals", "remove", name, "--yes").returncode == 0
    assert daemon("admin", "principals", "role", "", "admin").returncode == 2
    for name in (".", "..", "owner/role", "../connections", "a\\b", "owner\n", "x" * 201):
        for words in (["role", name, "admin"], ["remove", name, "--yes"]):
            done = daemon("admin", "principals", *words)
            assert (done.returncode, "by that name" in done.stderr) == (2, True), name


def test_an_invitation_is_a_link(daemon: Program):
    """It is printed alone, listed without its secret, and withdrawn."""
    done = daemon("admin", "principals", "invite", "Ada@Example.com", "--role", "admin")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{re.escape(daemon.url)}/ui/join/[\w-]{{43}}\n", done.stdout)
    listed = daemon("admin", "principals", "list").stdout
    assert "ada@example.com" in listed
    assert done.stdout.strip().rpartition("/")[2] not in listed
    assert daemon("admin", "principals", "invite", "ada@example.com", "--withdraw").returncode == 0
    assert "ada@example.com" not in daemon("admin", "principals", "list").stdout
    assert daemon("admin", "principals", "invite", "ada@example.com", "--withdraw").returncode == 2


def test_there_is_always_an_admin(daemon: Program):
    """The last one stays, whatever is asked for."""
    for words in (["remove", "owner", "--yes"], ["role", "owner", "user"]):
        done = daemon("admin", "principals", *words)
        assert (done.returncode, "has to be an admin" in done.stderr) == (4, True)
    assert daemon("admin", "principals", "role", "owner", "god").returncode == 2
    assert daemon("admin", "principals", "invite", "nobody").returncode == 2


def test_a_removal_is_agreed_to(daemon: Program):
    """By a plain yes, or by --yes where nobody can be asked."""
    assert daemon("admin", "principals", "add", "robot").returncode == 0
    assert daemon("admin", "principals", "remove", "robot").returncode == 2
    with daemon.on_terminal("admin", "principals", "remove", "robot") as terminal:
        terminal.expect("gone for good")
        terminal.send_line("")
        assert terminal.wait() == 11
    assert "robot" in members(daemon)
    with daemon.on_terminal("admin", "principals", "remove", "robot") as terminal:
        terminal.expect("gone for good")
        terminal.send_line("y")
        assert terminal.wait() == 0
    assert "robot" not in members(daemon)


def test_a_runs_child_changes_nothing(daemon: Program):
    """Who may be here is no business of what runs in a run."""
    for words in (["invite", "a@b.c"], ["add", "x"], ["role", "owner", "user"], ["remove", "owner", "--yes"]):
        assert daemon("admin", "principals", *words, env={"AUTHSOME_RUN": "some"}).returncode == 4
