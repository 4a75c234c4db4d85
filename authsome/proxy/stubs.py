"""Stand-ins for libraries that mitmproxy imports at its top and that a proxy for HTTP/1 and HTTP/2 never calls.

The built archive leaves these libraries out: together they are larger than everything else, and some have no wheel for
half the platforms. Rule: the finder is the last on `sys.meta_path`, so a library that is installed is used, and names
outside the list below stay missing.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

_NEVER_CALLED: Final = frozenset(
    {
        "aioquic",  # QUIC
        "backports",  # .zstd; decoding of bodies is codings.py's, which takes no stub for it
        "bcrypt",
        "brotli",  # as backports
        "mitmproxy_rs",  # UDP, WireGuard, local redirection
        "msgpack",
        "passlib",  # htpasswd files
        "pylsqpack",  # QUIC
        "ruamel",  # .yaml: option files
        "service_identity",
        "zstandard",  # as backports
    }
)


class _Stub(type):
    """A class that has every attribute, each another such class, so that it can stand in an annotation or a base."""

    def __getattr__(cls, name: str) -> "_Stub":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Stub(name, (), {})

    def __call__(cls, *_arguments: object, **_named: object) -> "_Stub":
        """An object of the class is the class itself."""
        return cls


class _StubModule(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Stub(name, (), {})


class _StubLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class StubFinder(MetaPathFinder):
    """Finds what nobody else found, if it is on the list."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the finder protocol's
        target: ModuleType | None = None,  # noqa: ARG002  # the finder protocol's
    ) -> ModuleSpec | None:
        """A stub's spec, or None."""
        # A listed name, what is in it, and the namespace that it is in when nothing else is.
        if any(f"{fullname}.".startswith(f"{name}.") or name.startswith(f"{fullname}.") for name in _NEVER_CALLED):
            return ModuleSpec(fullname, _StubLoader(), is_package=True)
        return None


def install() -> None:
    """Put the finder last, once."""
    if not any(isinstance(finder, StubFinder) for finder in sys.meta_path):
        sys.meta_path.append(StubFinder())
