"""Peers that send anything: a `WireError`, an opaque frame or a reading, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from guardrail.errors import WireError
from guardrail.wire import WIRES, Notice, RefusalStyle
from guardrail.wire.sse import write_event
from tests.wire.samples import REQUESTS, STREAMS, WHOLE

ODD = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "some text", [], {}, [[]], [None], ["x y"], {"a": "x y"},
     {"type": "text", "text": []}, {"type": []}, [{"type": {}}], "\ud800", {"\ud800 x": 1}]
)  # fmt: skip

RICH = {
    "openai.chat": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "n"},
            {
                "role": "assistant",
                "content": "b",
                "refusal": None,
                "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                "function_call": {"name": "f", "arguments": "{}"},
            },
            {"role": "tool", "content": "c"},
        ],
        "tools": [{"function": {"description": "does a thing"}}],
        "prediction": {"content": "p q"},
        "stream_options": {"include_usage": True},
        "n": 2,
    },
    "openai.completions": {"prompt": ["a", [1, 2]], "suffix": "c", "n": 1},
    "openai.embeddings": {"input": ["a", [1]]},
    "openai.responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "b"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "output": [{"type": "input_text", "text": "a"}]},
            {"type": "computer_call_output", "output": {"type": "computer_screenshot"}},
        ],
        "instructions": "be kind",
        "prompt": {"variables": {"a": "b c"}},
        "tools": [],
    },
    "openai.conversations": {
        "items": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "program_output", "call_id": "c", "result": "a b"},
        ],
        "metadata": {"topic": "x y"},
    },
    "anthropic.messages": {
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "input": {"a": 1}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "r"}]},
                    {"type": "document", "source": {"type": "text", "data": "d"}},
                    {"type": "thinking", "thinking": "t"},
                ],
            },
        ],
        "tools": [{"description": "x y"}],
    },
}

NOTICE = Notice("No.", ("hate",), "r", RefusalStyle.MESSAGE_200)
fuzz = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = (
        value.items() if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, child in items:
        yield from places(child, (*path, key))


def mutate(draw: st.DataObject, value: Any) -> Any:
    """Replace one or two places of a value by something odd."""
    changed = copy.deepcopy(value)
    for _ in range(draw.draw(st.integers(1, 2))):
        path = draw.draw(st.sampled_from(list(places(changed)) or [()]))
        if not path:
            break
        node = changed
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = copy.deepcopy(draw.draw(ODD))
    return changed


def test_every_dialect_has_a_rich_request() -> None:
    assert set(RICH) == set(WIRES)
    for wire, payload in RICH.items():
        assert WIRES[wire].read_request(json.dumps(payload).encode()).segments


@pytest.mark.parametrize("wire", WIRES)
@fuzz
@given(draw=st.data())
def test_odd_requests_are_read_or_refused(wire: str, draw: st.DataObject) -> None:
    body = json.dumps(mutate(draw, RICH[wire])).encode()
    try:
        request = WIRES[wire].read_request(body)
    except WireError:
        return
    for segment in request.segments:
        segment.text.encode("utf-8")
    assert WIRES[wire].input_refusal(request, NOTICE).body
    assert WIRES[wire].open_stream(request).refusal(NOTICE)


@fuzz
@given(draw=st.data())
def test_odd_answers_are_read(draw: st.DataObject) -> None:
    recording = draw.draw(st.sampled_from(WHOLE))
    body = json.dumps(mutate(draw, json.loads(recording.data))).encode()
    frame = recording.dialect().read_response(body)
    for span in frame.spans:
        span.text.encode("utf-8")
    json.loads(recording.dialect().output_refusal(recording.request(), body, NOTICE).body)


@fuzz
@given(draw=st.data())
def test_odd_events_are_read_and_closed(draw: st.DataObject) -> None:
    recording = draw.draw(st.sampled_from(STREAMS))
    frames = recording.open().feed(recording.data)
    place = draw.draw(st.integers(0, len(frames) - 1))
    stream = recording.open()
    for number, frame in enumerate(frames):
        raw = frame.raw
        if number == place and isinstance(frame.payload, dict):
            raw = write_event(mutate(draw, frame.payload))
        for got in stream.feed(raw):
            assert got.raw == raw
            for span in got.spans:
                span.text.encode("utf-8")
            stream.sent(got)
        if number == place:
            break
    stream.flush()
    for closing in (stream.refusal(NOTICE), stream.failure("broke")):
        closing.decode()


@pytest.mark.parametrize("wire", REQUESTS)
def test_a_stream_of_noise_is_opaque_or_mute(wire: str) -> None:
    stream = WIRES[wire].open_stream(WIRES[wire].read_request(REQUESTS[wire]))
    noise = b"\x00\xff<html>\r\n\r\ndata: <b>\n\nevent: x\ndata: {}\n\ndata: 7\n\n"
    frames = stream.feed(noise)
    assert b"".join(frame.raw for frame in frames) == noise
    assert not any(frame.spans for frame in frames)
    assert not stream.complete()
