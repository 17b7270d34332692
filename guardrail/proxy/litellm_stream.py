"""A provider's stream as LiteLLM hands it out: written as events, and ended whatever comes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final

from guardrail.proxy.upstream import UpstreamError

__all__ = ["dump", "end", "events_of", "fault"]

log = logging.getLogger("guardrail.proxy")

MAX_CAUSES: Final = 10
MAX_WRAPPERS: Final = 8

_WRAPPED: Final = (
    "completion_stream",
    "inner",
    "litellm_custom_stream_wrapper",
    "response",
    "_billing_source",
)
"""Where LiteLLM's streams keep the stream, or the HTTP answer, that they read."""


def dump(item: Any) -> bytes:
    """Write one of LiteLLM's objects: most are pydantic models, Anthropic's are plain."""
    if hasattr(item, "model_dump_json"):
        return bytes(item.model_dump_json(exclude_none=True).encode())
    # Its own notes, such as _hidden_params, are not part of the answer.
    return json.dumps({k: v for k, v in item.items() if not k.startswith("_")}).encode()


async def events_of(path: str, answer: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    """Write a stream of LiteLLM's objects as the events that the API sends."""
    try:
        async for item in answer:
            if isinstance(item, bytes):  # Anthropic's events come written
                yield item
            else:
                kind = getattr(item, "type", "")  # an enum, whose own text is not its value
                name = f"event: {getattr(kind, 'value', kind)}\n" if path == "responses" else ""
                yield name.encode() + b"data: " + dump(item) + b"\n\n"
    except Exception as error:
        raise fault(error) from error
    if path in ("chat/completions", "completions"):
        yield b"data: [DONE]\n\n"


async def end(
    events: AsyncGenerator[bytes, None], answer: Any, closing: set[asyncio.Task[None]]
) -> None:
    """Close a stream, also where whoever waits for it is cancelled meanwhile.

    Args:
        events: From `events_of`.
        answer: What it was made of.
        closing: Holds what is under way.
    """

    async def work() -> None:
        await _stop(events)
        await _close(answer)

    task = asyncio.ensure_future(work())
    closing.add(task)
    task.add_done_callback(closing.discard)
    await asyncio.shield(task)


async def _stop(events: AsyncGenerator[bytes, None]) -> None:
    """End a stream within a read: generators that never began would clean nothing up."""
    reading = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await events.aclose()


async def _close(stream: Any) -> None:
    """Close a provider's stream now: left to the garbage collector, the provider would go on.

    LiteLLM's wrappers do not all close what they wrap. That it cannot be closed is no reason to
    spoil an answer that is out.
    """
    left, closed = [stream], 0
    while left and closed < MAX_WRAPPERS:
        one = left.pop()
        left += [kept for name in _WRAPPED if (kept := getattr(one, name, None)) is not None]
        closed += 1
        if callable(close := getattr(one, "aclose", None)):
            try:
                await close()
            except Exception:
                log.debug("a provider's stream could not be closed", exc_info=True)


def fault(error: Exception) -> UpstreamError:
    """Put a provider's fault into words for the client, without those of the provider."""
    status = getattr(error, "status_code", None)
    if status == 408 or any(isinstance(one, TimeoutError) for one in _causes(error)):
        return UpstreamError("timeout", 504, "The model API did not answer in time.")
    if status in (401, 403):
        message = "The model API refused the proxy's credentials."
        return UpstreamError("credentials", 502, message)
    return UpstreamError("broken", 502, "The model API failed on this request.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: LiteLLM tells of time-outs in a stream only there."""
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
