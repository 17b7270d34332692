from __future__ import annotations

import itertools

import pytest

from guardrail.stream import TRANSITIONS, Phase, StreamGuard, StreamSettings, Trigger

from .harness import BLOCK, PASS, say

EVENTS = {
    Trigger.FRAME: lambda guard: guard.receive_frame(say("x"), 1.0),
    Trigger.VERDICT: lambda guard: guard.receive_verdict(0, PASS, 1.0),
    Trigger.TIME: lambda guard: guard.receive_time(1.0),
    Trigger.END: lambda guard: guard.receive_end(1.0),
}


def guard_in(phase: Phase) -> StreamGuard:
    guard = StreamGuard(StreamSettings())
    guard.receive_frame(say("x" * 30), 0.0)
    guard.receive_frame(say("y" * 60), 0.0)
    if phase is Phase.TERMINATED:
        guard.receive_verdict(1, BLOCK, 0.0)
    elif phase is not Phase.OPEN:
        guard.receive_end(0.0)
    if phase is Phase.FINISHED:
        guard.receive_verdict(0, PASS, 0.0)
        guard.receive_verdict(1, PASS, 0.0)
    assert guard.phase is phase
    return guard


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, EVENTS)))
def test_every_event_moves_every_phase_as_the_table_says(phase: Phase, event: Trigger) -> None:
    guard = guard_in(phase)
    expected = TRANSITIONS.get((phase, event))
    if expected is None:
        with pytest.raises(RuntimeError, match=f"{event}.*{phase}"):
            EVENTS[event](guard)
        assert guard.phase is phase
    else:
        EVENTS[event](guard)
        assert guard.phase is expected


def test_the_last_verdict_drains_the_stream() -> None:
    assert TRANSITIONS[Phase.DRAINING, Trigger.DRAINED] is Phase.FINISHED
    guard = guard_in(Phase.DRAINING)
    guard.receive_verdict(1, PASS, 0.0)
    guard.receive_verdict(0, PASS, 0.0)
    assert guard.phase is Phase.FINISHED


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.DRAINING])
def test_a_block_terminates_a_live_stream(phase: Phase) -> None:
    assert TRANSITIONS[phase, Trigger.BLOCKED] is Phase.TERMINATED
    guard = guard_in(phase)
    guard.receive_verdict(0, BLOCK, 0.0)
    assert guard.phase is Phase.TERMINATED


def test_nothing_leads_out_of_the_end() -> None:
    for (phase, _), following in TRANSITIONS.items():
        if phase in (Phase.FINISHED, Phase.TERMINATED):
            assert following is phase


def test_a_terminated_stream_answers_every_event_with_nothing() -> None:
    for event in EVENTS.values():
        assert event(guard_in(Phase.TERMINATED)) == []
