"""JSON that is cut anywhere is read as the whole, and stays JSON when a place is taken out."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.classifier.json_text import BEGIN, JsonText

VALUES = st.recursive(
    st.text('ab"\\\n/é😀 :,{}[]', max_size=8) | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('ab"\\\n', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text("ab\n", min_size=1, max_size=3), VALUES, min_size=1), st.booleans())
def test_any_place_can_be_taken_out_and_json_stays(value, plain) -> None:
    raw = json.dumps(value, ensure_ascii=plain)
    text = JsonText(raw)
    for start in range(0, len(raw), 3):
        pieces = text.pieces(start, min(start + 4, len(raw)))
        inside = [p for p in pieces if p.quoted is not None and p.start < p.end]
        made, last = "", 0
        for piece in inside:
            at, to = piece.start, piece.end
            if piece.quoted:  # a place comes from decoded text, and so cuts no escape
                at, to = cut_free(text, at), text.boundary(to)
            made += raw[last:at] + piece.written('"\\x\n')
            last = to
        json.loads(made + raw[last:])


def cut_free(text: JsonText, at: int) -> int:
    while text.boundary(at) != at:
        at -= 1
    return at


@settings(max_examples=60)
@given(VALUES, st.integers(0, 400))
def test_reading_goes_on_where_it_was_cut(value, place) -> None:
    raw = json.dumps({"k": value})
    whole = JsonText(raw)
    at = whole.boundary(place % (len(raw) + 1))
    before = JsonText(raw[:at], BEGIN, ended=False)
    rest = JsonText(raw[at:], before.state(at) if at > 8 else BEGIN)
    if at > 8:
        assert before.plain.text + rest.plain.text == whole.plain.text
        assert rest.state(len(raw) - at) == whole.state(len(raw))


@pytest.mark.parametrize(
    "raw", ['{"a": "x\\', '{"a": "x\\u00', '{"a": "x\\ud83d', '{"a": "x\\ud83d\\ude']
)
def test_an_escape_that_is_not_over_is_not_read(raw) -> None:
    assert JsonText(raw, ended=False).settled == raw.index("\\")


def test_a_number_is_not_read_before_it_is_over() -> None:
    assert JsonText('{"a": 411', ended=False).settled == 6
    assert JsonText('{"a": 411}', ended=False).settled == 10


@pytest.mark.parametrize("raw", ["[1] a note", "{no json}", "plain", '"quoted" text \\n'])
def test_prose_is_left_as_it_is(raw) -> None:
    text = JsonText(raw)
    assert text.plain.text == raw
    assert [p.quoted for p in text.pieces(0, 3)] == [None]


def test_what_follows_a_json_text_is_prose() -> None:
    text = JsonText('{"a": 1} and 4111')
    assert [p.quoted for p in text.pieces(13, 17)] == [None]


def test_keys_stay_where_a_place_is_about_their_value() -> None:
    raw = '{"password": "secret", "b": 1}'
    [piece] = JsonText(raw).pieces(1, 21)
    assert raw[piece.start : piece.end] == "secret"
    [key] = JsonText(raw).pieces(2, 10)
    assert raw[key.start : key.end] == "password"


def test_blanks_are_waited_for_a_while_only() -> None:
    assert JsonText("{" + " " * 20, ended=False).settled == 0
    assert JsonText("{" + " " * 400, ended=False).settled == 401
    assert re.fullmatch(" *", JsonText(" " * 20).plain.text)
