"""The daemon's answers, taken apart: what is not there, or is something else, is empty."""

TYPE_CHECKING = False  # type checkers take it for typing's, which short commands do without
if TYPE_CHECKING:
    from authsome.client.api import JsonObject


def member(answer: "JsonObject", name: str) -> dict[str, object]:
    """The object under this name."""
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def objects(answer: "JsonObject", name: str) -> list[dict[str, object]]:
    """The objects of the list under this name."""
    found = answer.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
