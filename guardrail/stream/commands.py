"""What a `StreamGuard` asks of the outside world.

Commands are values: whoever drives the guard carries them out, in the order of the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from guardrail.types import Channel, Frame, Verdict

__all__ = ["Check", "Command", "Finish", "Release", "Terminate", "Wake"]


@dataclass(frozen=True, slots=True)
class Check:
    """Judge this text and answer with `StreamGuard.receive_verdict`, once.

    Args:
        check_id: Unique within the stream, counted from 0.
        channel: The channel that the text belongs to.
        text: Characters ``[start, end)`` of the channel: not judged yet, or judged without
            enough text behind them.
        context: The characters just before ``start``; judged or being judged.
        start: Position of the first character of ``text`` in its channel.
        end: Position after the last one.
        final: Nothing follows in this channel.
    """

    check_id: int
    channel: Channel
    text: str
    context: str
    start: int
    end: int
    final: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Send these frames on, in this order.

    Args:
        frames: One frame or more, in the order of arrival (keep-alives may overtake).
    """

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Terminate:
    """End the stream as blocked; nothing is released after it, and later events are ignored.

    Args:
        check_id: The check whose verdict blocked.
        channel: Its channel.
        verdict: The blocked verdict.
        at: Characters of that channel that have been released.
    """

    check_id: int
    channel: Channel
    verdict: Verdict
    at: int


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `StreamGuard.receive_time` at this time or soon after; one is open at a time.

    Args:
        at: Time in seconds, on the clock of the events.
    """

    at: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Everything is released, every check has its verdict and the stream is over."""


Command = Check | Release | Terminate | Wake | Finish
