"""How much of a bare ONNX Runtime session's throughput ``guardrail score`` keeps.

Both run in one process, in turns, on the same texts with the same threads: the session on
batches that were tokenised, sorted and padded beforehand, and `score_file` from a JSONL file to
another. Run: ``python bench/bench_score.py --threads 1``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from random import Random

from guardrail.classifier.base import Sample
from guardrail.classifier.batching import batches, feed
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.encoder import EncoderClassifier, Limits
from guardrail.classifier.streams import unused_inputs
from guardrail.evaluate.scoring import score_file
from guardrail.train.corpus import CORPUS

BATCH_TOKENS = 4096


def texts(count: int) -> list[str]:
    """Draw texts of mixed length, 5 to about 400 words, from the contrast corpus."""
    lines = [
        json.loads(line)["text"]
        for path in sorted(CORPUS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    rng = Random(5)
    return [" ".join(rng.sample(lines, rng.choice((1, 1, 1, 2, 4, 8)))) for _ in range(count)]


def raw_seconds(classifier: EncoderClassifier, samples: list[Sample]) -> tuple[float, int]:
    """Time the session alone; return seconds and real tokens."""
    plans = classifier._plan(samples)  # noqa: SLF001
    windows = [window for plan in plans for window in plan.windows]
    session = classifier._session  # noqa: SLF001
    feeds = [
        feed([windows[n] for n in members]) | unused_inputs(session, len(members))
        for members in batches(windows, BATCH_TOKENS)
    ]
    started = time.perf_counter()
    for inputs in feeds:
        session.run(["logits"], inputs)
    return time.perf_counter() - started, sum(len(window.ids) for window in windows)


def main() -> None:
    """Print both throughputs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle")
    arguments = parser.parse_args()
    limits = Limits(batch_tokens=BATCH_TOKENS)
    bundle = Bundle.open(arguments.bundle)
    classifier = EncoderClassifier(bundle, threads=arguments.threads, limits=limits)
    drawn = texts(arguments.texts)
    samples = [Sample(text) for text in drawn]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        lines = (json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(drawn))
        data.write_text("".join(lines), encoding="utf-8")
        for _ in range(arguments.rounds):
            raw_s, tokens = raw_seconds(classifier, samples)
            started = time.perf_counter()
            summary = score_file(classifier, data, out, restart=True)
            score_s = time.perf_counter() - started
            assert summary.tokens == tokens
            ratios.append(raw_s / score_s)
            print(
                f"session {tokens / raw_s:,.0f} tokens/s, score {tokens / score_s:,.0f} tokens/s, "
                f"ratio {ratios[-1]:.3f}"
            )
    print(f"median ratio {statistics.median(ratios):.3f}, {arguments.threads} thread(s)")


if __name__ == "__main__":
    main()
