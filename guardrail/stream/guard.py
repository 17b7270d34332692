"""The state machine that decides which frame may leave, and when.

Owns the order of events, the checks in flight and the stream's phase; the windows of a channel
are in `windows`, the held frames in `queue`. Must not know sockets, asyncio, JSON, models or
clocks: time comes in with each event as ``now``, in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from guardrail.stream.commands import Check, Command, Finish, Release, Terminate, Wake
from guardrail.stream.phases import TRANSITIONS, Phase, Trigger
from guardrail.stream.queue import Held, HoldQueue
from guardrail.stream.settings import Mode, StreamSettings
from guardrail.stream.stats import StreamStats, Tally
from guardrail.stream.windows import ChannelWindows
from guardrail.types import Channel, Frame, Span, Verdict

__all__ = ["StreamGuard"]

_MANY_CHANNELS = 256
"""From here on, channels with nothing held are forgotten: a peer that opens one after another
must not cost memory. A forgotten channel that goes on is judged as a new one."""

_LEAST_WAKE_SHARE = 1 / 8
"""Wakes that force a check are at least this share of the hold time apart: while a slow check is
in flight, every single frame grows late on its own."""


class StreamGuard:
    """Guards one streamed answer; a whole answer is one frame and an end.

    Each event returns the commands to carry out, in order. Frames leave in the order in which
    they came, a frame as soon as all its text is cleared; only keep-alives overtake.

    Args:
        settings: Mode, sizes and bounds.
        scanned: Whether a channel is in scope; one that is not passes unchecked, in its turn.
            By default all are.
    """

    def __init__(
        self,
        settings: StreamSettings,
        *,
        scanned: Callable[[Channel], bool] = lambda _channel: True,
    ) -> None:
        self._settings = settings
        self._hold = settings.mode is Mode.HOLD
        self._max_hold_s = settings.max_hold_ms / 1000
        self._scanned = scanned
        self._phase = Phase.OPEN
        self._channels: dict[Channel, ChannelWindows | None] = {}
        self._channels_limit = _MANY_CHANNELS
        self._in_flight: dict[int, ChannelWindows] = {}
        self._waiting: dict[ChannelWindows, None] = {}
        self._wake_at: float | None = None
        self._forced_at = -math.inf
        self._tally = Tally()
        self._queue = HoldQueue(self._tally)

    @property
    def phase(self) -> Phase:
        """How far the stream has come."""
        return self._phase

    @property
    def paused(self) -> bool:
        """Whether to stop reading upstream until commands bring the held bytes down."""
        return self._full and self._settings.mode is not Mode.MONITOR

    @property
    def finished(self) -> bool:
        """Whether the stream is over: all released after its end, or terminated."""
        return self._phase is Phase.FINISHED or self._phase is Phase.TERMINATED

    @property
    def stats(self) -> StreamStats:
        """The counters as they stand."""
        return self._tally.snapshot()

    def receive_frame(self, frame: Frame, now: float) -> list[Command]:
        """Take in the next frame.

        Args:
            frame: The frame; an opaque one counts as one without text.
            now: Time in seconds.

        Returns:
            Commands to carry out, in order.

        Raises:
            RuntimeError: The stream's end was received before.
        """
        if not self._enter(Trigger.FRAME):
            return []
        if frame.keepalive and not frame.spans and not frame.ends:
            return [Release((frame,))]
        out: list[Command] = []
        held = Held(frame, now)
        for span in frame.spans:
            if span.text:
                self._take(span, held, out)
        ended = [windows for channel in frame.ends if (windows := self._channels.get(channel))]
        self._end(ended, out)
        for windows, _ in held.needs:
            if windows.due():
                self._issue(windows, out)
        self._enqueue(held, frame, out)
        self._settle(now, out)
        self._tally.holds += held.frame is not None and self._queue.last is held
        return out

    def receive_verdict(self, check_id: int, verdict: Verdict, now: float) -> list[Command]:
        """Take in the verdict of a check; verdicts may come in any order.

        Args:
            check_id: Which check, from its command.
            verdict: The verdict; a failed check comes as one, too.
            now: Time in seconds.

        Returns:
            Commands to carry out, in order.

        Raises:
            RuntimeError: The stream had finished.
            ValueError: No such check is in flight.
        """
        if not self._enter(Trigger.VERDICT):
            return []
        windows = self._in_flight.pop(check_id, None)
        if windows is None:
            raise ValueError(f"check_id: {check_id} is not in flight; give each verdict once")
        if verdict.blocked:
            self._tally.blocked += 1
            if self._settings.mode is not Mode.MONITOR:
                return [self._terminate(check_id, windows, verdict)]
        windows.settle(check_id)
        out: list[Command] = []
        if self._waiting:
            waiting = next(iter(self._waiting))
            del self._waiting[waiting]
            self._issue(waiting, out)
        self._settle(now, out)
        return out

    def receive_time(self, now: float) -> list[Command]:
        """Take in the time; this uses up the open `Wake`, even if it comes a little early.

        Args:
            now: Time in seconds.

        Returns:
            Commands to carry out, in order.
        """
        if not self._enter(Trigger.TIME):
            return []
        self._wake_at = None
        out: list[Command] = []
        self._settle(now, out)
        return out

    def receive_end(self, now: float) -> list[Command]:
        """Take in the end of the stream: what is left is judged without look-ahead.

        Args:
            now: Time in seconds.

        Returns:
            Commands to carry out, in order.
        """
        if not self._enter(Trigger.END):
            return []
        out: list[Command] = []
        self._end([windows for windows in self._channels.values() if windows], out)
        self._settle(now, out)
        return out

    def _enter(self, trigger: Trigger) -> bool:
        phase = TRANSITIONS.get((self._phase, trigger))
        if phase is None:
            raise RuntimeError(f"a {trigger} cannot come to a stream that is {self._phase}")
        self._phase = phase
        return not self.finished

    @property
    def _full(self) -> bool:
        return self._tally.held_bytes > self._settings.max_hold_bytes

    def _take(self, span: Span, held: Held, out: list[Command]) -> None:
        text = span.text
        held.chars += len(text)
        self._tally.received_chars += len(text)
        try:
            windows = self._channels[span.channel]
        except KeyError:
            windows = self._open_channel(span.channel)
        if windows is None:
            self._tally.unscanned_chars += len(text)
            return
        if windows.due_before(text):
            self._issue(windows, out)
        windows.append(text)
        if not self._hold:
            windows.released = windows.received
            self._tally.exposed_chars += len(text)
        if self._full and self._settings.mode is Mode.MONITOR:
            self._tally.skipped_chars += windows.skip()
            self._waiting.pop(windows, None)
            return
        held.needs.append((windows, windows.received))

    def _open_channel(self, channel: Channel) -> ChannelWindows | None:
        if len(self._channels) >= self._channels_limit:
            self._channels = {
                known: windows
                for known, windows in self._channels.items()
                if windows is not None and not windows.idle
            }
            self._channels_limit = max(_MANY_CHANNELS, 2 * len(self._channels))
        windows = ChannelWindows(channel, self._settings) if self._scanned(channel) else None
        self._channels[channel] = windows
        return windows

    def _end(self, ended: list[ChannelWindows], out: list[Command]) -> None:
        for windows in ended:
            windows.end()
            if windows.due():
                self._issue(windows, out)

    def _issue(self, windows: ChannelWindows, out: list[Command]) -> None:
        if len(self._in_flight) >= self._settings.max_in_flight:
            self._waiting[windows] = None
            return
        tally = self._tally
        tally.forced_checks += windows.urgent_to > 0
        check_id = tally.checks
        window, text, context = windows.cut(check_id)
        self._in_flight[check_id] = windows
        self._waiting.pop(windows, None)
        tally.checks += 1
        tally.checked_chars += len(text) + len(context)
        place = (window.start, window.end, windows.ended)
        out.append(Check(check_id, windows.channel, text, context, *place))

    def _enqueue(self, held: Held, frame: Frame, out: list[Command]) -> None:
        held.size = len(frame.raw)
        if not self._hold:
            out.append(Release((frame,)))
            self._tally.released_chars += held.chars
            held.frame = None
        if self._hold or held.needs:
            self._queue.push(held)

    def _settle(self, now: float, out: list[Command]) -> None:
        """Release what is cleared, force what is late, and say what comes next."""
        queue = self._queue
        frames = queue.pop_cleared(now)
        while (due := queue.due) is not None and self._late(due, now):
            self._force(due, now, out)
            frames += queue.pop_cleared(now)
        if frames:
            out.append(Release(tuple(frames)))
        if due is not None:
            self._arm(due, out)
        if queue.head is None and not self._in_flight and self._phase is Phase.DRAINING:
            self._enter(Trigger.DRAINED)
            out.append(Finish())

    def _late(self, due: Held, now: float) -> bool:
        return now >= due.arrived + self._max_hold_s or (self._full and due is self._queue.head)

    def _force(self, due: Held, now: float, out: list[Command]) -> None:
        due.forced = True
        self._forced_at = now
        for windows, end in due.needs:
            if windows.cleared < end and windows.force(end):
                self._issue(windows, out)

    def _arm(self, due: Held, out: list[Command]) -> None:
        # An open wake is never later than what is due: what follows is only younger.
        if self._wake_at is None:
            at = due.arrived + self._max_hold_s
            self._wake_at = max(at, self._forced_at + self._max_hold_s * _LEAST_WAKE_SHARE)
            out.append(Wake(self._wake_at))

    def _terminate(self, check_id: int, windows: ChannelWindows, verdict: Verdict) -> Terminate:
        self._enter(Trigger.BLOCKED)
        for known in self._channels.values():
            if known is not None:
                self._tally.leaked_chars += max(0, known.released - known.judged)
        self._queue.clear()
        self._channels.clear()
        self._in_flight.clear()
        self._waiting.clear()
        return Terminate(check_id, windows.channel, verdict, windows.released)
