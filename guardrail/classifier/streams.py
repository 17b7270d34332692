"""Reads a stream block by block with a key/value cache, each token once.

A block sees itself and all before it, as in the block-causal part of the training, and the
verdict is over all that was read. What may still grow (a word that is not over, a block that is
too short) is read, counts, and is read again with what follows. Knows the graph and tokens; no
calibration, no policies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Sample, Stream
from guardrail.classifier.pairs import CLS, SEP, prompt_part
from guardrail.classifier.windows import WORD_CHARS, prompt_text
from guardrail.types import Role

__all__ = ["PAST", "Reading", "StreamReader", "unused_inputs"]

PAST: Final = "past_key_values."
"""Start of the names of the graph's inputs for keys and values."""
LEAST_BLOCK: Final = 16
"""A shorter block is read again with what follows: the model was trained on blocks of 8 to 64
tokens, and sees too little of what comes next in short ones."""
MOST_BLOCK: Final = 64
MOST_CHARS: Final = 4_000
"""Longest text that is read as part of a stream; a longer one is scored on its own."""
MOST_HEADS: Final = 8
"""Prompts whose keys and values are kept for other channels of the same answer."""

Floats = NDArray[np.float32]


def unused_inputs(session: Any, batch: int) -> dict[str, Floats]:
    """Return the inputs of a graph that are empty when it reads whole texts by its own outputs.

    Args:
        session: A session.
        batch: Texts of the batch.

    Returns:
        By name, keys and values of no tokens, and no rubrics; none where the graph has neither.
    """
    empty: dict[str, Floats] = {}
    for each in session.get_inputs():
        if each.name.startswith(PAST):
            shape = (batch, each.shape[1], 0, each.shape[3])
            empty[each.name] = np.zeros(shape, dtype=np.float32)
        elif each.name == "rubrics":
            empty[each.name] = np.zeros((0, each.shape[1]), dtype=np.float32)
    return empty


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What reading a part of a stream gave.

    Args:
        logits: float32 (verdicts, outputs), over all that was read up to each block's end.
        tokens: Tokens that were read.
    """

    logits: Floats
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Attention pooling so far: the logits, and the logarithms of the softmax's denominators."""

    logits: Floats
    weight: Floats

    @classmethod
    def of(cls, weights: Floats, values: Floats) -> _Pool:
        """Pool tokens, float32 (tokens, outputs) each."""
        top = weights.max(axis=0)
        shares = np.exp(weights - top)
        total = shares.sum(axis=0)
        mean: Floats = (shares * values).sum(axis=0) / total
        return cls(mean, top + np.log(total))

    def join(self, other: _Pool | None) -> _Pool:
        """Pool over the tokens of both."""
        if other is None:
            return self
        weight: Floats = np.logaddexp(self.weight, other.weight)
        mine: Floats = np.exp(self.weight - weight)
        theirs: Floats = np.exp(other.weight - weight)
        return _Pool(mine * self.logits + theirs * other.logits, weight)


@dataclass(slots=True, eq=False)
class _State:
    """What is kept of one stream: the settled tokens' keys and values, and their pool."""

    at: int
    head: int
    kind: int
    cache: list[Floats]
    pool: _Pool | None = None
    ids: Sequence[int] = ()

    @property
    def tokens(self) -> int:
        return int(self.cache[0].shape[2])

    @property
    def size(self) -> int:
        return sum(part.nbytes for part in self.cache)


