"""What the pace promises: batches that are over in time, and honest waits."""

from __future__ import annotations

import pytest

from guardrail.classifier.pace import LEAST_CHARS, MOST_CHARS, Pace


def test_a_batch_takes_about_its_target_once_the_pace_is_known() -> None:
    pace = Pace(0.25)
    for _ in range(100):
        pace.observe(10_000, 0.5)
    assert pace.batch_chars * pace.seconds_per_char == pytest.approx(0.25, rel=0.01)
    assert pace.wait_s(20_000) == pytest.approx(1.0, rel=0.01)


def test_a_machine_of_any_speed_gets_a_batch_of_some_size() -> None:
    slow, fast = Pace(0.25), Pace(0.25)
    for _ in range(100):
        slow.observe(1_000, 100.0)
        fast.observe(10_000, 0.0)
    assert slow.batch_chars == LEAST_CHARS
    assert fast.batch_chars == MOST_CHARS


def test_one_odd_batch_changes_little_and_tiny_ones_nothing() -> None:
    pace = Pace(0.25)
    before = pace.seconds_per_char
    pace.observe(3, 10.0)
    assert pace.seconds_per_char == before
    pace.observe(10_000, 5.0)
    assert pace.seconds_per_char < 0.5 * 5.0 / 10_000
    pace.observe(10_000, -1.0)  # a clock of a test may stand still or go back
    assert pace.seconds_per_char > 0
