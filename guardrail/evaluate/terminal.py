"""A reliability diagram in plain characters, for a terminal."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from guardrail.classifier.bounds import interval
from guardrail.evaluate.metrics import reliability

__all__ = ["diagram"]

WIDTH: Final = 40
BINS: Final = 10


def diagram(labels: NDArray[Any], probabilities: NDArray[Any], title: str) -> str:
    """Draw what was said against what was seen.

    A line for each bin of equal width: ``|`` is the mean probability, ``o`` the share of
    positives, ``-`` its exact 95 % interval. Where ``o`` lies right of ``|``, harm is more
    frequent than was said.

    Args:
        labels: 0 or 1, (n,).
        probabilities: float (n,).
        title: First line.

    Returns:
        Lines, with a final newline.
    """
    counts, means, shares = reliability(labels, probabilities, BINS)
    lines = [title, f"  {'said':<10}{'rows':>7}  {'0':<{WIDTH}}1   said  seen"]
    for n, (count, mean, share) in enumerate(zip(counts, means, shares, strict=True)):
        name = f"{n / BINS:.1f}–{(n + 1) / BINS:.1f}"
        if not count:
            lines.append(f"  {name:<10}{0:>7}")
            continue
        low, high = interval(round(share * count), int(count))
        cells = [" "] * (WIDTH + 1)
        cells[round(low * WIDTH) : round(high * WIDTH) + 1] = "-" * (
            round(high * WIDTH) - round(low * WIDTH) + 1
        )
        cells[round(mean * WIDTH)] = "|"
        cells[round(share * WIDTH)] = "o"
        line = f"  {name:<10}{int(count):>7}  {''.join(cells)}  {mean:5.2f} {share:5.2f}"
        lines.append(line)
    return "\n".join(lines) + "\n"
