"""What chat and completions share: an answer is a list of choices, and so is a refusal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

from guardrail.types import ChannelKind, Frame
from guardrail.wire.base import Notice, RefusalStyle, Reply, WireRequest
from guardrail.wire.channels import PROVIDER, Reading, whole_frame
from guardrail.wire.json import is_plain, parse_object, strings
from guardrail.wire.openai_chat_stream import ChatStream, read_envelope
from guardrail.wire.openai_common import (
    CHOICE_LIMIT,
    ENVELOPE,
    HARMLESS,
    OpenAIErrors,
    json_reply,
    kept,
    listed,
    model_of,
    refusal_error,
    refused_other,
    stream_reply,
)

__all__ = ["OpenAIChoices"]

_ANSWER = HARMLESS | {
    "choices", "input_user", "metadata", "request_id", "response_format", "tool_choice", "tools",
    PROVIDER,
}  # fmt: skip
"""Fields of an answer; what the API keeps of a request stands beside it when it is fetched."""
_BESIDE = ("id", "name", "content_parts", "tool_call_id")
"""What a kept message has beside its content; the parts repeat it, images apart."""
_MEDIA = frozenset({"type", "url", "detail", "data", "format", "file_data", "file_id"})


class OpenAIChoices(OpenAIErrors, ABC):
    """The half of `Wire` that speaks of answers, for dialects with choices.

    A dialect names its main field, the object of a whole answer and the decoder of a streamed
    one, and says what a refused choice holds.
    """

    main_field: ClassVar[str]
    object_name: ClassVar[str]
    stream: ClassVar[type[ChatStream]]

    @abstractmethod
    def refused_choice(self, notice: Notice) -> dict[str, Any]:
        """Return a refused choice without its index and its finish reason."""

    def read_response(self, body: bytes) -> Frame:
        """Read a whole answer; see `Wire.read_response`."""
        payload = parse_object(body, what="answer", unique=False)
        reading = Reading()
        items = listed(payload, reading)
        if items is None:
            self._read_answer(payload, reading)
        for place, item in enumerate(items or ()):
            own = Reading()
            self._read_kept(item, own)
            reading.opaque = reading.opaque or own.opaque
            start = place * CHOICE_LIMIT  # texts of two answers are not one text
            for read in own.texts:
                moved = replace(read.channel, index=start + read.channel.index)
                reading.texts.append(replace(read, channel=moved))
        return whole_frame(body, reading, payload)

    def _read_answer(self, payload: dict[str, Any], reading: Reading) -> None:
        reading.check(payload, _ANSWER)
        read_envelope(payload, reading)
        self.stream.read_choices(payload, reading)

    def _read_kept(self, item: object, reading: Reading) -> None:
        """Read one item of a list: an answer, or a message of the request that it answered."""
        if not isinstance(item, dict):
            reading.opaque = True
        elif "choices" in item:
            self._read_answer(item, reading)
        else:
            message = {key: value for key, value in item.items() if key not in _BESIDE}
            self.stream.read_choices({"choices": [{"message": message}]}, reading)
            beside = [item.get(key) for key in _BESIDE]
            told = [text for text in strings(beside, _MEDIA) if not is_plain(text)]
            reading.side(0, ChannelKind.TEXT, told)

    def open_stream(self, request: WireRequest) -> ChatStream:
        """Return the decoder for a streamed answer."""
        return self.stream(request)

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:
        """Return the answer to a refused request; see `Wire.input_refusal`."""
        if notice.style is not RefusalStyle.MESSAGE_200:
            return refusal_error(notice, self.main_field)
        if request is not None and request.stream:
            return stream_reply(self.stream(request).refusal(notice))
        return json_reply(self._refused({}, 1, request, notice))

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:
        """Return the answer in place of a refused one; see `Wire.output_refusal`."""
        if refusal := refused_other(body, notice):
            return refusal
        fields = kept(body, (*ENVELOPE, "usage", "choices"))
        choices = fields.pop("choices", None)
        count = len(choices) if isinstance(choices, list) else 1
        return json_reply(self._refused(fields, min(max(count, 1), CHOICE_LIMIT), request, notice))

    def _refused(
        self, fields: dict[str, Any], count: int, request: WireRequest | None, notice: Notice
    ) -> dict[str, Any]:
        choice = {**self.refused_choice(notice), "finish_reason": "content_filter"}
        return {
            "id": f"{self.stream.id_prefix}{notice.request_id}",
            "object": self.object_name,
            "created": notice.created,
            "model": model_of(request),
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            **fields,
            "choices": [{"index": index, **choice} for index in range(count)],
        }
