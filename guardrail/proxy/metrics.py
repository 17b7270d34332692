"""What the proxy counts, in Prometheus' own client and text format.

With several worker processes each writes to files of its own, and whichever is asked sums them up
(prometheus_client's multiprocess mode, which `workers` switches on before this is imported).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from guardrail.check import CheckRecord, ShadowRecord
from guardrail.stream import StreamStats
from guardrail.types import Direction, Outcome

__all__ = ["MULTIPROCESS_DIR", "Metrics"]

log = logging.getLogger("guardrail.proxy")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CHARS = (16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536, 262_144)


MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client learns where workers share their counts."""


class Metrics:
    """Counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "guardrail_requests",
            "Guarded requests by dialect and result.",
            ["dialect", "result"],
            registry=registry,
        )
        self.verdicts = Counter(
            "guardrail_verdicts",
            "Checks by direction and action.",
            ["direction", "action"],
            registry=registry,
        )
        self.findings = Counter(
            "guardrail_findings",
            "Categories that crossed a threshold.",
            ["direction", "category", "action"],
            registry=registry,
        )
        self.failures = Counter(
            "guardrail_check_failures",
            "Checks that could not be made or did not cover the text.",
            ["direction", "outcome", "action"],
            registry=registry,
        )
        self.redactions = Counter(
            "guardrail_redactions",
            "Places that were taken out of texts, by kind.",
            ["direction", "kind"],
            registry=registry,
        )
        self.bypasses = Counter(
            "guardrail_bypasses",
            "Traffic that was forwarded unchecked.",
            ["reason"],
            registry=registry,
        )
        self.upstream_errors = Counter(
            "guardrail_upstream_errors", "Faults of the upstream.", ["kind"], registry=registry
        )
        self.reloads = Counter(
            "guardrail_policy_reloads",
            "Policies that were loaded while running, by result.",
            ["result"],
            registry=registry,
        )
        self.shadows = Counter(
            "guardrail_shadow_verdicts",
            "Texts that a policy on trial judged, by what is in force and what it would do.",
            ["direction", "live", "shadow"],
            registry=registry,
        )
        self.audit_records = Counter(
            "guardrail_audit_records",
            "Decisions that the audit has written, dropped or pruned.",
            ["result"],
            registry=registry,
        )
        self.audit_errors = Counter(
            "guardrail_audit_errors",
            "Faults of the audit database, by kind.",
            ["kind"],
            registry=registry,
        )
        self.check_seconds = Histogram(
            "guardrail_check_seconds",
            "Time of one check, queueing included.",
            ["direction"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.escalations = Counter(
            "guardrail_escalations",
            "Questions to bigger guards by result: answered, or why not.",
            ["guard", "result"],
            registry=registry,
        )
        self.guard_seconds = Histogram(
            "guardrail_guard_seconds",
            "Time until a bigger guard answered or was given up, queueing included.",
            ["guard"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.reviews = Counter(
            "guardrail_reviews",
            "Verdicts that ask for a person.",
            ["direction"],
            registry=registry,
        )
        self.held_chars = Histogram(
            "guardrail_held_chars",
            "Most text held back in one answer.",
            buckets=_CHARS,
            registry=registry,
        )
        self.exposed_chars = Counter(
            "guardrail_exposed_chars",
            "Text released before its verdict (trail, monitor).",
            registry=registry,
        )
        self._load(registry)
        self._times()

    def _load(self, registry: CollectorRegistry) -> None:
        """Make what tells of load and of what was turned away for it."""
        self.open_streams = self._gauge("open_streams", "Streamed answers in progress.")
        self.open_connections = self._gauge("open_connections", "Connections of clients.")
        self.requests_in_progress = self._gauge(
            "requests_in_progress", "Requests that were admitted and are not answered."
        )
        self.queued_chars = self._gauge("queued_chars", "Text that waits for the classifier.")
        self.expected_wait_seconds = Gauge(
            "guardrail_expected_wait_seconds",
            "Likely time until a text that comes now is scored; of the busiest worker.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.errors = Counter(
            "guardrail_errors",
            "Requests that ended in an error, by the class of the error.",
            ["error"],
            registry=registry,
        )
        self.shed = Counter(
            "guardrail_shed",
            "Requests that came while too much was in progress, and what became of them.",
            ["reason", "action"],
            registry=registry,
        )
        self.cut_connections = Counter(
            "guardrail_cut_connections",
            "Connections that were cut off: headers too slow, answer unread, too many.",
            ["reason"],
            registry=registry,
        )
        self.unauthorized = Counter(
            "guardrail_unauthorized",
            "Requests without a valid key of the proxy.",
            registry=registry,
        )
        self.worker_restarts = Counter(
            "guardrail_worker_restarts",
            "Workers that were started in place of one that had died.",
            registry=registry,
        )

    def _times(self) -> None:
        self.loop_lag_seconds = self._seconds("loop_lag", "How late the event loop is to a timer.")
        self.first_token_delay_seconds = self._seconds(
            "first_token_delay", "Time that checks add to the first byte of a streamed answer."
        )
        self.held_seconds = self._seconds(
            "held", "Longest time that a frame of a streamed answer was held back."
        )
        self.request_seconds = self._seconds(
            "request", "Time of a guarded request, the model API's included."
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"guardrail_{name}", text, registry=self.registry, multiprocess_mode="livesum")

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"guardrail_{name}_seconds", text, buckets=_SECONDS, registry=self.registry
        )

    def shadow(self, record: ShadowRecord) -> None:
        """Count one text that a policy on trial judged; its differences go to the log."""
        live, shadow = record.live.action.value, record.shadow.action.value
        self.shadows.labels(record.direction.value, live, shadow).inc()
        if live != shadow:
            log.info(
                "shadow: %s %s by %s would be %s by %s (%s)",
                record.direction.value, live, record.live.policy, shadow, record.shadow.policy,
                "+".join((record.shadow if record.shadow.findings else record.live).categories),
            )  # fmt: skip

    def check(self, record: CheckRecord) -> None:
        """Count one finished check."""
        direction, verdict = record.direction.value, record.verdict
        self.check_seconds.labels(direction).observe(record.seconds)
        self.verdicts.labels(direction, verdict.action.value).inc()
        if verdict.outcome in (Outcome.FAILED, Outcome.TRUNCATED):
            self.failures.labels(direction, verdict.outcome.value, verdict.action.value).inc()
        for finding in verdict.findings:
            self.findings.labels(direction, finding.category, finding.action.value).inc()
        for asked in verdict.scores.escalations:
            self.escalations.labels(asked.guard, asked.reason or "answered").inc()
            self.guard_seconds.labels(asked.guard).observe(asked.seconds)
        if verdict.review:
            self.reviews.labels(direction).inc()

    def audit(self, event: str, count: int) -> None:
        """Count what the audit did; called from its own thread."""
        if event.startswith("error:"):
            self.audit_errors.labels(event.removeprefix("error:")).inc(count)
        else:
            self.audit_records.labels(event).inc(count)

    def redacted(self, direction: Direction, counts: Mapping[str, int]) -> None:
        """Count places that were redacted."""
        for kind, count in counts.items():
            self.redactions.labels(direction.value, kind).inc(count)

    def stream(self, stats: StreamStats) -> None:
        """Count one finished answer."""
        self.held_chars.observe(stats.max_held_chars)
        self.held_seconds.observe(stats.max_held_ms / 1000)
        self.exposed_chars.inc(stats.exposed_chars)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        registry = self.registry
        if MULTIPROCESS_DIR in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
