"""No character of a planted text leaves, wherever it stands and however it is cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from guardrail.stream import (
    Check,
    Command,
    Mode,
    Release,
    StreamGuard,
    StreamSettings,
    Terminate,
)
from guardrail.stream.windows import ChannelWindows
from guardrail.types import Channel, ChannelKind, Frame, Verdict

from .harness import BLOCK, TEXT, Player, audit, forbid, say, split, split_at

WORDS = "a plain answer about gardens, rivers and the long way home in the rain; "
FILL = (WORDS * 8)[:420]
SHORT = "<verboten>"
"""10 characters: the look-ahead of the least first check (18 new, so 9) and one."""
LONG = "<a forbidden sentence, 33 chars.>"
"""33 characters: the full look-ahead and one."""
AFTER_SECOND = 70
"""From here on, every check has the full look-ahead."""

DELAYS: dict[str, Callable[[], Callable[[], float]]] = {
    "at once": lambda: lambda: 0.0,
    "late": lambda: lambda: 0.25,
    "out of order": lambda: iter([0.4, 0.1, 0.3, 0.0] * 500).__next__,
}


def planted(marker: str, at: int) -> str:
    return FILL[:at] + marker + FILL[at:]


def play(
    frames: list[Frame],
    marker: str,
    settings: StreamSettings,
    delay: str = "at once",
    make: type[StreamGuard] = StreamGuard,
    gap_s: float = 0.02,
) -> Player:
    player = Player(make(settings), forbid(marker), DELAYS[delay]())
    return player.play(frames, gap_s)


def assert_nothing_leaked(player: Player, marker: str, at: int) -> None:
    assert len(player.only(Terminate)) == 1
    left = len(player.released_text())
    assert left <= at, f"{left - at} characters of the planted text left"


@pytest.mark.parametrize("at", range(0, len(FILL) + 1, 7))
def test_a_short_text_never_leaves_wherever_a_frame_cuts_it(at: int) -> None:
    text = planted(SHORT, at)
    for cut in range(len(SHORT) + 1):
        frames = split_at(text, {at + cut, *range(0, len(text), 5)})
        player = play(frames, SHORT, StreamSettings())
        audit(player, StreamSettings())
        assert_nothing_leaked(player, SHORT, at)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("size", [1, 2, 4, 11, 97, 1000])
def test_a_short_text_never_leaves_at_any_place_in_any_frame_size(size: int, delay: str) -> None:
    for at in range(0, len(FILL) + 1, 3 if size > 1 else 13):
        player = play(split(planted(SHORT, at), size), SHORT, StreamSettings(), delay)
        assert_nothing_leaked(player, SHORT, at)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_long_text_never_leaves_once_the_look_ahead_is_full(size: int, delay: str) -> None:
    for at in range(AFTER_SECOND, len(FILL) + 1, 5):
        frames = split(planted(LONG, at), size)
        # 200 characters a second: the time bound never comes first.
        player = play(frames, LONG, StreamSettings(), delay, gap_s=size / 200)
        assert player.guard.stats.forced_checks == 0
        assert_nothing_leaked(player, LONG, at)


@pytest.mark.parametrize("gap_s", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("length", [2, 40, 113])
def test_a_text_never_leaves_whole_even_when_time_forces_every_check(
    length: int, gap_s: float
) -> None:
    marker = ("<" + "forbidden " * 20)[: length - 1] + ">"
    for at in range(0, len(FILL) + 1, 11):
        player = Player(StreamGuard(StreamSettings()), forbid(marker))
        player.play(split(planted(marker, at), 4), gap_s)
        audit(player, StreamSettings())
        assert len(player.only(Terminate)) == 1
        assert len(player.released_text()) < at + len(marker)


@pytest.mark.parametrize("kind", ChannelKind)
def test_a_text_in_any_kind_of_channel_is_caught_among_others(kind: ChannelKind) -> None:
    channel = Channel(1, kind)
    for at in range(0, len(FILL) + 1, 23):
        bad = split(planted(SHORT, at), 4, channel)
        good = split(FILL, 4, Channel(0))
        frames = [f for pair in itertools.zip_longest(bad, good) for f in pair if f]
        player = play(frames, SHORT, StreamSettings())
        audit(player, StreamSettings())
        (end,) = player.only(Terminate)
        assert isinstance(end, Terminate)
        assert end.channel == channel
        assert end.at == len(player.released_text(channel)) <= at


def test_a_marker_split_over_two_channels_is_no_marker() -> None:
    frames = [say(SHORT[:5], Channel(0)), say(SHORT[5:], Channel(1))]
    player = play(frames, SHORT, StreamSettings())
    assert player.released == frames


@pytest.mark.parametrize("at", range(0, len(FILL) + 1, 60))
def test_trail_cuts_soon_after_the_text_and_counts_what_leaked(at: int) -> None:
    settings = StreamSettings(mode=Mode.TRAIL)
    player = play(split(planted(SHORT, at), 4), SHORT, settings, "late")
    audit(player, settings)
    assert len(player.only(Terminate)) == 1
    left = len(player.released_text())
    late_chars = int(0.25 / 0.02 + 1) * 4
    assert left <= at + len(SHORT) + settings.stride_chars + late_chars
    stats = player.guard.stats
    assert stats.exposed_chars == left
    # The start of the text may stand at the end of a window that passed.
    assert max(0, left - at - len(SHORT) + 1) <= stats.leaked_chars <= left


def test_monitor_lets_everything_go_and_counts_the_block() -> None:
    settings = StreamSettings(mode=Mode.MONITOR)
    text = planted(SHORT, 200)
    player = play(split(text, 4), SHORT, settings)
    audit(player, settings)
    assert player.released_text() == text
    assert player.guard.stats.blocked >= 1


def test_random_splits_give_the_same_verdict_and_the_same_bounds() -> None:
    rng = random.Random(7)
    settings = StreamSettings()
    reach = settings.stride_chars + settings.lookahead_chars
    for _ in range(300):
        at = rng.randrange(len(FILL))
        text = planted(SHORT, at)
        frames = split_at(text, rng.sample(range(len(text)), rng.randrange(60, 300)))
        longest = max(len(f.raw) for f in frames)
        player = play(frames, SHORT, settings)
        assert_nothing_leaked(player, SHORT, at)
        left = len(player.released_text())
        assert at - left <= reach + longest, "harmless text was lost"
        clean = play(split_at(FILL, rng.sample(range(len(FILL)), 100)), SHORT, settings)
        assert clean.released_text() == FILL


class ReleasesOnReceipt(StreamGuard):
    """Broken on purpose: everything leaves at once."""

    def receive_frame(self, frame: Frame, now: float) -> list[Command]:
        held = [c for c in super().receive_frame(frame, now) if not isinstance(c, Release)]
        return [Release((frame,)), *held]

    def receive_verdict(self, check_id: int, verdict: Verdict, now: float) -> list[Command]:
        out = super().receive_verdict(check_id, verdict, now)
        return [c for c in out if not isinstance(c, Release)]

    def receive_end(self, now: float) -> list[Command]:
        return [c for c in super().receive_end(now) if not isinstance(c, Release)]


class ReleasesOnCheck(StreamGuard):
    """Broken on purpose: a check that was issued counts as passed."""

    def receive_frame(self, frame: Frame, now: float) -> list[Command]:
        out = super().receive_frame(frame, now)
        for check in [c for c in out if isinstance(c, Check)]:
            self._in_flight[check.check_id].settle(check.check_id)
        self._settle(now, out)
        return out


class DropsAFrame(StreamGuard):
    """Broken on purpose: a release loses its last frame."""

    def receive_verdict(self, check_id: int, verdict: Verdict, now: float) -> list[Command]:
        out = super().receive_verdict(check_id, verdict, now)
        return [Release(c.frames[:-1] or c.frames) if isinstance(c, Release) else c for c in out]


class SwapsFrames(StreamGuard):
    """Broken on purpose: a release turns the order around."""

    def receive_verdict(self, check_id: int, verdict: Verdict, now: float) -> list[Command]:
        out = super().receive_verdict(check_id, verdict, now)
        return [Release(c.frames[::-1]) if isinstance(c, Release) else c for c in out]


@pytest.mark.parametrize("broken", [ReleasesOnReceipt, ReleasesOnCheck, DropsAFrame, SwapsFrames])
def test_the_auditor_catches_a_broken_guard(broken: type[StreamGuard]) -> None:
    for guard, sound in ((StreamGuard, True), (broken, False)):
        player = play(split(FILL, 4), SHORT, StreamSettings(), "late", guard)
        if sound:
            audit(player, StreamSettings())
        else:
            with pytest.raises(AssertionError):
                audit(player, StreamSettings())


def test_the_leak_check_catches_a_guard_that_releases_on_receipt() -> None:
    player = play(split(planted(SHORT, 40), 4), SHORT, StreamSettings(), "late", ReleasesOnReceipt)
    with pytest.raises(AssertionError, match="planted text left"):
        assert_nothing_leaked(player, SHORT, 40)


def test_the_leak_check_catches_missing_look_ahead() -> None:
    careless = StreamSettings(lookahead_chars=0)
    leaks = 0
    for at in range(len(FILL)):
        player = play(split(planted(SHORT, at), 4), SHORT, careless)
        leaks += len(player.released_text()) > at
    assert leaks > 20


def test_the_leak_check_catches_verdicts_that_clear_across_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settle(self: ChannelWindows, check_id: int) -> None:
        for window in self._open:
            if window.check_id == check_id:
                self.judged = self.cleared = max(self.cleared, window.end)

    monkeypatch.setattr(ChannelWindows, "settle", settle)
    player = play(split(FILL, 4), SHORT, StreamSettings(), "out of order")
    with pytest.raises(AssertionError, match="left before its verdict"):
        audit(player, StreamSettings())


def test_one_bad_channel_ends_all_of_them() -> None:
    guard = StreamGuard(StreamSettings())
    guard.receive_frame(say("x" * 30, Channel(1)), 0.0)
    guard.receive_frame(say("y" * 30, TEXT), 0.0)
    (end,) = guard.receive_verdict(1, BLOCK, 0.1)
    assert isinstance(end, Terminate)
    assert end.channel == TEXT
    assert guard.receive_verdict(0, BLOCK, 0.1) == []
