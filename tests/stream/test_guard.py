"""A playbook: each test reads from top to bottom as a stream."""

from __future__ import annotations

import pytest

from guardrail.stream import (
    Check,
    Finish,
    Release,
    StreamGuard,
    StreamSettings,
    Terminate,
    Wake,
)
from guardrail.types import Frame, Span

from .harness import (
    BLOCK,
    FLAG,
    MONITORED,
    OTHER,
    PASS,
    SMALL,
    TEXT,
    TOOL,
    say,
    split,
)


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
