"""Groups token windows into runs of the model, and pads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.pairs import Encoded

__all__ = ["batches", "feed"]


def batches(windows: Sequence[Encoded], budget: int) -> Iterator[list[int]]:
    """Group windows of like length.

    Args:
        windows: The windows.
        budget: Padded tokens of a group.

    Returns:
        The windows' numbers, group by group.
    """
    order = sorted(range(len(windows)), key=lambda n: len(windows[n].ids))
    members: list[int] = []
    for number in order:
        if members and (len(members) + 1) * len(windows[number].ids) > budget:
            yield members
            members = []
        members.append(number)
    if members:
        yield members


def feed(windows: Sequence[Encoded]) -> dict[str, NDArray[np.int64]]:
    """Pad windows into the inputs of one run, int64 (windows, length) each.

    Args:
        windows: The windows of one group.
    """
    size = (len(windows), max(len(window.ids) for window in windows))
    names = ("input_ids", "attention_mask", "token_type_ids", "pool_mask")
    inputs = {name: np.zeros(size, dtype=np.int64) for name in names}
    for row, window in enumerate(windows):
        count = len(window.ids)
        inputs["input_ids"][row, :count] = window.ids
        inputs["attention_mask"][row, :count] = 1
        inputs["token_type_ids"][row, :count] = window.types
        inputs["pool_mask"][row, :count] = window.pool
    return inputs
