"""The guarded stream as a state machine without sockets, clocks or threads.

Frames, verdicts and the time go in as events; commands come out as values. The room owns what
may leave and when; it must not know asyncio, JSON, HTTP, models or policies.

Glossary:
    channel: An independent text stream within one answer (choice or item, and kind).
    window: The text of one check, ``[start, end)`` of its channel.
    context: Text just before a window, handed over so that the window is understood.
    stride: New characters from one window to the next; small at first, then growing.
    overlap: Characters at the end of a window that the next one covers again.
    look-ahead: Judged characters that must follow a character before it may leave.
    hold-back: Text that has come in and has not left yet.
    cleared: Judged with its look-ahead (or with none to come): free to leave.
    forced: Checked early, or cleared with less look-ahead, because of the time or byte bound.

What holds in `Mode.HOLD`, for a judge that sees a violation of ``m`` characters whenever a
window with its context contains all of it:
    - Its last character never leaves, for ``m`` up to ``context_chars + 1``.
    - None of it leaves, for ``m`` up to the look-ahead of the checks around it, plus 1. With
      the defaults that is 10 characters at the start and 33 from the 70th on. In a stream of
      less than ``(stride_chars + lookahead_chars) / max_hold_ms``, by default 144 characters a
      second, the time bound comes first and leaves less.
"""

from __future__ import annotations

from guardrail.stream.commands import Check, Command, Finish, Release, Terminate, Wake
from guardrail.stream.guard import StreamGuard
from guardrail.stream.phases import TRANSITIONS, Phase, Trigger
from guardrail.stream.settings import Mode, StreamSettings
from guardrail.stream.stats import StreamStats

__all__ = [
    "TRANSITIONS",
    "Check",
    "Command",
    "Finish",
    "Mode",
    "Phase",
    "Release",
    "StreamGuard",
    "StreamSettings",
    "StreamStats",
    "Terminate",
    "Trigger",
    "Wake",
]
