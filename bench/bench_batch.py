"""What batching across streams gains: 16 streams of windows, together against one at a time.

    python bench/bench_batch.py [--streams 16] [--rounds 5]

Each stream hands its windows (112 characters of context, 144 new ones) to one `Checker` with the
embedded model and waits for each verdict, as a streamed answer does. The other way is the same
behind a lock, so that each forward pass has one window. Rounds alternate; ratios are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time

from bench_latency import WORDS

from guardrail.check import Checker
from guardrail.classifier import load_classifier
from guardrail.policy import bundled
from guardrail.types import Direction, Role, Segment

WINDOWS = 8


async def run(
    checker: Checker, streams: int, dice: random.Random, lock: asyncio.Lock | None
) -> tuple[float, float]:
    """Run all streams to their end; return windows a second, and CPU milliseconds of each."""
    policy = bundled()

    def text(chars: int) -> str:
        return " ".join(dice.choices(WORDS, k=chars // 4))[:chars]

    async def one() -> None:
        for _ in range(WINDOWS):
            segment, context = Segment(text(144), Role.ASSISTANT), text(112)
            if lock is None:
                await checker.check(policy, Direction.OUTPUT, segment, context=context)
            else:
                async with lock:
                    await checker.check(policy, Direction.OUTPUT, segment, context=context)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(streams)))
    count = streams * WINDOWS
    spent = (time.process_time() - cpu) / count * 1000
    return count / (time.perf_counter() - started), spent


async def measure(options: argparse.Namespace) -> None:
    """Alternate the two ways and print the medians."""
    dice = random.Random(7)
    found: dict[str, list[tuple[float, float]]] = {"one at a time": [], "together": []}
    async with Checker(load_classifier(threads=options.threads)) as checker:
        await run(checker, 4, dice, None)
        for _ in range(options.rounds):
            found["one at a time"].append(await run(checker, options.streams, dice, asyncio.Lock()))
            found["together"].append(await run(checker, options.streams, dice, None))
    rates = [statistics.median(rate for rate, _ in rounds) for rounds in found.values()]
    spent = [statistics.median(ms for _, ms in rounds) for rounds in found.values()]
    for name, rate, ms in zip(found, rates, spent, strict=True):
        print(f"{name:<14} {rate:8.1f} windows/s {ms:8.2f} ms of CPU each")
    print(
        f"throughput {rates[1] / rates[0]:.2f} times, at {spent[1] / spent[0]:.2f} of the CPU time"
    )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="Threads of one forward pass.")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
