"""LiteLLM's Generic Guardrail API: a LiteLLM proxy asks, over HTTP, whether a text may pass.

Written from https://docs.litellm.ai/docs/adding_provider/generic_guardrail_api. Not a dialect to
relay: functions that read the question and write the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from guardrail.errors import WireError
from guardrail.types import Channel, Direction, Role, Segment
from guardrail.wire.base import WireRequest
from guardrail.wire.json import clean, dump, optional, parse_object
from guardrail.wire.openai_chat import OpenAIChat

__all__ = ["LITELLM_PATH", "LiteLLMQuestion", "read_litellm", "write_litellm"]

LITELLM_PATH: Final = "/beta/litellm_basic_guardrail_api"
"""Where LiteLLM asks, below the ``api_base`` of its configuration."""

MAX_TEXTS: Final = 4096
"""Bound on the texts of one question."""

MAX_SEARCHED_CHARS: Final = 4_000_000
"""Bound on what is searched for texts that are no message of their own, but part of one."""

_DIRECTIONS: Final = {"request": Direction.INPUT, "response": Direction.OUTPUT}


@dataclass(frozen=True, slots=True)
class LiteLLMQuestion:
    """One question.

    Args:
        direction: Which way the texts travel.
        segments: The texts to judge, in order.
        texts: The texts as they came, which an answer may replace.
    """

    direction: Direction
    segments: tuple[Segment, ...]
    texts: tuple[str, ...] = ()


def read_litellm(body: bytes) -> LiteLLMQuestion:
    """Read a question.

    Structured messages say who speaks and which turn is the latest; texts that they do not
    contain are judged as the user's.

    Args:
        body: The bytes as they came.

    Raises:
        WireError: Not JSON, or a field has the wrong type.
    """
    payload = parse_object(body, what="request body")
    kind = optional(payload, "input_type", str)
    direction = _DIRECTIONS.get(kind or "")
    if direction is None:
        raise WireError("input_type must be 'request' or 'response'", param="input_type")
    texts = optional(payload, "texts", list) or []
    if len(texts) > MAX_TEXTS or not all(isinstance(text, str) for text in texts):
        raise WireError(f"texts must be a list of at most {MAX_TEXTS} strings", param="texts")
    structured, prompt = _structured(payload)
    calls = _calls(payload)
    if direction is Direction.OUTPUT:
        answers = tuple(
            Segment(clean(text), Role.ASSISTANT, Channel(place), prompt)
            for place, text in enumerate(texts)
            if text
        )
        made = tuple(replace(call, prompt=prompt) for call in calls)
        return LiteLLMQuestion(direction, answers + made, tuple(texts))
    extra = tuple(Segment(text, Role.USER) for text in _unseen(texts, structured))
    known = {segment.text for segment in structured if segment.turn >= 0}
    extra += tuple(call for call in calls if call.text not in known)
    return LiteLLMQuestion(direction, structured + extra, tuple(texts))


def _unseen(texts: Sequence[str], segments: Sequence[Segment]) -> Iterator[str]:
    """Yield the texts that no message contains, or of which the bound lets nobody tell.

    What a tool's definition says may be out of the policy's scope: no text passes for it.
    """
    seen = dict.fromkeys(segment.text for segment in segments if segment.turn >= 0)
    whole = "\ud800".join(seen)  # no clean text has half a pair, so none spans two
    left = MAX_SEARCHED_CHARS
    for text in map(clean, filter(None, texts)):
        if text in seen:
            continue
        left -= len(whole)
        if left < 0 or text not in whole:
            yield text


def _structured(payload: Mapping[str, Any]) -> tuple[tuple[Segment, ...], str | None]:
    """Read messages and tools; where messages are not OpenAI's, the texts alone must do."""
    messages, tools = payload.get("structured_messages"), payload.get("tools") or None
    if isinstance(messages, list) and messages:
        try:
            request = _chat(messages, tools)
        except WireError:
            pass
        else:
            return request.segments, request.prompt
    return _chat([{"role": "user"}], tools).segments, None


def _calls(payload: Mapping[str, Any]) -> tuple[Segment, ...]:
    """Read calls of tools: in questions about requests messages may be without them, or absent."""
    calls = optional(payload, "tool_calls", list)
    return _chat([{"role": "assistant", "tool_calls": calls}]).segments if calls else ()


def _chat(messages: list[Any], tools: object = None) -> WireRequest:
    return OpenAIChat().read_request(dump({"messages": messages, "tools": tools}))


def write_litellm(blocked_reason: str | None, texts: Sequence[str] | None = None) -> bytes:
    """Write the answer.

    Args:
        blocked_reason: What the user is told, or None where the texts may pass.
        texts: The question's texts as they may pass, or None where they may as they are.
    """
    if blocked_reason is None and texts is not None:
        return dump({"action": "GUARDRAIL_INTERVENED", "texts": list(texts)})
    if blocked_reason is None:
        return dump({"action": "NONE"})
    return dump({"action": "BLOCKED", "blocked_reason": blocked_reason})
