"""A playbook: each test reads from top to bottom as a stream."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from guardrail.stream import (
    Check,
    Finish,
    Mode,
    Release,
    StreamGuard,
    StreamSettings,
    Terminate,
    Wake,
)
from guardrail.types import Channel, Frame, Span

from .harness import (
    BLOCK,
    FLAG,
    MONITORED,
    PASS,
    TEXT,
    TOOL,
    Player,
    audit,
    forbid,
    say,
    split,
)

SMALL = StreamSettings(first_chars=8, stride_chars=8, lookahead_chars=4, context_chars=6)
OTHER = Channel(1)


def settings(**changes: object) -> StreamSettings:
    fields = {name: getattr(SMALL, name) for name in StreamSettings.__slots__}
    return StreamSettings(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_stream_is_checked_in_windows_and_leaves_behind_its_look_ahead() -> None:
    guard = StreamGuard(SMALL)
    one, two, three, four = frames = split("abcdefghijklmnop", 4)

    assert guard.receive_frame(one, 0.0) == [Wake(1.0)]
    assert guard.receive_frame(two, 0.1) == [Check(0, TEXT, "abcdefgh", "", 0, 8, False)]
    assert guard.receive_verdict(0, PASS, 0.2) == [Release((one,))]

    assert guard.receive_frame(three, 0.3) == []
    assert guard.receive_frame(four, 0.4) == [Check(1, TEXT, "efghijklmnop", "abcd", 4, 16, False)]
    assert guard.receive_verdict(1, PASS, 0.5) == [Release((two, three))]

    # The tail was judged already, and nothing will follow it.
    assert guard.receive_end(0.6) == [Release((four,)), Finish()]
    assert guard.finished
    assert guard.stats.released_chars == sum(len(f.raw) for f in frames)


def test_what_is_left_at_the_end_is_judged_before_it_leaves() -> None:
    guard = StreamGuard(SMALL)
    frame = say("abc")
    assert guard.receive_frame(frame, 0.0) == [Wake(1.0)]
    assert guard.receive_end(0.1) == [Check(0, TEXT, "abc", "", 0, 3, True)]
    assert guard.receive_verdict(0, PASS, 0.2) == [Release((frame,)), Finish()]


def test_an_empty_stream_finishes() -> None:
    assert StreamGuard(SMALL).receive_end(0.0) == [Finish()]


def test_a_whole_answer_is_one_check_a_channel_and_an_end() -> None:
    guard = StreamGuard(StreamSettings())
    whole = Frame(b"{}" * 200_000, (Span(TEXT, "a" * 90_000), Span(TOOL, "b"), Span(TEXT, "c")))
    first = guard.receive_frame(whole, 0.0)
    assert [(c.channel, c.start, c.end) for c in first if isinstance(c, Check)] == [
        (TEXT, 0, 90_001),
        (TOOL, 0, 1),
    ]
    assert guard.paused
    assert guard.receive_end(0.0) == []
    assert guard.receive_verdict(0, PASS, 0.1) == []
    assert guard.receive_verdict(1, PASS, 0.1) == [Release((whole,)), Finish()]
    assert not guard.paused


def test_a_whole_answer_that_ends_its_channels_is_checked_as_final() -> None:
    guard = StreamGuard(StreamSettings())
    whole = Frame(b"", (Span(TEXT, "x" * 500),), ends=(TEXT,))
    (check,) = [c for c in guard.receive_frame(whole, 0.0) if isinstance(c, Check)]
    assert check.final
    assert guard.receive_verdict(0, PASS, 0.1) == [Release((whole,))]


def test_the_stride_grows_from_the_first_check_to_its_bound() -> None:
    guard = StreamGuard(StreamSettings())
    ends = [
        command.end
        for frame in split("x" * 500, 1)
        for command in guard.receive_frame(frame, 0.0)
        if isinstance(command, Check) and guard.receive_verdict(command.check_id, PASS, 0.0)
    ]
    assert ends == [20, 20 + 50, 70 + 112, 182 + 112, 294 + 112]


def test_a_window_ends_between_two_words_when_an_edge_is_near() -> None:
    guard = StreamGuard(StreamSettings(first_chars=24))
    out = []
    for piece in ("twenty-two characters.", " and", " so on"):
        out += guard.receive_frame(say(piece), 0.0)
    (check,) = [c for c in out if isinstance(c, Check)]
    assert check.text == "twenty-two characters."


def test_a_flag_lets_the_text_go() -> None:
    guard = StreamGuard(SMALL)
    frame = say("abcdefgh")
    guard.receive_frame(frame, 0.0)
    guard.receive_end(0.0)
    assert guard.receive_verdict(0, FLAG, 0.1) == [Release((frame,)), Finish()]


def test_a_block_that_the_policy_only_monitors_lets_the_text_go() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_frame(say("abcdefgh"), 0.0)
    guard.receive_end(0.0)
    assert Finish() in guard.receive_verdict(0, MONITORED, 0.1)


def test_a_block_ends_the_stream_at_what_has_left() -> None:
    guard = StreamGuard(SMALL)
    for frame in split("abcdefghijklmnop", 4):
        guard.receive_frame(frame, 0.0)
    guard.receive_verdict(0, PASS, 0.1)
    assert guard.receive_verdict(1, BLOCK, 0.2) == [Terminate(1, TEXT, BLOCK, 4)]
    assert guard.finished
    assert guard.stats.held_chars == guard.stats.held_bytes == 0
    assert guard.receive_frame(say("more"), 0.3) == []
    assert guard.receive_verdict(7, BLOCK, 0.3) == []


def test_a_block_does_not_wait_for_earlier_verdicts() -> None:
    guard = StreamGuard(SMALL)
    for frame in split("abcdefghijklmnop", 4):
        guard.receive_frame(frame, 0.0)
    assert guard.receive_verdict(1, BLOCK, 0.1) == [Terminate(1, TEXT, BLOCK, 0)]


def test_verdicts_out_of_order_release_only_the_judged_prefix() -> None:
    guard = StreamGuard(SMALL)
    frames = split("abcdefghijklmnopqrstuvwx", 4)
    for frame in frames:
        guard.receive_frame(frame, 0.0)
    assert guard.receive_verdict(1, PASS, 0.1) == []
    assert guard.receive_verdict(2, PASS, 0.1) == []
    assert guard.receive_verdict(0, PASS, 0.1) == [Release(tuple(frames[:5]))]


def test_a_verdict_is_taken_once() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_frame(say("abcdefgh"), 0.0)
    guard.receive_verdict(0, PASS, 0.1)
    with pytest.raises(ValueError, match="check_id: 0 is not in flight"):
        guard.receive_verdict(0, PASS, 0.1)


def test_a_frame_after_the_end_is_refused() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_end(0.0)
    with pytest.raises(RuntimeError, match="frame"):
        guard.receive_frame(say("late"), 0.1)


def test_frames_without_text_keep_their_place_and_keepalives_overtake() -> None:
    guard = StreamGuard(SMALL)
    start, text = Frame(b"start"), say("ab")
    usage, ping = Frame(b"usage", opaque=True), Frame(b":", keepalive=True)
    assert guard.receive_frame(start, 0.0) == [Release((start,))]
    assert guard.receive_frame(text, 0.0) == [Wake(1.0)]
    assert guard.receive_frame(usage, 0.0) == []
    assert guard.receive_frame(ping, 0.0) == [Release((ping,))]
    guard.receive_end(0.0)
    assert guard.receive_verdict(0, PASS, 0.0) == [Release((text, usage)), Finish()]


def test_a_keepalive_with_text_is_held_like_any_frame() -> None:
    guard = StreamGuard(SMALL)
    sly = Frame(b":", (Span(TEXT, "text"),), keepalive=True)
    assert guard.receive_frame(sly, 0.0) == [Wake(1.0)]


def test_a_channel_that_ends_needs_no_look_ahead() -> None:
    guard = StreamGuard(SMALL)
    text, done = say("abcdefgh"), Frame(b"done", ends=(TEXT,))
    guard.receive_frame(text, 0.0)
    guard.receive_verdict(0, PASS, 0.0)
    assert guard.receive_frame(done, 0.1) == [Release((text, done))]


def test_a_channel_that_goes_on_after_its_end_is_still_judged() -> None:
    guard = StreamGuard(SMALL)
    guard.receive_frame(Frame(b"", (Span(TEXT, "abcdefgh"),), ends=(TEXT,)), 0.0)
    guard.receive_verdict(0, PASS, 0.0)
    late = say("late")
    assert guard.receive_frame(late, 0.1) == []
    assert guard.receive_end(0.2) == [Check(1, TEXT, "late", "cdefgh", 8, 12, True)]


def test_channels_are_judged_apart_and_leave_in_one_order() -> None:
    guard = StreamGuard(SMALL)
    a, b = say("aaaaaaaa"), say("bbbbbbbb", OTHER)
    (check_a,) = [c for c in guard.receive_frame(a, 0.0) if isinstance(c, Check)]
    (check_b,) = [c for c in guard.receive_frame(b, 0.0) if isinstance(c, Check)]
    assert (check_a.text, check_b.text) == ("aaaaaaaa", "bbbbbbbb")
    guard.receive_end(0.0)
    assert guard.receive_verdict(check_b.check_id, PASS, 0.1) == []
    assert guard.receive_verdict(check_a.check_id, PASS, 0.1) == [Release((a, b)), Finish()]


def test_a_channel_out_of_scope_passes_unchecked_in_its_turn() -> None:
    guard = StreamGuard(SMALL, scanned=lambda channel: channel == TEXT)
    free, text, behind = say("free", TOOL), say("ab"), say("x" * 99, TOOL)
    assert guard.receive_frame(free, 0.0) == [Release((free,))]
    guard.receive_frame(text, 0.0)
    assert guard.receive_frame(behind, 0.0) == []
    guard.receive_end(0.0)
    assert guard.receive_verdict(0, PASS, 0.0) == [Release((text, behind)), Finish()]
    assert guard.stats.unscanned_chars == 103
    assert guard.stats.cost == 1.0


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


def test_trail_lets_frames_go_at_once_and_cuts_behind_them() -> None:
    guard = StreamGuard(settings(mode=Mode.TRAIL))
    one, two, three = say("abcdefgh"), say("ijklmnop"), say("q")
    out = guard.receive_frame(one, 0.0)
    assert Release((one,)) in out
    guard.receive_verdict(0, PASS, 0.0)
    assert Release((two,)) in guard.receive_frame(two, 0.1)
    assert Release((three,)) in guard.receive_frame(three, 0.1)
    assert guard.receive_verdict(1, BLOCK, 0.2) == [Terminate(1, TEXT, BLOCK, 17)]
    assert guard.stats.exposed_chars == 17
    assert guard.stats.leaked_chars == 9


def test_trail_finishes_after_its_last_verdict_so_that_it_can_still_cut() -> None:
    guard = StreamGuard(settings(mode=Mode.TRAIL))
    guard.receive_frame(say("abc"), 0.0)
    (check,) = guard.receive_end(0.1)
    assert isinstance(check, Check)
    assert not guard.finished
    assert guard.receive_verdict(0, BLOCK, 0.2) == [Terminate(0, TEXT, BLOCK, 3)]


def test_trail_bounds_by_time_how_long_text_stays_unjudged() -> None:
    guard = StreamGuard(settings(mode=Mode.TRAIL))
    frame = say("abc")
    assert guard.receive_frame(frame, 0.0) == [Release((frame,)), Wake(1.0)]
    assert guard.receive_time(1.0) == [Check(0, TEXT, "abc", "", 0, 3, False)]


def test_trail_pauses_when_too_much_is_unjudged() -> None:
    guard = StreamGuard(settings(mode=Mode.TRAIL, max_hold_bytes=10))
    guard.receive_frame(say("abcdefghijk"), 0.0)
    assert guard.paused
    guard.receive_verdict(0, PASS, 0.1)
    assert not guard.paused


def test_monitor_never_delays_and_never_cuts() -> None:
    player = Player(StreamGuard(settings(mode=Mode.MONITOR)), forbid("bad"), lambda: 0.3)
    frames = split("this is bad, really bad, and it goes on", 4)
    player.play(frames, gap_s=0.02)
    audit(player, settings(mode=Mode.MONITOR))
    assert player.released == frames
    assert all(came == went for came, went in player.times.values())
    assert player.guard.stats.blocked == 3
    assert player.guard.stats.holds == 0


def test_monitor_skips_text_rather_than_growing_without_bound() -> None:
    guard = StreamGuard(settings(mode=Mode.MONITOR, max_hold_bytes=1000))
    tracemalloc.start()
    for at in range(20_000):
        frame = say("some more text")
        assert Release((frame,)) in guard.receive_frame(frame, at / 1000)
        assert not guard.paused
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    assert guard.stats.skipped_chars > 270_000
    checks = guard.stats.checks
    guard.receive_end(99.0)
    for check_id in range(checks):
        out = guard.receive_verdict(check_id, PASS, 99.0)
    assert out == [Finish()]


def test_monitor_checks_again_after_it_skipped() -> None:
    guard = StreamGuard(settings(mode=Mode.MONITOR, max_hold_bytes=8, max_in_flight=1))
    guard.receive_frame(say("abcdefghij"), 0.0)
    guard.receive_frame(say("skipped"), 0.0)
    guard.receive_verdict(0, PASS, 0.1)
    out = guard.receive_frame(say("klmnopqr"), 0.2)
    assert Check(1, TEXT, "klmnopqr", "", 17, 25, False) in out
    assert guard.stats.skipped_chars == 7


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


def test_an_open_stream_costs_little_memory_beyond_what_is_held() -> None:
    tracemalloc.start()
    guard = StreamGuard(StreamSettings())
    for frame in split("word " * 2000, 4):
        for command in guard.receive_frame(frame, 0.0):
            if isinstance(command, Check):
                guard.receive_verdict(command.check_id, PASS, 0.0)
    del frame, command
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current < 64_000
