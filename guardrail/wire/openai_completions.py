"""OpenAI completions, the older dialect: a prompt in, text out.

Written from https://platform.openai.com/docs/api-reference/completions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrail.errors import WireError
from guardrail.types import ChannelKind, Role
from guardrail.wire.base import Notice, WireRequest
from guardrail.wire.channels import Reading
from guardrail.wire.json import optional
from guardrail.wire.openai_chat_stream import ChatStream, SentChoice, choices_of
from guardrail.wire.openai_choices import OpenAIChoices
from guardrail.wire.openai_common import read_logprobs
from guardrail.wire.segments import SegmentList, read_body, request_of

__all__ = ["CompletionStream", "OpenAICompletions", "read_texts"]

_FIELDS = frozenset({"prompt", "suffix", "model", "stream", "prompt_embeds"})
_SETTINGS = _FIELDS | {
    "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
    "presence_penalty", "seed", "stop", "stream_options", "temperature", "top_p", "user",
}  # fmt: skip
_CHOICE = frozenset(
    {"index", "text", "reasoning_content", "reasoning", "finish_reason", "stop_reason", "logprobs",
     "content_filter_results", "token_ids", "prompt_token_ids"}
)  # fmt: skip


class CompletionStream(ChatStream):
    """One streamed completion."""

    object_name = "text_completion"
    id_prefix = "cmpl-"

    __slots__ = ()

    @staticmethod
    def read_choices(payload: Mapping[str, Any], reading: Reading) -> list[int]:
        """Read the choices of a chunk; return those that have finished."""
        return _read_choices(payload, reading)

    def said(self, index: int, message: str, sent: SentChoice | None) -> list[dict[str, Any]]:
        """Return the notice as text where none was sent: the dialect has no refusals."""
        text = "" if sent and sent.text else message
        return [{**self.last(index, "content_filter"), "text": text}]

    def last(
        self,
        index: int,
        reason: str | None,
        delta: dict[str, Any] | None = None,  # noqa: ARG002  (the dialect has text instead)
    ) -> dict[str, Any]:
        """Return a choice with a finish reason and no text."""
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}


class OpenAICompletions(OpenAIChoices):
    """``/v1/completions``."""

    name = "openai.completions"
    paths = ("/v1/completions",)
    main_field = "prompt"
    object_name = "text_completion"
    stream = CompletionStream

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def refused_choice(self, notice: Notice) -> dict[str, Any]:
        """Return a refused choice; see `OpenAIChoices`."""
        return {"text": notice.message, "logprobs": None}


def _read_choices(payload: Mapping[str, Any], reading: Reading) -> list[int]:
    finished: list[int] = []
    for index, choice in choices_of(payload, reading):
        reading.check(choice, _CHOICE)
        for field in ("reasoning_content", "reasoning"):
            reading.text(index, ChannelKind.REASONING, choice.get(field))
        reading.text(index, ChannelKind.TEXT, choice.get("text"))
        read_logprobs(index, choice.get("logprobs"), reading)
        if choice.get("finish_reason"):
            finished.append(index)
    return finished


def read_texts(value: object, field: str, out: SegmentList) -> None:
    """Read a string, a list of strings, or token numbers, which are noted as skipped.

    Args:
        value: The field.
        field: Its name.
        out: Takes the texts, each a turn of the user.

    Raises:
        WireError: Anything else.
    """
    items = value if isinstance(value, list) else [value]
    if items and all(type(item) is int for item in items):
        out.skip(field, "tokens", opaque=bool(items))
        return
    for place, item in enumerate(items):
        path = f"{field}[{place}]" if isinstance(value, list) else field
        if isinstance(item, str):
            out.add(item, Role.USER, turn=out.turn(Role.USER))
        elif isinstance(item, list) and all(type(token) is int for token in item):
            out.skip(path, "tokens", opaque=True)
        else:
            raise WireError(f"{path} must be a string or a list of token numbers", param=path)


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    if payload.get("prompt_embeds"):
        out.skip("prompt_embeds", "embeddings", opaque=True)
    elif payload.get("prompt") is None:
        raise WireError("prompt must be a string or a list of strings", param="prompt")
    if payload.get("prompt") is not None:
        read_texts(payload["prompt"], "prompt", out)
    suffix = optional(payload, "suffix", str)
    out.add(suffix or "", Role.USER, sub=1, always=True)
    out.unknown(payload, _SETTINGS, Role.TEXT)
