"""Turns examples into tensors: tokens, crops, block-causal masks, batches by token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from guardrail.classifier.pairs import Encoded, encode_pair
from guardrail.train.augment import augment
from guardrail.train.rows import Example

__all__ = ["Batch", "BatchSettings", "Batcher", "collate", "encode_example"]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How examples become batches.

    Args:
        tokens: Padded tokens of a batch.
        examples: Most examples of a batch.
        short_tokens: Longest sequence most of the time …
        long_tokens: … and for ``long_share`` of the examples.
        long_share: See ``long_tokens``.
        augment_share: Examples whose spelling is changed.
        crop_share: Examples that are cut although they would fit.
        block_share: Batches that run block-causal.
        pool_batches: Batches that are formed together, sorted by length.
    """

    tokens: int = 4608
    examples: int = 96
    short_tokens: int = 192
    long_tokens: int = 320
    long_share: float = 0.25
    augment_share: float = 0.13
    crop_share: float = 0.12
    block_share: float = 0.45
    pool_batches: int = 24


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of one step.

    Args:
        input_ids: int64 (batch, length).
        visible: bool (batch, length), or (batch, length, length) where block-causal.
        token_type_ids: int64 (batch, length).
        pool_mask: int64 (batch, length).
        whole_pool: int64 (batch, length), what full attention would pool.
        targets: float32 (batch, outputs).
        weights: float32 (batch, outputs).
    """

    input_ids: Tensor
    visible: Tensor
    token_type_ids: Tensor
    pool_mask: Tensor
    whole_pool: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))

    def rows(self, part: slice) -> Batch:
        """Return some of the batch's examples."""
        return Batch(*(getattr(self, name)[part] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    encoded: Encoded
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


_WHOLE = frozenset(("wrapped/user", "injected/text"))
"""Groups whose harm is one sentence somewhere in a harmless text: a cut may well lose it."""


def _cut(ids: list[int], limit: int, example: Example, rng: Random, share: float) -> list[int]:
    """Crop a text's tokens; an empty result means that the label would not survive."""
    if example.positive and example.group in _WHOLE:
        return ids if len(ids) <= limit else []
    if example.positive:
        if len(ids) > limit:
            # A prefix that holds most of the text still means what the whole one does.
            return ids[:limit] if limit >= 0.55 * len(ids) else []
        if len(ids) > 12 and rng.random() < share:
            keep = int(len(ids) * rng.uniform(0.65, 1.0))
            return ids[:keep] if rng.random() < 0.7 else ids[len(ids) - keep :]
        return ids
    if len(ids) > limit:
        start = rng.randrange(len(ids) - limit + 1)
        return ids[start : start + limit]
    if len(ids) > 12 and rng.random() < share:
        keep = rng.randrange(8, len(ids))
        start = 0 if rng.random() < 0.7 else rng.randrange(len(ids) - keep + 1)
        return ids[start : start + keep]
    return ids


def encode_example(tokenizer: Tokenizer, example: Example, max_tokens: int) -> Encoded:
    """Encode an example whole, cut to ``max_tokens`` from its start; for evaluation."""
    ids = tokenizer.encode(example.text, add_special_tokens=False).ids
    prompt = _prompt_ids(tokenizer, example)
    return encode_pair(ids, prompt, max_tokens)


def _prompt_ids(tokenizer: Tokenizer, example: Example) -> list[int] | None:
    if example.role != "assistant":
        return None
    if not example.prompt:
        return []
    return list(tokenizer.encode(example.prompt, add_special_tokens=False).ids)


def collate(
    ready: Sequence[Encoded],
    targets: Sequence[NDArray[np.float32]],
    weights: Sequence[NDArray[np.float32]],
    block: int = 0,
) -> Batch:
    """Pad encoded texts into one batch.

    Args:
        ready: The encoded texts.
        targets: float32 (outputs,) each.
        weights: float32 (outputs,) each.
        block: Tokens of a causal block; 0 for full attention.
    """
    length = max(len(e.ids) for e in ready)
    size = (len(ready), length)
    ids, types, pool = (np.zeros(size, dtype=np.int64) for _ in range(3))
    visible = np.zeros(size, dtype=bool)
    for row, encoded in enumerate(ready):
        count = len(encoded.ids)
        ids[row, :count], types[row, :count] = encoded.ids, encoded.types
        pool[row, :count], visible[row, :count] = encoded.pool, True
    seen, whole = torch.from_numpy(visible), pool.copy()
    if block:
        starts = np.array([e.start for e in ready])[:, None]
        number = np.maximum((np.arange(length)[None, :] - starts) // block + 1, 0)
        number = np.where(np.arange(length)[None, :] < starts, 0, number)
        seen = torch.from_numpy((number[:, None, :] <= number[:, :, None]) & visible[:, None, :])
        for row, encoded in enumerate(ready):  # CLS and the last SEP are not there in a stream
            pool[row, 0] = 0
            pool[row, len(encoded.ids) - 1] = 0
            if not pool[row].any():
                pool[row, len(encoded.ids) - 1] = 1
    return Batch(
        torch.from_numpy(ids),
        seen,
        torch.from_numpy(types),
        torch.from_numpy(pool),
        torch.from_numpy(whole),
        torch.from_numpy(np.stack(targets)),
        torch.from_numpy(np.stack(weights)),
    )


class Batcher:
    """An endless stream of batches of like length.

    Args:
        source: Examples.
        tokenizer: Word-piece tokenizer without padding or truncation.
        settings: Sizes and shares.
        seed: Seed of every draw.
    """

    def __init__(
        self,
        source: Iterator[Example],
        tokenizer: Tokenizer,
        settings: BatchSettings,
        seed: int,
    ) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._settings = settings
        self._rng = Random(seed)  # noqa: S311

    def _prepare(self, example: Example) -> _Ready | None:
        s, rng = self._settings, self._rng
        if example.text and rng.random() < s.augment_share:
            text = augment(example.text, rng)
        else:
            text = example.text
        limit = s.long_tokens if rng.random() < s.long_share else s.short_tokens
        if example.positive and len(text) > 3 * s.short_tokens:
            limit = s.long_tokens
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        prompt = _prompt_ids(self._tokenizer, example)
        if prompt and rng.random() < 0.1:
            prompt = []
        room = limit - 3 - min(len(prompt or ()), 64)
        ids = _cut(ids, room, example, rng, s.crop_share)
        if not ids:
            return None
        return _Ready(encode_pair(ids, prompt, limit), example.targets, example.weights)

    def _pool(self) -> list[list[_Ready]]:
        s = self._settings
        ready: list[_Ready] = []
        total = 0
        while total < s.tokens * s.pool_batches:
            if (one := self._prepare(next(self._source))) is not None:
                ready.append(one)
                total += len(one.encoded.ids)
        ready.sort(key=lambda r: len(r.encoded.ids))
        batches: list[list[_Ready]] = [[]]
        for one in ready:
            full = (len(batches[-1]) + 1) * len(one.encoded.ids) > s.tokens
            if full or len(batches[-1]) >= s.examples:
                batches.append([])
            batches[-1].append(one)
        self._rng.shuffle(batches)
        return batches

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for members in self._pool():
                causal = self._rng.random() < self._settings.block_share
                block = self._rng.choice((8, 16, 32, 64)) if causal else 0
                yield collate(
                    [m.encoded for m in members],
                    [m.targets for m in members],
                    [m.weights for m in members],
                    block,
                )
