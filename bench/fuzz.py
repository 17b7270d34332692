"""A fuzz campaign over every parser of untrusted input, guided by coverage.

    pip install atheris
    python bench/fuzz.py [--runs 1000000] [--out /tmp/fuzz] [--only request-openai.chat …]

Each target of `tests/fuzz/targets.py` runs in a process of its own under atheris (libFuzzer),
from the recordings and samples of the tests. An input that takes more than ten seconds, more than
1 GiB of memory, or raises what it must not, is kept under OUT and ends its target. What is found
belongs in `tests/fuzz/seeds/TARGET/`, where the suite runs it from then on.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_BYTES = 512
"""Longer inputs are slower to run and rarely reach further; the suite has the huge ones."""
SLOW = {"policy": 0.05, "policy:tree": 0.05, "manifest": 0.3, "keys": 0.3}
"""Share of an ordinary target's runs: parsing these takes milliseconds, not microseconds."""


def seeds(target: str) -> Iterator[bytes]:
    """Return real inputs of a target to start from."""
    from tests.wire.samples import REQUESTS

    recordings = ROOT / "tests" / "wire" / "recordings"
    if target.endswith(":tree"):
        yield bytes(range(256))
    elif target == "sse" or target.startswith("stream"):
        yield from (b"\x07" + file.read_bytes() for file in recordings.glob("*.sse"))
    elif target.startswith("response"):
        yield from (file.read_bytes() for file in recordings.glob("*.json"))
    elif target in ("manifest", "calibration"):
        yield (ROOT / "guardrail/classifier/bundle_data" / f"{target}.json").read_bytes()
    elif target == "policy":
        yield from (file.read_bytes() for file in (ROOT / "policies").glob("*.yaml"))
    elif target == "keys":
        yield b'[[keys]]\nname = "a"\nsha256 = "' + b"0" * 64 + b'"\npolicy = "strict"\n'
    else:
        yield from REQUESTS.values()
        yield b'{"input": ["a", {"type": "text", "text": "b"}], "model": "m"}'
        yield b'{"texts": ["a"], "input_type": "request", "request_data": {}}'


def run_one(target: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["guardrail", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def campaign(target: str, runs: int, out: Path) -> dict[str, object]:
    """Fuzz one target in a process of its own; return what came of it."""
    folder = out / target.replace(":", "_")
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed{number}").write_bytes(seed[:MOST_BYTES])
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, __file__, "--one", target, str(corpus), f"-runs={runs}",
            f"-artifact_prefix={folder}/", f"-max_len={MOST_BYTES}", "-rss_limit_mb=1024",
            "-timeout=10",
            "-print_final_stats=1", "-verbosity=0",
        ],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    made = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    peak = re.search(r"peak_rss_mb:\s*(\d+)", done.stderr)
    return {
        "target": target,
        "inputs": int(made[1]) if made else 0,
        "peak_mb": int(peak[1]) if peak else 0,
        "seconds": round(time.monotonic() - started, 1),
        "fault": "" if done.returncode == 0 else _fault(done.stdout + done.stderr),
    }


def _fault(log: str) -> str:
    lines = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (lines or [line for line in log.splitlines() if "ERROR" in line] or ["?"])[-1][:200]


def main() -> None:
    """Run the campaign and print the table."""
    if sys.argv[1:2] == ["--one"]:
        run_one(sys.argv[2], sys.argv[3:])
        return
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="Inputs in all.")
    parser.add_argument("--out", type=Path, default=Path("/tmp/guardrail-fuzz"))
    parser.add_argument("--only", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    options = parser.parse_args()
    shares = {name: SLOW.get(name, 1.0) for name in options.only}
    total, faults = 0, 0
    print(f"{'target':<36}{'inputs':>9}{'seconds':>9}{'peak MB':>9}  fault", flush=True)
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        result = campaign(name, int(options.runs * share / sum(shares.values())) + 1, options.out)
        total += int(str(result["inputs"]))
        faults += bool(result["fault"])
        print(
            f"{name:<36}{result['inputs']:>9}{result['seconds']:>9}{result['peak_mb']:>9}  "
            f"{result['fault']}",
            flush=True,
        )
    print(f"{total:,} inputs, {faults} targets with a fault")
    sys.exit(bool(faults))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
