"""Which codec a stream gets by its first item."""

from __future__ import annotations

import pytest

from guardrail import Guardrail, GuardrailBlocked
from guardrail.wire.sse import write_event

HEAD = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
LONG = "the quick brown fox jumps over the lazy dog and runs on and on " * 4


def events(*texts: str) -> list[bytes]:
    """Events of Anthropic's, written, as LiteLLM hands them to plug-ins for ``/v1/messages``."""
    block = {"type": "text", "text": ""}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in texts
    ]
    ends = [{"type": "content_block_stop", "index": 0}, {"type": "message_stop"}]
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    every = [{"type": "message_start", "message": HEAD}, start, *deltas, *ends]
    return [write_event(event, name=str(event["type"])) for event in every]


def test_written_events_of_a_known_api_are_judged(rail: Guardrail) -> None:
    fine = events(LONG, "fine")
    assert b"".join(rail.check_stream(fine)) == b"".join(fine)
    out: list[bytes] = []
    with pytest.raises(GuardrailBlocked):
        out.extend(rail.check_stream(events(LONG, "BAD", LONG)))
    assert b"BAD" not in b"".join(out)


@pytest.mark.parametrize("first", [b"BAD", b"\xff", b"data: {not json}\n\n", b"data: {}\n\n"])
def test_other_bytes_are_refused(rail: Guardrail, first: bytes) -> None:
    with pytest.raises(TypeError):
        list(rail.check_stream([first]))
