"""Turns logits into probabilities that mean what they say. Pure numerics over numpy.

Each output has, for each group of roles, a slope and an offset: ``p = sigmoid(a * z + b)``
(Platt 1999; with ``b = 0`` it is temperature scaling, Guo et al. 2017, with ``T = 1 / a``).
Small groups are shrunk to the estimate over all roles, and that one to ``a = 1, b = 0``.

The overall output may be lifted first, by a share of the highest logit of a category of harm.
The categories rest on the contrast corpus more than the overall output does and travel better to
texts of other sources; docs/model.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import BundleError
from guardrail.taxonomy import KEYS
from guardrail.types import UNSAFE

__all__ = ["GROUPS", "Calibration", "Platt", "fit_calibration", "fit_platt", "group_of", "sigmoid"]

FORMAT = 1
GROUPS = ("user", "assistant", "text")
"""Roles with a calibration of their own; every other role counts as ``text``."""

MIN_SLOPE = 0.05
"""Least slope, so that a higher logit never means a lower probability."""

_LIFTING = frozenset(KEYS) - {"profanity_toxicity", "prompt_injection", "jailbreak"}
"""Categories whose texts are always unsafe: one may swear, or attack a model, harmlessly."""

Floats = NDArray[np.float64]


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Return ``1 / (1 + exp(-z))`` without overflow.

    Args:
        logits: Any shape.

    Returns:
        float64 of the same shape.
    """
    z = np.clip(np.asarray(logits, dtype=np.float64), -60.0, 60.0)
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


@dataclass(frozen=True, slots=True)
class Platt:
    """Slope and offset of one output.

    Args:
        slope: ``a``, at least `MIN_SLOPE`.
        offset: ``b``.
    """

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, logits: NDArray[Any]) -> Floats:
        """Return calibrated probabilities, float64 of the same shape."""
        return sigmoid(self.slope * np.asarray(logits, dtype=np.float64) + self.offset)


def fit_platt(
    logits: NDArray[Any],
    labels: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    prior: Platt | None = None,
    strength: float = 1.0,
    slope_only: bool = False,
    rounds: int = 50,
) -> Platt:
    """Fit slope and offset by damped Newton steps on the log loss.

    The penalty ``strength * ((a - a0)^2 + (b - b0)^2)`` draws the estimate to ``prior``: it
    counts about as much as ``strength`` rows do.

    Args:
        logits: float (n,).
        labels: float (n,) in [0, 1].
        weights: float (n,) or None for all ones.
        prior: Where to shrink to; the identity by default.
        strength: See above; above 0, so that the optimum exists.
        slope_only: Leave the offset at that of the prior: temperature scaling.
        rounds: Most Newton steps.

    Returns:
        The fitted pair.
    """
    start = prior or Platt()
    centre = np.array([start.slope, start.offset])
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    w = np.ones_like(z) if weights is None else np.asarray(weights, dtype=np.float64)
    shift = start.offset if slope_only else 0.0
    design = np.stack([z, np.full_like(z, 0.0 if slope_only else 1.0)], axis=1)

    def cost(at: Floats) -> float:
        margin = design @ at + shift
        loss = np.logaddexp(0.0, margin) - y * margin
        return float((w * loss).sum() + strength * ((at - centre) ** 2).sum())

    at = centre.copy()
    for _ in range(rounds):
        p = sigmoid(design @ at + shift)
        gradient = design.T @ (w * (p - y)) + 2 * strength * (at - centre)
        curvature = (design * (w * p * (1 - p))[:, None]).T @ design + 2 * strength * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        scale, now = 1.0, cost(at)
        while scale > 1e-4 and cost(at - scale * step) > now:
            scale /= 2
        at = at - scale * step
        at[0] = max(at[0], MIN_SLOPE)
        if np.abs(scale * step).max() < 1e-8:
            break
    return Platt(float(at[0]), float(at[1]))


