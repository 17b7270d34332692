"""A calibration of the operator's own, on top of the one that a classifier comes with.

It maps a classifier's probabilities to others, so it fits any classifier: the embedded one, a
guard, a remote endpoint. It belongs to one model and is refused for every other. Fitting it is
`guardrail.classifier.refit`'s; nothing here runs a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.calibration import GROUPS, MIN_SLOPE, Platt, group_of, sigmoid
from guardrail.classifier.targets import Scored
from guardrail.errors import BundleError

__all__ = ["LENGTH_EDGES", "Curve", "OutputMap", "Recalibration", "length_bucket", "logit"]

Floats = NDArray[np.float64]

FORMAT: Final = 1
KIND: Final = "guardrail-calibration"
MAX_BYTES: Final = 16 << 20
MAX_KNOTS: Final = 64
CLIP: Final = 1e-6
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""

LENGTH_EDGES: Final = (80, 320, 1280)
"""Characters at which a text counts as longer: a line, a paragraph, a page."""

_WRONG: Final = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
_FIX: Final = "fit it again with `guardrail calibrate`"


def logit(probabilities: NDArray[Any] | float) -> Floats:
    """Return ``log(p / (1 - p))``, float64 of the same shape, clipped to be finite."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


def length_bucket(chars: int) -> int:
    """Return the number of the length bucket of a text, 0 for the shortest."""
    return bisect_right(LENGTH_EDGES, chars)


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising line through knots, from logit to logit; beyond the ends it goes on at slope 1.

    Args:
        at: Logits of the knots, rising strictly; empty for the line that changes nothing.
        to: What they become, rising.
    """

    at: tuple[float, ...] = ()
    to: tuple[float, ...] = ()

    def apply(self, logits: NDArray[Any]) -> Floats:
        """Return the logits that these become, float64 of the same shape."""
        z = np.asarray(logits, dtype=np.float64)
        if not self.at:
            return z
        inside = np.interp(z, self.at, self.to)
        beyond = np.minimum(z - self.at[0], 0.0) + np.maximum(z - self.at[-1], 0.0)
        return np.asarray(inside + beyond)


@dataclass(frozen=True, slots=True)
class OutputMap:
    """What becomes of one output: ``curve(length(role(logit)))``.

    Args:
        method: ``none``, ``temperature``, ``platt`` or ``isotonic``.
        roles: Slope and offset for each group of `GROUPS`.
        lengths: The same for each length bucket, shortest first.
        curve: What isotonic regression adds.
    """

    method: str = "none"
    roles: Mapping[str, Platt] = field(default_factory=lambda: dict.fromkeys(GROUPS, Platt()))
    lengths: tuple[Platt, ...] = (Platt(),) * (len(LENGTH_EDGES) + 1)
    curve: Curve = Curve()

    def logits(self, logits: NDArray[Any], group: str, bucket: int) -> Floats:
        """Map logits of texts of one group of roles and one length bucket; same shape."""
        own, size = self.roles[group], self.lengths[bucket]
        z = np.asarray(logits, dtype=np.float64)
        return self.curve.apply(size.slope * (own.slope * z + own.offset) + size.offset)

    def apply(self, probability: float, role: str, chars: int) -> float:
        """Recalibrate one probability; one that is exactly 0 or 1 is a rule's, and stays."""
        if self.method == "none" or not 0.0 < probability < 1.0:
            return probability
        return float(sigmoid(self.logits(logit(probability), group_of(role), length_bucket(chars))))


