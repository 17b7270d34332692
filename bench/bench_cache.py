"""What a stream costs and how well it is judged: read once with a cache, or by windows.

    python bench/bench_cache.py [--bundle DIR] [--data FILE …] [--rows 500]

Both ways judge the checks that a `StreamGuard` asks for, as tokens of four characters come in.
Prints model tokens and milliseconds for each streamed token by length, with and without a prompt;
what padding the caches of several streams into one run would save; and, for labelled files, the
AUPRC of ``unsafe``: whole texts, windows and the cache (the highest of all verdicts, which is
what can end a stream, and the last one), and blocks of 16 and 32 tokens. Times are CPU times of
one thread, both ways in turns; on a busy machine compare their ratio.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bench_score import texts

from guardrail.classifier.base import Place, Sample, Stream
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.classifier.streams import PAST, unused_inputs
from guardrail.evaluate.metrics import average_precision
from guardrail.evaluate.rows import Row, read_rows
from guardrail.stream import Check, Command, StreamGuard, StreamSettings
from guardrail.types import UNSAFE, Action, Channel, Direction, Frame, Role, Scores, Span, Verdict

Array = np.ndarray[Any, np.dtype[Any]]
LENGTHS = (64, 256, 1024, 8192)
PASS = Verdict(Action.PASS, Direction.OUTPUT)
PROMPT = "Write me a long and friendly letter about what happened in our town this year. " * 6


def checks(text: str) -> list[Check]:
    """Return what a guard asks for as a text streams in and every verdict comes at once."""
    guard, found = StreamGuard(StreamSettings()), list[Check]()

    def carry_out(commands: list[Command], now: float) -> None:
        for command in commands:
            if isinstance(command, Check):
                found.append(command)
                carry_out(guard.receive_verdict(command.check_id, PASS, now), now)

    for number in range(0, len(text), 4):
        part = text[number : number + 4]
        frame = Frame(part.encode("utf-8", "replace"), (Span(Channel(), part),))
        carry_out(guard.receive_frame(frame, number / 200), number / 200)
    carry_out(guard.receive_end(len(text)), len(text))
    return found


def windows(found: Sequence[Check], role: Role, prompt: str | None) -> list[Sample]:
    """Return checks as texts of their own."""
    return [Sample(c.text, role, prompt, c.context) for c in found]


def parts(found: Sequence[Check], role: Role, prompt: str | None) -> list[Sample]:
    """Return checks as parts of a new stream."""
    stream = Stream()
    return [Sample(c.text, role, prompt, c.context, Place(stream, c.start)) for c in found]


def in_blocks(classifier: EncoderClassifier, text: str, size: int) -> list[Check]:
    """Cut a text at the word's edge after every ``size`` tokens."""
    encoded = classifier._tokenizer.encode(text, add_special_tokens=False)  # noqa: SLF001
    cuts, count = [0], 0
    for start, _ in encoded.offsets:
        count += 1
        if count > size and text[start - 1].isspace():
            cuts.append(start)
            count = 1
    spans = [(a, b) for a, b in pairwise([*cuts, len(text)]) if b > a]
    return [
        Check(n, Channel(), text[a:b], text[max(0, a - 112) : a], a, b, b == len(text))
        for n, (a, b) in enumerate(spans)
    ]


def timed(classifier: EncoderClassifier, samples: Sequence[Sample]) -> tuple[float, int]:
    """Score one check after the other; return CPU milliseconds and model tokens."""
    started, tokens = time.thread_time(), 0
    for sample in samples:
        tokens += classifier.score([sample])[0].coverage.tokens
    return 1000 * (time.thread_time() - started), tokens


def print_cost(classifier: EncoderClassifier, rounds: int) -> None:
    """Print tokens and milliseconds for each streamed token."""
    print("streamed tokens, prompt | model tokens: windows, cache | ms: windows, cache | ratio")
    story = " ".join(texts(3000))
    for length in LENGTHS:
        text = story[: 4 * length]
        streamed = classifier.score([Sample(text)])[0].coverage
        count = len(classifier._tokenize([text])[0])  # noqa: SLF001
        assert not streamed.truncated
        found = checks(text)
        for prompt in (None, PROMPT):
            ways: tuple[Callable[..., list[Sample]], ...] = (windows, parts)
            times: list[list[float]] = [[], []]
            tokens = [0, 0]
            for _ in range(rounds):
                for n, way in enumerate(ways):
                    ms, tokens[n] = timed(classifier, way(found, Role.ASSISTANT, prompt))
                    times[n].append(ms / count)
            slow, fast = (min(each) for each in times)
            print(
                f"{count:6}, {'none' if prompt is None else '64 tokens':9} | "
                f"{tokens[0] / count:.2f}, {tokens[1] / count:.2f} | {slow:.3f}, {fast:.3f} | "
                f"{slow / fast:.2f}",
                flush=True,
            )


