"""A QR code in half-block characters is the same code, module for module, on a dark or a light ground."""

import pytest
import segno

from authsome.cli import qr

TEXT = "https://github.example/device?user_code=WDJB-MJHT"
DRAWN = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}


@pytest.mark.parametrize("dark_on_light", [True, False])
def test_every_module_is_drawn(dark_on_light):
    lines = qr.lines(TEXT, dark_on_light=dark_on_light)
    assert len({len(line) for line in lines}) == 1
    rows = [[DRAWN[character][half] is dark_on_light for character in line] for line in lines for half in (0, 1)]
    meant = [[bool(module) for module in row] for row in segno.make_qr(TEXT, error="l").matrix_iter(border=4)]
    assert rows[: len(meant)] == meant
