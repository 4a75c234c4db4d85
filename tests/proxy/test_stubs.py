"""The engine without the libraries that the built archive leaves out."""

import subprocess
import sys

import pytest

from authsome.proxy import stubs
from proxy.support import HOST, TOKEN, Runner

LEFT_OUT = (
    *("aioquic", "attr", "attrs", "backports", "bcrypt", "brotli", "mitmproxy_rs", "msgpack", "passlib", "pylsqpack"),
    *("ruamel", "service_identity", "zstandard", "tornado", "urwid", "flask", "ldap3", "publicsuffix2", "pyparsing"),
    *("sortedcontainers", "asgiref", "pyasn1", "pyperclip", "click", "jinja2", "werkzeug"),
)
"""What `build_zipapp.py` leaves out."""


def test_the_built_form_does_the_main_job(runner: Runner):
    """With every one of them missing, a request gets its credential."""
    runner.engine = "full"
    runner.worker_options.append(f"--without={','.join(LEFT_OUT)}")
    runner.output("curl", "-sS", "--fail", runner.server.url("/echo", host=HOST))
    assert runner.server.requests[0].header("authorization") == f"Bearer {TOKEN}"


@pytest.mark.parametrize("is_installed", [True, False])
def test_an_installed_library_is_used(is_installed):
    """The finder is asked last, and only for names on its list."""
    code = (
        "import sys; from authsome.proxy import stubs; stubs.install(); stubs.install()\n"
        f"if not {is_installed}: sys.modules['brotli'] = None; del sys.modules['brotli']; sys.path[:] = []\n"
        "import brotli; print(type(brotli).__name__)\n"
        "assert [type(f).__name__ for f in sys.meta_path].count('StubFinder') == 1\n"
        "try: import no_such_library\nexcept ModuleNotFoundError: print('missing')"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert out == ["module" if is_installed else "_StubModule", "missing"]


def test_a_stub_stands_in_annotations_and_bases():
    """Types may be joined, subclassed, looked into; special names stay absent."""
    stub = stubs._Stub("Stream", (), {})
    assert (stub | None) is not None
    assert isinstance(type("Sub", (stub.Inner,), {}), type)
    with pytest.raises(AttributeError):
        _ = stub.__wrapped__
