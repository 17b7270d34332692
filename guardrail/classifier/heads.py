"""Where fitted heads are kept: one file for each, next to the policy, named by what went in."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from guardrail.classifier.calibration import Platt
from guardrail.classifier.rubrics import Backdrop, Embedder, Fit, Head, fit_head, inputs_hash
from guardrail.policy import Policy, Rule

__all__ = ["HeadStore", "fit_policy", "heads_for"]

_log = logging.getLogger(__name__)

FORMAT: Final = 2
FOLDER: Final = ".guardrail"
MAX_BYTES: Final = 1 << 20


class HeadStore:
    """Heads on disk.

    Args:
        folder: Where they are kept; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, policy: Policy) -> HeadStore:
        """Return the store next to a policy's file; of one from memory nothing is kept.

        Where that folder cannot be written, as that of the bundled policies in many
        installations, it is the user's cache.
        """
        if policy.file is None:
            return cls(None)
        folder = Path(policy.file).parent
        if os.access(folder, os.W_OK):
            return cls(folder / FOLDER)
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(cache) / "guardrail" / "heads")

    def read(self, category: str, inputs: str) -> Head | None:
        """Return the head that was fitted from these inputs, or None.

        A file that is damaged, or of another format, counts as none: a head is cheap to fit.
        """
        path = self._path(category, inputs)
        if path is None:
            return None
        try:
            if path.stat().st_size > MAX_BYTES:
                return None
            return _decode(json.loads(path.read_bytes()), category, inputs)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, head: Head) -> bool:
        """Keep a head; return whether that was possible."""
        path = self._path(head.category, head.inputs)
        if path is None:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(_encode(head), file)
                Path(name).replace(path)  # a reader sees the old file or the new one, whole
            except OSError:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            _log.info("a head is not kept: %s", error.strerror)
            return False
        return True

    def _path(self, category: str, inputs: str) -> Path | None:
        return self.folder / f"{category}-{inputs[:16]}.head.json" if self.folder else None


def _encode(head: Head) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "category": head.category,
        "inputs": head.inputs,
        "offset": head.offset,
        "calibration": [head.calibration.slope, head.calibration.offset],
        "centre": head.centre.round(6).tolist(),
        "weights": head.weights.round(6).tolist(),
    }


def _decode(raw: dict[str, Any], category: str, inputs: str) -> Head | None:
    if (raw["format"], raw["category"], raw["inputs"]) != (FORMAT, category, inputs):
        return None
    centre, weights = (np.array(raw[key], dtype=np.float64) for key in ("centre", "weights"))
    slope, offset = (float(x) for x in raw["calibration"])
    numbers = np.array([float(raw["offset"]), slope, offset, *centre.flat, *weights])
    if centre.ndim != 2 or weights.shape != (centre.size,) or not np.isfinite(numbers).all():
        return None
    return Head(category, inputs, centre, weights, float(raw["offset"]), Platt(slope, offset))


def fit_policy(
    policy: Policy, embedder: Embedder, progress: Callable[[str], None] | None = None
) -> tuple[Fit, ...]:
    """Fit every rule of a policy that has a rubric.

    Args:
        policy: The policy.
        embedder: The encoder.
        progress: Called with each category before it is fitted.

    Returns:
        The fits, in the order of the rules.
    """
    rules = [rule for rule in policy.rules if rule.rubric]
    backdrop = Backdrop.of(embedder) if rules else None
    found = []
    for rule in rules:
        if progress is not None:
            progress(rule.category)
        assert backdrop is not None
        found.append(fit_head(rule, embedder, backdrop))
    return tuple(found)


def heads_for(
    policy: Policy, embedder: Embedder, store: HeadStore | None = None
) -> tuple[Head, ...]:
    """Return the heads of a policy, fitted only where their inputs changed.

    Args:
        policy: The policy.
        embedder: The encoder.
        store: Where heads are kept; None for the place next to the policy.

    Returns:
        One head for each rule that has a rubric.
    """
    kept = store or HeadStore.beside(policy)
    backdrop: Backdrop | None = None
    heads = []
    for rule in (rule for rule in policy.rules if rule.rubric):
        head = kept.read(rule.category, inputs_hash(rule, embedder.model_id))
        if head is None:
            backdrop = backdrop or Backdrop.of(embedder)
            head = _fit_and_keep(rule, embedder, backdrop, kept)
        heads.append(head)
    return tuple(heads)


def _fit_and_keep(rule: Rule, embedder: Embedder, backdrop: Backdrop, kept: HeadStore) -> Head:
    head = fit_head(rule, embedder, backdrop).head
    kept.write(head)
    return head
