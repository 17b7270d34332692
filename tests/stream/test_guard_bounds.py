"""A playbook of the bounds: time, bytes, checks in flight and memory."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest

from guardrail.stream import (
    Check,
    Release,
    StreamGuard,
    StreamSettings,
    Wake,
)
from guardrail.types import Channel, Frame, Span

from .harness import (
    OTHER,
    PASS,
    SMALL,
    TEXT,
    TOOL,
    Player,
    say,
    settings,
    split,
)


def test_text_that_waits_too_long_is_checked_at_once() -> None:
    guard = StreamGuard(SMALL)
    one = say("abc")
    assert guard.receive_frame(one, 0.0) == [Wake(1.0)]
    assert guard.receive_time(1.0) == [Check(0, TEXT, "abc", "", 0, 3, False)]
    assert guard.receive_verdict(0, PASS, 1.1) == [Release((one,))]
    assert guard.stats.forced_checks == 1
    assert guard.stats.max_held_ms == pytest.approx(1100)


def test_what_came_after_a_late_frame_serves_as_its_look_ahead() -> None:
    guard = StreamGuard(SMALL)
    one, two = say("ab"), say("cdef")
    guard.receive_frame(one, 0.0)
    guard.receive_frame(two, 0.9)
    assert guard.receive_time(1.0) == [Check(0, TEXT, "abcdef", "", 0, 6, False), Wake(1.9)]
    assert guard.receive_verdict(0, PASS, 1.1) == [Release((one,))]
    assert guard.receive_time(1.9) == [Release((two,))]


def test_the_time_bound_does_not_repeat_a_check_in_flight() -> None:
    guard = StreamGuard(SMALL)
    text = say("abcdefgh")
    guard.receive_frame(text, 0.0)
    assert guard.receive_time(1.0) == []
    assert guard.receive_time(2.0) == []
    assert guard.receive_verdict(0, PASS, 2.0) == [Release((text,))]


def test_the_time_bound_lets_a_judged_tail_go_when_nothing_follows() -> None:
    guard = StreamGuard(SMALL)
    text = say("abcdefgh")
    guard.receive_frame(text, 0.0)
    assert guard.receive_verdict(0, PASS, 0.1) == []
    assert guard.receive_time(1.0) == [Release((text,))]


def test_the_time_bound_judges_a_tail_again_with_what_followed() -> None:
    guard = StreamGuard(SMALL)
    text, more = say("abcdefgh"), say("ij")
    guard.receive_frame(text, 0.0)
    guard.receive_verdict(0, PASS, 0.1)
    guard.receive_frame(more, 0.2)
    assert guard.receive_time(1.0) == [
        Check(1, TEXT, "efghij", "abcd", 4, 10, False),
        Wake(1.2),
    ]
    assert guard.receive_verdict(1, PASS, 1.1) == [Release((text,))]
    assert guard.receive_time(1.2) == [Release((more,))]


def test_any_event_notices_that_the_time_has_come() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_frame(say("ab"), 0.0)
    out = guard.receive_frame(say("c"), 1.5)
    assert [c.text for c in out if isinstance(c, Check)] == ["abc"]


def test_the_time_bound_forces_only_the_channels_that_are_not_cleared() -> None:
    guard = StreamGuard(SMALL)
    both = Frame(b"", (Span(TEXT, "abcdefgh"), Span(OTHER, "b")), ends=(TEXT,))
    guard.receive_frame(both, 0.0)
    guard.receive_verdict(0, PASS, 0.1)
    guard.receive_frame(say("goes on"), 0.5)
    checks = [c for c in guard.receive_time(1.0) if isinstance(c, Check)]
    assert [c.channel for c in checks] == [OTHER]


def test_one_wake_is_open_at_a_time_and_an_early_answer_renews_it() -> None:
    guard = StreamGuard(SMALL)
    assert guard.receive_frame(say("a"), 0.0) == [Wake(1.0)]
    assert guard.receive_frame(say("b"), 0.5) == []
    assert guard.receive_time(0.999) == [Wake(1.0)]
    check, later = guard.receive_time(1.0)
    assert isinstance(check, Check)
    assert later == Wake(1.5)


def test_wakes_keep_their_distance_while_a_slow_check_makes_frame_after_frame_late() -> None:
    player = Player(StreamGuard(StreamSettings()), delay=lambda: 5.0)
    player.play(split("x" * 800, 4), gap_s=0.02)
    wakes = [entry.at for entry in player.only(Wake) if isinstance(entry, Wake)]
    assert min(b - a for a, b in itertools.pairwise(wakes)) >= 0.1
    assert player.guard.finished


def test_a_late_frame_behind_a_blocked_head_is_checked_in_its_own_time() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_frame(say("aa"), 0.0)
    guard.receive_frame(say("bb", OTHER), 0.1)
    assert guard.receive_time(1.0) == [Check(0, TEXT, "aa", "", 0, 2, False), Wake(1.125)]
    assert guard.receive_time(1.125) == [Check(1, OTHER, "bb", "", 0, 2, False)]


def test_a_long_stream_wakes_at_most_twice_in_a_hold_time() -> None:
    player = Player(StreamGuard(StreamSettings()))
    player.play(split("x" * 4000, 4), gap_s=0.02)
    assert player.now == pytest.approx(20, abs=1)
    assert len(player.only(Wake)) <= 40


def test_too_many_checks_make_them_larger_not_more() -> None:
    guard = StreamGuard(settings(max_in_flight=1))
    out = [c for frame in split("x" * 80, 4) for c in guard.receive_frame(frame, 0.0)]
    assert [c.end for c in out if isinstance(c, Check)] == [8]
    out = guard.receive_verdict(0, PASS, 0.1)
    assert [(c.start, c.end) for c in out if isinstance(c, Check)] == [(4, 80)]


def test_channels_take_turns_when_checks_are_scarce() -> None:
    guard = StreamGuard(settings(max_in_flight=1))
    for frame in (say("x" * 8), say("b" * 8, OTHER), say("x" * 80), say("t" * 8, TOOL)):
        guard.receive_frame(frame, 0.0)
    order = []
    for check_id in range(3):
        out = guard.receive_verdict(check_id, PASS, 0.0)
        order += [c.channel for c in out if isinstance(c, Check)]
    assert order == [OTHER, TEXT, TOOL]


def test_over_the_byte_cap_reading_pauses_until_a_verdict_brings_it_down() -> None:
    guard = StreamGuard(settings(max_hold_bytes=100, first_chars=50, stride_chars=50))
    bulky = [Frame(b"x" * 60, (Span(TEXT, letter),)) for letter in "ab"]
    guard.receive_frame(bulky[0], 0.0)
    assert not guard.paused
    out = guard.receive_frame(bulky[1], 0.0)
    assert guard.paused
    assert Check(0, TEXT, "ab", "", 0, 2, False) in out, "it could never resume"
    assert guard.receive_verdict(0, PASS, 0.1) == [Release((bulky[0],))]
    assert not guard.paused


def test_a_peer_that_opens_channel_after_channel_costs_no_memory() -> None:
    guard = StreamGuard(StreamSettings())
    tracemalloc.start()
    for index in range(5000):
        channel = Channel(index)
        frame = Frame(b"", (Span(channel, "x"),), ends=(channel,))
        for command in guard.receive_frame(frame, 0.0):
            if isinstance(command, Check):
                guard.receive_verdict(command.check_id, PASS, 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
    assert guard.stats.held_chars == 0


def test_a_forgotten_channel_holds_nothing_and_is_judged_when_it_goes_on() -> None:
    guard = StreamGuard(StreamSettings())
    frames = [Frame(b"", (Span(Channel(i), "word"),), ends=(Channel(i),)) for i in range(700)]
    player = Player(guard)
    player.play([*frames, *split("and on it goes ", 3, Channel(0))])
    assert player.guard.finished
    assert len(player.released) == 705
    assert guard.stats.checked_chars >= guard.stats.received_chars


def test_a_channel_with_held_text_is_never_forgotten() -> None:
    waiting = say("waiting", OTHER)
    others = [Frame(b"", (Span(Channel(i), "word"),), ends=(Channel(i),)) for i in range(9, 700)]
    player = Player(StreamGuard(StreamSettings()))
    player.play([waiting, *others, say(" and more", OTHER)])
    assert player.released_text(OTHER) == "waiting and more"
    (check,) = [c for c in player.only(Check) if isinstance(c, Check) and c.channel == OTHER]
    assert check.text == "waiting and more"


def opened() -> StreamGuard:
    """Return a guard that has been fed a stream, and waits for more."""
    guard = StreamGuard(StreamSettings())
    for frame in split("word " * 2000, 4):
        for command in guard.receive_frame(frame, 0.0):
            if isinstance(command, Check):
                guard.receive_verdict(command.check_id, PASS, 0.0)
    return guard


def test_an_open_stream_costs_little_memory_beyond_what_is_held() -> None:
    opened()  # what is made once, such as compiled patterns, is not a stream's
    gc.collect()
    tracemalloc.start()
    guard = opened()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert guard.stats.received_chars == 10_000
    assert current < 64_000, current
