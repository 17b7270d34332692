"""Streams made at random: any channels, frame sizes, delays, verdict orders and timers.

GUARDRAIL_STREAM_EXAMPLES sets how many (2,000 by default, 100,000 at night).
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrail.stream import Check, Finish, Mode, StreamGuard, StreamSettings, Terminate
from guardrail.types import Channel, ChannelKind, Frame, Span, Verdict

from .harness import BLOCK, FLAG, MONITORED, PASS, Judge, Player, audit

EXAMPLES = int(os.environ.get("GUARDRAIL_STREAM_EXAMPLES", "2000"))
MANY = 1000
MARKER = "<forbidden>"
CHANNELS = (
    Channel(0),
    Channel(1),
    Channel(0, ChannelKind.TOOL_ARGUMENTS, 2),
    Channel(0, ChannelKind.REASONING),
)
OUT_OF_SCOPE = CHANNELS[3]

pytestmark = pytest.mark.timeout(max(120, EXAMPLES // 100))
a_third = settings(
    max_examples=max(1, EXAMPLES // 3),
    suppress_health_check=[HealthCheck.too_slow],
)

stream_settings = st.builds(
    StreamSettings,
    mode=st.sampled_from(Mode),
    first_chars=st.integers(1, 24),
    stride_chars=st.integers(24, 120),
    growth=st.sampled_from([1.0, 1.3, 2.0, 10.0]),
    lookahead_chars=st.sampled_from([0, 1, 8, 32, 300]),
    context_chars=st.sampled_from([0, 5, 112]),
    max_hold_ms=st.sampled_from([1, 50, 1000]),
    max_hold_bytes=st.sampled_from([1, 60, 500, 262_144]),
    max_in_flight=st.sampled_from([1, 2, 4, MANY]),
)
# A seed, because a choice of Hypothesis for every character would take a hundred times as long.
seeds = st.builds(random.Random, st.integers(0, 2**32))


def in_scope(channel: Channel) -> bool:
    return channel != OUT_OF_SCOPE


def make_frame(rng: random.Random) -> Frame:
    """Mostly text in one channel; sometimes several, none, an end or a keep-alive."""
    kind = rng.randrange(20)
    if kind == 0:
        return Frame(b": ping", keepalive=True)
    if kind == 1:
        return Frame(b"usage", opaque=rng.random() < 0.5)
    spans = tuple(make_span(rng) for _ in range(2 if kind == 2 else 1))
    ends = (rng.choice(CHANNELS),) if kind == 3 else ()
    return Frame(b"x" * rng.randrange(40), spans, ends, keepalive=kind == 4)


def make_span(rng: random.Random) -> Span:
    size = rng.choice((0, 1, 2, 4, 4, 4, 9, 30, 200))
    return Span(rng.choice(CHANNELS), "".join(rng.choice("abcd é\n") for _ in range(size)))


def make_frames(rng: random.Random) -> list[Frame]:
    return [make_frame(rng) for _ in range(rng.choice((1, 3, 10, 60)))]


def simulate(
    sizes: StreamSettings, frames: list[Frame], rng: random.Random, judge: Judge
) -> Player:
    slow = rng.choice((0.0, 0.03, 0.4))
    gap = rng.choice((0.0, 0.02, 0.2))
    guard = StreamGuard(sizes, scanned=in_scope)
    player = Player(guard, judge, lambda: rng.random() * slow)
    player.play(frames, lambda: rng.random() * gap)
    if sizes.mode is Mode.HOLD and sizes.max_in_flight == MANY:
        # A late frame waits for its check, or also for one in flight that judges it again.
        bound_ms = sizes.max_hold_ms * 9 / 8 + 2 * slow * 1000
        assert guard.stats.max_held_ms <= bound_ms + 1e-6
    return player


def assert_cost_is_bounded(player: Player, sizes: StreamSettings) -> None:
    stats = player.guard.stats
    checks = [entry for entry in player.log if isinstance(entry, Check)]
    assert stats.checks == len(checks)
    assert stats.checked_chars == sum(len(c.text) + len(c.context) for c in checks)
    in_scope_chars = stats.received_chars - stats.unscanned_chars
    again = sizes.lookahead_chars + sizes.context_chars
    assert stats.checked_chars <= in_scope_chars + again * len(checks)
    final = sum(c.final for c in checks)
    least = sizes.first_chars - sizes.first_chars // 8
    assert len(checks) - final - stats.forced_checks <= in_scope_chars / least


@a_third
@given(stream_settings, seeds)
def test_a_harmless_stream_leaves_complete_and_in_order(
    sizes: StreamSettings, rng: random.Random
) -> None:
    frames = make_frames(rng)
    judge_any = lambda check: rng.choice((PASS, FLAG, MONITORED))  # noqa: E731
    player = simulate(sizes, frames, rng, judge_any)
    audit(player, sizes, in_scope)
    assert len(player.only(Finish)) == 1
    assert {id(f) for f in player.released} == {id(f) for f in frames}
    assert len(player.released) == len(frames)
    assert player.guard.stats.held_chars == player.guard.stats.held_bytes == 0
    assert_cost_is_bounded(player, sizes)


@a_third
@given(stream_settings, seeds)
def test_a_stream_with_blocks_lets_nothing_unjudged_go(
    sizes: StreamSettings, rng: random.Random
) -> None:
    blocked: list[Check] = []

    def judge(check: Check) -> Verdict:
        if rng.random() < 0.9:
            return PASS
        blocked.append(check)
        return BLOCK

    player = simulate(sizes, make_frames(rng), rng, judge)
    audit(player, sizes, in_scope)
    ends = player.only(Terminate)
    assert bool(ends) == (bool(blocked) and sizes.mode is not Mode.MONITOR)
    for end in ends:
        assert isinstance(end, Terminate)
        assert end.check_id == blocked[0].check_id
        assert end.at == len(player.released_text(end.channel))
    assert_cost_is_bounded(player, sizes)


@a_third
@given(stream_settings, seeds, st.integers(0, 400))
def test_a_planted_text_never_leaves_whole(
    sizes: StreamSettings, rng: random.Random, at: int
) -> None:
    holding = replace(sizes, mode=Mode.HOLD, context_chars=max(len(MARKER), sizes.context_chars))
    frames, channel = plant(rng, at)
    text = "".join(s.text for f in frames for s in f.spans if s.channel == channel)

    def judge(check: Check) -> Verdict:
        return BLOCK if MARKER in check.context + check.text else PASS

    player = simulate(holding, frames, rng, judge)
    audit(player, holding, in_scope)
    assert len(player.only(Terminate)) == 1
    assert len(player.released_text(channel)) < text.index(MARKER) + len(MARKER)


def plant(rng: random.Random, at: int) -> tuple[list[Frame], Channel]:
    """Frames of every kind, among which one channel says the marker, cut anywhere."""
    channel = rng.choice([known for known in CHANNELS if in_scope(known)])
    fill = "".join(rng.choice("abcd \n") for _ in range(at))
    text = fill + MARKER + "and more " * rng.randrange(9)
    frames = []
    while text:
        if rng.random() < 0.2:
            other = make_frame(rng)
            if all(span.channel != channel for span in other.spans):
                frames.append(other)
        size = rng.randrange(1, 30)
        frames.append(Frame(b"x" * size, (Span(channel, text[:size]),)))
        text = text[size:]
    return frames, channel
