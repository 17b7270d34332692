"""Turns one model's logits into probabilities, by as much as the labelled data can bear.

Below `FEW` rows of the rarer label nothing is fitted; then one number (temperature, Guo et al.
2017), two (Platt 1999), or a monotone curve (isotonic, Zadrozny & Elkan 2002). Pure numpy; the
embedded model's own calibration, by role and output, is `guardrail.classifier.calibration`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.calibration import MIN_SLOPE, fit_platt, sigmoid
from guardrail.errors import BundleError

__all__ = [
    "FEW",
    "Method",
    "Scaling",
    "fit_scaling",
    "isotonic",
    "load_scalings",
    "save_scalings",
]

Floats = NDArray[np.float64]

FORMAT: Final = 1

FEW: Final = 8
"""Rows of the rarer label below which nothing is fitted."""

PLATT_FROM: Final = 30
"""Rows of the rarer label from which an offset is fitted beside the slope."""

ISOTONIC_FROM: Final = 500
"""Rows of the rarer label from which a curve is fitted; below about 1,000 rows isotonic
regression overfits (Niculescu-Mizil & Caruana 2005)."""

EDGE: Final = 1e-4
"""Least probability that a curve gives: some hundred rows bear out no certainty."""


class Method(StrEnum):
    """How logits are turned into probabilities, by the data it takes."""

    NONE = "none"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class Scaling:
    """A fitted way from a logit to a probability.

    Args:
        method: How.
        slope: Slope on the logit.
        offset: Offset on the logit.
        knots: Logits of the isotonic curve, rising.
        values: Its probabilities there; between two knots it is linear.
        rows: Rows that it was fitted on.
    """

    method: Method = Method.NONE
    slope: float = 1.0
    offset: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    rows: int = 0

    def apply(self, logits: NDArray[Any]) -> Floats:
        """Return probabilities, float64 of the same shape."""
        z = np.asarray(logits, dtype=np.float64)
        if self.method is Method.ISOTONIC:
            return np.asarray(np.interp(z, self.knots, self.values))
        return sigmoid(self.slope * z + self.offset)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that `from_json` reads."""
        plain: dict[str, Any] = {"method": self.method.value, "rows": self.rows}
        if self.method is Method.ISOTONIC:
            return {**plain, "knots": list(self.knots), "values": list(self.values)}
        return {**plain, "slope": self.slope, "offset": self.offset}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], place: str) -> Scaling:
        """Read one.

        Args:
            raw: Parsed JSON.
            place: File name and field, for errors.

        Raises:
            BundleError: A field is missing or no number, or the curve falls.
        """
        try:
            method = Method(raw["method"])
            rows = int(raw.get("rows", 0))
            if method is Method.ISOTONIC:
                knots, values = tuple(map(float, raw["knots"])), tuple(map(float, raw["values"]))
                rising = all(a < b for a, b in pairwise(knots))
                up = all(a <= b for a, b in pairwise((0.0, *values, 1.0)))
                if len(knots) != len(values) or not knots or not rising or not up:
                    raise ValueError("knots and values must rise together")
                return cls(method, knots=knots, values=values, rows=rows)
            slope, offset = float(raw["slope"]), float(raw["offset"])
            if not (slope > 0 and np.isfinite(slope) and np.isfinite(offset)):
                raise ValueError("slope must be above 0")
            return cls(method, slope, offset, rows=rows)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"{place}: {error!r}; fit the calibration again") from error


