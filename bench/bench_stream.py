"""What `StreamGuard` costs, in simulated time: no model, no sockets.

    python bench/bench_stream.py [--latency-ms 30] [--rate 50] [--streams 100]

Prints, for the guard and for two simpler ways of guarding a stream ("hold everything", and
"check all text every 5 chunks"): characters checked per character streamed by length, the delay
of the first token, and the hold-back. Then microseconds a frame and bytes a stream.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from guardrail.stream import Check, Command, Release, StreamGuard, StreamSettings, Wake
from guardrail.types import Action, Channel, Direction, Frame, Span, Verdict

PASS = Verdict(Action.PASS, Direction.OUTPUT)
WORDS = "the a of to and in is it you that was for on are with as his they at be this from have"
LENGTHS = (64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)


@dataclass
class Played:
    """One stream: when each token came and left, and what was checked."""

    came: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    chars: int = 0
    checked: int = 0

    @property
    def cost(self) -> float:
        return self.checked / self.chars

    @property
    def delays_ms(self) -> list[float]:
        return [1000 * (b - a) for a, b in zip(self.came, self.left, strict=True)]


@dataclass(frozen=True)
class World:
    """Tokens a second and seconds a check."""

    rate: float
    latency_s: float


def tokens(count: int, rng: random.Random) -> list[str]:
    """Words with their space, about 4 characters each."""
    return [" " + word for word in rng.choices(WORDS.split(), k=count)]


def arrivals(count: int, world: World, rng: random.Random) -> Iterator[float]:
    """Times of the tokens: the rate, give or take half a gap."""
    return (max(0.0, i + rng.uniform(-0.5, 0.5)) / world.rate for i in range(count))


def guarded(pieces: list[str], world: World, rng: random.Random) -> Played:
    """The stream through a `StreamGuard`."""
    guard, played = StreamGuard(StreamSettings()), Played()
    agenda: list[tuple[float, int, Check | Wake]] = []

    def carry_out(commands: list[Command], now: float) -> None:
        for command in commands:
            match command:
                case Check():
                    item = (now + world.latency_s, command.check_id, command)
                    heapq.heappush(agenda, item)
                case Wake(at):
                    heapq.heappush(agenda, (at, -len(played.came), command))
                case Release(frames):
                    played.left += [now] * len(frames)

    def run(until: float) -> None:
        while agenda and agenda[0][0] <= until:
            now, _, item = heapq.heappop(agenda)
            if isinstance(item, Check):
                carry_out(guard.receive_verdict(item.check_id, PASS, now), now)
            else:
                carry_out(guard.receive_time(now), now)

    for piece, now in zip(pieces, arrivals(len(pieces), world, rng), strict=True):
        run(now)
        played.came.append(now)
        carry_out(guard.receive_frame(Frame(piece.encode(), (Span(Channel(), piece),)), now), now)
        played.held.append(len(played.came) - len(played.left))
    carry_out(guard.receive_end(played.came[-1]), played.came[-1])
    run(float("inf"))
    played.chars, played.checked = guard.stats.received_chars, guard.stats.checked_chars
    return played


def in_steps(step: int) -> Callable[[list[str], World, random.Random], Played]:
    """All text so far, checked again every ``step`` tokens and at the end."""

    def play(pieces: list[str], world: World, rng: random.Random) -> Played:
        played = Played(came=list(arrivals(len(pieces), world, rng)))
        for i, piece in enumerate(pieces, 1):
            played.chars += len(piece)
            if i % step == 0 or i == len(pieces):
                played.checked += played.chars
                played.left += [played.came[i - 1] + world.latency_s] * (i - len(played.left))
        for now in played.came:
            stays = zip(played.came, played.left, strict=False)
            played.held.append(sum(came <= now < left for came, left in stays))
        return played

    return play


WAYS = {
    "StreamGuard": guarded,
    "hold everything": in_steps(10**9),
    "all text every 5": in_steps(5),
}


def print_cost(world: World) -> None:
    print(f"\ncharacters checked per character streamed, at {world.rate:g} tokens/s")
    print("tokens".rjust(18), *(f"{length:>7}" for length in LENGTHS))
    for name, way in WAYS.items():
        costs = (cost_of(way, length, world) for length in LENGTHS)
        print(name.rjust(18), *(f"{cost:7.2f}" for cost in costs))


def cost_of(
    way: Callable[[list[str], World, random.Random], Played], length: int, world: World
) -> float:
    if way is not guarded:  # the held counts of the simple ways are quadratic, and not asked for
        step = 5 if way is WAYS["all text every 5"] else length
        return sum({*range(step, length + 1, step), length}) / length
    rng = random.Random(1)
    return max(guarded(tokens(length, rng), world, rng).cost for _ in range(5))


def print_delay(world: World, streams: int, length: int = 400) -> None:
    print(
        f"\n{streams} streams of {length} tokens at {world.rate:g} tokens/s, "
        f"{1000 * world.latency_s:g} ms a check"
    )
    print(" " * 18, "first token +ms     delay of a token, ms   held back, tokens")
    print(" " * 18, "    p50     p95      p50     p95     max    p50   p95   max")
    for name, way in WAYS.items():
        rng = random.Random(2)
        played = [way(tokens(length, rng), world, rng) for _ in range(streams)]
        first = [p.delays_ms[0] for p in played]
        delays = [delay for p in played for delay in p.delays_ms]
        held = [count for p in played for count in p.held]
        print(
            name.rjust(18),
            f"{at(first, 50):7.0f} {at(first, 95):7.0f}  {at(delays, 50):7.0f} "
            f"{at(delays, 95):7.0f} {max(delays):7.0f}  {at(held, 50):5.0f} "
            f"{at(held, 95):5.0f} {max(held):5.0f}",
        )


def at(values: list[float] | list[int], percent: int) -> float:
    return float(statistics.quantiles(values, n=100)[percent - 1])


def print_rates(latency_s: float) -> None:
    print("\nthe guard by rate (512 tokens): slow streams meet the time bound before the stride")
    print("  tokens/s   cost   characters checked a second   held p95, tokens")
    for rate in (5, 10, 20, 30, 40, 50, 100, 200):
        rng, world = random.Random(3), World(rate, latency_s)
        played = guarded(tokens(512, rng), world, rng)
        load = played.checked / (played.came[-1] or 1)
        print(f"{rate:10} {played.cost:6.2f} {load:29.0f} {at(played.held, 95):18.0f}")


def print_speed() -> None:
    rng = random.Random(4)
    frames = [Frame(b"x" * 200, (Span(Channel(), piece),)) for piece in tokens(20_000, rng)]
    best = min(seconds(frames) for _ in range(7))
    micros = 1e6 * best / len(frames)
    print(f"\n{micros:.2f} microseconds of processor time a frame, verdicts included")
    tracemalloc.start()
    guards = [StreamGuard(StreamSettings()) for _ in range(100)]
    for guard in guards:
        feed(guard, frames[:1000])
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{current / len(guards):.0f} bytes an open stream after 1,000 frames")


def seconds(frames: list[Frame]) -> float:
    guard = StreamGuard(StreamSettings())
    start = time.process_time()
    feed(guard, frames)
    return time.process_time() - start


def feed(guard: StreamGuard, frames: list[Frame]) -> None:
    for frame in frames:
        for command in guard.receive_frame(frame, 0.0):
            if isinstance(command, Check):
                guard.receive_verdict(command.check_id, PASS, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="StreamGuard in simulated time.")
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--streams", type=int, default=100)
    options = parser.parse_args()
    world = World(options.rate, options.latency_ms / 1000)
    print_cost(world)
    for latency_s in sorted({0.01, world.latency_s, 0.1}):
        print_delay(World(world.rate, latency_s), options.streams)
    print_rates(world.latency_s)
    print_speed()


if __name__ == "__main__":
    main()
