"""The state machine that decides which frame may leave, and when.

Owns the queue of held frames, the checks in flight and the stream's phase; the windows of each
channel are in `windows`. Must not know sockets, asyncio, JSON, models or clocks: time comes in
with each event as ``now``, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from guardrail.stream.commands import Check, Command, Finish, Release, Terminate, Wake
from guardrail.stream.settings import Mode, StreamSettings
from guardrail.stream.stats import StreamStats, Tally
from guardrail.stream.windows import ChannelWindows
from guardrail.types import Channel, Frame, Span, Verdict

__all__ = ["TRANSITIONS", "Phase", "StreamGuard", "Trigger"]


class Phase(StrEnum):
    """How far a stream has come."""

    OPEN = "open"
    DRAINING = "draining"
    FINISHED = "finished"
    TERMINATED = "terminated"


class Trigger(StrEnum):
    """What moves a stream: the four events, and two conclusions from them."""

    FRAME = "frame"
    VERDICT = "verdict"
    TIME = "time"
    END = "end"
    BLOCKED = "blocked"
    DRAINED = "drained"


TRANSITIONS: Mapping[tuple[Phase, Trigger], Phase] = MappingProxyType(
    {
        (Phase.OPEN, Trigger.FRAME): Phase.OPEN,
        (Phase.OPEN, Trigger.VERDICT): Phase.OPEN,
        (Phase.OPEN, Trigger.TIME): Phase.OPEN,
        (Phase.OPEN, Trigger.END): Phase.DRAINING,
        (Phase.OPEN, Trigger.BLOCKED): Phase.TERMINATED,
        (Phase.DRAINING, Trigger.VERDICT): Phase.DRAINING,
        (Phase.DRAINING, Trigger.TIME): Phase.DRAINING,
        (Phase.DRAINING, Trigger.END): Phase.DRAINING,
        (Phase.DRAINING, Trigger.BLOCKED): Phase.TERMINATED,
        (Phase.DRAINING, Trigger.DRAINED): Phase.FINISHED,
        (Phase.FINISHED, Trigger.TIME): Phase.FINISHED,
        (Phase.FINISHED, Trigger.END): Phase.FINISHED,
        (Phase.TERMINATED, Trigger.FRAME): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.VERDICT): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.TIME): Phase.TERMINATED,
        (Phase.TERMINATED, Trigger.END): Phase.TERMINATED,
    }
)
"""Phase by phase and trigger. A pair that is not in it is a mistake of the caller: a frame after
the end, or a verdict after the finish."""

_MANY_CHANNELS = 256
"""From here on, channels with nothing held are forgotten: a peer that opens one after another
must not cost memory. A forgotten channel that goes on is judged as a new one."""


class _Held:
    """A frame in the queue, and the channel positions that must be cleared for it to leave."""

    __slots__ = ("arrived", "chars", "forced", "frame", "needs", "size")

    def __init__(
        self, frame: Frame | None, needs: list[tuple[ChannelWindows, int]], arrived: float
    ) -> None:
        self.frame = frame
        self.needs = needs
        self.arrived = arrived
        self.chars = 0
        self.size = 0
        self.forced = False


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
        self._queue: deque[_Held] = deque()
        self._in_flight: dict[int, ChannelWindows] = {}
        self._waiting: dict[ChannelWindows, None] = {}
        self._wake_at: float | None = None
        self._tally = Tally()

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
        held = _Held(frame, [], now)
        for span in frame.spans:
            if span.text:
                self._take(span, held, out)
        for channel in frame.ends:
            self._end(self._channels.get(channel), out)
        self._enqueue(held, frame, out)
        self._settle(now, out)
        if self._hold and self._queue and self._queue[-1] is held:
            self._tally.holds += 1
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
        for windows in self._channels.values():
            self._end(windows, out)
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

    def _take(self, span: Span, held: _Held, out: list[Command]) -> None:
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
        if self._full and self._settings.mode is Mode.MONITOR:
            self._tally.skipped_chars += windows.skip()
            self._waiting.pop(windows, None)
            return
        held.needs.append((windows, windows.received))
        if windows.due():
            self._issue(windows, out)

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

    def _end(self, windows: ChannelWindows | None, out: list[Command]) -> None:
        if windows is not None:
            windows.end()
            if windows.due():
                self._issue(windows, out)

    def _issue(self, windows: ChannelWindows, out: list[Command]) -> None:
        if len(self._in_flight) >= self._settings.max_in_flight:
            self._waiting[windows] = None
            return
        tally = self._tally
        tally.forced_checks += windows.urgent
        check_id = tally.checks
        window, text, context = windows.cut(check_id)
        self._in_flight[check_id] = windows
        self._waiting.pop(windows, None)
        tally.checks += 1
        tally.checked_chars += len(text) + len(context)
        out.append(
            Check(
                check_id,
                windows.channel,
                text,
                context,
                window.start,
                window.end,
                windows.ended,
            )
        )

    def _enqueue(self, held: _Held, frame: Frame, out: list[Command]) -> None:
        if not self._hold:
            self._expose(held, frame, out)
            if not held.needs:
                return
            held.frame = None
        held.size = len(frame.raw)
        self._tally.held_bytes += held.size
        self._tally.held_chars += held.chars if self._hold else 0
        self._queue.append(held)

    def _expose(self, held: _Held, frame: Frame, out: list[Command]) -> None:
        out.append(Release((frame,)))
        self._tally.released_chars += held.chars
        for windows, _ in held.needs:
            self._tally.exposed_chars += windows.received - windows.released
            windows.released = windows.received

    def _settle(self, now: float, out: list[Command]) -> None:
        """Release what is cleared, force what is late, and say what comes next."""
        self._release_cleared(now, out)
        while self._queue and self._late(self._queue[0], now):
            self._force(self._queue[0], out)
            self._release_cleared(now, out)
        tally = self._tally
        tally.max_held_chars = max(tally.max_held_chars, tally.held_chars)
        if self._queue:
            self._arm(self._queue[0], out)
        elif self._phase is Phase.DRAINING and not self._in_flight:
            self._enter(Trigger.DRAINED)
            out.append(Finish())

    def _release_cleared(self, now: float, out: list[Command]) -> None:
        queue = self._queue
        frames: list[Frame] = []
        tally = self._tally
        while queue:
            held = queue[0]
            for windows, end in held.needs:
                if windows.cleared < end:
                    break
            else:
                queue.popleft()
                tally.held_bytes -= held.size
                if held.frame is not None:
                    frames.append(held.frame)
                    self._count_released(held, now)
                continue
            break
        if frames:
            out.append(Release(tuple(frames)))

    def _count_released(self, held: _Held, now: float) -> None:
        tally = self._tally
        tally.held_chars -= held.chars
        tally.released_chars += held.chars
        tally.max_held_ms = max(tally.max_held_ms, 1000 * (now - held.arrived))
        for windows, end in held.needs:
            windows.released = end

    def _late(self, head: _Held, now: float) -> bool:
        return not head.forced and (self._full or now >= head.arrived + self._max_hold_s)

    def _force(self, head: _Held, out: list[Command]) -> None:
        head.forced = True
        for windows, end in head.needs:
            if windows.cleared < end and windows.force(end):
                self._issue(windows, out)

    def _arm(self, head: _Held, out: list[Command]) -> None:
        # An open wake is never later than what the head needs: heads only get younger.
        if self._wake_at is None and not head.forced:
            self._wake_at = head.arrived + self._max_hold_s
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
        self._tally.held_bytes = self._tally.held_chars = 0
        return Terminate(check_id, windows.channel, verdict, windows.released)