class Together:
    """A check of 28 tokens of each of eight streams that have come unequally far."""

    NEW = 28
    BEFORE = tuple(int(n) for n in np.linspace(40, 220, 8))

    def __init__(self, classifier: EncoderClassifier) -> None:
        self.session = classifier._session  # noqa: SLF001
        self.unused = unused_inputs(self.session, 1)
        rng = np.random.default_rng(0)
        past = {n: v.shape for n, v in self.unused.items() if n.startswith(PAST)}
        self.results = ["token_weights", *(name.replace(PAST, "present.") for name in past)]
        self.ids = rng.integers(1000, 20000, (8, self.NEW))
        self.caches = [
            {n: rng.random((1, s[1], before, s[3]), np.float32) for n, s in past.items()}
            for before in self.BEFORE
        ]

    def run(self, rows: Array, seen: Array, cache: dict[str, Array]) -> list[Array]:
        """Read new tokens with what came before them."""
        feed = {"input_ids": rows, "attention_mask": seen}
        feed |= {"token_type_ids": np.zeros_like(rows), "pool_mask": np.ones_like(rows)}
        found: list[Array] = self.session.run(self.results, self.unused | feed | cache)
        return found

    def alone(self) -> None:
        """Run each stream by itself."""
        for row, (before, cache) in enumerate(zip(self.BEFORE, self.caches, strict=True)):
            seen = np.ones((1, before + self.NEW), np.int64)
            self.run(self.ids[row : row + 1], seen, cache)

    def padded(self) -> None:
        """Pad all caches to the longest, run them as one batch, and take them apart again."""
        most = max(self.BEFORE)
        seen = np.ones((8, most + self.NEW), np.int64)
        joined = {
            name: np.zeros((8, first.shape[1], most, first.shape[3]), np.float32)
            for name, first in self.caches[0].items()
        }
        for row, (before, cache) in enumerate(zip(self.BEFORE, self.caches, strict=True)):
            seen[row, : most - before] = 0
            for name, part in cache.items():
                joined[name][row, :, most - before :] = part[0]
        found = self.run(self.ids, seen, joined)
        for row, before in enumerate(self.BEFORE):
            for part in found[1:]:
                np.ascontiguousarray(part[row : row + 1, :, most - before :])


def print_together(classifier: EncoderClassifier, rounds: int) -> None:
    """Print what a check costs where eight streams wait for one."""
    eight = Together(classifier)
    full = [c for c in checks(" ".join(texts(400))[:4000]) if len(c.text) > 100][:8]
    ways: dict[str, Callable[[], object]] = {
        "caches, each alone": eight.alone,
        "caches, padded": eight.padded,
        "windows, one batch": lambda: classifier.score(windows(full, Role.ASSISTANT, None)),
        "windows and prompts": lambda: classifier.score(windows(full, Role.ASSISTANT, PROMPT)),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.thread_time()
            way()
            spent[name].append(1000 * (time.thread_time() - started) / 8)
    print("eight streams at once, ms for a check of about 28 new tokens:")
    for name, each in spent.items():
        print(f"  {name:20} {min(each):.2f}")


def judged(classifier: EncoderClassifier, row: Row) -> dict[str, float]:
    """Return the probability of ``unsafe`` of one row, each way."""
    role, found = Role(row.role), checks(row.text)
    values = {"whole": classifier.score([Sample(row.text, role, row.prompt)])[0]}
    result = {name: scores.categories[UNSAFE] for name, scores in values.items()}

    def note(name: str, scores: Sequence[Scores]) -> None:
        chances = [s.categories[UNSAFE] for s in scores] or [0.0]
        result[f"{name}, highest"], result[f"{name}, last"] = max(chances), chances[-1]

    alone = classifier.score(windows(found, role, row.prompt))
    result["windows, highest"] = max((s.categories[UNSAFE] for s in alone), default=0.0)
    note("cache", classifier.score(parts(found, role, row.prompt)))
    for size in (16, 32):
        blocks = parts(in_blocks(classifier, row.text, size), role, row.prompt)
        note(f"blocks of {size}", classifier.score(blocks))
    return result


def print_quality(classifier: EncoderClassifier, files: Sequence[Path], rows: int) -> None:
    """Print the AUPRC of each way on each file, over all rows and over long ones."""
    for path in files:
        known = [r for r in read_rows(path) if r.unsafe is not None and r.text.strip()]
        held = [r for r in known if r.split == "dev"] or known
        random.Random(3).shuffle(held)
        drawn = held[:rows]
        found = [judged(classifier, row) for row in drawn]
        labels = np.array([row.unsafe for row in drawn])
        long = np.array([len(row.text) > 200 for row in drawn])
        print(f"{path.name}: {len(drawn)} rows, {labels.sum()} unsafe; "
              f"{long.sum()} longer than 200 characters, {labels[long].sum()} unsafe")  # fmt: skip
        for name in found[0]:
            chances = np.array([one[name] for one in found])
            every = average_precision(labels, chances)
            some = average_precision(labels[long], chances[long])
            print(f"  {name:20} {every:.3f}   long {some:.3f}", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="A stream with a cache, or by windows.")
    parser.add_argument("--bundle", help="a bundle whose graph takes a cache")
    parser.add_argument("--data", nargs="*", type=Path, default=[], help="labelled files")
    parser.add_argument("--rows", type=int, default=500, help="rows drawn from each file")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    classifier = EncoderClassifier(Bundle.open(options.bundle), threads=1)
    print_cost(classifier, options.rounds)
    print_together(classifier, options.rounds)
    print_quality(classifier, options.data, options.rows)


if __name__ == "__main__":
    main()
