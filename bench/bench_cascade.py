"""Always small, always big, and the cascade between: throughput and quality, in one run.

    python bench/bench_cascade.py --data labelled.jsonl.gz --guard smollm2 --limit 400
    python bench/bench_cascade.py --data labelled.jsonl.gz --guard whole --limit 2000

``smollm2``: the embedded model, and SmolLM2-135M-Instruct behind a real llama.cpp server, read by
the log-probabilities of yes and no. At 135 million parameters it judges hardly better than chance:
it stands for the cost and the way of a bigger guard, not for its quality.

``whole``: an informative guard. The small model is the embedded one reading the first 80
characters of each text and no prompt; the guard is the embedded one reading everything. It stands
for a guard that knows more, not for any guard that there is.

Every other text chooses the band (at most ``--escalated`` of them) and calibrates the guard; the
rest is judged three times by a `Checker`, which is what the table is of.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardrail.check import Checker
from guardrail.classifier import load_classifier
from guardrail.classifier.asking import rubrics_of
from guardrail.classifier.base import Classifier, Judge, Sample
from guardrail.classifier.cascade import Guard, Guards
from guardrail.classifier.guard_kinds import LocalJudge, make_judge
from guardrail.evaluate.metrics import average_precision, bootstrap, recall_at_fpr
from guardrail.evaluate.pairing import Case, pair_up, read_cases
from guardrail.evaluate.tradeoff import Goal, calibrated, choose, frontier, oracle
from guardrail.policy import GuardSpec, Policy, parse_policy
from guardrail.types import UNSAFE, Channel, Direction, Role, Scores, Segment

POLICY = """
version: 1
name: bench
timeout_ms: 600000
normalise: false
input: {{roles: [system, user, assistant, tool]}}
guards:
  big: {{{guard}, timeout_ms: 590000, concurrency: {lanes}, cache: 0, calibration: {calibration}}}
categories:
  unsafe: {{flag: 0.5, escalate: {{band: [{low}, {high}], guard: big}}}}
"""
AT_ONCE = 16
FIRST_CHARS = 80


@dataclass(frozen=True, slots=True)
class Short:
    """The embedded model reading the first characters only: a stand-in for a cheaper model."""

    inner: Classifier

    @property
    def model_id(self) -> str:
        return f"{self.inner.model_id}:first{FIRST_CHARS}"

    @property
    def categories(self) -> tuple[str, ...]:
        return self.inner.categories

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        return self.inner.score(
            [replace(s, text=s.text[:FIRST_CHARS], prompt=None) for s in samples]
        )


@contextmanager
def llama() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).parent / "llama_server.py")]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def policy_of(guard: str, low: float, high: float, lanes: int, calibration: str) -> Policy:
    return parse_policy(
        POLICY.format(guard=guard, low=low, high=high, lanes=lanes, calibration=calibration)
    )


async def judged(
    small: Classifier, guards: Guards, policy: Policy, cases: Sequence[Case]
) -> tuple[float, list[float], float]:
    """Return texts per second, the probability of each, and the share that was escalated."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with Checker(small, guards=guards) as checker:
        await asyncio.to_thread(checker.adopt, policy)

        async def one(case: Case) -> Scores:
            s = case.sample
            way = Direction.OUTPUT if s.role is Role.ASSISTANT else Direction.INPUT
            async with slots:
                verdict = await checker.check(
                    policy, way, Segment(s.text, s.role, Channel(), s.prompt)
                )
            return verdict.scores

        started = time.perf_counter()
        found = await asyncio.gather(*(one(case) for case in cases))
        seconds = time.perf_counter() - started
    failed = sum(e.after is None for s in found for e in s.escalations)
    assert not failed, f"the guard failed {failed} times"
    asked = sum(bool(s.escalations) for s in found)
    return len(cases) / seconds, [s.categories[UNSAFE] for s in found], asked / len(cases)


def row(name: str, labels: np.ndarray, result: tuple[float, list[float], float]) -> str:
    rate, chances, share = result
    scores = np.array(chances)
    spans = [bootstrap(m, labels, scores, rounds=200) for m in (average_precision, recall_at_fpr)]
    cells = [f"{s.value:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in spans]
    return f"| {name} | {share:.1%} | {rate:,.1f} | {' | '.join(cells)} |"


def run(options: argparse.Namespace, guard: str, embedded: Classifier) -> None:
    cases = read_cases(options.data, UNSAFE, split=options.split, limit=options.limit)
    tuning, held = cases[0::2], cases[1::2]
    small = Short(embedded) if options.guard == "whole" else embedded
    lanes = 1 if options.guard == "whole" else 4

    def make(spec: GuardSpec, rubrics: Mapping[str, str], folder: Path) -> Judge:
        if options.guard == "whole":
            return LocalJudge(embedded)
        return make_judge(spec, rubrics, folder)

    plain = policy_of(guard, 0.0, 1.0, lanes, "{all: [1, 0]}")
    spec = plain.guards["big"]
    big = Guard(spec, make(spec, rubrics_of(plain), Path()), normalise=False)
    pairs, platt = calibrated(pair_up(tuning, UNSAFE, small, big).pairs)
    chosen = choose(pairs, Goal(0.01, escalated=options.escalated))
    fitted = f"{{all: [{platt.slope:.6f}, {platt.offset:.6f}]}}"
    labels = np.array([case.violates for case in held], dtype=np.int64)
    guards = Guards(make)
    print(f"{len(tuning)} texts tuned on, {len(held)} judged, {labels.sum()} of them violating")
    print(f"small {small.model_id}, big {big.model_id}, big's calibration {fitted}")
    print("| | escalated | texts/s | AUPRC | recall at 1% FPR |\n|---|---:|---:|---:|---:|")
    bands = {"always small": (0.999999, 1.0), "always big": (0.0, 1.0)}
    bands[f"cascade [{chosen.low:.3f}, {chosen.high:.3f})"] = (chosen.low, chosen.high)
    for name, (low, high) in bands.items():
        if low >= high:
            print(f"| {name}: no band within the budget brings anything | | | | |")
            continue
        policy = policy_of(guard, low, high, lanes, fitted)
        print(row(name, labels, asyncio.run(judged(small, guards, policy, held))), flush=True)
    curve = frontier(oracle(pairs), 0.01, (options.escalated,))
    print(
        "oracle (a guard that is always right, on the tuning half): recall "
        f"{curve[0][1].recall:.3f} at {curve[0][1].share:.1%} escalated; a bound, not a result"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--guard", choices=("smollm2", "whole"), default="whole")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--escalated", type=float, default=0.1)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    embedded = load_classifier(threads=options.threads)
    if options.guard == "whole":
        run(options, "kind: local, model: embedded", embedded)
        return
    with llama() as url:
        run(options, f"kind: openai_logprobs, url: '{url}/v1', model: smollm2", embedded)


if __name__ == "__main__":
    main()
