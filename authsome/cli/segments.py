"""What a user named, as one segment of a path of the daemon's.

Rule: what could be taken for another path than the one that is meant is refused here, before anything is asked.
"""

from urllib.parse import quote

from authsome.errors import UsageError

_LONGEST_NAME = 64
_LONGEST_WORDS = 200  # as much as the daemon takes


def named(text: str) -> str:
    """The name of a provider, a connection or an identity, which stands in a path as it is.

    Raises:
        UsageError: nothing of ours is named like that.
    """
    plain = text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not plain or not text[0].isalnum() or len(text) > _LONGEST_NAME:
        raise UsageError("that is not a name", hint="letters, digits, `-`, `_` and `.`, 64 at most")
    return text


def quoted(text: str) -> str:
    """A person's name, e-mail address or id, in which all that would mean something in a path is escaped.

    Raises:
        UsageError: it would be another path all the same, or the daemon reads no such segment.
    """
    if text in {"", ".", ".."} or len(text) > _LONGEST_WORDS or not text.isprintable() or set(text) & set("/\\"):
        raise UsageError(
            "nobody can be asked for by that name",
            hint="say the e-mail address or the id: `authsome admin principals list` shows them",
        )
    return quote(text, safe="@")
