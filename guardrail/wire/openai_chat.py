"""OpenAI chat completions: requests, whole answers, refusals.

Written from https://platform.openai.com/docs/api-reference/chat and from what compatible
servers add to it: ``reasoning_content`` (vLLM, llama.cpp, DeepSeek), ``reasoning`` and
``reasoning_details`` (OpenRouter).
"""

from __future__ import annotations

from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Role
from guardrail.wire.base import SIDE, Notice, WireRequest
from guardrail.wire.channels import Reading
from guardrail.wire.json import is_plain, optional, strict_keys
from guardrail.wire.openai_chat_stream import ChatStream
from guardrail.wire.openai_choices import OpenAIChoices
from guardrail.wire.parts import read_parts, spoken
from guardrail.wire.segments import SegmentList, read_body, request_of

__all__ = ["OpenAIChat"]

_FIELDS = frozenset(
    {"messages", "model", "stream", "tools", "functions", "response_format", "prediction"}
)
_SETTINGS = _FIELDS | {
    "audio", "frequency_penalty", "function_call", "logit_bias", "logprobs", "max_tokens",
    "max_completion_tokens", "metadata", "modalities", "n", "parallel_tool_calls",
    "presence_penalty", "prompt_cache_key", "reasoning", "reasoning_effort",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream_options",
    "temperature", "tool_choice", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
}  # fmt: skip
_MESSAGE = frozenset(
    {"role", "content", "name", "refusal", "tool_calls", "function_call", "audio",
     "reasoning_content", "reasoning", "thinking"}
)  # fmt: skip
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_REASONING = ("reasoning_content", "reasoning", "thinking")


class OpenAIChat(OpenAIChoices):
    """``/v1/chat/completions``."""

    name = "openai.chat"
    paths = ("/v1/chat/completions",)
    main_field = "messages"
    object_name = "chat.completion"
    stream = ChatStream

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def refused_choice(self, notice: Notice) -> dict[str, Any]:
        """Return a refused choice; see `OpenAIChoices`."""
        message = {"role": "assistant", "content": notice.message, "refusal": None}
        return {"message": message, "logprobs": None}


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    messages = optional(payload, "messages", list)
    if not messages:
        raise WireError("messages must be a list with at least one message", param="messages")
    for place, message in enumerate(messages):
        path = f"messages[{place}]"
        if not isinstance(message, dict):
            raise WireError(f"{path} must be an object", param=path)
        _message(message, path, out)
    for field in ("tools", "functions", "response_format"):
        out.definitions(payload.get(field), field)
    prediction = optional(payload, "prediction", dict)
    if prediction:
        read_parts(prediction.get("content"), "prediction.content", Role.TEXT, -1, out)
    out.unknown(payload, _SETTINGS, Role.TEXT)


def _message(message: dict[str, Any], path: str, out: SegmentList) -> None:
    strict_keys(message, _MESSAGE, path)
    word = message.get("role")
    if not isinstance(word, str):
        raise WireError(f"{path}.role must be a string", param=f"{path}.role")
    role = _ROLES.get(word, Role.TEXT)
    turn = out.turn(role)
    for field in _REASONING:
        text = message.get(field)
        if isinstance(text, str):
            out.add(text, role, ChannelKind.REASONING, turn=turn)
    read_parts(message.get("content"), f"{path}.content", role, turn, out)
    refusal = optional(message, "refusal", str, path)
    out.add(refusal or "", role, ChannelKind.REFUSAL, turn=turn)
    _calls(message, path, role, turn, out)
    if message.get("audio"):
        out.skip(f"{path}.audio", "audio")
        for text in spoken(message["audio"])[0]:
            out.add("" if is_plain(text) else text, role, turn=turn, sub=SIDE)
    name = optional(message, "name", str, path)
    out.unknown({"name": name}, (), role, turn=turn)
    out.unknown(message, _MESSAGE, role, turn=turn)  # an id is plain; a sentence is no id


def _calls(message: dict[str, Any], path: str, role: Role, turn: int, out: SegmentList) -> None:
    reading = Reading()
    for place, call in enumerate(optional(message, "tool_calls", list, path) or []):
        where = f"{path}.tool_calls[{place}]"
        if not isinstance(call, dict):
            raise WireError(f"{where} must be an object", param=where)
        strict_keys(call, ("function", "custom", "type"), where)
        out.unknown(call, ("function", "custom"), role, turn=turn)
        for field, argument in (("function", "arguments"), ("custom", "input")):
            function = optional(call, field, dict, where) or {}
            strict_keys(function, ("name", argument), f"{where}.{field}")
            out.unknown(function, ("name", argument), role, turn=turn)
            reading.name(turn, function.get("name"), place)
            reading.arguments(turn, function.get(argument), place)
    function = optional(message, "function_call", dict, path) or {}
    reading.name(turn, function.get("name"))
    reading.arguments(turn, function.get("arguments"))
    if reading.opaque:
        raise WireError(f"{path}: tool names must be strings", param=path)
    for read in reading.texts:
        out.add(read.text, role, read.channel.kind, turn=turn, sub=read.channel.sub)
