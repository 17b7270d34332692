"""What the SDK costs and gains: overhead of a decorated call, batching, and LiteLLM beside it.

    python bench/bench_sdk.py             # overhead and batching
    python bench/bench_sdk.py --litellm   # also through a running LiteLLM proxy guardrail

Prints one JSON object. Times are medians; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from guardrail import Guardrail, guard
from guardrail.classifier import Classifier, Sample, load_classifier
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.types import Coverage, Scores

ROOT = Path(__file__).parent.parent
TEXT = (
    "Could you explain how a kettle knows when to switch itself off, and whether it makes a "
    "difference if the lid is left open? I boiled the same water twice and it took longer."
)
CONCURRENT = 64


def median_ms(call: Callable[[], object], rounds: int) -> float:
    """Return the median wall time of a call in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


class Timed:
    """A classifier that notes how long its forward passes take.

    Args:
        inner: The classifier.
    """

    def __init__(self, inner: Classifier) -> None:
        self.inner = inner
        self.model_id = inner.model_id
        self.categories = inner.categories
        self.seconds = 0.0

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score, and add to `seconds`."""
        start = time.perf_counter()
        try:
            return self.inner.score(samples)
        finally:
            self.seconds += time.perf_counter() - start


class Instant:
    """A classifier that answers at once: what is left is the guard's own cost."""

    model_id = "instant@0"
    categories = CATEGORY_KEYS[1:]
    seconds = 0.0

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Return low probabilities that cover the texts."""
        return [
            Scores(
                dict.fromkeys(CATEGORY_KEYS, 0.01),
                self.model_id,
                Coverage(len(s.text), len(s.text)),
            )
            for s in samples
        ]


def overhead(rounds: int, timed: Timed | Instant) -> dict[str, float]:
    """Time decorated calls less the forward passes inside them."""
    rail = Guardrail.load("default", classifier=timed)

    @guard(policy=rail, output=False)
    def chat(prompt: str) -> str:
        return prompt

    @guard(policy=rail, output=False)
    async def achat(prompt: str) -> str:
        return prompt

    found: dict[str, float] = {}
    with asyncio.Runner() as runner:
        calls = {"sync": lambda: chat(TEXT), "async": lambda: runner.run(achat(TEXT))}
        for name, call in calls.items():
            call()
            passes, rest = [], []
            for _ in range(rounds):
                timed.seconds = 0.0
                start = time.perf_counter()
                call()
                rest.append(time.perf_counter() - start - timed.seconds)
                passes.append(timed.seconds)
            found[f"{name}_forward_pass_ms"] = statistics.median(passes) * 1000
            found[f"{name}_overhead_ms"] = statistics.median(rest) * 1000
            found[f"{name}_overhead_p10_ms"] = statistics.quantiles(rest, n=10)[0] * 1000
            found[f"{name}_overhead_p95_ms"] = statistics.quantiles(rest, n=20)[-1] * 1000
    return found


def batching(rail: Guardrail, rounds: int) -> dict[str, float]:
    """Compare 64 async checks at once with the same one after the other."""
    texts = [f"{TEXT} Question {i}." for i in range(CONCURRENT)]

    async def together() -> None:
        await asyncio.gather(*(rail.acheck(text) for text in texts))

    async def in_turn() -> None:
        for text in texts:
            await rail.acheck(text)

    at_once = median_ms(lambda: asyncio.run(together()), rounds) / 1000
    alone = median_ms(lambda: asyncio.run(in_turn()), rounds) / 1000
    return {
        "concurrent": CONCURRENT,
        "together_per_s": CONCURRENT / at_once,
        "in_turn_per_s": CONCURRENT / alone,
        "ratio": alone / at_once,
    }


# --- LiteLLM -----------------------------------------------------------------------------

CONFIG = """
model_list:
  - model_name: quick
    litellm_params: {{model: openai/quick, api_base: "{base}/v1", api_key: none}}
guardrails:
  - guardrail_name: ours
    litellm_params:
      guardrail: guardrail.sdk.litellm_guardrail.LiteLLMGuardrail
      mode: pre_call
"""


async def answer(_: web.Request) -> web.Response:
    """Answer at once, so that only LiteLLM and the check are timed."""
    message = {"role": "assistant", "content": "ok"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return web.json_response({**body, "choices": [choice]})


def upstream(ready: threading.Event, ports: list[int]) -> None:
    """Serve the instant model in a thread of its own."""

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(serve())


def litellm(rail: Guardrail, rounds: int) -> dict[str, float]:
    """Compare a check in process with the same through a LiteLLM proxy's guardrail."""
    ready, ports = threading.Event(), list[int]()
    threading.Thread(target=upstream, args=(ready, ports), daemon=True).start()
    ready.wait()
    key = f"sk-{secrets.token_hex(32)}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(base=f"http://127.0.0.1:{ports[0]}"))
        start = "from litellm.proxy.proxy_cli import run_server; run_server()"
        args = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-c", start, *args],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LITELLM_MASTER_KEY": key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _through(rail, rounds, f"http://127.0.0.1:{port}", key)
        finally:
            process.terminate()
            process.wait(30)


def _through(rail: Guardrail, rounds: int, url: str, key: str) -> dict[str, float]:
    def call(guardrails: list[str]) -> None:
        messages = [{"role": "user", "content": TEXT}]
        body = {"model": "quick", "messages": messages, "guardrails": guardrails}
        request = urllib.request.Request(
            f"{url}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()

    for _ in range(300):
        try:
            call(["ours"])
            break
        except OSError:
            time.sleep(0.5)
    with_check = median_ms(lambda: call(["ours"]), rounds)
    without = median_ms(lambda: call([]), rounds)
    here = median_ms(lambda: rail.check(TEXT), rounds)
    return {
        "in_process_ms": here,
        "through_litellm_ms": with_check,
        "litellm_without_guardrail_ms": without,
        "ratio_of_the_whole_call": with_check / here,
        "ratio_of_what_the_guardrail_adds": (with_check - without) / here,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--litellm", action="store_true")
    options = parser.parse_args()
    rail = Guardrail.load("default")
    rail.warm_up()
    result: dict[str, Any] = {
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "chars": len(TEXT),
        "overhead": overhead(options.rounds, Timed(load_classifier())),
        "own_cost": overhead(options.rounds, Instant()),
        "batching": batching(rail, max(3, options.rounds // 20)),
    }
    if options.litellm:
        result["litellm"] = litellm(rail, options.rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
