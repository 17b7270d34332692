"""The official SDKs as judges: bytes in, what their own stream parsers make of them out."""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai

from guardrail.wire import Reply


@dataclass
class Seen:
    """What a client has at the end of a stream."""

    reasons: dict[int, str | None] = field(default_factory=dict)
    text: str = ""
    refusal: str = ""
    final: Any = None
    usage: Any = None


class Canned:
    """A transport that answers every request with one reply."""

    def __init__(self) -> None:
        self.reply = Reply(200, b"{}")

    def client(self, sdk: Any, kind: str = "Client") -> Any:
        """Return an HTTP client of the library that an SDK is built on: httpx, or httpx2."""
        bases = sdk.DefaultHttpxClient.__mro__
        library = next(b.__module__.split(".")[0] for b in bases if b.__name__ == "Client")
        http = importlib.import_module(library)

        def answer(_request: Any) -> Any:
            headers = {"content-type": self.reply.content_type}
            return http.Response(self.reply.status, headers=headers, content=self.reply.body)

        return getattr(http, kind)(transport=http.MockTransport(answer))


_CANNED = Canned()
_OPENAI = openai.OpenAI(
    api_key="k",
    base_url="http://test/v1",
    max_retries=0,
    http_client=_CANNED.client(openai),
)
_ANTHROPIC = anthropic.Anthropic(
    api_key="k",
    base_url="http://test",
    max_retries=0,
    http_client=_CANNED.client(anthropic),
)


def _stream(body: bytes) -> None:
    _CANNED.reply = Reply(200, body, "text/event-stream; charset=utf-8")


def read_chat(body: bytes) -> Seen:
    _stream(body)
    seen = Seen()
    with _OPENAI.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": "x"}]
    ) as stream:
        for event in stream:
            if event.type == "chunk":
                seen.usage = event.chunk.usage or seen.usage
        # get_final_completion raises on `length` and `content_filter` by design
        final = stream.current_completion_snapshot
    for choice in final.choices:
        seen.reasons[choice.index] = choice.finish_reason
        seen.text += choice.message.content or ""
        seen.refusal += choice.message.refusal or ""
    seen.final = final
    return seen


def read_completions(body: bytes) -> Seen:
    _stream(body)
    seen = Seen()
    said: dict[int, str] = {}
    for chunk in _OPENAI.completions.create(model="m", prompt="x", stream=True):
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + choice.text
            if choice.finish_reason:
                assert choice.index not in seen.reasons
                seen.reasons[choice.index] = choice.finish_reason
    seen.text = "".join(said[index] for index in sorted(said))
    return seen


def read_responses(body: bytes) -> Seen:
    _stream(body)
    seen = Seen()
    numbers = []
    balance: Counter[tuple[object, ...]] = Counter()
    with _OPENAI.responses.stream(model="m", input="x") as stream:
        for event in stream:
            if event.sequence_number is not None:  # llama.cpp leaves it out
                numbers.append(event.sequence_number)
            balance.update(_opens(event))
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                seen.final = event.response
    assert numbers == sorted(numbers)
    assert not any(balance.values()), balance  # every item and part is closed, once
    response = seen.final
    details = response.incomplete_details
    seen.reasons[0] = details.reason if details else response.status
    seen.text = response.output_text
    for item in response.output:
        if item.type == "message":
            seen.refusal += "".join(p.refusal for p in item.content if p.type == "refusal")
    seen.usage = response.usage
    return seen


def _opens(event: Any) -> dict[tuple[object, ...], int]:
    """Return +1 for what an event opens and -1 for what it closes."""
    stem, _, verb = event.type.rpartition(".")
    if verb not in ("added", "done") or not stem.endswith(("output_item", "_part")):
        return {}
    key = (stem, event.output_index)
    for name in ("content_index", "summary_index"):
        key += (getattr(event, name, None),)
    return {key: 1 if verb == "added" else -1}


def read_anthropic(body: bytes) -> Seen:
    _stream(body)
    seen = Seen()
    with _ANTHROPIC.messages.stream(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        opened: set[int] = set()
        closed: list[int] = []
        stopped = False
        for event in stream:
            assert not stopped
            if event.type == "content_block_start":
                assert event.index == len(opened)
                opened.add(event.index)
            if event.type == "content_block_stop":
                closed.append(event.index)
            stopped = event.type == "message_stop"
        assert stopped
        assert sorted(closed) == sorted(opened)  # the SDK itself does not insist
        final = stream.get_final_message()
    seen.reasons[0] = final.stop_reason
    seen.text = "".join(b.text for b in final.content if b.type == "text")
    seen.refusal = (final.stop_details.explanation or "") if final.stop_details else ""
    seen.usage = final.usage
    seen.final = final
    return seen


READERS = {
    "openai.chat": read_chat,
    "openai.completions": read_completions,
    "openai.responses": read_responses,
    "anthropic.messages": read_anthropic,
}


def call(wire: str, reply: Reply) -> Any:
    """Return what the client's plain call makes of a reply; its own exceptions pass."""
    _CANNED.reply = reply
    if wire == "openai.chat":
        return _OPENAI.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}]
        )
    if wire == "openai.completions":
        return _OPENAI.completions.create(model="m", prompt="x")
    if wire == "openai.responses":
        return _OPENAI.responses.create(model="m", input="x")
    if wire == "openai.conversations":
        return _OPENAI.conversations.items.create("conv_1", items=[])
    if wire == "openai.embeddings":
        return _OPENAI.embeddings.create(model="m", input="x", encoding_format="float")
    if wire == "openai.moderations":
        return _OPENAI.moderations.create(input="x")
    return _ANTHROPIC.messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
    )


def read_async(wire: str, body: bytes) -> list[Any]:
    """Return the raw events that the asynchronous client yields."""
    return asyncio.run(_read_async(wire, body))


async def _read_async(wire: str, body: bytes) -> list[Any]:
    canned = Canned()
    canned.reply = Reply(200, body, "text/event-stream; charset=utf-8")
    sdk = anthropic if wire == "anthropic.messages" else openai
    async with canned.client(sdk, "AsyncClient") as http:
        key: dict[str, Any] = {"api_key": "k", "max_retries": 0, "http_client": http}
        if wire == "anthropic.messages":
            client = anthropic.AsyncAnthropic(**key, base_url="http://test")
            stream: Any = await client.messages.create(
                model="m", max_tokens=9, stream=True, messages=[{"role": "user", "content": "x"}]
            )
        else:
            own = openai.AsyncOpenAI(**key, base_url="http://test/v1")
            if wire == "openai.chat":
                stream = await own.chat.completions.create(
                    model="m", stream=True, messages=[{"role": "user", "content": "x"}]
                )
            elif wire == "openai.responses":
                stream = await own.responses.create(model="m", input="x", stream=True)
            else:
                stream = await own.completions.create(model="m", prompt="x", stream=True)
        return [event async for event in stream]
