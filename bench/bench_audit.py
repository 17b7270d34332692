"""What audit and metrics cost: three proxies with checks on, in turn, in one run.

    python bench/bench_audit.py [--seconds 5] [--rounds 5] [--connections 16]

All three judge prompt and answer of about 64 tokens each with the embedded model and the default
policy. One neither counts nor records, one counts, one counts and records to a SQLite file on
disk. They take turns, round by round, so that noise of the machine meets all. Throughput depends
on what else the machine does; CPU seconds of the proxy for each request do less. Last come the two
alone: CPU time of counting and recording the decisions of one exchange, both threads, and its
share of what a whole request costs.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench_proxy import free_port, measure, pin, run_upstream, wait_for

VARIANTS = ("neither", "metrics", "metrics and audit")


def run_variant(variant: str, port: int, upstream: str, place: str) -> None:
    """Serve with the default policy."""
    from guardrail.audit import AuditSettings
    from guardrail.classifier import load_classifier
    from guardrail.policy import bundled
    from guardrail.proxy import Settings, serve
    from guardrail.proxy.metrics import Metrics

    pin(1)
    if variant == "neither":
        Metrics.check = Metrics.stream = lambda *_: None  # type: ignore[assignment, method-assign]
    audit = AuditSettings(place) if variant == VARIANTS[2] else None
    settings = Settings(upstream, port=port, audit=audit)
    serve(settings, bundled(), load_classifier(threads=1), lambda _: None)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--streams", action="store_true", help="streamed answers as well")
    options = parser.parse_args()
    context = mp.get_context("spawn")
    upstream_port = free_port()
    ports = {name: free_port() for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        upstream = context.Process(target=run_upstream, args=(upstream_port,), daemon=True)
        upstream.start()
        servers = {
            name: context.Process(
                target=run_variant,
                args=(name, port, f"http://127.0.0.1:{upstream_port}", f"sqlite:{folder}/a.db"),
                daemon=True,
            )
            for name, port in ports.items()
        }
        for server in servers.values():
            server.start()
        for port in (upstream_port, *ports.values()):
            wait_for(port)
        base = rounds(context, ports, servers, False, options)
        if options.streams:
            rounds(context, ports, servers, True, options)
        alone(folder, base)
        for process in (*servers.values(), upstream):
            process.terminate()
            process.join()


def rounds(
    context: mp.context.SpawnContext,
    ports: dict[str, int],
    servers: dict[str, mp.context.SpawnProcess],
    stream: bool,
    options: argparse.Namespace,
) -> float:
    """Take turns and print what each variant cost; return the seconds of the first."""
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    costs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            pid = servers[name].pid
            assert pid is not None
            before = cpu_s(pid)
            rate = measure(context, ports[name], stream, options)
            # The load begins half a second before it is measured.
            if rate:
                costs[name].append((cpu_s(pid) - before) / (rate * (options.seconds + 0.5)))
                rates[name].append(rate)
    if not all(costs.values()):
        raise SystemExit("no request came to an end; give it more --seconds or fewer --connections")
    print(f"{'streamed' if stream else 'whole':<20}{'req/s':>8}{'CPU ms/req':>12}{'added':>8}")
    base = statistics.median(costs[VARIANTS[0]])
    for name in VARIANTS:
        cost = statistics.median(costs[name])
        rate = statistics.median(rates[name])
        print(f"{name:<20}{rate:>8.1f}{cost * 1000:>12.2f}{cost / base - 1:>8.1%}")
    return base


def alone(folder: str, request_s: float) -> None:
    """Print what counting and recording take of the CPU, with nothing else in the process."""
    from guardrail.audit import AuditLog, AuditSettings, Origin
    from guardrail.decide import decide
    from guardrail.policy import bundled
    from guardrail.policy.schema import CATEGORY_KEYS
    from guardrail.proxy.metrics import Metrics
    from guardrail.stream import StreamStats
    from guardrail.types import Coverage, Direction, Role, Scores, Segment
    from guardrail.watch import CheckRecord

    policy, metrics, n = bundled(), Metrics(), 4_000
    scores = Scores(dict.fromkeys(CATEGORY_KEYS, 0.0123), "m@1", Coverage(300, 300, 70, 1))
    records = [
        CheckRecord(way, decide(policy, way, role, scores), 300, 0.01, Segment("x" * 300, role))
        for way, role in ((Direction.INPUT, Role.USER), (Direction.OUTPUT, Role.ASSISTANT))
    ]
    log = AuditLog(AuditSettings(f"sqlite:{folder}/alone.db"))
    log.start()
    before = time.process_time()
    for number in range(n):
        trail = log.trail(Origin(f"{number:032x}", "proxy", "/v1/x", "openai.chat", "m"), policy)
        for record in records:
            trail.checked(record)
        trail.finish("ok", StreamStats())
    assert log.close(60) == 0
    audit = (time.process_time() - before) / n
    before = time.process_time()
    for _ in range(n):
        for record in records:
            metrics.check(record)
        metrics.stream(StreamStats())
    counted = (time.process_time() - before) / n
    for name, cost in (("audit", audit), ("metrics", counted)):
        print(f"{name + ' alone':<20}{cost * 1e6:>17.0f} us{cost / request_s:>8.1%}")


if __name__ == "__main__":
    main()