class StreamReader:
    """Reads streams with a graph that takes a cache. Safe to call from several threads.

    Args:
        session: An ONNX Runtime session.
        tokenize: Turns texts into token ids, without special tokens.
        max_tokens: Tokens that are read with one cache; then a new one begins behind the prompt
            with the last ``overlap_tokens`` of the old.
        overlap_tokens: See ``max_tokens``.
        max_bytes: Memory for caches. Where it is used up, streams that have none get none, and
            one that outgrows it loses its own: were the one that waited longest to give way, a
            hundred streams that take turns would all lose theirs before every part.
    """

    def __init__(
        self,
        session: Any,
        tokenize: Callable[[Sequence[str]], list[list[int]]],
        *,
        max_tokens: int,
        overlap_tokens: int,
        max_bytes: int,
    ) -> None:
        self._session = session
        self._tokenize = tokenize
        self._max_tokens = max_tokens
        self._overlap = overlap_tokens
        self._max_bytes = max_bytes
        unused = unused_inputs(session, 1)
        self._empty = {name: value for name, value in unused.items() if name.startswith(PAST)}
        self._rest = {name: value for name, value in unused.items() if name not in self._empty}
        present = [name.replace(PAST, "present.") for name in self._empty]
        self._results = ["token_weights", "token_values", *present]
        self._states: WeakKeyDictionary[Stream, _State] = WeakKeyDictionary()
        self._heads: dict[tuple[int, ...], list[Floats]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Memory of all caches."""
        with self._lock:
            return sum(state.size for state in self._states.values())

    def read(self, sample: Sample) -> Reading | None:
        """Read the next part of a stream.

        Args:
            sample: The part, with its place.

        Returns:
            What it gave, or None where it has to be scored on its own: it is long, it was read
            before, it stands alone, or there is no room.
        """
        place = sample.place
        if place is None or len(sample.text) > MOST_CHARS:
            return None
        start, end = place.start - len(sample.context), place.start + len(sample.text)
        with self._lock:
            known = self._states.get(place.stream)
            if known is not None and known.at > end:
                return None
            # Until the part is read there is no state: after a failure the stream begins anew.
            self._states.pop(place.stream, None)
            held = sum(state.size for state in self._states.values())
            if known is None and held >= self._max_bytes:
                return None
            state = known if known is not None and known.at >= start else self._begin(sample, start)
            fresh = (sample.context + sample.text)[state.at - start :]
            reading = self._advance(state, fresh)
            if held + state.size <= self._max_bytes:
                self._states[place.stream] = state
        return reading

    def _begin(self, sample: Sample, at: int) -> _State:
        head, kind = [CLS], 0
        if sample.role is Role.ASSISTANT:
            (prompt,) = self._tokenize([prompt_text(sample.prompt)])
            head, kind = [CLS, *prompt_part(prompt), SEP], 1
        return _State(at, len(head), kind, self._head(tuple(head)))

    def _head(self, ids: tuple[int, ...]) -> list[Floats]:
        if ids not in self._heads:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            _, _, *cache = self._run(list(self._empty.values()), ids, 0)
            self._heads[ids] = cache
        return self._heads[ids]

    def _advance(self, state: _State, fresh: str) -> Reading:
        """Read a text that follows, and settle what cannot change any more."""
        cut = _settled(fresh)
        sure, open_ids = self._tokenize([fresh[:cut], fresh[cut:]])
        if len(sure) < LEAST_BLOCK:
            sure, open_ids, cut = [], [*sure, *open_ids], 0
        rows: list[Floats] = []
        blocks = np.array_split(np.array(sure, dtype=np.int64), -(-len(sure) // MOST_BLOCK) or 1)
        tokens = 0
        for number, block in enumerate(blocks, 1):
            tail = open_ids if number == len(blocks) else []
            tokens += self._block(state, block.tolist(), tail, rows)
        state.at += cut
        if not rows and state.pool is not None:
            rows.append(state.pool.logits)
        return Reading(np.array(rows, dtype=np.float32), tokens)

    def _block(
        self, state: _State, sure: list[int], open_ids: list[int], rows: list[Floats]
    ) -> int:
        """Read one block; return how many tokens that took."""
        if not sure and not open_ids:
            return 0
        if state.tokens + len(sure) + len(open_ids) > self._max_tokens:
            room = max(0, self._max_tokens - state.head - len(sure) - len(open_ids))
            kept = min(self._overlap, room)
            sure = [*state.ids[len(state.ids) - kept :], *sure] if kept else sure
            state.cache = [part[:, :, : state.head] for part in state.cache]
            state.pool, state.ids = None, ()
        weights, values, *cache = self._run(state.cache, [*sure, *open_ids], state.kind)
        rows.append(_Pool.of(weights[0], values[0]).join(state.pool).logits)
        if sure:
            settled = len(sure)
            length = state.tokens + settled
            state.pool = _Pool.of(weights[0, :settled], values[0, :settled]).join(state.pool)
            state.cache = [np.ascontiguousarray(part[:, :, :length]) for part in cache]
            ids = [*state.ids, *sure]
            state.ids = ids[max(0, len(ids) - self._overlap) :]
        return len(sure) + len(open_ids)

    def _run(self, cache: Sequence[Floats], ids: Sequence[int], kind: int) -> list[Floats]:
        new = np.array([ids], dtype=np.int64)
        feed: dict[str, NDArray[Any]] = {
            "input_ids": new,
            "attention_mask": np.ones((1, cache[0].shape[2] + len(ids)), dtype=np.int64),
            "token_type_ids": np.full_like(new, kind),
            "pool_mask": np.ones_like(new),
            **self._rest,
        }
        feed.update(zip(self._empty, cache, strict=True))
        found: list[Floats] = self._session.run(self._results, feed)
        return found


def _settled(text: str) -> int:
    """Return how much of a text no later text can change: all but a word that may go on."""
    if not text or text[-1].isspace():
        return len(text)
    cut = next((n for n in range(len(text), 0, -1) if text[n - 1].isspace()), 0)
    return cut if len(text) - cut <= WORD_CHARS else len(text)
