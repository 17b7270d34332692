"""Frames of odd shapes, channels and marks: what is text, what is opaque, what is neither."""

from __future__ import annotations

import json
import time

import pytest

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind
from guardrail.wire import WIRES, Notice
from guardrail.wire.channels import MAX_CHANNELS
from guardrail.wire.sse import write_event
from tests.wire.samples import RECORDINGS, REQUESTS, STREAMS, Recording, name, texts

NOTICE = Notice("This answer was withheld.", ("hate",), "req1", created=1700000000)
BLOCKED = {r.wire: r for r in STREAMS}

CHAT = BLOCKED["openai.chat"]


def chunk(**choice: object) -> bytes:
    return write_event({"id": "c", "choices": [{"index": 0, **choice}]})


@pytest.mark.parametrize(
    "event",
    [
        b"data: {not json}\n\n",
        b"data: [1]\n\n",
        b'data: {"choices":{"index":0}}\n\n',
        b'data: {"choices":[7]}\n\n',
        b'data: {"choices":[{"index":-1,"delta":{"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":true,"delta":{"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":"x"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":7}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"thoughts":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"text":"x"}]}\n\n',
        b'data: {"answer":"x"}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"audio":{"data":"UklGRg"}}}]}\n\n',
        b'data: {"choices":[]}\ndata: {"choices":[]}\n\n',
        b'data: {"id":"\xff"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_a_chunk_of_unknown_shape_is_opaque(event: bytes) -> None:
    (frame,) = CHAT.open().feed(event)
    assert frame.opaque
    assert frame.raw == event


@pytest.mark.parametrize("recording", list(BLOCKED.values()), ids=name)
def test_an_unknown_event_with_text_is_opaque_in_every_dialect(recording: Recording) -> None:
    payload = {"type": "new.event", "index": 0, "say": {"deep": ["some text"]}}
    (frame,) = recording.open().feed(write_event(payload, name="new.event"))
    assert frame.opaque


@pytest.mark.parametrize("wire", ["anthropic.messages", "openai.responses"])
def test_an_event_whose_name_belies_its_type_is_opaque(wire: str) -> None:
    payload = {"type": "ping"}
    (frame,) = BLOCKED[wire].open().feed(write_event(payload, name="message_start"))
    assert frame.opaque


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
        b'data: {"id":"c","system_fingerprint":"fp","choices":[]}\n\n',
    ],
)
def test_harmless_chunks_pass_without_text(event: bytes) -> None:
    (frame,) = CHAT.open().feed(event)
    assert not frame.opaque
    assert frame.spans == ()


@pytest.mark.parametrize("event", [b": hi\n\n", b"\n", b"event: ping\n\n", b"data:\n\n"])
def test_comments_and_empty_events_are_keepalives(event: bytes) -> None:
    (frame,) = CHAT.open().feed(event)
    assert frame.keepalive


def test_a_ping_is_a_keepalive_and_one_that_speaks_is_opaque() -> None:
    stream = BLOCKED["anthropic.messages"].open()
    quiet, loud = stream.feed(
        write_event({"type": "ping"}, name="ping")
        + write_event({"type": "ping", "say": "text"}, name="ping")
    )
    assert quiet.keepalive
    assert loud.opaque
    assert not loud.keepalive


def test_an_error_event_is_forwarded() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    (frame,) = BLOCKED["anthropic.messages"].open().feed(write_event(error, name="error"))
    assert not frame.opaque
    assert not frame.keepalive


def test_reasoning_ends_where_the_answer_starts() -> None:
    frames = CHAT.open().feed(
        chunk(delta={"reasoning_content": "hm"}) + chunk(delta={"content": "yes"})
    )
    assert frames[1].ends == (Channel(0, ChannelKind.REASONING),)


def test_a_channel_that_resumes_is_a_new_one_and_repeats_the_tail() -> None:
    stream = CHAT.open()
    frames = stream.feed(
        chunk(delta={"reasoning_content": "how to make a bo"})
        + chunk(delta={"content": "x"})
        + chunk(delta={"reasoning_content": "mb at home"})
        + chunk(delta={"content": "y"})
        + chunk(delta={"reasoning_content": " now"})
        + chunk(delta={}, finish_reason="stop")
    )
    first, resumed = frames[0].spans[0], frames[2].spans[0]
    assert first.channel != resumed.channel
    assert resumed.text == "how to make a bomb at home"
    assert [text for *_, text in resumed.strings()] == ["mb at home"]
    assert frames[3].ends == ()  # alternation is cut once only
    assert frames[4].spans[0].channel == resumed.channel
    assert resumed.channel in frames[5].ends


def test_spans_say_where_the_strings_of_their_frame_stand() -> None:
    notes = [{"type": "url_citation", "url_citation": {"title": "One", "url": "https://x.y/"}}]
    first, resumed = CHAT.open().feed(
        chunk(delta={"content": "a", "annotations": notes}, finish_reason="stop")
        + chunk(delta={"annotations": notes})
    )
    text, side = first.spans
    assert list(text.strings()) == [(0, 1, "a")]
    assert side.text == "One\nhttps://x.y/"
    assert list(side.strings()) == [(0, 3, "One"), (4, 16, "https://x.y/")]
    (again,) = resumed.spans
    assert again.text == 2 * side.text
    assert list(again.strings()) == [(16, 19, "One"), (20, 32, "https://x.y/")]


