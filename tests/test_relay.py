"""What the loop of an answer promises, whatever its source and sink do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence

from guardrail.policy import parse_policy
from guardrail.redact import LARGE_BYTES, Redactor, StreamRedactor
from guardrail.relay import QUEUED_BYTES, Places, Relay
from guardrail.stream import Check, Mode, StreamGuard, StreamSettings
from guardrail.types import Action, Channel, Direction, Frame, Span, Verdict

FRAME_BYTES = 16_384


class StuckSink:
    """A client that takes the first frame and then nothing more."""

    async def release(self, frames: Sequence[Frame]) -> None:
        await asyncio.Event().wait()

    async def flagged(self, verdict: Verdict) -> None: ...

    async def refuse(self, verdict: Verdict) -> None: ...

    async def fail(self, message: str) -> None: ...

    async def finish(self) -> None: ...


async def test_a_stuck_client_holds_back_the_source_by_bytes_and_is_cleaned_up() -> None:
    read = 0
    closed = False

    async def source() -> AsyncGenerator[Sequence[Frame], None]:
        nonlocal read, closed
        try:
            while True:
                read += FRAME_BYTES
                yield [Frame(b"x" * FRAME_BYTES)]
                await asyncio.sleep(0)
        finally:
            closed = True

    async def judge(_: Check) -> Verdict:
        return Verdict(Action.PASS, Direction.OUTPUT)

    before = asyncio.all_tasks()
    relay = Relay(StreamGuard(StreamSettings(mode=Mode.HOLD)), source(), StuckSink(), judge)
    running = asyncio.ensure_future(relay.run())
    await asyncio.sleep(0.1)
    assert read <= QUEUED_BYTES + 3 * FRAME_BYTES
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert closed
    assert asyncio.all_tasks() == before


class OpenSink(StuckSink):
    """A client that takes everything."""

    def __init__(self) -> None:
        self.raw = b""
        self.failed = ""

    async def fail(self, message: str) -> None:
        self.failed = message

    async def release(self, frames: Sequence[Frame]) -> None:
        self.raw += b"".join(frame.raw for frame in frames)


async def test_a_source_whose_own_work_is_cancelled_breaks_off_and_hangs_nothing() -> None:
    async def source() -> AsyncGenerator[Sequence[Frame], None]:
        yield [Frame(b"said", (Span(Channel(), "said"),))]
        work = asyncio.ensure_future(asyncio.sleep(9))
        work.cancel()
        await work

    async def judge(_: Check) -> Verdict:
        return Verdict(Action.PASS, Direction.OUTPUT)

    sink = OpenSink()
    relay = Relay(StreamGuard(StreamSettings(mode=Mode.HOLD)), source(), sink, judge)
    async with asyncio.timeout(20):
        result = await relay.run()
    assert (sink.raw, result.fault) == (b"said", "broken")
    assert sink.failed


REDACTS = parse_policy("version: 1\nname: m\ncategories: {m: {detectors: [email], action: redact}}")
DUMP = "".join(f"{n * 37 % 256:02x} " for n in range(2_000))


async def edited_in(pieces: Sequence[str]) -> tuple[set[bool], bytes]:
    """Return whether frames were edited on the loop's thread, aside or both, and what left."""
    home, on_loop = threading.get_ident(), set()

    def edit(frame: Frame, edits, other) -> Frame:
        on_loop.add(threading.get_ident() == home)
        return frame

    async def source() -> AsyncGenerator[Sequence[Frame], None]:
        for piece in pieces:
            yield [Frame(piece.encode(), (Span(Channel(), piece),))]

    async def judge(_: Check) -> Verdict:
        return Verdict(Action.PASS, Direction.OUTPUT)

    sink = OpenSink()
    redactor = StreamRedactor(Redactor(REDACTS, Direction.OUTPUT), edit)
    guard = StreamGuard(StreamSettings(mode=Mode.HOLD))
    await Relay(guard, source(), sink, judge, redactor).run()
    return on_loop, sink.raw


async def test_little_is_redacted_on_the_loop_and_much_beside_it() -> None:
    words, page = ["Just a ", "few words."], "One more word. " * (LARGE_BYTES // 15 + 1)
    assert await edited_in(words) == ({True}, "".join(words).encode())
    assert await edited_in([page]) == ({False}, page.encode())


async def test_a_long_open_end_is_read_beside_the_loop() -> None:
    pieces = [DUMP[n : n + 112] for n in range(0, len(DUMP), 112)]
    assert await edited_in(pieces) == ({False}, DUMP.encode())


def part(start: int, end: int, index: int = 0, *, final: bool = False) -> Check:
    return Check(0, Channel(index), "x" * (end - start), "", start, end, final)


def test_the_checks_of_one_channel_are_one_stream_and_those_of_two_are_two() -> None:
    places = Places()
    one, two, other = (places.of(c) for c in (part(0, 9), part(5, 20), part(0, 9, 1)))
    assert one is not None
    assert two is not None
    assert other is not None
    assert one.stream is two.stream is not other.stream
    assert (one.start, two.start) == (0, 5)


def test_a_channel_in_one_piece_is_no_stream() -> None:
    places = Places()
    assert places.of(part(0, 900, final=True)) is None
    assert places.of(part(5, 900, final=True)) is not None


def test_channels_without_end_do_not_cost_memory() -> None:
    places = Places()
    for index in range(10 * Places.MOST):
        assert places.of(part(0, 9, index)) is not None
        assert len(places._streams) <= Places.MOST


def test_a_channel_that_begins_again_is_another_stream() -> None:
    """The guard forgets idle channels; one that goes on has text that nobody has read."""
    places = Places()
    before = places.of(part(0, 100))
    again = places.of(part(0, 120))
    assert before is not None
    assert again is not None
    assert again.stream is not before.stream
    assert places.of(part(0, 50, final=True)) is None
    after = places.of(part(30, 90))
    assert after is not None
    assert after.stream is not again.stream
