"""What patterns promise: linear time, whole words, and places that can be trusted."""

from __future__ import annotations

import time

import pytest

from guardrail.policy.patterns import compile_pattern, compile_words


def found(matcher, text: str) -> list[str]:
    return [text[a:b] for a, b in matcher.find(text, 100)]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x", "([a-z]+)*[0-9]"])
def test_a_pattern_that_backtracks_elsewhere_is_fast_here(pattern: str) -> None:
    started = time.process_time()
    assert found(compile_pattern(pattern), "a" * 200_000 + "!") == []
    assert time.process_time() - started < 10.0


def test_words_are_matched_whole_in_any_case_and_spacing() -> None:
    words = compile_words(("acme", "big rival", "süß"))
    assert found(words, "ACME, acme acmes Big\n  Rival xacme SÜSS süß.") == [
        "ACME", "acme", "Big\n  Rival", "süß",
    ]  # fmt: skip


def test_neighbouring_words_share_one_separator() -> None:
    assert found(compile_words(("a", "b")), "a b a") == ["a", "b", "a"]


def test_places_count_characters_not_bytes() -> None:
    assert found(compile_pattern("b."), "äöü bx 😀 by") == ["bx", "by"]


def test_matches_are_bounded_and_an_empty_match_does_not_loop() -> None:
    assert len(list(compile_pattern("a").find("a" * 1000, 7))) == 7
    assert found(compile_pattern("x*"), "abc") == []
    assert compile_pattern("x*").matches_nothing()
    assert not compile_pattern("x").matches_nothing()


def test_a_group_of_the_author_s_does_not_change_what_is_reported() -> None:
    assert found(compile_pattern("a(b)c"), "xabcx") == ["abc"]
    assert found(compile_pattern("a|b"), "cb") == ["b"]


def test_half_a_pair_is_one_character_that_nothing_matches() -> None:
    text = "é😀 ab\ud800 ab \ude00манго ab"
    places = list(compile_pattern("ab|манго").find(text, 9))
    assert [text[a:b] for a, b in places] == ["ab", "ab", "манго", "ab"]


def test_many_places_take_time_linear_in_their_number() -> None:
    def seconds(places: int) -> float:
        started = time.process_time()
        assert len(list(compile_words(("ab",)).find("ab " * places, places))) == places
        return time.process_time() - started

    assert seconds(25_000) < 15 * max(seconds(5_000), 0.02)  # 25 times, were it quadratic
