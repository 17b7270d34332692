"""A playbook of the modes that do not hold."""

from __future__ import annotations

import tracemalloc

from guardrail.stream import (
    Check,
    Finish,
    Mode,
    Release,
    StreamGuard,
    Terminate,
    Wake,
)

from .harness import (
    BLOCK,
    PASS,
    TEXT,
    Player,
    audit,
    forbid,
    say,
    settings,
    split,
)


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
