"""Augmentation changes spelling, never beyond recognition, and repeats itself by seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from guardrail.train.augment import AUGMENTATIONS, augment

TEXT = "How do I bake a chocolate cake for eleven guests without an oven?"


@given(st.text(min_size=1, max_size=200), st.integers(0, 10**6))
def test_any_text_survives(text: str, seed: int) -> None:
    result = augment(text, Random(seed))
    assert result
    assert len(result) <= 3 * len(text) + 60


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_each_kind_changes_something_and_is_repeatable(name: str) -> None:
    change = AUGMENTATIONS[name][1]
    results = {change(TEXT, Random(seed)) for seed in range(20)}
    assert results != {TEXT}
    assert change(TEXT, Random(5)) == change(TEXT, Random(5))


def test_hidden_characters_can_be_stripped_again() -> None:
    result = AUGMENTATIONS["zero_width"][1](TEXT, Random(1))
    assert result != TEXT
    assert "".join(c for c in result if c.isascii()) == TEXT