def fit_scaling(
    logits: NDArray[Any], labels: NDArray[Any], method: Method | None = None
) -> Scaling:
    """Fit the calibration of one output.

    Args:
        logits: float (n,).
        labels: 0 or 1, (n,).
        method: How; None to let the number of rows of the rarer label decide.

    Returns:
        The fit; `Method.NONE` where there is too little to fit on.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    chosen = method or _method(int(min(y.sum(), len(y) - y.sum())) if len(y) else 0)
    if chosen is Method.NONE:
        return Scaling(rows=len(y))
    if chosen is Method.ISOTONIC:
        knots, values = isotonic(z, y)
        return Scaling(chosen, knots=knots, values=values, rows=len(y))
    if chosen is Method.TEMPERATURE:
        return Scaling(chosen, _temperature(z, y), rows=len(y))
    fit = fit_platt(z, y)
    return Scaling(chosen, fit.slope, fit.offset, rows=len(y))


def _method(rarer: int) -> Method:
    if rarer < FEW:
        return Method.NONE
    if rarer < PLATT_FROM:
        return Method.TEMPERATURE
    return Method.PLATT if rarer < ISOTONIC_FROM else Method.ISOTONIC


def _temperature(z: Floats, y: Floats, strength: float = 1.0) -> float:
    """Fit the slope alone by Newton steps on the convex log loss, drawn to 1 like one row."""
    slope = 1.0
    for _ in range(50):
        p = sigmoid(slope * z)
        gradient = float((z * (p - y)).sum()) + 2 * strength * (slope - 1)
        curvature = float((z * z * p * (1 - p)).sum()) + 2 * strength
        step = gradient / curvature
        slope = float(np.clip(slope - np.clip(step, -1, 1), MIN_SLOPE, 1e3))
        if abs(step) < 1e-9:
            break
    return slope


def isotonic(
    logits: NDArray[Any], labels: NDArray[Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit the rising step function nearest to the labels: pool adjacent violators.

    Args:
        logits: float (n,), n at least 1.
        labels: 0 or 1, (n,).

    Returns:
        Rising knots and their probabilities: the mean logit and the share of each pool.
    """
    order = np.argsort(logits, kind="stable")
    z, y = np.asarray(logits, np.float64)[order], np.asarray(labels, np.float64)[order]
    pools: list[tuple[float, float, float]] = []  # sum of labels, of logits, rows
    for at, group in zip(*_ties(z), strict=True):
        pools.append((float(y[group].sum()), at * len(y[group]), float(len(y[group]))))
        while len(pools) > 1 and pools[-2][0] / pools[-2][2] >= pools[-1][0] / pools[-1][2]:
            a, b = pools.pop(), pools.pop()
            pools.append((a[0] + b[0], a[1] + b[1], a[2] + b[2]))
    knots = tuple(round(s / n, 9) for _, s, n in pools)
    return knots, tuple(float(np.clip(t / n, EDGE, 1 - EDGE)) for t, _, n in pools)


def _ties(z: Floats) -> tuple[list[float], list[slice]]:
    """Return the distinct values of a sorted array, and where each stands."""
    values, starts = np.unique(z, return_index=True)
    ends = np.append(starts[1:], len(z))
    return values.tolist(), [slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]


def load_scalings(path: Path, model_id: str) -> dict[str, Scaling]:
    """Read a judge's calibration.

    Args:
        path: A file that `save_scalings` wrote.
        model_id: The model it is to be applied to.

    Returns:
        The scalings by rubric key.

    Raises:
        BundleError: The file cannot be read, or was fitted on another model.
    """
    try:
        raw = json.loads(path.read_bytes())
        fitted_on, rubrics = raw["model"], dict(raw["rubrics"])
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; name a calibration file") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: no calibration of a judge ({error!r}); fit it again") from error
    if raw.get("format") != FORMAT:
        raise BundleError(f"{path}: format {raw.get('format')!r}; this release reads {FORMAT}")
    if fitted_on != model_id:
        raise BundleError(
            f"{path}: was fitted on {fitted_on}, and the model is {model_id}; fit it again"
        )
    return {key: Scaling.from_json(body, f"{path}: {key}") for key, body in rubrics.items()}


def save_scalings(path: Path, model_id: str, scalings: Mapping[str, Scaling]) -> None:
    """Write a judge's calibration, bound to its model.

    Args:
        path: File to write.
        model_id: The model that it was fitted on.
        scalings: By rubric key, ``all`` for the others.

    Raises:
        BundleError: The file cannot be written.
    """
    rubrics: dict[str, Any] = {key: scaling.as_json() for key, scaling in scalings.items()}
    body = {"format": FORMAT, "model": model_id, "rubrics": rubrics}
    try:
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; name a writable file") from error
