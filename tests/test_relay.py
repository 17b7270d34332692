"""What the loop of an answer promises, whatever its source and sink do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from guardrail.relay import QUEUED_BYTES, Relay
from guardrail.stream import Check, Mode, StreamGuard, StreamSettings
from guardrail.types import Action, Direction, Frame, Verdict

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
