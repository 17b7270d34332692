"""Rubric text and a few examples become a head on the frozen encoder, in closed form.

A head is a weighted ridge regression of +1 and -1 (a least-squares support vector machine,
Suykens & Vandewalle 1999) on the mean states of every layer, each centred and of the same length:
the last layers know the encoder's own task best, the earlier ones keep what an author may ask for
beside it. The rubric counts as one
positive row; the definitions of the taxonomy and a list of ordinary texts are the negatives
that an author need not write. The regression has leave-one-out predictions in closed form, and
on those the head is calibrated, so that no example vouches for itself.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.calibration import Platt, fit_platt
from guardrail.policy import Rule
from guardrail.taxonomy import CATEGORIES

__all__ = ["Backdrop", "Embedder", "Fit", "Head", "fit_head", "inputs_hash", "same_text"]

Floats = NDArray[np.float64]

ALGORITHM: Final = 2
"""Number of this way of fitting; a new one makes every stored head stale."""
LAST_LAYER: Final = 3.0
"""How many other layers the last one counts for: it tells hazards apart, the others the rest."""
RIDGE: Final = 0.5
BACKDROP_WEIGHT: Final = 10.0
"""How many times as much as the rubric and its examples the backdrop counts in the regression. The
three were chosen on the rubrics of bench/bench_rubrics.py together with five of the taxonomy, left
out in turn: more ridge, more backdrop and less of the last layer are better for the former and
worse for the latter. Half or double of any of the three changes either mean AUPRC by under 0.03."""
CALIBRATION_WEIGHT: Final = 30.0
"""Examples that the backdrop counts for when probabilities are calibrated."""
PRIOR_RUBRIC_ONLY: Final = Platt(1.23, -3.6)
PRIOR: Final = Platt(1.38, -5.95)
"""Where calibration starts: pooled fits over the rubrics of bench/bench_rubrics.py, without
examples and with four to eight of each kind. The scale is standard deviations of the backdrop."""
PRIOR_STRENGTH: Final = 4.0


@runtime_checkable
class Embedder(Protocol):
    """What a head is fitted on: the embedded encoder."""

    @property
    def model_id(self) -> str:
        """Name and content hash."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (texts, layers, hidden)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """What every rubric is told apart from, as one encoder sees it.

    Args:
        centre: float64 (layers, hidden), subtracted from every embedding.
        rows: float64 (n, layers * hidden), as `features` makes them.
    """

    centre: Floats
    rows: Floats

    @classmethod
    def of(cls, embedder: Embedder) -> Backdrop:
        """Embed the ordinary texts and the taxonomy's definitions."""
        texts = _ordinary()
        raw = embedder.embed([*texts, *(c.definition for c in CATEGORIES.values())])
        centre = raw[: len(texts)].mean(axis=0, dtype=np.float64)
        return cls(centre, _features(raw, centre))

    def without(self, category: str) -> Backdrop:
        """Return the same without the definition of one category of the taxonomy."""
        at = len(_ordinary()) + list(CATEGORIES).index(category)
        return Backdrop(self.centre, np.delete(self.rows, at, axis=0))

    def features(self, embeddings: NDArray[np.float32]) -> Floats:
        """Return float64 (n, layers * hidden) of float32 (n, layers, hidden)."""
        return _features(embeddings, self.centre)


@cache
def _ordinary() -> tuple[str, ...]:
    file = resources.files("guardrail.classifier").joinpath("background.json")
    return tuple(json.loads(file.read_text(encoding="utf-8")))