def group_of(role: str) -> str:
    """Return the calibration group of a role."""
    return role if role in GROUPS else "text"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Slopes and offsets by group and output.

    Args:
        outputs: Names of the outputs, in the order of the logits.
        tables: For each group, one `Platt` for each output, in that order.
        lift: Share of the highest logit of a category of harm that is added to the overall one.
    """

    outputs: tuple[str, ...]
    tables: Mapping[str, tuple[Platt, ...]]
    lift: float = 0.0

    @classmethod
    def identity(cls, outputs: Sequence[str]) -> Calibration:
        """Return the calibration that changes nothing."""
        plain = tuple(Platt() for _ in outputs)
        return cls(tuple(outputs), dict.fromkeys(GROUPS, plain))

    def apply(self, logits: NDArray[Any], role: str) -> Floats:
        """Calibrate the logits of texts of one role.

        Args:
            logits: float (n, outputs).
            role: Who speaks.

        Returns:
            float64 (n, outputs), probabilities.
        """
        table = self.tables[group_of(role)]
        slopes = np.array([p.slope for p in table])
        offsets = np.array([p.offset for p in table])
        return sigmoid(_lifted(logits, self.outputs, self.lift) * slopes + offsets)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that `from_json` reads."""
        groups = {
            group: {
                name: [round(p.slope, 6), round(p.offset, 6)]
                for name, p in zip(self.outputs, table, strict=True)
            }
            for group, table in self.tables.items()
        }
        return {"format": FORMAT, "method": "platt", "lift": self.lift, "groups": groups}

    @classmethod
    def from_json(cls, raw: Any, outputs: Sequence[str], place: str) -> Calibration:
        """Read a calibration, bound to the outputs by name.

        Args:
            raw: Parsed JSON.
            outputs: Names of the model's outputs, in order.
            place: File name for errors.

        Raises:
            BundleError: A group or output is missing, or a number is none.
        """
        try:
            if raw["format"] != FORMAT:
                raise BundleError(f"{place}: format {raw['format']!r}; this release reads {FORMAT}")
            tables = {
                group: tuple(Platt(*map(float, raw["groups"][group][name])) for name in outputs)
                for group in GROUPS
            }
            lift = float(raw.get("lift", 0.0))
            if not 0.0 <= lift <= 10.0:
                raise ValueError(f"lift {lift}")
        except (KeyError, TypeError, ValueError) as error:
            fix = "train the bundle again or fetch it anew"
            raise BundleError(
                f"{place}: {error!r} is missing or no pair of numbers; {fix}"
            ) from error
        return cls(tuple(outputs), tables, lift)


def _lifted(logits: NDArray[Any], outputs: Sequence[str], lift: float) -> Floats:
    rows = np.array(logits, dtype=np.float64)
    columns = [n for n, name in enumerate(outputs) if name in _LIFTING]
    if lift and columns and UNSAFE in outputs:
        rows[..., list(outputs).index(UNSAFE)] += lift * rows[..., columns].max(axis=-1)
    return rows


def fit_calibration(
    outputs: Sequence[str],
    logits: NDArray[Any],
    targets: NDArray[Any],
    weights: NDArray[Any],
    roles: Sequence[str],
    *,
    strength: float = 8.0,
    lift: float = 0.0,
) -> Calibration:
    """Fit one pair for each output and group, each shrunk to its output's pair over all roles.

    Args:
        outputs: Names of the outputs.
        logits: float (n, outputs), from the very graph that will be served.
        targets: float (n, outputs) in [0, 1].
        weights: float (n, outputs); 0 where the target is unknown.
        roles: Role of each text.
        strength: How many rows the shrinkage counts for.
        lift: See `Calibration`.

    Returns:
        The calibration.
    """
    logits = _lifted(logits, outputs, lift)
    groups = np.array([group_of(role) for role in roles])
    tables: dict[str, list[Platt]] = {group: [] for group in GROUPS}
    for k in range(len(outputs)):
        known = weights[:, k] > 0
        z, y, w = logits[known, k], targets[known, k], weights[known, k]
        overall = fit_platt(z, y, w, strength=1.0) if known.any() else Platt()
        for group, table in tables.items():
            here = groups[known] == group
            own = fit_platt(z[here], y[here], w[here], prior=overall, strength=strength)
            table.append(own if here.any() else overall)
    return Calibration(tuple(outputs), {g: tuple(t) for g, t in tables.items()}, lift)
