"""Streams decode the same however they arrive, and every block is valid for the official SDKs."""

from __future__ import annotations

import json
import time

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.errors import WireError
from guardrail.types import Channel, ChannelKind, Frame
from guardrail.wire import Notice, WireStream
from guardrail.wire.channels import MAX_CHANNELS
from guardrail.wire.sse import write_event
from tests.wire.samples import RECORDINGS, STREAMS, Recording, name, texts
from tests.wire.sdk import READERS, read_async

NOTICE = Notice("This answer was withheld.", ("hate",), "req1", created=1700000000)
REASON = {
    "openai.chat": "content_filter",
    "openai.completions": "content_filter",
    "openai.responses": "content_filter",
    "anthropic.messages": "refusal",
}
BLOCKED = {r.wire: r for r in STREAMS}

each_stream = pytest.mark.parametrize("recording", STREAMS, ids=name)


def shape(frames: list[Frame]) -> list[tuple[object, ...]]:
    return [(f.raw, f.spans, f.ends, f.keepalive, f.opaque) for f in frames]


def feed(stream: WireStream, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in stream.feed(piece)]


@each_stream
def test_a_recording_says_what_it_says(recording: Recording) -> None:
    stream = recording.open()
    frames = stream.feed(recording.data)
    assert texts(frames) == recording.texts
    assert not any(frame.opaque for frame in frames)
    assert stream.complete()
    assert stream.flush() == []
    assert b"".join(frame.raw for frame in frames) == recording.data


@each_stream
def test_every_channel_ends_by_the_terminal_frame(recording: Recording) -> None:
    frames = recording.open().feed(recording.data)
    said = {span.channel for frame in frames for span in frame.spans}
    ended = [channel for frame in frames for channel in frame.ends]
    assert sorted(ended) == sorted(said)


@each_stream
def test_no_text_follows_the_end_of_its_channel(recording: Recording) -> None:
    ended: set[Channel] = set()
    for frame in recording.open().feed(recording.data):
        assert not ended.intersection(span.channel for span in frame.spans)
        ended.update(frame.ends)


@each_stream
def test_byte_by_byte_is_the_same_as_whole(recording: Recording) -> None:
    data = recording.data
    bytewise = feed(recording.open(), [data[i : i + 1] for i in range(len(data))])
    assert shape(bytewise) == shape(recording.open().feed(data))


@each_stream
def test_trailing_bytes_are_never_part_of_a_good_frame(recording: Recording) -> None:
    stream = recording.open()
    whole = stream.feed(recording.data + b'data: {"choices":[{"delta":{"content":"le')
    assert b"".join(frame.raw for frame in whole) == recording.data
    (cut,) = stream.flush()
    assert cut.opaque
    assert not cut.spans


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_splits_change_nothing(draw: st.DataObject) -> None:
    recording = draw.draw(st.sampled_from(STREAMS))
    data = recording.data
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=40)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert shape(feed(recording.open(), pieces)) == shape(recording.open().feed(data))


@each_stream
def test_crlf_says_the_same_as_lf(recording: Recording) -> None:
    data = recording.data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert texts(recording.open().feed(data)) == recording.texts


@each_stream
def test_an_unblocked_recording_passes_the_sdk(recording: Recording) -> None:
    seen = READERS[recording.wire](recording.data)
    assert set(seen.reasons) == set(range(recording.choices))


@each_stream
def test_a_refusal_after_any_frame_is_valid_for_the_sdk(recording: Recording) -> None:
    total = len(recording.open().feed(recording.data))
    for sent in range(total + 1):
        for read_all in (False, True):
            stream = recording.open()
            frames = stream.feed(recording.data)
            if not read_all:
                stream = recording.open()
                stream.feed(b"".join(f.raw for f in frames[:sent]))
                frames = recording.open().feed(recording.data)
            for frame in frames[:sent]:
                stream.sent(frame)
            body = b"".join(f.raw for f in frames[:sent]) + stream.refusal(NOTICE)
            check_refused(recording, body, frames[:sent])


def check_refused(recording: Recording, body: bytes, sent: list[Frame]) -> None:
    seen = READERS[recording.wire](body)
    assert set(seen.reasons) == set(range(recording.choices))
    done = READERS[recording.wire](recording.data).reasons
    own = REASON[recording.wire]
    assert all(reason in (own, done[i]) for i, reason in seen.reasons.items())
    said = texts(sent)
    for text in said.get(ChannelKind.TEXT, [])[: recording.choices]:
        assert text in seen.text or recording.file == "anthropic_search.sse"
    if not said:
        assert NOTICE.message in seen.text
    if own in seen.reasons.values() and recording.wire != "openai.completions":
        assert NOTICE.message in seen.text + seen.refusal


