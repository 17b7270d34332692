"""Nothing unjudged leaves: planted text on captured wire bytes, at every split position."""

from __future__ import annotations

import json

import pytest

import guardrail.proxy.answer
from guardrail.stream import Mode, StreamGuard
from guardrail.types import Frame
from guardrail.wire import WIRES
from tests.proxy.dialects import PATHS, STREAMS
from tests.proxy.test_matrix import body_for

PLANT = "BAD"
BEFORE = "all of this is fine and has been judged to be fine. " * 5
AFTER = " nothing behind it may leave either." * 5
HOLD = "version: 1\nname: t\nmessage: no way\ncategories: {unsafe: {block: 0.9}}"
TRAIL = HOLD + "\nstream: {mode: trail}"
MONITOR = HOLD + "\nmode: monitor"
KEYS = pytest.mark.parametrize("key", list(STREAMS), ids=lambda k: f"{k[0]}-{k[1]}")


def pieces(split: int, size: int = 7) -> list[str]:
    """Cut the answer so that a piece ends after ``split`` characters of the planted text."""
    left, right = BEFORE + PLANT[:split], PLANT[split:] + AFTER
    return [half[n : n + size] for half in (left, right) for n in range(0, len(half), size)]


async def said(bench, key, chunks: list[bytes], pause_s: float = 0.0) -> tuple[bytes, str]:
    """Run one streamed exchange; return the bytes and the text of the client's answer."""
    bench.upstream.streams(chunks, pause_s)
    async with bench.client.post(
        bench.url + PATHS[key[0]], json=body_for(key[0], True)
    ) as response:
        data = await response.read()
    wire = WIRES[key[0]]
    request = wire.read_request(json.dumps(body_for(key[0], True)).encode())
    stream = wire.open_stream(request)
    frames: list[Frame] = [*stream.feed(data), *stream.flush()]
    return data, "".join(span.text for frame in frames for span in frame.spans)


def assert_no_leak(data: bytes, text: str, least: int = 0) -> None:
    """Raise where anything of the planted text, or behind it, is on the wire.

    ``least`` is how much of the judged text before it must have come out: an upstream that
    takes its time leaves room for verdicts, one burst may be judged and cut as one.
    """
    assert b"BA" not in data
    assert "BA" not in text
    assert "nothing" not in text
    assert text.startswith(BEFORE[:least])
    assert any(word in data for word in (b"content_filter", b'"refusal"'))


@KEYS
async def test_planted_text_never_leaves_whatever_the_split(start, key) -> None:
    bench = await start(HOLD)
    for split in range(len(PLANT) + 1):
        answer = await said(bench, key, STREAMS[key](pieces(split)), pause_s=0.001)
        assert_no_leak(*answer, least=100)


@KEYS
async def test_planted_text_never_leaves_whatever_the_reads(start, key) -> None:
    bench = await start(HOLD)
    whole = b"".join(STREAMS[key](pieces(1)))
    crlf = whole.replace(b"\n", b"\r\n")
    for data in (whole, crlf):
        for size in (1, 17, len(data)):
            chunks = [data[n : n + size] for n in range(0, len(data), size)]
            assert_no_leak(*await said(bench, key, chunks))


@KEYS
async def test_trail_mode_ends_the_answer_and_counts_what_was_exposed(start, key) -> None:
    bench = await start(TRAIL)
    data, _ = await said(bench, key, STREAMS[key](pieces(1)), pause_s=0.005)
    assert any(word in data for word in (b"content_filter", b'"refusal"'))
    async with bench.client.get(f"{bench.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    exposed = next(line for line in lines if line.startswith("guardrail_exposed_chars_total"))
    assert float(exposed.split()[1]) > 0


@KEYS
async def test_monitor_mode_changes_no_byte(start, key) -> None:
    bench = await start(MONITOR)
    chunks = STREAMS[key](pieces(1))
    data, _ = await said(bench, key, chunks)
    assert data == b"".join(chunks)


class ReleasesOnReceipt(StreamGuard):
    """A guard that is broken on purpose."""

    def __init__(self, settings, **more) -> None:
        from dataclasses import replace

        super().__init__(replace(settings, mode=Mode.TRAIL), **more)


async def test_a_guard_that_releases_on_receipt_is_caught(start, monkeypatch) -> None:
    monkeypatch.setattr(guardrail.proxy.answer, "StreamGuard", ReleasesOnReceipt)
    bench = await start(HOLD)
    key = next(iter(STREAMS))
    with pytest.raises(AssertionError):
        assert_no_leak(*await said(bench, key, STREAMS[key](pieces(1))))
