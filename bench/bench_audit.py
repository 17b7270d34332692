"""What audit and metrics cost: three proxies with checks on, in turn, in one run.

    python bench/bench_audit.py [--seconds 5] [--rounds 5] [--connections 16]

All three judge prompt and answer of about 64 tokens each with the embedded model and the default
policy. One neither counts nor records, one counts, one counts and records to a SQLite file on
disk. They take turns, round by round, so that noise of the machine meets all. Throughput depends
on what else the machine does; CPU seconds of the proxy for each request hardly do, and are what
the shares are computed from.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import statistics
import tempfile
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
        for stream in (False, True):
            rounds(context, ports, servers, stream, options)
        for process in (*servers.values(), upstream):
            process.terminate()
            process.join()


def rounds(
    context: mp.context.SpawnContext,
    ports: dict[str, int],
    servers: dict[str, mp.context.SpawnProcess],
    stream: bool,
    options: argparse.Namespace,
) -> None:
    """Take turns and print what each variant cost."""
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    costs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name in VARIANTS:
            pid = servers[name].pid
            assert pid is not None
            before = cpu_s(pid)
            rate = measure(context, ports[name], stream, options)
            # The load begins half a second before it is measured.
            costs[name].append((cpu_s(pid) - before) / (rate * (options.seconds + 0.5)))
            rates[name].append(rate)
    print(f"{'streamed' if stream else 'whole':<20}{'req/s':>8}{'CPU ms/req':>12}{'added':>8}")
    base = statistics.median(costs[VARIANTS[0]])
    for name in VARIANTS:
        cost = statistics.median(costs[name])
        rate = statistics.median(rates[name])
        print(f"{name:<20}{rate:>8.1f}{cost * 1000:>12.2f}{cost / base - 1:>8.1%}")


if __name__ == "__main__":
    main()
