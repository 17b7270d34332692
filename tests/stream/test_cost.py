"""What guarding costs: characters checked, characters held, microseconds.

Times are processor times and the best of several, so that a busy machine does not fail a test.
"""

from __future__ import annotations

import statistics
import time

import pytest

from guardrail.stream import Check, StreamGuard, StreamSettings

from .harness import PASS, Player, audit, split

WORDS = "the quick brown fox jumps over a lazy dog and runs away from here to there "
LENGTHS = [256, 260, 281, 300, 384, 404, 512, 1000, 1024, 2048, 4096, 8192, 16_384, 32_768]
TEXTS = {"words": WORDS, "unbroken": "x", "an edge in every frame": "abc "}


def guarded(text: str, size: int = 4, gap_s: float = 0.02, delay_s: float = 0.03) -> Player:
    player = Player(StreamGuard(StreamSettings()), delay=lambda: delay_s)
    return player.play(split(text, size), gap_s)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_character_is_checked_two_and_a_half_times_at_most(length: int, kind: str) -> None:
    player = guarded((TEXTS[kind] * length)[:length])
    assert player.guard.stats.cost <= 2.5
    assert player.guard.stats.forced_checks == 0


def test_no_length_up_to_six_hundred_characters_costs_more() -> None:
    dearest = max(guarded((WORDS * 9)[:length]).guard.stats.cost for length in range(1, 600, 3))
    assert dearest <= 2.5


def test_forty_tokens_are_held_at_most_most_of_the_time() -> None:
    player = guarded((WORDS * 300)[:20_000])
    audit(player, StreamSettings())
    assert statistics.quantiles(player.held, n=20)[-1] <= 160
    assert player.guard.stats.max_held_chars == max(player.held)


def test_the_first_token_waits_for_no_more_than_six() -> None:
    player = guarded((WORDS * 9)[:600])
    came, went = next(iter(player.times.values()))
    assert went - came <= 5 * 0.02 + 0.03 + 1e-9


def test_a_frame_takes_microseconds_and_a_longer_stream_no_more() -> None:
    took = {tokens: min(microseconds_a_frame(tokens) for _ in range(5)) for tokens in (500, 8000)}
    assert took[8000] < 200
    assert took[8000] < 4 * took[500]


def test_a_long_backlog_of_tiny_frames_is_linear() -> None:
    took = {count: min(seconds_of_backlog(count) for _ in range(5)) for count in (5000, 20_000)}
    assert took[20_000] < 4 * 3 * took[5000]


def microseconds_a_frame(tokens: int) -> float:
    guard, frames = StreamGuard(StreamSettings()), split("abcd" * tokens, 4)
    start = time.process_time()
    for frame in frames:
        for command in guard.receive_frame(frame, 0.0):
            if isinstance(command, Check):
                guard.receive_verdict(command.check_id, PASS, 0.0)
    return (time.process_time() - start) / tokens * 1e6


def seconds_of_backlog(count: int) -> float:
    """No verdict comes until all frames are in: one check at a time, the rest waits."""
    guard = StreamGuard(StreamSettings(max_in_flight=1))
    frames = split("x" * count, 1)
    start = time.process_time()
    for frame in frames:
        guard.receive_frame(frame, 0.0)
    guard.receive_end(0.0)
    guard.receive_verdict(0, PASS, 0.0)
    guard.receive_verdict(1, PASS, 0.0)
    assert guard.finished
    return time.process_time() - start
