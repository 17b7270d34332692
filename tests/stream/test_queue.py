from __future__ import annotations

from guardrail.stream.queue import Held, HoldQueue
from guardrail.stream.settings import StreamSettings
from guardrail.stream.stats import Tally
from guardrail.stream.windows import ChannelWindows
from guardrail.types import Frame

from .harness import TEXT, say


def waiting(frame: Frame, windows: ChannelWindows, arrived: float = 0.0) -> Held:
    """An entry that waits for all that its channel has received so far."""
    windows.append("abc")
    held = Held(frame, arrived)
    held.needs.append((windows, windows.received))
    held.chars, held.size = 3, len(frame.raw)
    return held


def pass_everything(windows: ChannelWindows, check_id: int) -> None:
    windows.end()
    windows.cut(check_id)
    windows.settle(check_id)


def test_entries_leave_in_order_up_to_the_first_that_is_not_cleared() -> None:
    tally = Tally()
    queue, windows = HoldQueue(tally), ChannelWindows(TEXT, StreamSettings())
    one, two = say("one"), say("two")
    queue.push(waiting(one, windows))
    pass_everything(windows, 0)
    queue.push(waiting(two, windows))
    queue.push(Held(Frame(b"usage"), 0.0))
    assert queue.pop_cleared(0.5) == [one]
    assert (tally.held_chars, tally.held_bytes, tally.max_held_ms) == (3, 3, 500)
    assert windows.released == 3


def test_what_is_due_is_the_oldest_entry_neither_cleared_nor_forced() -> None:
    queue = HoldQueue(Tally())
    text, other = (ChannelWindows(TEXT, StreamSettings()) for _ in range(2))
    first, second, third = waiting(say(""), text), waiting(say(""), other), waiting(say(""), text)
    for held in (first, second, third):
        queue.push(held)
    assert queue.due is first
    first.forced = True
    assert queue.due is second
    pass_everything(other, 0)
    assert queue.due is third
    assert queue.head is first


def test_an_entry_whose_frame_has_left_holds_bytes_but_no_characters() -> None:
    tally = Tally()
    queue, windows = HoldQueue(tally), ChannelWindows(TEXT, StreamSettings())
    held = waiting(say("sent"), windows)
    held.frame = None
    queue.push(held)
    assert (tally.held_bytes, tally.held_chars) == (4, 0)
    pass_everything(windows, 0)
    assert queue.pop_cleared(9.0) == []
    assert (tally.held_bytes, tally.max_held_ms) == (0, 0)


def test_a_cleared_queue_holds_nothing() -> None:
    tally = Tally()
    queue = HoldQueue(tally)
    queue.push(waiting(say("bad"), ChannelWindows(TEXT, StreamSettings())))
    queue.clear()
    assert queue.head is queue.last is queue.due is None
    assert (tally.held_bytes, tally.held_chars) == (0, 0)
