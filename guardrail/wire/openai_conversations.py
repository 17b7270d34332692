"""OpenAI Conversations: what is put into a conversation that the API keeps, and taken out of it.

Written from https://platform.openai.com/docs/api-reference/conversations. Items are those of
Responses, and so is the reading of them. No call asks for an answer of the model, so there is
nothing to refuse in words: a client must not take the notice for the conversation.
"""

from __future__ import annotations

from typing import Any

from guardrail.errors import WireError
from guardrail.types import Role
from guardrail.wire.base import Notice, Reply, WireRequest
from guardrail.wire.json import optional
from guardrail.wire.openai_common import refusal_error
from guardrail.wire.openai_responses import OpenAIResponses, read_items
from guardrail.wire.segments import SegmentList, read_body, request_of

__all__ = ["OpenAIConversations"]

_FIELDS = frozenset({"items", "metadata"})


class OpenAIConversations(OpenAIResponses):
    """``/v1/conversations``."""

    name = "openai.conversations"
    paths = ("/v1/conversations",)

    def read_request(self, body: bytes) -> WireRequest:
        """Read a request body; see `Wire.read_request`."""
        return request_of(body, read_body(body, _FIELDS), _read)

    def input_refusal(self, request: WireRequest | None, notice: Notice) -> Reply:  # noqa: ARG002
        """Return an error in any style; see `Wire.input_refusal`."""
        return refusal_error(notice, "items")

    def output_refusal(self, request: WireRequest, body: bytes, notice: Notice) -> Reply:  # noqa: ARG002
        """Return an error for items that cannot be passed on; see `Wire.output_refusal`."""
        return refusal_error(notice, "items")


def _read(payload: dict[str, Any], out: SegmentList) -> None:
    items = optional(payload, "items", list)
    if items is None and not _FIELDS.issuperset(payload):
        raise WireError("items must be a list of items", param="items")
    out.fresh = True  # none of them was sent before: later requests only name the conversation
    read_items(items or [], "items", out)
    out.unknown(payload, ("items",), Role.TEXT)
