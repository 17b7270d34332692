"""The API dialects: texts out of requests and answers, refusals into them.

One file per dialect behind the `Wire` protocol, all in the literal dict `WIRES`. This room knows
neither asyncio nor models nor policies.
"""

from __future__ import annotations

from guardrail.wire.anthropic_messages import AnthropicMessages
from guardrail.wire.base import (
    EVENT_STREAM,
    JSON,
    SIDE,
    Notice,
    RefusalStyle,
    Reply,
    Wire,
    WireRequest,
    WireStream,
)
from guardrail.wire.channels import read_error
from guardrail.wire.openai_chat import OpenAIChat
from guardrail.wire.openai_completions import OpenAICompletions
from guardrail.wire.openai_conversations import OpenAIConversations
from guardrail.wire.openai_embeddings import OpenAIEmbeddings
from guardrail.wire.openai_responses import OpenAIResponses

__all__ = [
    "EVENT_STREAM",
    "JSON",
    "SIDE",
    "WIRES",
    "Notice",
    "RefusalStyle",
    "Reply",
    "Wire",
    "WireRequest",
    "WireStream",
    "read_error",
    "wire_for",
]

WIRES: dict[str, Wire] = {
    "openai.chat": OpenAIChat(),
    "openai.completions": OpenAICompletions(),
    "openai.responses": OpenAIResponses(),
    "openai.conversations": OpenAIConversations(),
    "openai.embeddings": OpenAIEmbeddings(),
    "anthropic.messages": AnthropicMessages(),
}
"""Every dialect by name."""


def wire_for(path: str) -> Wire | None:
    """Return the dialect spoken at an HTTP path, or None.

    Args:
        path: The path without query; a trailing slash does not matter.
    """
    wanted = path.rstrip("/")
    return next((wire for wire in WIRES.values() if wanted in wire.paths), None)
