"""Draws precision–recall, ROC and reliability plots; needs matplotlib (``[train]``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.evaluate.metrics import curve, reliability

__all__ = ["draw"]

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
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install 'guardrail[train]'"
        ) from error
    figure = Figure(figsize=(13, 4.2), layout="constrained")
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


def _label(axes: Any, title: str, across: str, up: str) -> None:
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(fontsize="small")
