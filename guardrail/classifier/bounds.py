"""Exact bounds on a proportion from counts: what finite data can and cannot show."""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["interval", "lower", "needed", "upper"]


def _tail(k: int, n: int, p: float) -> float:
    """Return ``P(X <= k)`` of a binomial, summed in logarithms from the largest term on."""
    if p <= 0.0:
        return 1.0
    if p >= 1.0:
        return 1.0 if k >= n else 0.0
    first = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = first + k * math.log(p) + (n - k) * math.log1p(-p)
    total, odds = 0.0, (1 - p) / p
    if k > n * p:  # sum the shorter side
        term += math.log((n - k) / (k + 1) / odds) if k < n else -math.inf
        for i in range(k + 1, n + 1):
            share = math.exp(term)
            total += share
            if share < total * 1e-16 or i == n:
                break
            term += math.log((n - i) / (i + 1) / odds)
        return max(0.0, 1.0 - total)
    for i in range(k, -1, -1):
        share = math.exp(term)
        total += share
        if i == 0 or share < total * 1e-16:
            break
        term += math.log(i / (n - i + 1) * odds)
    return min(1.0, total)


@lru_cache(4096)
def upper(k: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound on a proportion.

    Args:
        k: Successes.
        n: Trials.
        confidence: Probability that the bound holds, such as 0.95.

    Returns:
        The ``p`` at which ``P(X <= k)`` is ``1 - confidence``; 1 where ``k`` is ``n``.
    """
    if n <= 0 or k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _tail(k, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower(k: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson lower bound; see `upper`."""
    return 1.0 - upper(n - k, n, confidence) if n > 0 else 0.0


def interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided Clopper-Pearson interval."""
    side = (1 + confidence) / 2
    return lower(k, n, side), upper(k, n, side)


def needed(rate: float, confidence: float) -> int:
    """Return the least trials without a failure that show a failure rate of at most ``rate``."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))
