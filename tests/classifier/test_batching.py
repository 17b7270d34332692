"""Windows are grouped within the budget and padded so that nothing else shows."""

from __future__ import annotations

from guardrail.classifier.batching import batches, feed
from guardrail.classifier.pairs import encode_pair


def test_groups_stay_within_the_budget_and_lose_nothing() -> None:
    windows = [encode_pair(list(range(110, 110 + n)), None, 256) for n in (9, 60, 1, 30, 31, 200)]
    groups = list(batches(windows, 128))
    assert sorted(n for group in groups for n in group) == list(range(6))
    for group in groups:
        longest = max(len(windows[n].ids) for n in group)
        assert len(group) == 1 or len(group) * longest <= 128


def test_padding_is_masked() -> None:
    windows = [encode_pair([111, 112], None, 16), encode_pair([113], [114], 16)]
    inputs = feed(windows)
    assert inputs["input_ids"].tolist() == [[101, 111, 112, 102, 0], [101, 114, 102, 113, 102]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert inputs["token_type_ids"].tolist() == [[0] * 5, [0, 0, 0, 1, 1]]
    assert inputs["pool_mask"].tolist() == [[1, 1, 1, 1, 0], [0, 0, 0, 1, 1]]