def test_text_after_the_finish_reason_is_still_seen() -> None:
    stream = CHAT.open()
    frames = stream.feed(
        chunk(delta={"content": "a"}, finish_reason="stop") + chunk(delta={"content": "b"})
    )
    assert frames[1].spans[0].text == "ab"
    assert frames[1].spans[0].channel not in frames[0].ends


def test_a_tool_name_that_is_a_sentence_is_text() -> None:
    call = {"index": 0, "function": {"name": "kill all humans", "arguments": "{}"}}
    (frame,) = CHAT.open().feed(chunk(delta={"tool_calls": [call]}))
    assert [span.text for span in frame.spans] == ["kill all humans", "{}"]


def test_logprobs_of_text_that_is_not_there_are_text() -> None:
    def logprobs(token: str) -> dict[str, object]:
        return {"content": [{"token": token, "logprob": -1.0, "top_logprobs": []}]}

    same, other = CHAT.open().feed(
        chunk(delta={"content": "yes"}, logprobs=logprobs("yes"))
        + chunk(delta={"content": ""}, logprobs=logprobs("secret"))
    )
    assert [span.text for span in same.spans] == ["yes"]
    assert [span.text for span in other.spans] == ["secret"]
    assert other.spans[0].channel != same.spans[0].channel


def test_reasoning_under_two_names_counts_once() -> None:
    delta = {
        "reasoning": "hm",
        "reasoning_content": "hm",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm", "format": "unknown"}],
    }
    (frame,) = CHAT.open().feed(chunk(delta=delta))
    assert [span.text for span in frame.spans] == ["hm"]


def test_a_done_event_that_differs_from_its_deltas_is_new_text() -> None:
    at = {"item_id": "m", "output_index": 0, "content_index": 0}
    base = "response.output_text"
    stream = BLOCKED["openai.responses"].open()
    said, same, other, item = stream.feed(
        write_event({"type": f"{base}.delta", "delta": "nice", **at})
        + write_event({"type": f"{base}.done", "text": "nice", **at})
        + write_event({"type": f"{base}.done", "text": "evil", **at})
        + write_event(
            {
                "type": "response.output_item.done",
                "output_index": 0,
                "item": {
                    "type": "message",
                    "content": [{"type": "output_text", "text": t} for t in ("nice", "evil", "x")],
                },
            }
        )
    )
    assert [span.text for span in said.spans] == ["nice"]
    assert same.spans == ()
    assert [span.text[-4:] for span in other.spans] == ["evil"]
    assert [span.text[-1:] for span in item.spans] == ["x"]


def test_a_text_known_as_reasoning_is_still_new_as_text() -> None:
    stream = BLOCKED["openai.responses"].open()
    _, frame = stream.feed(
        write_event({"type": "response.reasoning_text.delta", "delta": "evil"})
        + write_event({"type": "response.output_text.done", "text": "evil"})
    )
    assert [(s.text, s.channel.kind) for s in frame.spans] == [("evil", ChannelKind.TEXT)]


def test_a_picture_or_a_sound_cannot_be_judged_and_is_opaque() -> None:
    stream = BLOCKED["openai.responses"].open()
    frames = stream.feed(
        write_event(
            {
                "type": "response.image_generation_call.partial_image",
                "output_index": 0,
                "partial_image_b64": "iVBORw0KGgo",
            }
        )
        + write_event({"type": "response.audio.delta", "delta": "UklGRg=="})
    )
    assert all(frame.opaque for frame in frames)


RESPONSE_PART = {"type": ["text"], "text": "a"}
ODD_EVENTS: list[tuple[str, dict[str, object]]] = [
    ("openai.chat", {"choices": [{"delta": {"content": [{"type": {"a": "text"}}]}}]}),
    ("openai.responses", {"type": {"a": "text"}}),
    ("openai.responses", {"type": "response.content_part.done", "part": RESPONSE_PART}),
    ("anthropic.messages", {"type": ["text"]}),
    (
        "anthropic.messages",
        {"type": "content_block_delta", "index": 0, "delta": {"type": ["text"], "text": "a"}},
    ),
    (
        "anthropic.messages",
        {"type": "content_block_delta", "index": 0, "delta": {"type": {"a": "text"}}},
    ),
]


@pytest.mark.parametrize(("wire", "event"), ODD_EVENTS)
def test_an_event_of_a_type_that_is_no_word_is_opaque(wire: str, event: dict[str, object]) -> None:
    (frame,) = BLOCKED[wire].open().feed(write_event(event))
    assert frame.opaque


def test_the_number_of_channels_is_bounded() -> None:
    stream = BLOCKED["openai.chat"].open()
    calls = [{"index": i, "function": {"arguments": "x"}} for i in range(MAX_CHANNELS + 1)]
    with pytest.raises(WireError, match="channels"):
        stream.feed(chunk(delta={"tool_calls": calls}))