def _features(embeddings: NDArray[np.float32], centre: Floats) -> Floats:
    """Centre every layer, scale it to its share, and join them to rows of length 1."""
    shares = np.ones((len(centre), 1))
    shares[-1] = LAST_LAYER
    moved = embeddings.astype(np.float64) - centre
    length = np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-9)
    return np.asarray(moved / length * np.sqrt(shares / shares.sum())).reshape(len(moved), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A fitted rubric.

    Args:
        category: Category key.
        inputs: Hash of what it was fitted from; see `inputs_hash`.
        centre: float64 (layers, hidden), subtracted from an embedding.
        weights: float64 (layers * hidden,).
        offset: Added to the product; the result is in standard deviations of the backdrop.
        calibration: Turns that into a probability.
    """

    category: str
    inputs: str
    centre: Floats
    weights: Floats
    offset: float
    calibration: Platt

    def probability(self, embeddings: NDArray[np.float32]) -> Floats:
        """Score embeddings.

        Args:
            embeddings: float32 (n, layers, hidden), as the encoder gives them.

        Returns:
            float64 (n,), calibrated probabilities.
        """
        rows = _features(embeddings, self.centre)
        return self.calibration.apply(rows @ self.weights + self.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A head and what is known of it.

    Args:
        head: The head.
        violates: float64 (n,), leave-one-out probabilities of the examples that violate.
        allowed: float64 (m,), those of the examples that are allowed.
        backdrop: float64 (k,), those of the texts that have nothing to do with it.
        warnings: What the author should know, in words.
    """

    head: Head
    violates: Floats
    allowed: Floats
    backdrop: Floats
    warnings: tuple[str, ...]


def inputs_hash(rule: Rule, model_id: str) -> str:
    """Return the SHA-256 (hex) of everything that a head of this rule depends on."""
    examples = [sorted(rule.examples.violates), sorted(rule.examples.allowed)]
    parts = [ALGORITHM, model_id, rule.category, rule.rubric, examples, list(_ordinary())]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8")).hexdigest()


def same_text(text: str) -> str:
    """Return a text without what does not tell two examples apart: case, spaces, marks."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def fit_head(rule: Rule, embedder: Embedder, backdrop: Backdrop) -> Fit:
    """Fit the head of a rule that has a rubric.

    Args:
        rule: The rule; its examples may be empty.
        embedder: The encoder.
        backdrop: What the rubric is told apart from, by the same encoder.

    Returns:
        The head, calibrated, and what is known of it.
    """
    violates, allowed = rule.examples.violates, rule.examples.allowed
    p, n = len(violates), len(allowed)
    rows = backdrop.features(embedder.embed([*violates, *allowed, rule.rubric or ""]))
    behind = len(backdrop.rows)
    design = np.vstack([rows, backdrop.rows])
    target = np.concatenate([np.ones(p), -np.ones(n), [1.0], -np.ones(behind)])
    share = BACKDROP_WEIGHT * (p + n + 1) / behind
    weight = np.concatenate([np.ones(p + n + 1), np.full(behind, share)])
    slope, offset, left_out = _ridge(design, target, weight)
    far = left_out[p + n + 1 :]
    mean, spread = float(far.mean()), max(float(far.std()), 1e-6)
    scaled = (left_out - mean) / spread
    calibration = _calibrate(scaled[: p + n], target[: p + n], scaled[p + n + 1 :])
    head = Head(
        rule.category, inputs_hash(rule, embedder.model_id), backdrop.centre,
        slope / spread, (offset - mean) / spread, calibration,
    )  # fmt: skip
    chances = calibration.apply(scaled)
    found = Fit(head, chances[:p], chances[p : p + n], chances[p + n + 1 :], ())
    return Fit(head, found.violates, found.allowed, found.backdrop, _warnings(rule, found, rows))


def _ridge(design: Floats, target: Floats, weight: Floats) -> tuple[Floats, float, Floats]:
    """Solve the regression; return slope, offset and leave-one-out predictions.

    With ``A = K + ridge * W^-1`` and ``c = A^-1 y`` the prediction without row ``i`` is
    ``y_i - c_i / (A^-1)_ii`` (Cawley 2006); the constant 1 in ``K`` is the offset's own row.
    """
    kernel = design @ design.T + 1.0
    inverse = np.linalg.inv(kernel + np.diag(RIDGE / weight))
    dual = inverse @ target
    return design.T @ dual, float(dual.sum()), target - dual / np.diag(inverse)


def _calibrate(scaled: Floats, target: Floats, far: Floats) -> Platt:
    if not len(scaled):
        return PRIOR_RUBRIC_ONLY
    margins = np.concatenate([scaled, far])
    labels = np.concatenate([(target > 0).astype(np.float64), np.zeros(len(far))])
    weights = np.concatenate(
        [np.ones(len(scaled)), np.full(len(far), CALIBRATION_WEIGHT / len(far))]
    )
    return fit_platt(margins, labels, weights, prior=PRIOR, strength=PRIOR_STRENGTH)


FEW: Final = 8
ALIKE: Final = 0.88
"""Cosine between two texts' features from which they say nearly the same: "I'd" for "I would" is
0.93, and no two twins of the bundled rubrics, which differ in what counts, are above 0.70."""


def _warnings(rule: Rule, fit: Fit, rows: Floats) -> tuple[str, ...]:
    violates, allowed = rule.examples.violates, rule.examples.allowed
    p, n = len(violates), len(allowed)
    said: list[str] = []
    if p + n == 0:
        said.append("no examples: the probabilities rest on the rubric alone and are rough")
    elif p < FEW or n < FEW:
        said.append(f"{p} violating and {n} allowed examples; from {FEW} of each on it gets better")
    close = rows[:p] @ rows[p : p + n].T > ALIKE
    same = [[same_text(v) == same_text(a) for a in allowed] for v in violates]
    for i, j in zip(*np.nonzero(close | np.array(same, dtype=bool).reshape(p, n)), strict=True):
        said.append(
            f"violates[{i}] and allowed[{j}] say nearly the same "
            f"({_brief(violates[i])} / {_brief(allowed[j])}); decide for one side"
        )
    bar = rule.lowest if rule.lowest is not None else 0.5
    for side, texts, chances, wrong, looks in (
        ("violates", violates, fit.violates, fit.violates < min(bar, 0.5) / 2, "allowed"),
        ("allowed", allowed, fit.allowed, fit.allowed > max(bar, 0.5), "violating"),
    ):
        said += [
            f"{side}[{i}] looks {looks}, p = {chances[i]:.2f}: {_brief(texts[i])}"
            for i in np.nonzero(wrong)[0]
        ]
    return tuple(said)


def _brief(text: str) -> str:
    return f'"{text if len(text) <= 48 else text[:45] + "..."}"'
