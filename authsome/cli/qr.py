"""A QR code as lines of half-block characters: two rows of it to a line, for a terminal's tall cells."""

from collections.abc import Sequence

_QUIET = 4  # modules of margin that readers need (ISO/IEC 18004)
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}  # (upper, lower) are drawn


def lines(text: str, *, dark_on_light: bool) -> list[str]:
    """The code of a text.

    Args:
        text: what it says.
        dark_on_light: whether the terminal draws in dark on a light ground. Otherwise the light modules are drawn, in
            whatever light colour it has for text.
    """
    import segno  # noqa: PLC0415  # only a login by device code needs it

    dark = [[bool(module) for module in row] for row in segno.make_qr(text, error="l").matrix_iter(border=_QUIET)]
    drawn = [[module is dark_on_light for module in row] for row in dark]
    if len(drawn) % 2:
        drawn.append([False] * len(drawn[0]))
    return [_line(upper, lower) for upper, lower in zip(drawn[::2], drawn[1::2], strict=True)]


def _line(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    return "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))
