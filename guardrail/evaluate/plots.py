"""Draws precision–recall, ROC and reliability plots; needs matplotlib (``[train]``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.bounds import interval
from guardrail.evaluate.metrics import curve, reliability

__all__ = ["draw", "draw_reliability"]

Series = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def draw(series: Series, path: Path) -> None:
    """Write one image with a precision–recall, a ROC and a reliability plot.

    Args:
        series: By name, labels (0 or 1) and probabilities, float64 (n,) each, both classes
            present.
        path: The PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message has the install line.
    """
    figure = _figure((13, 4.2))
    recall_axes, roc_axes, bins_axes = figure.subplots(1, 3)
    for name, (labels, probabilities) in series.items():
        points = curve(labels, probabilities)
        recall_axes.plot(points.recall, points.precision, label=name)
        roc_axes.plot(points.fpr, points.recall, label=name)
        count, mean, share = reliability(labels, probabilities)
        bins_axes.plot(mean[count > 0], share[count > 0], marker="o", label=name)
    _label(recall_axes, "Precision and recall", "recall", "precision")
    _label(roc_axes, "ROC", "false-positive rate", "recall")
    bins_axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    _label(bins_axes, "Reliability", "mean probability", "share of positives")
    figure.savefig(path, dpi=110)


def _figure(inches: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'guardrail[train]'"
        ) from error
    return Figure(figsize=inches, layout="constrained")


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize="small")


def draw_reliability(series: Series, path: Path) -> None:
    """Write one image with a reliability diagram and the rows of each bin.

    Args:
        series: By name, such as ``before`` and ``after``: labels (0 or 1) and probabilities,
            float64 (n,) each.
        path: The PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message has the install line.
    """
    figure = _figure((9, 4.2))
    bins_axes, count_axes = figure.subplots(1, 2)
    for name, (labels, probabilities) in series.items():
        count, mean, share = reliability(labels, probabilities, 10)
        there = count > 0
        bounds = [interval(round(s * n), int(n)) for s, n in zip(share, count, strict=True) if n]
        below = np.maximum(share[there] - np.array([low for low, _ in bounds]), 0.0)
        above = np.maximum(np.array([high for _, high in bounds]) - share[there], 0.0)
        bins_axes.errorbar(
            mean[there], share[there], [below, above], marker="o", capsize=2, label=name
        )
        count_axes.hist(probabilities, bins=10, range=(0, 1), histtype="step", label=name)
    bins_axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    _label(bins_axes, "Reliability, exact 95% intervals", "mean probability", "share of positives")
    bins_axes.legend(fontsize="small", loc="upper left")
    count_axes.set(title="Rows", xlabel="probability", yscale="log", xlim=(0, 1))
    figure.savefig(path, dpi=110)
