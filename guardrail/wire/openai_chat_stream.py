"""OpenAI chat completions, streamed: chunks in, closing chunks out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardrail.types import Channel, ChannelKind
from guardrail.wire.base import SIDE, Notice, WireRequest
from guardrail.wire.channels import OTHER, PROVIDER, Reading
from guardrail.wire.json import strings
from guardrail.wire.openai_common import (
    ENVELOPE,
    HARMLESS,
    choice_count,
    choice_index,
    error_body,
    model_of,
    read_logprobs,
    wants_usage,
)
from guardrail.wire.sse import write_event
from guardrail.wire.stream import DONE, SseStream, object_at

__all__ = ["ChatStream", "SentChoice", "choices_of", "read_envelope"]

_REASONING = ("reasoning_content", "reasoning", "thinking")
_SIDE_REASONING = ("reasoning_details", "thinking_blocks")
_MESSAGE = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "audio", "annotations",
     PROVIDER, *_REASONING, *_SIDE_REASONING}
)  # fmt: skip
_CHUNK = HARMLESS | {"choices", PROVIDER}
_CHOICE = frozenset(
    {"index", "delta", "message", "finish_reason", "native_finish_reason", "stop_reason",
     "logprobs", "content_filter_results", "content_filter_offsets", "token_ids", PROVIDER}
)  # fmt: skip


def read_envelope(payload: Mapping[str, Any], reading: Reading) -> None:
    """Add what an answer or chunk says beside its choices.

    Args:
        payload: The answer or chunk.
        reading: Takes the texts.
    """
    for field in ("error", PROVIDER):
        reading.side(0, ChannelKind.TEXT, payload.get(field), OTHER)


def choices_of(payload: Mapping[str, Any], reading: Reading) -> list[tuple[int, dict[str, Any]]]:
    """Return the choices of an answer or chunk by index; others make the frame opaque.

    Args:
        payload: The answer or chunk.
        reading: Marked opaque where a choice has no sane shape.
    """
    choices = payload.get("choices")
    if not isinstance(choices, list):
        reading.opaque = reading.opaque or choices is not None
        return []
    found: list[tuple[int, dict[str, Any]]] = []
    for place, choice in enumerate(choices):
        index = choice_index(choice, place) if isinstance(choice, dict) else None
        if index is None:
            reading.opaque = True
        else:
            found.append((index, choice))
    return found


def _read_choices(payload: Mapping[str, Any], reading: Reading) -> list[int]:
    """Read the choices of an answer or chunk.

    Args:
        payload: The answer or chunk.
        reading: Takes the texts.

    Returns:
        Indices of choices that have a finish reason.
    """
    finished: list[int] = []
    for index, choice in choices_of(payload, reading):
        reading.check(choice, _CHOICE)
        for name in ("delta", "message"):
            message = choice.get(name)
            if isinstance(message, dict):
                _message(index, message, reading)
            else:
                reading.opaque = reading.opaque or message is not None
        reading.side(index, ChannelKind.TEXT, choice.get(PROVIDER), OTHER)
        read_logprobs(index, choice.get("logprobs"), reading)
        if choice.get("finish_reason"):
            finished.append(index)
    return finished


def _message(index: int, message: dict[str, Any], reading: Reading) -> None:
    reading.check(message, _MESSAGE)
    said: set[str] = set()
    for field in _REASONING:  # some servers send the same piece under two names
        text = message.get(field)
        if not (isinstance(text, str) and text in said):
            reading.text(index, ChannelKind.REASONING, text)
        if isinstance(text, str):
            said.add(text)
    for field in _SIDE_REASONING:
        reading.side(index, ChannelKind.REASONING, message.get(field))
    _content(index, message.get("content"), reading)
    reading.text(index, ChannelKind.REFUSAL, message.get("refusal"))
    reading.side(index, ChannelKind.TEXT, message.get("annotations"), SIDE + 1)
    reading.side(index, ChannelKind.TEXT, message.get(PROVIDER), OTHER)
    _calls(index, message, reading)
    audio = message.get("audio")
    if isinstance(audio, dict):
        reading.text(index, ChannelKind.TEXT, audio.get("transcript"), SIDE + 2)
        reading.check(audio, ("id", "transcript"))  # sound cannot be judged


def _content(index: int, content: object, reading: Reading) -> None:
    if not isinstance(content, list):
        reading.text(index, ChannelKind.TEXT, content)
        return
    for part in content:  # Mistral streams parts of text and thinking
        if not isinstance(part, dict):
            reading.opaque = True
            continue
        reading.check(part, ("type", "text", "thinking", "refusal"))
        reading.text(index, ChannelKind.TEXT, part.get("text"))
        reading.text(index, ChannelKind.REFUSAL, part.get("refusal"))
        thinking = part.get("thinking")
        reading.joined(index, ChannelKind.REASONING, strings(thinking, ("type",)), by="")


def _calls(index: int, message: dict[str, Any], reading: Reading) -> None:
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        reading.opaque = True
        return
    own: list[object] = []
    for place, call in enumerate(calls or ()):
        number = call.get("index", place) if isinstance(call, dict) else None
        if type(number) is not int or not 0 <= number < SIDE:
            reading.opaque = True
            continue
        reading.check(call, ("id", "index", "type", "function", "custom", PROVIDER))
        own.append(call.get(PROVIDER))
        for field, argument in (("function", "arguments"), ("custom", "input")):
            own.append(_function(index, number, call.get(field), argument, reading))
    own.append(_function(index, 0, message.get("function_call"), "arguments", reading))
    reading.side(index, ChannelKind.TEXT, own, OTHER)  # once: it looks through all texts


def _function(index: int, number: int, value: object, argument: str, reading: Reading) -> object:
    """Read what is called with what; return what a provider says beside it."""
    if not isinstance(value, dict):
        reading.opaque = reading.opaque or value is not None
        return None
    reading.check(value, ("name", argument, PROVIDER))
    reading.name(index, value.get("name"), number)
    reading.arguments(index, value.get(argument), number)
    return value.get(PROVIDER)


@dataclass(slots=True)
class SentChoice:
    """What the client has of one choice."""

    text: bool = False
    finished: bool = False


class ChatStream(SseStream):
    """One streamed chat completion; completions differ in how a choice looks.

    Args:
        request: The request that it answers.
    """

    object_name = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    __slots__ = (
        "_choices", "_done", "_ended", "_envelope", "_finished", "_request", "_usage",
        "_usage_sent",
    )  # fmt: skip

    def __init__(self, request: WireRequest) -> None:
        super().__init__()
        self._request = request
        self._envelope: dict[str, Any] = {}
        self._choices: dict[int, SentChoice] = {}
        self._usage: dict[str, Any] | None = None
        self._usage_sent = False
        self._done = False
        self._finished: list[int] = []
        self._ended: set[int] = set()

    @staticmethod
    def read_choices(payload: Mapping[str, Any], reading: Reading) -> list[int]:
        """Read the choices of a chunk; return those that have finished."""
        return _read_choices(payload, reading)

    def said(self, index: int, message: str, sent: SentChoice | None) -> list[dict[str, Any]]:
        """Return the choices, one a chunk, that tell the client of a block.

        Args:
            index: Choice index.
            message: What the client is told.
            sent: What the client has of the choice.
        """
        delta: dict[str, Any] = {} if sent else {"role": "assistant"}
        delta["refusal" if sent and sent.text else "content"] = message
        return [self.last(index, None, delta), self.last(index, "content_filter")]

    def last(
        self, index: int, reason: str | None, delta: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a choice with a finish reason.

        Args:
            index: Choice index.
            reason: The finish reason.
            delta: What it adds.
        """
        return {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": reason}

    def read(self, data: dict[str, Any], reading: Reading) -> tuple[Channel, ...]:
        """Read one chunk; reasoning ends where the answer starts, a call where the next does."""
        reading.check(data, _CHUNK)
        read_envelope(data, reading)
        self._finished = self.read_choices(data, reading)
        self._ended.update(self._finished)
        if len(self._ended) >= choice_count(self._request.payload):
            self.finish()  # some servers close without the end mark
        for key in ENVELOPE:
            if data.get(key):
                self._envelope.setdefault(key, data[key])
        self._usage = object_at(data, "usage") or self._usage
        touched = [read.channel for read in reading.texts if read.channel.sub < SIDE]
        ends: tuple[Channel, ...] = ()
        for channel in touched:
            ends += self.channels.end(lambda c, new=channel: _gives_way(c, new), early=True)  # type: ignore[misc]
        return ends

    def ended(self) -> tuple[Channel, ...]:
        """Return the channels of choices that have finished."""
        finished = self._finished
        return self.channels.end(lambda c: c.index in finished) if finished else ()

    def sent_payload(self, payload: dict[str, Any]) -> None:
        """Note which choices the client has seen text and the end of."""
        self._usage_sent = self._usage_sent or bool(payload.get("usage"))
        reading = Reading()
        finished = self.read_choices(payload, reading)
        for index, _ in choices_of(payload, reading):
            sent = self._choices.setdefault(index, SentChoice())
            sent.finished = sent.finished or index in finished
        for channel in (read.channel for read in reading.texts):
            if channel.kind is ChannelKind.TEXT and channel.sub < SIDE:
                self._choices[channel.index].text = True

    def sent_done(self) -> None:
        """Note that the client has the end mark."""
        self._done = True

    def refusal(self, notice: Notice) -> bytes:
        """Return the closing chunks of a blocked answer; see `WireStream.refusal`.

        The notice is the text of a choice that has none yet, and a refusal beside text that was
        sent. Arguments of open tool calls stay as they are: completing them would turn a cut
        command into one that runs.
        """
        choices = [
            choice
            for index in self._unfinished()
            for choice in self.said(index, notice.message, self._choices.get(index))
        ]
        return self._close([{"choices": [choice]} for choice in choices], notice)

    def failure(self, message: str) -> bytes:
        """Return the closing chunk of a broken answer; see `WireStream.failure`.

        An ``error`` object is what the official clients raise on; ``finish_reason`` is for those
        that read choices only.
        """
        unfinished = self._unfinished()
        if not unfinished:
            return self._close([], Notice(message))
        error = error_body(message, type_="server_error", code="upstream_error")
        choices = [self.last(index, "error") for index in unfinished]
        return self._close([{"choices": choices, **error}], Notice(message))

    def _unfinished(self) -> list[int]:
        if self._done:
            return []
        indices = sorted({*range(choice_count(self._request.payload)), *self._choices})
        return [i for i in indices if not (i in self._choices and self._choices[i].finished)]

    def _close(self, chunks: list[dict[str, Any]], notice: Notice) -> bytes:
        if self._done:
            return b""
        if self._usage and not self._usage_sent and wants_usage(self._request.payload):
            chunks = [*chunks, {"choices": [], "usage": self._usage}]
        head = self._head(notice)
        return b"".join(write_event({**head, **c}) for c in chunks) + write_event(DONE)

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Return a chunk without choices that carries data; see `WireStream.event`."""
        return write_event({**self._head(Notice("")), "choices": [], name: data})

    def _head(self, notice: Notice) -> dict[str, Any]:
        return {
            "id": f"{self.id_prefix}{notice.request_id}",
            "created": notice.created,
            "model": model_of(self._request),
            **self._envelope,
            "object": self.object_name,
        }


def _gives_way(channel: Channel, new: Channel) -> bool:
    """Return whether text of ``new`` means that ``channel`` is over."""
    if channel.index != new.index or channel == new or channel.sub >= SIDE:
        return False
    if channel.kind is ChannelKind.REASONING:
        return new.kind is not ChannelKind.REASONING
    later = new.kind is ChannelKind.TOOL_ARGUMENTS
    return later and channel.kind in (ChannelKind.TEXT, ChannelKind.TOOL_ARGUMENTS)
