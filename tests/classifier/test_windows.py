"""Long and hostile texts are cut into bounded windows, and nothing is lost unsaid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardrail.classifier.windows import WORD_CHARS, bounded, spans, speakable


@given(st.integers(1, 5000), st.integers(8, 300), st.integers(0, 6))
def test_unlimited_windows_cover_every_token(tokens: int, size: int, overlap: int) -> None:
    cuts = spans(tokens, size, overlap, 10_000)
    covered = {t for cut in cuts for t in range(cut.start, cut.end)}
    assert covered == set(range(tokens))
    assert all(cut.end - cut.start <= size for cut in cuts)


@given(st.integers(1, 100_000), st.integers(1, 9))
def test_limited_windows_keep_head_and_tail(tokens: int, limit: int) -> None:
    cuts = spans(tokens, 64, 8, limit)
    assert len(cuts) <= limit
    assert cuts[0].start == 0
    if limit > 1:
        assert cuts[-1].end == tokens


def test_neighbours_overlap_as_asked() -> None:
    first, second = spans(150, 100, 20, 9)[:2]
    assert (first.end, second.start) == (100, 50)
    first, second, *_ = spans(500, 100, 20, 9)
    assert first.end - second.start == 20


@given(st.text(max_size=400))
def test_speakable_text_can_be_encoded_and_has_no_endless_word(text: str) -> None:
    result = speakable(text)
    result.encode("utf-8")
    assert max(map(len, result.split()), default=0) <= WORD_CHARS + 1


def test_lone_surrogates_are_replaced_not_dropped() -> None:
    assert speakable("a\ud800b") == "a\ufffdb"


def test_a_long_run_is_split_and_ordinary_text_is_untouched() -> None:
    assert speakable("x" * 200).split() == ["x" * 80, "x" * 80, "x" * 40]
    assert speakable("an ordinary sentence") == "an ordinary sentence"


def test_bounding_keeps_both_ends_and_counts_what_is_left_out() -> None:
    kept, left_out = bounded("a" * 50 + "b" * 50, 10)
    assert (kept, left_out) == ("aaaaa bbbbb", 90)
    assert bounded("short", 10) == ("short", 0)
