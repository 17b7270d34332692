"""Where the CPU time of a checking proxy goes: inside the model's forward pass, or elsewhere.

    python bench/profile_serve.py [--requests 200] [--stacks OUT.txt]

Two-way checks of requests and answers of 64 tokens, 16 at a time, through a real proxy in this
process; the upstream and the clients are processes of their own. The time inside ONNX Runtime's
`run` is the CPU time of the scoring thread in that call and of the pool threads, which do nothing
else; everything else of the process is the rest. Prints both, and the CPU time by thread.
With --stacks, py-spy writes where the event loop's time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from bench_latency import WORDS
from bench_proxy import free_port, wait_for

TEXT = " ".join(WORDS[n * 7 % len(WORDS)] for n in range(60))
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    ],
}  # fmt: skip
AT_ONCE = 16


def run_upstream(port: int) -> None:
    """Answer with 64 tokens."""
    from aiohttp import web
    from bench_latency import serve_app

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(ANSWER)

    serve_app(handle, port)


def run_clients(port: int, requests: int) -> None:
    """Ask, so many at a time."""
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> None:
                for turn in range(requests // AT_ONCE):
                    text = f"{TEXT} {number} {turn}"
                    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
                    url = f"http://127.0.0.1:{port}/v1/chat/completions"
                    async with session.post(url, json=body) as answer:
                        assert answer.status == 200, await answer.text()
                        await answer.read()

            await asyncio.gather(*(ask(n) for n in range(AT_ONCE)))

    asyncio.run(main())


class Measured:
    """A session of ONNX Runtime that measures the CPU time of its calling thread in `run`."""

    def __init__(self, session: object) -> None:
        self._session = session
        self.seconds = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def run(self, *arguments: object) -> object:
        before = time.thread_time()
        try:
            return self._session.run(*arguments)  # type: ignore[attr-defined]
        finally:
            self.seconds += time.thread_time() - before


def threads() -> dict[int, float]:
    """Return the CPU seconds of every thread of this process."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for stat in Path("/proc/self/task").glob("*/stat"):
        parts = stat.read_text().rpartition(")")[2].split()
        found[int(stat.parent.name)] = (int(parts[11]) + int(parts[12])) / tick
    return found


def run_proxy(port: int, upstream: str, requests: int, stacks: str | None) -> None:
    """Serve in this process, have the clients ask, and print where the time went."""
    from guardrail.classifier import load_classifier
    from guardrail.classifier.base import Sample
    from guardrail.policy import bundled
    from guardrail.proxy import Settings, make_app
    from guardrail.proxy.server import run

    before = set(threads())
    classifier = load_classifier()
    pool = set(threads()) - before  # later ones are Python's and the tokenizer's
    classifier.score([Sample(TEXT)])
    session = classifier._session = Measured(classifier._session)  # noqa: SLF001
    settings = Settings(upstream, port=port)
    app = make_app(settings, bundled(), classifier)

    async def main() -> None:
        listening = asyncio.Event()
        serving = asyncio.create_task(run(app, settings, lambda _: listening.set()))
        await listening.wait()
        await asyncio.to_thread(load, port, AT_ONCE * 2)  # warm
        session.seconds, start, process = 0.0, threads(), time.process_time()
        spy = record(stacks) if stacks else None
        await asyncio.to_thread(load, port, requests)
        if spy is not None:
            spy.send_signal(signal.SIGINT)
            spy.wait()
        show(start, time.process_time() - process, session.seconds, pool)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(main())


def record(stacks: str) -> subprocess.Popen[bytes]:
    """Let py-spy write this process's stacks to a file until it is interrupted."""
    tool = str(Path(sys.executable).with_name("py-spy"))
    options = ["-p", str(os.getpid()), "-o", stacks, "-f", "raw", "-d", "3600", "-r", "200"]
    return subprocess.Popen([tool, "record", "--nonblocking", *options])


def load(port: int, requests: int) -> None:
    """Run the clients in a process of their own."""
    process = mp.get_context("spawn").Process(target=run_clients, args=(port, requests))
    process.start()
    process.join()


def show(start: dict[int, float], process: float, inside: float, runtime: set[int]) -> None:
    """Print the shares; ``runtime`` are the threads of ONNX Runtime's own pool."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    by_thread: collections.Counter[str] = collections.Counter()
    pool = 0.0
    for number, seconds in threads().items():
        spent = seconds - start.get(number, 0.0)
        if number in runtime:
            pool += spent
        other = "pool of ONNX Runtime" if number in runtime else "other native threads"
        by_thread[names.get(number, other)] += spent
    for name, seconds in by_thread.most_common(6):
        print(f"{seconds:8.2f} s  {name}")
    total = max(process, 1e-9)
    print(f"CPU time {total:.2f} s; in the forward pass {inside + pool:.2f} s")
    print(f"share of the forward pass {(inside + pool) / total:.1%}")


def main() -> None:
    """Start the upstream, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--stacks", help="Where py-spy writes its stacks.")
    options = parser.parse_args()
    upstream, port = free_port(), free_port()
    process = mp.get_context("spawn").Process(target=run_upstream, args=(upstream,), daemon=True)
    process.start()
    wait_for(upstream)
    run_proxy(port, f"http://127.0.0.1:{upstream}", options.requests, options.stacks)
    process.terminate()
    print(json.dumps({"requests": options.requests, "at_once": AT_ONCE}))


if __name__ == "__main__":
    main()
