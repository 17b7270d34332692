"""The token type tells who speaks, and only the judged text is pooled."""

from __future__ import annotations

from guardrail.classifier.pairs import CLS, PROMPT_TOKENS, SEP, encode_pair, prompt_part


def test_a_text_alone_has_type_zero_and_is_pooled_wholly() -> None:
    one = encode_pair([7, 8], None, 16)
    assert (one.ids, one.types, one.pool) == ([CLS, 7, 8, SEP], [0] * 4, [1] * 4)


def test_a_reply_has_type_one_and_its_prompt_is_not_pooled() -> None:
    one = encode_pair([7, 8], [5], 16)
    assert one.ids == [CLS, 5, SEP, 7, 8, SEP]
    assert one.types == one.pool == [0, 0, 0, 1, 1, 1]
    assert one.ids[one.start] == 7


def test_a_reply_without_a_prompt_is_still_a_reply() -> None:
    assert encode_pair([7], [], 16).types == [0, 0, 1, 1]


def test_sequences_never_exceed_the_limit() -> None:
    long = list(range(1000, 2000))
    assert len(encode_pair(long, None, 32).ids) == 32
    assert len(encode_pair(long, long, 128).ids) == 128


def test_a_long_prompt_keeps_its_head_and_more_of_its_tail() -> None:
    part = prompt_part(list(range(500)))
    assert len(part) == PROMPT_TOKENS
    assert part[0] == 0
    assert part[-1] == 499
    assert part[23:25] == [23, 460]
