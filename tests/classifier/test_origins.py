"""Every character of a text that was edited knows the place that it came from."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.classifier.origins import Mapped

EDITS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.text("xyz", max_size=3)))


def edited(source: Mapped, draws: list[tuple[int, int, str]]) -> Mapped:
    edits, at = [], 0
    for gap, size, shown in draws:
        start = at + gap
        if start + size > len(source.text):
            break
        edits.append((start, start + size, shown))
        at = start + size
    return source.edited(edits)


@settings(max_examples=80)
@given(st.text("abc", max_size=40), EDITS, EDITS)
def test_what_no_edit_touched_is_found_where_it_stood(text, first, second) -> None:
    view = edited(edited(Mapped(text), first), second)
    last = 0
    for at, character in enumerate(view.text):
        start, end = view.origin(at, at + 1)
        assert 0 <= start <= end <= len(text)
        assert start >= last or start == end
        if character in "abc":
            assert text[start:end] == character
            last = start


def test_a_place_reaches_over_all_that_was_taken_out_inside_of_it() -> None:
    view = Mapped("a--b-c").edited([(1, 3, ""), (4, 5, "")])
    assert view.text == "abc"
    assert view.origin(0, 3) == (0, 6)
    assert view.origin(1, 2) == (3, 4)
    assert view.position(3) == 1


def test_a_place_in_a_payload_is_the_whole_payload() -> None:
    view = Mapped("see QUJD now").edited([(4, 8, "ABC")])
    assert view.origin(5, 6) == (4, 8)
    assert view.position(6) == 4
    assert view.position(8) == 7


def test_a_text_without_an_edit_is_itself() -> None:
    text = Mapped("abc")
    assert text.edited([(0, 1, "a")]) is text
    assert text.translated("abc") is text
