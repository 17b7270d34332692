"""A stream is read once, in order, within bounds, and pooled as one text."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from guardrail.classifier.base import Place, Sample, Stream
from guardrail.classifier.pairs import CLS, SEP
from guardrail.classifier.streams import (
    LEAST_BLOCK,
    MOST_BLOCK,
    StreamReader,
    _settled,
    unused_inputs,
)
from guardrail.types import Role

LAYERS, OUTPUTS = 2, 3


@dataclass
class Input:
    name: str
    shape: list[Any]


@dataclass
class Session:
    """A model of one idea: each token is worth its id, and keys remember ids."""

    calls: list[tuple[list[int], list[int]]] = field(default_factory=list)
    broken: bool = False

    def get_inputs(self) -> list[Input]:
        parts = [f"past_key_values.{n}.{p}" for n in range(LAYERS) for p in ("key", "value")]
        return [
            Input("input_ids", ["batch", "length"]),
            Input("rubrics", ["rubrics", 8]),
            *(Input(name, ["batch", 1, "cached", 1]) for name in parts),
        ]

    def run(self, results: list[str], feed: dict[str, Any]) -> list[Any]:
        if self.broken:
            raise RuntimeError("no")
        ids = feed["input_ids"].astype(np.float32)
        before = feed["past_key_values.0.key"]
        assert feed["attention_mask"].shape == (1, before.shape[2] + ids.shape[1])
        assert feed["rubrics"].shape == (0, 8)
        self.calls.append((before[0, 0, :, 0].astype(int).tolist(), ids[0].astype(int).tolist()))
        weights = np.repeat(ids[..., None] / 50, OUTPUTS, axis=2)
        keys = np.concatenate([before, ids[:, None, :, None]], axis=2)
        values = np.repeat(ids[..., None], OUTPUTS, axis=2)
        assert results[2:] == [f"present.{n}.{p}" for n in range(LAYERS) for p in ("key", "value")]
        return [weights, values, *[keys] * (2 * LAYERS)]

    @property
    def read(self) -> list[int]:
        """Ids in the order in which they were read, heads left out."""
        return [one for before, ids in self.calls if before for one in ids]


def tokenize(texts: Sequence[str]) -> list[list[int]]:
    return [[int(word.strip("w")) if word.strip("w") else 0 for word in t.split()] for t in texts]


def words(start: int, stop: int) -> str:
    return "".join(f"w{n} " for n in range(start, stop))


def reader(session: Session, *, max_tokens: int = 256, max_bytes: int = 1 << 20) -> StreamReader:
    return StreamReader(
        session, tokenize, max_tokens=max_tokens, overlap_tokens=8, max_bytes=max_bytes
    )


def played(subject: StreamReader, parts: Sequence[str], stream: Stream, **more: Any) -> list[Any]:
    found, at, whole = [], 0, "".join(parts)
    for part in parts:
        context = whole[max(0, at - 112) : at]
        sample = Sample(part, context=context, place=Place(stream, at), **more)
        found.append(subject.read(sample))
        at += len(part)
    return found


def pooled(ids: Sequence[int]) -> float:
    shares = np.exp(np.array(ids) / 50)
    return float((shares * ids).sum() / shares.sum())


def test_every_token_is_read_once_and_sees_all_before_it() -> None:
    session, stream = Session(), Stream()
    found = played(reader(session), [words(200, 230), words(230, 265), words(265, 300)], stream)
    assert session.read == list(range(200, 300))
    assert session.calls[-1][0] == [CLS, *range(200, 265)]
    assert [each.tokens for each in found] == [30, 35, 35]


def test_the_verdict_is_over_all_that_was_read() -> None:
    found = played(reader(Session()), [words(200, 230), words(230, 300)], Stream())
    assert found[0].logits[:, 0] == pytest.approx([pooled(range(200, 230))], rel=1e-4)
    ends = [pooled(range(200, 265)), pooled(range(200, 300))]
    assert found[1].logits[:, 0] == pytest.approx(ends, rel=1e-4)


def test_a_word_that_may_go_on_is_read_again_with_its_end() -> None:
    session = Session()
    parts = [words(200, 230) + "w4", "2 " + words(300, 330)]
    found = played(reader(session), parts, Stream())
    assert session.read == [*range(200, 230), 4, 42, *range(300, 330)]
    assert [each.tokens for each in found] == [31, 31]


def test_a_short_block_is_read_again_until_it_is_long_enough() -> None:
    session = Session()
    found = played(reader(session), [words(n, n + 4) for n in range(200, 232, 4)], Stream())
    blocks = LEAST_BLOCK // 4
    again = [4 * (1 + n % blocks) for n in range(8)]
    assert [each.tokens for each in found] == again
    assert session.calls[-1][0] == [CLS, *range(200, 216)]


def test_a_long_part_is_read_in_blocks() -> None:
    session = Session()
    (found,) = played(reader(session), [words(200, 350)], Stream())
    sizes = [len(ids) for before, ids in session.calls if before]
    assert sizes == [50, 50, 50]
    assert max(sizes) <= MOST_BLOCK
    assert found.tokens == 150


def test_a_full_cache_begins_anew_behind_the_prompt_with_an_overlap() -> None:
    session = Session()
    parts = [words(n, n + 20) for n in range(200, 400, 20)]
    played(reader(session, max_tokens=64), parts, Stream(), role=Role.ASSISTANT, prompt="w7 w8")
    head = [CLS, 7, 8, SEP]
    assert session.calls[0] == ([], head)
    assert session.calls[4] == (head, [*range(252, 260), *range(260, 280)])
    assert max(len(before) + len(ids) for before, ids in session.calls) <= 64
    assert sum(1 for before, _ in session.calls if not before) == 1, "the prompt is read once"


def test_what_overlaps_is_not_read_twice() -> None:
    """A guard judges the end of a window again, with what follows it."""
    session, stream = Session(), Stream()
    subject = reader(session)
    text = words(200, 260)
    subject.read(Sample(text[:150], place=Place(stream, 0)))
    subject.read(Sample(text[120:], context=text[:120], place=Place(stream, 120)))
    assert session.read == list(range(200, 260))


def test_a_part_that_was_read_before_is_left_to_windows() -> None:
    session, stream = Session(), Stream()
    subject = reader(session)
    text = words(200, 260)
    subject.read(Sample(text, place=Place(stream, 0)))
    assert subject.read(Sample(text[:80], place=Place(stream, 0))) is None
    assert session.read == list(range(200, 260))


def test_after_a_gap_it_goes_on_from_the_context() -> None:
    session, stream = Session(), Stream()
    subject = reader(session)
    subject.read(Sample(words(200, 230), place=Place(stream, 0)))
    later = Sample(words(300, 330), context=words(290, 300), place=Place(stream, 900))
    assert subject.read(later).tokens == 40  # type: ignore[union-attr]
    assert session.calls[-1] == ([CLS], list(range(290, 330)))


def test_after_a_failure_the_stream_begins_anew() -> None:
    session, stream = Session(), Stream()
    subject = reader(session)
    text = words(200, 260)
    subject.read(Sample(text[:100], place=Place(stream, 0)))
    session.broken = True
    with pytest.raises(RuntimeError):
        subject.read(Sample(text[100:200], context=text[:100], place=Place(stream, 100)))
    session.broken = False
    subject.read(Sample(text[200:], context=text[100:200], place=Place(stream, 200)))
    assert session.calls[-1] == ([CLS], list(range(220, 260)))


def test_memory_is_bounded_and_streams_that_take_turns_keep_what_they_have() -> None:
    size = LAYERS * 2 * 4 * (1 + 60)
    subject = reader(Session(), max_bytes=3 * size)
    streams = [Stream() for _ in range(6)]
    cached = 0
    for at in range(0, 600, 150):
        for stream in streams:
            part = Sample(words(200, 230), context=words(190, 200), place=Place(stream, at))
            found = subject.read(part)
            cached += found is not None and found.tokens == 30
            assert subject.held_bytes <= 3 * size
    assert cached >= 6


def test_a_stream_without_room_gets_some_when_another_ends() -> None:
    subject = reader(Session(), max_bytes=LAYERS * 2 * 4 * (1 + 30))
    one, two = Stream(), Stream()
    subject.read(Sample(words(200, 230), place=Place(one, 0)))
    assert subject.read(Sample(words(200, 230), place=Place(two, 0))) is None
    del one
    gc.collect()
    assert subject.read(Sample(words(200, 230), place=Place(two, 150))) is not None
    assert subject.held_bytes > 0


def test_a_stream_that_is_gone_leaves_nothing_behind() -> None:
    subject = reader(Session())
    stream = Stream()
    subject.read(Sample(words(200, 230), place=Place(stream, 0)))
    assert subject.held_bytes > 0
    del stream
    gc.collect()
    assert subject.held_bytes == 0


def test_a_text_without_end_or_without_a_stream_is_left_to_windows() -> None:
    subject = reader(Session())
    assert subject.read(Sample(words(200, 230))) is None
    assert subject.read(Sample("w2 " * 4000, place=Place(Stream(), 0))) is None
    assert subject.read(Sample("x" * 0, place=Place(Stream(), 0))).tokens == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "settled"), [("", 0), ("abc ", 4), ("abc de", 4), ("x" * 80, 0), ("x" * 81, 81)]
)
def test_all_but_a_word_of_bearable_length_is_settled(text: str, settled: int) -> None:
    assert _settled(text) == settled


def test_a_graph_without_a_cache_has_no_unused_inputs() -> None:
    session = Session()
    session.get_inputs = lambda: [Input("input_ids", ["batch", "length"])]  # type: ignore[method-assign]
    assert unused_inputs(session, 2) == {}


def test_of_a_long_prompt_only_as_much_is_tokenized_as_of_a_whole_text() -> None:
    seen: list[int] = []

    def counted(texts: Sequence[str]) -> list[list[int]]:
        seen.extend(map(len, texts))
        return tokenize(texts)

    session = Session()
    one = StreamReader(session, counted, max_tokens=256, overlap_tokens=8, max_bytes=1 << 20)
    prompt = "w5 " * 500_000
    one.read(Sample(words(0, 20), Role.ASSISTANT, prompt, place=Place(Stream(), 0)))
    assert max(seen) < 10_000
