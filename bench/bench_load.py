"""Many streams for a long time: no error, no leak, no growth of memory; idle connections held.

    python bench/bench_load.py [--seconds 300] [--streams 200] [--idle 2000] [--workers 1]

A real `guardrail serve` with the embedded model stands before an upstream that streams words at
a steady rate, each stream followed by the next. One stream in five says a planted word, which
the policy blocks: it must never be on the wire, and the stream must end as filtered. All others
must come through whole. Idle keep-alive connections are opened first and must answer at the end.
Exit code 1 where anything of it does not hold.

200 streams at 8 tokens a second are what two free cores can check; on a busy machine take fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing as mp
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_latency import WORDS, serve_app
from bench_proxy import free_port, wait_for

PLANT = "xyzzyplant"
POLICY = f"""version: 1
name: load
extends: default
stream: {{max_hold_ms: 3000}}
categories:
  planted: {{words: [{PLANT}], direction: output, block: 0.5}}
"""
TOKENS = 80
SETTLED_S = 60
"""Shorter runs are all warm-up: growth of memory is printed, but not held against them."""


def run_upstream(port: int) -> None:
    """Stream words at the rate that the request asks for; the last third with the planted word."""
    from aiohttp import web

    logging.disable()  # the proxy hangs up on a stream that it blocks; that is no news
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        started = time.monotonic()
        for n in range(TOKENS):
            await asyncio.sleep(max(0.0, started + n / body["rate"] - time.monotonic()))
            word = PLANT if body["plant"] and n == TOKENS * 2 // 3 else WORDS[n % len(WORDS)]
            await response.write(chunk({"content": word + " "}))
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode()

    serve_app(handle, port)


@dataclass
class Tally:
    """What was seen."""

    whole: int = 0
    filtered: int = 0
    leaks: int = 0
    errors: list[str] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


async def stream(session: object, url: str, rate: float, plant: bool, tally: Tally) -> None:
    """Read one stream and judge it."""
    body = {
        "model": "m", "stream": True, "rate": rate, "plant": plant,
        "messages": [{"role": "user", "content": "Tell me about the bridge in our town."}],
    }  # fmt: skip
    started, data = time.monotonic(), b""
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:  # type: ignore[attr-defined]
        async for read in answer.content.iter_any():
            if not data:
                tally.first_s.append(time.monotonic() - started)
            data += read
        status = answer.status
    ended = data.endswith(b"data: [DONE]\n\n")
    if PLANT.encode()[:4] in data:
        tally.leaks += 1
    elif status == 200 and ended and plant and b'"content_filter"' in data:
        tally.filtered += 1
    elif status == 200 and ended and not plant and data.count(b"chat.completion.chunk") > TOKENS:
        tally.whole += 1
    else:
        tally.errors.append(f"{status} plant={plant} {data[-200:]!r}")
        await asyncio.sleep(1.0)


async def keep(
    session: object, url: str, rate: float, number: int, until: float, tally: Tally
) -> None:
    """Read one stream after another until the time is over."""
    await asyncio.sleep(number % 50 / 50 * TOKENS / rate)  # not all in step
    count = number
    while time.monotonic() < until:
        try:
            await stream(session, url, rate, count % 5 == 0, tally)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is counted)
            tally.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.5)
        count += 1


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def watch(pids: list[int], until: float, tally: Tally) -> None:
    """Sample the memory of the processes."""
    while time.monotonic() < until:
        total = 0.0
        for pid in pids:
            total += memory_mb(pid)
        tally.memory_mb.append(total)
        await asyncio.sleep(0.5)


class Idle:
    """Keep-alive connections that ask once, wait, and ask again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, count: int) -> None:
        for at in range(0, count, 100):
            some = min(100, count - at)
            opened = (asyncio.open_connection("127.0.0.1", self.port) for _ in range(some))
            self.pairs += await asyncio.gather(*opened)
            await asyncio.gather(*(self.ask(*pair) for pair in self.pairs[-some:]))

    @staticmethod
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return False
        return head.startswith(b"HTTP/1.1 200")

    async def held(self) -> int:
        """Return how many still answer, and close all."""
        found = [await self.ask(*pair) for pair in self.pairs]
        for _, writer in self.pairs:
            writer.close()
        return sum(found)


async def load(url: str, pids: list[int], options: argparse.Namespace) -> tuple[Tally, int]:
    """Run the load; return what was seen and how many idle connections were held."""
    import aiohttp

    idle, tally = Idle(int(url.rpartition(":")[2])), Tally()
    await idle.open(options.idle)
    until = time.monotonic() + options.seconds
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout()
    ) as session:
        await asyncio.gather(
            watch(pids, until, tally),
            *(keep(session, url, options.rate, n, until, tally) for n in range(options.streams)),
        )
    return tally, await idle.held()


def children(parent: int) -> list[int]:
    """Return the workers of a process, or the process itself where it has none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found or [parent]


def report(tally: Tally, held: int, options: argparse.Namespace) -> bool:
    """Print what was seen; return whether all of it holds."""
    settled = tally.memory_mb[len(tally.memory_mb) // 3 :] or [0.0]
    third = max(1, len(settled) // 3)
    early, late = statistics.median(settled[:third]), statistics.median(settled[-third:])
    growth = late - early
    first = sorted(tally.first_s) or [0.0]
    print(f"streams whole {tally.whole}, filtered {tally.filtered}, leaks {tally.leaks}")
    print(f"errors {len(tally.errors)} {tally.errors[:3]}")
    print(
        f"first byte p50 {first[len(first) // 2]:.2f} s, p99 {first[len(first) * 99 // 100]:.2f} s"
    )
    print(f"memory {early:.0f} MB, then {late:.0f} MB: {growth:+.1f} MB, peak {max(settled):.0f}")
    print(f"idle connections held {held} of {options.idle}")
    grew = options.seconds >= SETTLED_S and growth > max(10.0, 0.05 * early)
    good = not (tally.leaks or tally.errors or grew) and held == options.idle
    print("PASS" if good and tally.whole and tally.filtered else "FAIL")
    return bool(good and tally.whole and tally.filtered)


def main() -> None:
    """Start everything, load it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--idle", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=8.0, help="Tokens a second of a stream.")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free_port()
    upstream = mp.get_context("spawn").Process(target=run_upstream, args=(port,), daemon=True)
    upstream.start()
    wait_for(port)
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "load.yaml"
        policy.write_text(POLICY)
        command = [
            sys.executable, "-u", "-m", "guardrail", "serve", "-u", f"http://127.0.0.1:{port}",
            "--port", "0", "-p", str(policy), "--workers", str(options.workers),
            "--audit", f"sqlite:{folder}/audit.db",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            url = proxy.stdout.readline().split()[-1]
            pids = children(proxy.pid) if options.workers > 1 else [proxy.pid]
            good = False
            try:
                tally, held = asyncio.run(load(url, pids, options))
                good = report(tally, held, options)
            finally:
                os.kill(proxy.pid, signal.SIGTERM)
                print("stopped with", proxy.wait(60))
    upstream.terminate()
    sys.exit(not good)


if __name__ == "__main__":
    main()
