"""Draws what a cascade costs and brings: in the terminal, and as a PNG with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guardrail.evaluate.tradeoff import Choice

__all__ = ["draw", "table"]

WIDTH = 24

Curve = Sequence[tuple[float, Choice]]


def table(points: Curve, costs: Sequence[float], unit: str) -> str:
    """Return the trade-off as lines for a terminal.

    Args:
        points: The best band for each share, measured.
        costs: Cost of 1,000 texts at each.
        unit: What it is counted in.
    """
    lines = [f"{'escalated':>10} {'recall':>7}  {'95 %':<11} {'alarms':>7} {f'cost/1k {unit}':>14}"]
    for (_, c), cost in zip(points, costs, strict=True):
        low, high = c.recall_interval
        bar = "█" * round(c.recall * WIDTH)
        lines.append(
            f"{c.share:>10.1%} {c.recall:>7.3f}  {f'{low:.2f}-{high:.2f}':<11} {c.fpr:>7.2%} "
            f"{cost:>14.4g}  {bar}"
        )
    return "\n".join(lines)


def draw(
    measured: Curve,
    oracle: Curve,
    costs: Sequence[float],
    chosen: Choice,
    *,
    unit: str,
    fpr: float,
    path: Path,
) -> None:
    """Write an image: recall against the share escalated, and against cost.

    Args:
        measured: The best band for each share, measured on rows that it was not chosen on.
        oracle: The same with a guard that is always right.
        costs: Cost of 1,000 texts at each share.
        chosen: The band that was picked.
        unit: What cost is counted in.
        fpr: False-alarm rate that thresholds were chosen for.
        path: The PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message has the install line.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'guardrail[train]'"
        ) from error
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    across = [c.share * 100 for _, c in measured]
    up = [c.recall for _, c in measured]
    spans = [c.recall_interval for _, c in measured]
    left.fill_between(across, [a for a, _ in spans], [b for _, b in spans], alpha=0.2)
    left.plot(across, up, marker="o", label="cascade, with exact 95 % interval")
    left.plot(
        [c.share * 100 for _, c in oracle],
        [c.recall for _, c in oracle],
        color="grey",
        linestyle="--",
        label="oracle: if the guard were always right (a bound, not a result)",
    )
    left.axhline(up[0], color="tab:green", linestyle=":", label="never asked")
    left.axhline(up[-1], color="tab:red", linestyle=":", label="best with no limit")
    left.plot([chosen.share * 100], [chosen.recall], marker="*", markersize=14, linestyle="",
              color="black", label="chosen")  # fmt: skip
    left.set(xlabel="escalated, % of texts", ylabel=f"recall at {fpr:.1%} false alarms")
    left.set(ylim=(0, 1.02), title="Quality against share escalated")
    left.legend(fontsize="x-small", loc="lower right")
    right.plot(costs, up, marker="o")
    right.set(xlabel=f"cost of 1,000 texts, {unit}", ylim=(0, 1.02), title="Quality against cost")
    figure.savefig(path, dpi=110)
