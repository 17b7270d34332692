"""What checking costs a streamed answer: delay, hold-back, event-loop lag and memory.

    python bench/bench_latency.py [--streams 1 8 100] [--rate 50] [--tokens 200]

An upstream sends tokens at a fixed rate and stamps each with the time; a client reads the same
answers directly and through the proxy with the embedded model and the default policy (`hold`
mode). Times are of one clock, so the delay of each token is known: its arrival less its stamp.
More streams than two cores can check at that rate, with the upstream and the client on the
same cores, get a slower one, printed in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing as mp
import resource
import statistics
import time
from multiprocessing.connection import Connection

from bench_proxy import free_port, wait_for

TEXT = (
    "The old bridge crosses the river near the mill and people walk over it each day to buy "
    "bread talk with friends and look at the boats that carry stone and timber to the town"
)
WORDS = TEXT.split()
CORES_TOKENS_S = 2_000
"""Streamed tokens a second that leave room on two cores for everything else."""


def run_upstream(port: int) -> None:
    """Stream words at the rate that the request asks for."""
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        started = time.monotonic()
        for n in range(body["max_tokens"]):
            await asyncio.sleep(max(0.0, started + n / body["rate"] - time.monotonic()))
            await response.write(chunk({"content": WORDS[n % len(WORDS)] + " "}))
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        made = json.dumps({**head, "choices": [choice], "sent": time.monotonic()})
        return f"data: {made}\n\n".encode()

    serve_app(handle, port)


def serve_app(handle: object, port: int) -> None:
    """Serve one handler for ever."""
    from aiohttp import web

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)  # type: ignore[arg-type]
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()

    asyncio.run(main())


def run_proxy(port: int, upstream: str, pipe: Connection) -> None:
    """Serve the guardrail; on request, report the loop's lag and the memory since last asked."""
    from aiohttp import web

    from guardrail.classifier import load_classifier
    from guardrail.policy import bundled
    from guardrail.proxy import Settings, make_app

    lags: list[float] = []

    async def watch() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - started - 0.005)

    async def report() -> None:
        while True:
            if pipe.poll():
                pipe.recv()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                pipe.send((sorted(lags), peak))
                lags.clear()
            await asyncio.sleep(0.05)

    async def main() -> None:
        classifier = load_classifier(threads=1)
        runner = web.AppRunner(
            make_app(Settings(upstream), bundled(), classifier),
            access_log=None,
            handler_cancellation=True,
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.gather(watch(), report())

    asyncio.run(main())


async def one(session: object, url: str, rate: float, tokens: int) -> tuple[float, list[float]]:
    """Read one answer; return the time to its first token and the delay of each."""
    body = {
        "model": "m",
        "stream": True,
        "rate": rate,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": "Tell me about the bridge in our town."}],
    }
    started, first, delays = time.monotonic(), 0.0, []
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:  # type: ignore[attr-defined]
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event["choices"][0]["delta"].get("content"):
                now = time.monotonic()
                first = first or now - started
                delays.append(now - event["sent"])
    assert len(delays) == tokens, f"{len(delays)} of {tokens} tokens came"
    return first, delays


async def many(url: str, streams: int, rate: float, tokens: int) -> tuple[float, list[float]]:
    """Read many answers at once; return the median time to first token and all delays."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def later(n: int) -> tuple[float, list[float]]:
            await asyncio.sleep(n / streams * min(2.0, tokens / rate))
            return await one(session, url, rate, tokens)

        results = await asyncio.gather(*(later(n) for n in range(streams)))
    return statistics.median(r[0] for r in results), sorted(d for r in results for d in r[1])


def main() -> None:
    """Run the measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32, 100])
    parser.add_argument("--rate", type=float, default=50.0, help="Tokens a second of a stream.")
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    logging.disable()
    context = mp.get_context("spawn")
    upstream_port, proxy_port = free_port(), free_port()
    upstream = f"http://127.0.0.1:{upstream_port}"
    ours, theirs = context.Pipe()
    processes = [
        context.Process(target=run_upstream, args=(upstream_port,), daemon=True),
        context.Process(target=run_proxy, args=(proxy_port, upstream, theirs), daemon=True),
    ]
    for process in processes:
        process.start()
    wait_for(upstream_port)
    wait_for(proxy_port)
    proxy = f"http://127.0.0.1:{proxy_port}"
    asyncio.run(many(proxy, 1, 200.0, 40))
    print(
        f"{'streams':>7} {'tok/s':>6} {'direct ttft':>12} {'ttft':>8} {'added':>8} "
        f"{'held p50':>9} {'held p95':>9} {'lag p99':>8} {'peak MB':>8}"
    )
    for streams in options.streams:
        rate = min(options.rate, CORES_TOKENS_S / streams)
        direct, _ = asyncio.run(many(upstream, streams, rate, options.tokens))
        ours.send("reset")
        ours.recv()
        first, delays = asyncio.run(many(proxy, streams, rate, options.tokens))
        ours.send("report")
        lags, peak = ours.recv()
        held = [delay * rate for delay in delays]
        print(
            f"{streams:>7} {rate:>6.0f} {direct * 1e3:>9.0f} ms {first * 1e3:>5.0f} ms "
            f"{(first - direct) * 1e3:>5.0f} ms {held[len(held) // 2]:>5.1f} tok "
            f"{held[int(len(held) * 0.95)]:>5.1f} tok {lags[int(len(lags) * 0.99)] * 1e3:>5.1f} ms "
            f"{peak:>8.0f}",
            flush=True,
        )
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
