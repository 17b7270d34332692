"""Streams decode the same however they arrive, and every block is valid for the official SDKs."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.types import Channel, ChannelKind, Frame
from guardrail.wire import Notice, WireStream
from tests.wire.samples import STREAMS, Recording, name, texts
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


@settings(max_examples=60)
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
