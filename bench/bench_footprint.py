"""Size of the base install, time of a cold check, and memory of the server.

    python bench/bench_footprint.py [--runs 5]

The size is that of the base requirements and ONNX Runtime with all they need, as installed now.
A cold check is a new process: import, load, judge one sentence, print.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import re
import resource
import statistics
import subprocess
import sys
import time

ROOTS = ("guardrail", "onnxruntime")


def closure() -> set[str]:
    """Return the names of the packages that `pip install guardrail[cpu]` brings."""
    seen: set[str] = set()
    todo = list(ROOTS)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        seen.add(name)
        todo += [re.split(r"[^\w.-]", line)[0] for line in requires if "extra ==" not in line]
    return seen


def size_mb(name: str) -> float:
    """Return the size of the files of one installed package."""
    files = metadata.files(name) or []
    paths = [file.locate() for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6  # type: ignore[attr-defined]


def cold_check_s(runs: int) -> list[float]:
    """Time `guardrail check` of one sentence in new processes."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        command = [sys.executable, "-m", "guardrail", "check", "How do I kill a Python process?"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return times


def warm_check_ms() -> float:
    """Time the same check with the model loaded: one forward pass."""
    from guardrail.classifier import Sample, load_classifier

    classifier = load_classifier()
    sample = [Sample("How do I kill a Python process?")]
    classifier.score(sample)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        classifier.score(sample)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    sizes = {name: size_mb(name) for name in closure() if name != "guardrail"}
    total = sum(sizes.values())
    largest = ", ".join(f"{n} {s:.0f}" for n, s in sorted(sizes.items(), key=lambda x: -x[1])[:4])
    print(f"base install     {total:6.0f} MB in {len(sizes)} packages ({largest} …)")
    print(f"cold check       {statistics.median(cold_check_s(runs)):6.2f} s (median of {runs})")
    print(f"warm check       {warm_check_ms():6.1f} ms (one forward pass of 10 tokens)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory           {peak:6.0f} MB resident with the model loaded")


if __name__ == "__main__":
    main()
