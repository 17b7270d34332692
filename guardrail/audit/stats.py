"""Counts over decisions, for the command line and the console."""

from __future__ import annotations

from typing import Any, Final

from guardrail.audit.store import Query, Store

__all__ = ["series", "summary"]

SAMPLE: Final = 20_000
"""Newest decisions on which percentiles and the counts of categories rest."""


def summary(store: Store, query: Query) -> dict[str, Any]:
    """Count decisions.

    Args:
        store: The open database.
        query: Which decisions.

    Returns:
        ``decisions``, ``requests``, counts by ``actions`` (with direction), ``categories``,
        ``outcomes``, ``reasons`` and ``decided_by``, and percentiles of ``check_ms`` over the
        newest 20,000.
    """
    where, values = query.where()
    base = f"FROM guardrail_decisions d WHERE {where}"
    total = store.execute(f"SELECT COUNT(*), COUNT(DISTINCT request_id) {base}", values).fetchone()

    def counts(expression: str, limit: int = 50) -> dict[str, int]:
        rows = store.execute(
            f"SELECT {expression}, COUNT(*) {base} GROUP BY {expression} "
            "ORDER BY COUNT(*) DESC LIMIT ?",
            [*values, limit],
        )
        return {str(name): int(count) for name, count in rows.fetchall() if name}

    recent = store.execute(
        f"SELECT check_ms, categories {base} ORDER BY time DESC LIMIT ?", [*values, SAMPLE]
    ).fetchall()
    store.connection.rollback()
    found: dict[str, int] = {}
    for _, names in recent:
        for name in str(names).split(","):
            if name:
                found[name] = found.get(name, 0) + 1
    return {
        "decisions": int(total[0]),
        "requests": int(total[1]),
        "actions": counts("direction || ' ' || action"),
        "categories": dict(sorted(found.items(), key=lambda item: -item[1])),
        "outcomes": counts("outcome"),
        "reasons": counts("reason"),
        "decided_by": counts("decided_by"),
        "check_ms": percentiles([float(row[0]) for row in recent]),
    }


def series(store: Store, query: Query, since: float, until: float, buckets: int) -> dict[str, Any]:
    """Count decisions by action over time, with the time of a check.

    Args:
        store: The open database.
        query: Which decisions.
        since: First second.
        until: Second after the last.
        buckets: How many parts the time is cut into.

    Returns:
        ``since``, ``width_s`` and, for every part, ``pass``, ``flag``, ``redact``, ``block``,
        ``mean_ms`` and ``max_ms`` as lists.
    """
    width = max((until - since) / buckets, 1e-3)
    where, values = query.where()
    bucket = store.backend.bucket
    rows = store.execute(
        f"SELECT {bucket} AS part, action, COUNT(*), AVG(check_ms), MAX(check_ms) "  # noqa: S608
        f"FROM guardrail_decisions d WHERE {where} AND time >= ? AND time < ? "
        "GROUP BY part, action",
        [width, *values, since, until],
    ).fetchall()
    store.connection.rollback()
    first = int(since // width)
    lines: dict[str, list[float]] = {
        name: [0.0] * (buckets + 1)
        for name in ("pass", "flag", "redact", "block", "sum_ms", "max_ms")
    }
    for part, action, count, mean, most in rows:
        at = int(part) - first
        if 0 <= at <= buckets and action in lines:
            lines[action][at] += int(count)
            lines["sum_ms"][at] += float(mean) * int(count)
            lines["max_ms"][at] = max(lines["max_ms"][at], float(most))
    actions = ("pass", "flag", "redact", "block")
    counts = zip(*(lines[action] for action in actions), strict=True)
    total = lines.pop("sum_ms")
    lines["mean_ms"] = [t / max(sum(n), 1) for t, n in zip(total, counts, strict=True)]
    return {"since": first * width, "width_s": width, **lines}


def percentiles(values: list[float]) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum; empty where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    at = {f"p{p}": ordered[round(last * p / 100)] for p in (50, 95, 99)}
    return {**at, "max": ordered[-1]}