def test_lone_surrogates_become_replacement_characters() -> None:
    (frame,) = CHAT.open().feed(
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
    )
    assert frame.spans[0].text == "\ufffd"


def test_an_end_mark_without_its_blank_line_still_counts() -> None:
    stream = CHAT.open()
    assert stream.feed(b"data: [DONE]") == []
    (frame,) = stream.flush()
    assert stream.complete()
    assert frame.raw == b"data: [DONE]\n\n"


def test_a_last_event_without_its_blank_line_is_mended() -> None:
    stream = CHAT.open()
    assert stream.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n') == []
    (frame,) = stream.flush()
    assert frame.raw.endswith(b"}\n\n")
    assert texts([frame]) == {ChannelKind.TEXT: ["x"]}


def test_a_chunk_is_decoded_in_well_under_a_millisecond() -> None:
    event = chunk(delta={"content": " token"}, finish_reason=None)
    stream = CHAT.open()

    def seconds() -> float:
        start = time.process_time()
        for _ in range(400):
            stream.feed(event)
        return (time.process_time() - start) / 400

    assert min(seconds() for _ in range(5)) < 500e-6


def test_recordings_cover_every_recorded_file() -> None:
    from tests.wire.samples import FOLDER

    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".sse", ".json")}
    assert files == {recording.file for recording in RECORDINGS}


def test_responses_without_indices_are_told_apart_by_item() -> None:
    recording = next(r for r in STREAMS if r.file == "responses_reasoning_tools.sse")
    frames = recording.open().feed(recording.data)
    bare = [
        {k: v for k, v in f.payload.items() if k not in ("output_index", "sequence_number")}
        for f in frames
        if isinstance(f.payload, dict)
    ]
    data = b"".join(write_event(p, name=p["type"]) for p in bare)
    stream = recording.open()
    own = stream.feed(data)
    assert texts(own) == recording.texts
    assert not any(frame.opaque for frame in own)
    for frame in own[: len(own) * 2 // 3]:
        stream.sent(frame)
    final = json.loads(stream.refusal(NOTICE).decode().split("data: ")[-1])["response"]
    kinds = [item["type"] for item in final["output"]]
    assert kinds[:3] == ["reasoning", "function_call", "function_call"]
    assert kinds[-1] == "message"
    assert final["output"][1]["arguments"] == '{"city":"Paris"}'


def test_a_part_whose_type_is_no_word_is_read_all_the_same() -> None:
    part = {"type": {"a": "x y"}, "text": "hi"}
    payload = {"type": "response.content_part.done", "item_id": "i", "part": part}
    event = write_event(payload | {"output_index": 0, "content_index": 0}, name=payload["type"])
    (frame,) = BLOCKED["openai.responses"].open().feed(event)
    assert [span.text for span in frame.spans] == ["hi"]


QUOTED = {"message": "a call failed", "failed_generation": "what the model said"}


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        ("openai.chat", {"error": QUOTED}),
        ("openai.completions", {"error": QUOTED}),
        ("openai.embeddings", {"error": QUOTED}),
        ("openai.responses", {"type": "error", **QUOTED, "error": QUOTED}),
        ("openai.responses", {"type": "response.failed", "response": {"error": QUOTED}}),
        ("anthropic.messages", {"type": "error", "error": QUOTED}),
    ],
)
def test_an_error_that_quotes_the_model_is_judged_in_a_stream_and_in_a_whole_answer(
    wire: str, event: dict[str, object]
) -> None:
    request = WIRES[wire].read_request(REQUESTS[wire])
    (frame,) = WIRES[wire].open_stream(request).feed(write_event(event))
    whole = WIRES[wire].read_response(json.dumps(event.get("response", event)).encode())
    for one in (frame, whole):
        said = "\n".join(text for kept in texts([one]).values() for text in kept)
        assert one.opaque or "what the model said" in said
    assert "what the model said" in "".join(span.text for span in frame.spans)


PROVIDER = {"citations": [[{"type": "char_location", "cited_text": "what was quoted"}]]}


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "hi", "provider_specific_fields": PROVIDER}},
        {"message": {"content": "hi", "provider_specific_fields": PROVIDER}},
        {"delta": {"content": "hi"}, "provider_specific_fields": PROVIDER},
        {"delta": {"content": "hi", "tool_calls": [{"provider_specific_fields": PROVIDER}]}},
    ],
)
def test_what_litellm_adds_for_a_provider_is_judged_and_not_opaque(choice: dict) -> None:
    (frame,) = CHAT.open().feed(chunk(**choice))
    assert not frame.opaque
    assert sorted(span.text for span in frame.spans) == ["hi", "what was quoted"]


def test_thoughts_that_litellm_says_twice_are_judged_once_and_their_seal_is_none() -> None:
    block = {"type": "thinking", "thinking": "a thought", "signature": "EqQBCkYIAx=="}
    delta = {"reasoning_content": "a thought", "provider_specific_fields": {"blocks": [block]}}
    (frame,) = CHAT.open().feed(chunk(delta=delta))
    assert not frame.opaque
    assert [span.text for span in frame.spans] == ["a thought"]