@dataclass(frozen=True, slots=True, eq=False)
class Recalibration:
    """An own calibration of one model.

    Args:
        model: ``model_id`` of the classifier that it was fitted on; no other takes it.
        outputs: What becomes of each output; one that is missing stays as it is.
        scores: Labelled probabilities of the rows that it was fitted on, each calibrated by a
            fit that had not seen it: what targets and abstention are resolved against.
        report: What `guardrail calibrate` measured, as it printed it.
        digest: SHA-256 (hex) of the file.
    """

    model: str
    outputs: Mapping[str, OutputMap]
    scores: Mapping[str, Scored] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def apply(self, chances: Mapping[str, float], role: str, chars: int) -> dict[str, float]:
        """Recalibrate the probabilities of one text.

        Args:
            chances: Probability by output.
            role: Who speaks.
            chars: Length of the text.

        Returns:
            The same keys in the same order.
        """
        plain = OutputMap()
        return {k: self.outputs.get(k, plain).apply(p, role, chars) for k, p in chances.items()}

    def require(self, model: str, place: str) -> None:
        """Refuse a model that this was not fitted on.

        Args:
            model: ``model_id`` of the classifier.
            place: File name for the error.

        Raises:
            BundleError: It is another one.
        """
        if model != self.model:
            raise BundleError(
                f"{place}: fitted on model {self.model}, and this is {model}: its "
                f"probabilities would be wrong; {_FIX} on this model, or leave it out"
            )

    def save(self, path: Path) -> Recalibration:
        """Write it as JSON.

        Args:
            path: The file.

        Returns:
            The same with its digest.

        Raises:
            BundleError: The file cannot be written.
        """
        text = json.dumps(_encode(self), indent=1, allow_nan=False) + "\n"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}; name a writable --out") from error
        return replace(self, digest=hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def load(cls, path: Path | str) -> Recalibration:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            BundleError: It is missing, too large or not such a file; names it and the fix.
        """
        file = Path(path)
        try:
            if file.stat().st_size > MAX_BYTES:
                raise BundleError(f"{file}: larger than {MAX_BYTES:,} bytes; {_FIX}")
            raw = file.read_bytes()
            found = _decode(json.loads(raw))
        except OSError as error:
            raise BundleError(f"{file}: {error.strerror}; {_FIX}") from error
        except _WRONG as error:
            raise BundleError(f"{file}: not a calibration ({error}); {_FIX}") from error
        return replace(found, digest=hashlib.sha256(raw).hexdigest())


def _pair(one: Platt) -> list[float]:
    return [round(one.slope, 6), round(one.offset, 6)]


def _encode(whole: Recalibration) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "model": whole.model,
        "length_edges_chars": list(LENGTH_EDGES),
        "outputs": {
            key: {
                "method": one.method,
                "roles": {group: _pair(p) for group, p in one.roles.items()},
                "lengths": [_pair(p) for p in one.lengths],
                "curve": [[round(x, 6) for x in one.curve.at], [round(x, 6) for x in one.curve.to]],
            }
            for key, one in whole.outputs.items()
        },
        "report": dict(whole.report),
        "scores": {
            key: {
                "positive": [round(float(p), 6) for p in one.positive],
                "negative": [round(float(p), 6) for p in one.negative],
            }
            for key, one in whole.scores.items()
        },
    }


def _decode(raw: Any) -> Recalibration:
    if raw["kind"] != KIND or raw["format"] != FORMAT:
        raise ValueError(f"kind {raw['kind']!r}, format {raw['format']!r}")
    if raw["length_edges_chars"] != list(LENGTH_EDGES):
        raise ValueError("other length buckets than this release has")
    if not isinstance(raw["model"], str) or not isinstance(raw["report"], dict):
        raise ValueError("model and report are a string and an object")
    outputs = {str(key): _decode_map(one) for key, one in raw["outputs"].items()}
    scores = {
        str(key): Scored(_chances(one["positive"]), _chances(one["negative"]), "your calibration")
        for key, one in raw["scores"].items()
    }
    return Recalibration(raw["model"], outputs, scores, raw["report"])


def _decode_map(raw: Any) -> OutputMap:
    at, to = ([_number(x) for x in side] for side in raw["curve"])
    rising = all(a < b for a, b in pairwise(at))
    if not (len(at) == len(to) <= MAX_KNOTS and rising and to == sorted(to)):
        raise ValueError("the knots of a curve must rise")
    lengths = tuple(_decode_pair(one) for one in raw["lengths"])
    if len(lengths) != len(LENGTH_EDGES) + 1:
        raise ValueError("one pair of numbers for each length bucket")
    roles = {group: _decode_pair(raw["roles"][group]) for group in GROUPS}
    return OutputMap(str(raw["method"]), roles, lengths, Curve(tuple(at), tuple(to)))


def _decode_pair(raw: Any) -> Platt:
    slope, offset = (_number(x) for x in raw)
    if slope < MIN_SLOPE:
        raise ValueError(f"slope {slope} is below {MIN_SLOPE}")
    return Platt(slope, offset)


def _number(raw: Any) -> float:
    value = float(raw)
    if not math.isfinite(value) or abs(value) > 1000:
        raise ValueError(f"{value} is no usable number")
    return value


def _chances(raw: Any) -> Floats:
    found = np.array(raw, dtype=np.float64)
    if found.ndim != 1 or not ((found >= 0) & (found <= 1)).all():
        raise ValueError("scores are probabilities")
    return found
