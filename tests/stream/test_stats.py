from __future__ import annotations

import dataclasses

import pytest

from guardrail.stream import StreamStats
from guardrail.stream.stats import Tally


def test_a_snapshot_has_every_counter_and_does_not_move() -> None:
    tally = Tally()
    for value, field in enumerate(dataclasses.fields(StreamStats), 1):
        setattr(tally, field.name, value)
    snapshot = tally.snapshot()
    assert dataclasses.astuple(snapshot) == tuple(range(1, len(StreamStats.__slots__) + 1))
    tally.checks = 999
    assert snapshot.checks != 999


def test_cost_counts_only_what_is_in_scope() -> None:
    assert StreamStats(received_chars=30, unscanned_chars=10, checked_chars=50).cost == 2.5
    assert StreamStats(received_chars=10, unscanned_chars=10).cost == 0.0


def test_a_tally_takes_no_unknown_counter() -> None:
    with pytest.raises(AttributeError):
        Tally().cheks = 1  # type: ignore[attr-defined]