@each_stream
def test_nothing_that_was_read_but_not_sent_is_in_a_refusal(recording: Recording) -> None:
    stream = recording.open()
    stream.feed(recording.data)
    body = stream.refusal(NOTICE).decode() + stream.failure("broke").decode()
    for said in recording.texts.values():
        assert not any(json.dumps(text)[1:-1] in body for text in said)


@each_stream
def test_a_refusal_starts_with_its_own_reason_and_never_with_stop(recording: Recording) -> None:
    body = recording.open().refusal(NOTICE)
    assert b'"stop"' not in body
    assert b'"end_turn"' not in body
    assert not body.startswith(b"event: error")


@each_stream
def test_the_async_client_reads_a_refusal_too(recording: Recording) -> None:
    stream = recording.open()
    frames = stream.feed(recording.data)
    half = frames[: len(frames) // 2]
    for frame in half:
        stream.sent(frame)
    events = read_async(recording.wire, b"".join(f.raw for f in half) + stream.refusal(NOTICE))
    assert REASON[recording.wire] in str(events[-2:])


@each_stream
def test_a_refusal_after_the_end_adds_nothing(recording: Recording) -> None:
    stream = recording.open()
    for frame in stream.feed(recording.data):
        stream.sent(frame)
    assert stream.refusal(NOTICE) == b""
    assert stream.failure("broke") == b""


@each_stream
def test_an_upstream_cut_at_any_byte_ends_in_the_form_of_an_error(recording: Recording) -> None:
    data = recording.data
    for cut in range(0, len(data), max(1, len(data) // 60)):
        stream = recording.open()
        frames = [*stream.feed(data[:cut]), *(f for f in stream.flush() if not f.opaque)]
        for frame in frames:
            stream.sent(frame)
        body = b"".join(frame.raw for frame in frames) + stream.failure("upstream broke off")
        reasons, error = outcome(recording, body)
        assert error is None or "upstream broke off" in error
        assert error or reasons <= {"failed", *outcome(recording, data)[0]}


def outcome(recording: Recording, body: bytes) -> tuple[set[str | None], str | None]:
    try:
        return set(READERS[recording.wire](body).reasons.values()), None
    except (openai.APIError, anthropic.APIError) as error:
        return set(), str(error)


def test_a_failed_response_is_an_event_that_the_client_reads() -> None:
    recording = BLOCKED["openai.responses"]
    seen = READERS[recording.wire](recording.open().failure("upstream broke off"))
    assert seen.final.status == "failed"
    assert seen.final.error.message == "upstream broke off"


def test_open_tool_calls_and_blocks_are_closed_with_what_was_sent() -> None:
    recording = next(r for r in STREAMS if r.file == "responses_reasoning_tools.sse")
    stream = recording.open()
    frames = stream.feed(recording.data)
    last = next(i for i, f in enumerate(frames) if any('"to":"bo' in s.text for s in f.spans))
    for frame in frames[: last + 1]:
        stream.sent(frame)
    seen = READERS[recording.wire](
        b"".join(f.raw for f in frames[: last + 1]) + stream.refusal(NOTICE)
    )
    call = seen.final.output[2]
    assert (call.arguments, call.status) == ('{"to":"bo', "incomplete")
    assert seen.final.output[1].arguments == '{"city":"Paris"}'


def test_usage_is_kept_where_it_is_known_and_asked_for() -> None:
    recording = next(r for r in STREAMS if r.file == "chat_text.sse")
    stream = recording.open(usage=True)
    frames = stream.feed(recording.data)
    for frame in frames[:4]:
        stream.sent(frame)
    seen = READERS[recording.wire](b"".join(f.raw for f in frames[:4]) + stream.refusal(NOTICE))
    assert seen.usage.total_tokens == 29


def test_a_comment_is_ignored_by_clients_and_cannot_be_left() -> None:
    recording = BLOCKED["openai.chat"]
    note = recording.open().extra("guardrail\n", {"a": "x\n\ndata: evil\n\n"})
    assert note == b': guardrail {"a":"x\\n\\ndata: evil\\n\\n"}\n\n'
    assert READERS["openai.chat"](note + recording.data).reasons


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
        b'data: {"error":{"message":"overloaded","code":"busy"}}\n\n',
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
    assert frames[3].ends == ()  # alternation is cut once only
    assert frames[4].spans[0].channel == resumed.channel
    assert resumed.channel in frames[5].ends


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
    start = time.process_time()
    for _ in range(2000):
        stream.feed(event)
    assert (time.process_time() - start) / 2000 < 300e-6


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
