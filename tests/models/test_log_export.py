"""An export of the log: whatever is done to its lines, the first bad entry is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsome.errors import RequestInvalid
from authsome.identity import did, key, proof
from authsome.models import chain, log_export
from authsome.models.chain import Checkpoint, Line, Place, Reason
from authsome.secret import Secret

PAIR = key.from_seed(Secret(bytes(range(32))))
STORE = "0123456789abcdef"
COUNT = 20


def exported(*, after=0, count=COUNT, pair=PAIR, damaged=None):
    """The lines of an export, as the daemon and the command line make them."""
    begins = chain.genesis(STORE) if after == 0 else Place(after, b"\x01" + b"h" * 32)
    place, lines = begins, []
    for number in range(after + 1, after + count + 1):
        event = "log_damaged" if number == damaged else "resolve"
        columns = (event, "vault", None, "me", None, "github", "default", "GET", "h", "/ü", None, f"{number}")
        line = Line(number, number * 10**6, columns, chain.entry_hash(place.hash, number, number * 10**6, columns))
        lines.append(log_export.render(log_export.entry_to_json(line, place.hash)))
        place = Place(number, line.hash)
    header = log_export.Header(store=STORE, key=pair.did, begins=begins, is_whole=True)
    checkpoint = Checkpoint(
        number=3, store=STORE, begins=begins, ends=place, latest=1, taken_at=2, reason=Reason.EXPORT
    )
    members = checkpoint.to_json() | {"signature": pair.sign(checkpoint.signed()).hex()}
    return [log_export.render(header.to_json()), *lines, log_export.render(members)]


def verify(lines, wanted=PAIR.did):
    def public(name):
        if name != wanted:
            raise ValueError
        return did.public_key_from_did(name)

    return log_export.verify(lines, proof.is_signed, public, tell=lambda _: None)


@pytest.mark.parametrize("after", [0, 41])
@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_an_export_is_whole(after, count):
    verdict = verify(exported(after=after, count=count))
    assert (verdict.flaw, verdict.entries, verdict.last) == (None, count, after + count)


def test_damage_that_the_daemon_has_found_is_a_flaw():
    assert verify(exported(damaged=7)).flaw == chain.Flaw(7, "7")


CHANGES = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, COUNT + 1), st.integers(0, 10**6), st.integers(32, 126)),
    st.tuples(st.just("remove"), st.integers(0, COUNT + 1), st.integers(1, 3), st.none()),
    st.tuples(st.just("repeat"), st.integers(0, COUNT + 1), st.integers(0, COUNT + 1), st.none()),
    st.tuples(st.just("swap"), st.integers(0, COUNT + 1), st.integers(0, COUNT + 1), st.none()),
    st.tuples(st.just("blank"), st.integers(0, COUNT + 1), st.none(), st.none()),
)


def changed(lines, kind, where, what, byte):
    lines = list(lines)
    match kind:
        case "byte":
            at = what % len(lines[where])
            lines[where] = lines[where][:at] + chr(byte) + lines[where][at + 1 :]
        case "remove":
            del lines[where : where + what]
        case "repeat":
            lines.insert(what, lines[where])
        case "swap":
            lines[where], lines[what] = lines[what], lines[where]
        case "blank":
            lines[where] = lines[where].replace(",", ", ", 1)
    return lines


@settings(max_examples=600, deadline=None)
@given(change=CHANGES, after=st.sampled_from([0, 41]))
def test_any_single_change_of_an_export_is_found(change, after):  # SEC-183
    """A byte, a line less, more, or elsewhere: found, and the first bad entry named."""
    lines = exported(after=after)
    bent = changed(lines, *change)
    if bent == lines:
        return
    first = next(
        (number for number, (old, new) in enumerate(zip(lines, bent, strict=False)) if old != new), len(bent)
    )  # the line
    try:
        flaw = verify(bent).flaw
    except RequestInvalid:
        assert first == 0
        return
    assert flaw is not None
    if 0 < first <= COUNT:
        assert flaw.entry == after + first


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, COUNT + 1))
def test_a_cut_off_export_is_found(count):  # SEC-183
    lines = exported()[:count]
    if not lines:
        with pytest.raises(RequestInvalid):
            verify(lines)
        return
    assert verify(lines).flaw == chain.Flaw(count, verify(lines).flaw.problem)


def test_another_server_cannot_sign_it():  # SEC-183
    other = key.generate()
    assert verify(exported(pair=other)).flaw is not None
    lines = exported(pair=other)
    lines[0] = exported()[0]
    assert "signed" in verify(lines).flaw.problem


def test_what_is_no_chain_is_not_checked():
    lines = exported()
    lines[0] = lines[0].replace('"whole":true', '"whole":false')
    with pytest.raises(RequestInvalid, match="one principal's"):
        verify(lines)


@pytest.mark.parametrize("first", ["", "{}", "[]", "nonsense", '{"export": 2}'])
def test_what_is_no_export_is_said(first):
    with pytest.raises(RequestInvalid):
        verify([first])


DEEP = "[" * 60_000


@pytest.mark.parametrize("first", [DEEP, log_export.render({"export": 1, "store": "\ud800", "key": "", "whole": True})])
def test_a_hostile_first_line_is_no_export(first):
    with pytest.raises(RequestInvalid):
        verify([first])


@pytest.mark.parametrize("place", [1, COUNT, -1])
@pytest.mark.parametrize("text", [DEEP, '{"store":"\\ud800"}'])
def test_a_hostile_line_is_a_flaw(place, text):  # SEC-183
    lines = exported()
    lines[place] = text
    assert verify(lines).flaw is not None


def test_a_checkpoint_of_no_text_is_a_flaw():  # SEC-183
    """A lone surrogate, which JSON can write and nobody can sign."""
    lines = exported()
    lines[-1] = lines[-1].replace(STORE, "\\ud800")
    assert verify(lines).flaw is not None
