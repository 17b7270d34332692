"""Throughput of the proxy with checks off, against a bare aiohttp reverse proxy, in one run.

    python bench/bench_proxy.py [--seconds 5] [--rounds 3] [--connections 16]

The proxy under test has one core to itself; the upstream and the load generator, both raw
asyncio protocols that cost little, share another. The two proxies take turns, round by round, so
that noise of the machine meets both. Prints requests a second and their ratio, for whole
answers and for streamed answers of 64 chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing as mp
import os
import socket
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext

CHUNKS = 64
WHOLE = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 64},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 64, "completion_tokens": 64, "total_tokens": 128},
    }
).encode()
PROMPT = "Tell me about the history of bridges. " * 8


def pin(core: int) -> None:
    """Keep this process on one core, where the machine has more than one."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- upstream: canned answers, as cheap as Python makes them --------------------------------


def whole_answer() -> bytes:
    """One whole answer with its head."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(WHOLE) + WHOLE


def stream_chunks() -> list[bytes]:
    """The head and 64 chunks of a streamed answer, each its own write."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [
        {**base, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
    ] * CHUNKS
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    texts = [f"data: {json.dumps(e)}\n\n".encode() for e in events] + [b"data: [DONE]\n\n"]
    framed = [b"%x\r\n%s\r\n" % (len(t), t) for t in texts]
    framed[0] = head + framed[0]
    framed[-1] += b"0\r\n\r\n"
    return framed


class Canned(asyncio.Protocol):
    """Answers each request with canned bytes; streams chunk by chunk across loop turns."""

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        if len(body) < length:
            return
        self.buffer = b""
        if b'"stream": true' in body:
            self.send(iter(CANNED_STREAM))
        else:
            self.transport.write(CANNED_WHOLE)

    def send(self, chunks: Iterator[bytes]) -> None:
        """Write one chunk a turn of the loop, so that the reader sees many reads."""
        chunk = next(chunks, None)
        if chunk is not None and not self.transport.is_closing():
            self.transport.write(chunk)
            asyncio.get_running_loop().call_soon(self.send, chunks)


CANNED_WHOLE = whole_answer()
CANNED_STREAM = stream_chunks()


def run_upstream(port: int) -> None:
    """Serve canned answers for ever."""
    pin(0)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(main())


# --- the two proxies ----------------------------------------------------------------------


def run_bare(port: int, upstream: str) -> None:
    """A reverse proxy of the least that aiohttp needs to forward and stream."""
    import aiohttp
    from aiohttp import web

    pin(1)
    logging.disable()  # the load generator hangs up in mid-answer; that is no news

    async def main() -> None:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
        )

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
            url = upstream + request.raw_path
            async with session.request(request.method, url, data=body, headers=headers) as answer:
                keep = {k: v for k, v in answer.headers.items() if k.lower() != "transfer-encoding"}
                response = web.StreamResponse(status=answer.status, headers=keep)
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    asyncio.run(main())


def run_guardrail(port: int, upstream: str) -> None:
    """The proxy as it is served, with a policy that has no rules."""
    from guardrail.classifier import load_classifier
    from guardrail.policy import parse_policy
    from guardrail.proxy import Settings, serve

    pin(1)
    policy = parse_policy("version: 1\nname: off\ncategories: {}")
    serve(Settings(upstream, port=port), policy, load_classifier(), lambda _: None)


# --- load -----------------------------------------------------------------------------------


class Load(asyncio.Protocol):
    """Sends the same request again as soon as the answer is complete."""

    def __init__(self, request: bytes, counts: list[int]) -> None:
        self.request = request
        self.counts = counts
        self.need: int | None = None
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.need is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            assert head.startswith(b"http/1.1 200"), head[:200]
            mark = head.find(b"content-length:")
            self.need = 0
            if mark >= 0:
                self.need = end + 4 + int(head[mark + 15 :].split(b"\r\n")[0])
        done = len(self.buffer) >= self.need if self.need else self.buffer.endswith(b"0\r\n\r\n")
        if done:
            self.counts[0] += 1
            self.buffer.clear()
            self.need = None
            self.transport.write(self.request)


def run_load(port: int, stream: bool, connections: int, seconds: float, out: Connection) -> None:
    """Load one proxy and report requests a second."""
    pin(0)
    body = json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )

    async def main() -> float:
        counts = [0]
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(
                lambda: Load(head.encode() + body, counts), "127.0.0.1", port
            )
            for _ in range(connections)
        ]
        await asyncio.sleep(0.5)
        before, started = counts[0], time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (counts[0] - before) / (time.perf_counter() - started)
        for transport, _ in made:
            transport.abort()
        return rate

    out.send(asyncio.run(main()))


def wait_for(port: int, seconds: float = 60.0) -> None:
    """Wait until something listens."""
    for _ in range(int(seconds / 0.05)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def measure(context: SpawnContext, port: int, stream: bool, options: argparse.Namespace) -> float:
    """Run one round of load in a process of its own."""
    receive, send = context.Pipe(False)
    process = context.Process(
        target=run_load, args=(port, stream, options.connections, options.seconds, send)
    )
    process.start()
    rate = receive.recv()
    process.join()
    return float(rate)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    context = mp.get_context("spawn")
    ports = {"upstream": free_port(), "bare": free_port(), "guardrail": free_port()}
    upstream = f"http://127.0.0.1:{ports['upstream']}"
    processes = [
        context.Process(target=run_upstream, args=(ports["upstream"],), daemon=True),
        context.Process(target=run_bare, args=(ports["bare"], upstream), daemon=True),
        context.Process(target=run_guardrail, args=(ports["guardrail"], upstream), daemon=True),
    ]
    for process in processes:
        process.start()
    for port in ports.values():
        wait_for(port)
    print(f"{'answers':<16}{'bare req/s':>12}{'guardrail':>12}{'ratio':>8}")
    for stream in (False, True):
        rates: dict[str, list[float]] = {"bare": [], "guardrail": []}
        for _ in range(options.rounds):
            for name in rates:
                rates[name].append(measure(context, ports[name], stream, options))
        bare, ours = (statistics.median(rates[name]) for name in ("bare", "guardrail"))
        label = f"{CHUNKS} chunks" if stream else "whole"
        print(f"{label:<16}{bare:>12.0f}{ours:>12.0f}{ours / bare:>8.2f}")
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
