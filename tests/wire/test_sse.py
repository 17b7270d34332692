"""Server-sent events: bytes kept, the same events however the bytes arrive."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.errors import WireError
from guardrail.wire.sse import SseDecoder, SseEvent, comment, write_event


def decode(pieces: list[bytes]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.flush()


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


CASES = {
    b"data: a\n\n": [("", "a")],
    b"data:a\n\n": [("", "a")],
    b"data:  a\n\n": [("", " a")],
    b"data: a\ndata: b\n\n": [("", "a\nb")],
    b"event: e\ndata: a\nid: 1\nretry: 5\n\n": [("e", "a")],
    b"event: e\nevent: f\ndata: a\n\n": [("f", "a")],
    b": note\n\ndata: a\n\n": [("", None), ("", "a")],
    b"data\n\n": [("", "")],
    b"data: a\r\n\r\ndata: b\r\n\r\n": [("", "a"), ("", "b")],
    b"data: a\r\rdata: b\r\r": [("", "a"), ("", "b")],
    b"data: a\r\r\ndata: b\r\r": [("", "a"), ("", "b")],
    b"data: a\n\r\ndata: b\r\n\n": [("", "a"), ("", "b")],
    b"\xef\xbb\xbfdata: a\n\n": [("", "a")],
    b"\n\ndata: a\n\n": [("", None), ("", None), ("", "a")],
    "data: é🙂\u2028x\x0cy\n\n".encode(): [("", "é🙂\u2028x\x0cy")],
    b"DATA: a\ndatax: b\n\n": [("", None)],
}


@pytest.mark.parametrize("data", CASES)
def test_events_are_those_of_the_standard(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        events = decode(pieces)
        assert [(e.name or "", e.data) for e in events] == CASES[data]
        assert b"".join(e.raw for e in events) == data
        assert not any(e.cut for e in events)
        assert any(e.damaged for e in events) is (b"DATA" in data)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b"event: e", b":c", b"\xf0\x9f"])),
    st.lists(st.integers(0, 60)),
)
def test_any_split_of_any_bytes_gives_the_same_events(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    events = decode(pieces)
    assert events == decode([data])
    assert events == decode(bytewise(data))
    assert b"".join(e.raw for e in events) == data


def test_an_event_is_given_out_with_its_last_byte() -> None:
    decoder = SseDecoder()
    for ending in (b"\n\n", b"\r\r"):
        assert decoder.feed(b"data: a" + ending[:1]) == []
        assert [e.data for e in decoder.feed(ending[1:])] == ["a"]


@pytest.mark.parametrize("tail", [b"data: a", b"data: a\n", b"data: a\r\n", b"eve", b": c"])
def test_what_the_end_cuts_is_marked(tail: bytes) -> None:
    whole, cut = decode([b"data: b\n\n" + tail])
    assert not whole.cut
    assert cut.cut
    assert cut.raw == tail


def test_a_blank_line_in_carriage_return_ends_an_event_at_the_end() -> None:
    (event,) = decode([b"data: a\r\n\r"])
    assert not event.cut


def test_bytes_that_are_not_utf8_are_marked() -> None:
    (event,) = decode([b"data: \xff\n\n"])
    assert event.damaged


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_over_the_bound_is_an_error_however_it_arrives(size: int) -> None:
    data = b"data: ok\n\ndata: " + b"x" * 2000 + b"\n\n"
    decoder = SseDecoder(max_event_bytes=1000)
    seen: list[SseEvent] = []
    with pytest.raises(WireError, match="1000 bytes"):  # noqa: PT012
        for start in range(0, len(data), size):
            seen += decoder.feed(data[start : start + size])
        decoder.flush()
    assert [e.data for e in seen] == ["ok"]


def test_a_long_event_in_single_bytes_takes_linear_time() -> None:
    def cost(count: int) -> float:
        decoder = SseDecoder()
        start = time.process_time()
        for _ in range(count):
            decoder.feed(b"x")
        return time.process_time() - start

    cost(1000)
    small, large = min(cost(10_000) for _ in range(3)), min(cost(80_000) for _ in range(3))
    assert large < small * 8 * 4


def test_written_events_read_back() -> None:
    data = write_event({"a": "é\n"}, name="e") + write_event("[DONE]") + comment("n", {"b": "\r\n"})
    events = decode([data])
    assert [(e.name, e.data) for e in events] == [
        ("e", '{"a":"\\u00e9\\n"}'),
        (None, "[DONE]"),
        (None, None),
    ]
