"""How a policy is laid over those that it extends: JSON merge patch (RFC 7396), with a record.

Mappings are merged key by key, everything else is replaced, and null removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guardrail.policy.types import Override

__all__ = ["Layer", "Marks", "Place", "merge", "without_nulls"]

Place = tuple[str | int, ...]
Marks = dict[Place, tuple[int, int]]

OWN: Final = ("name", "description", "extends", "tests", "calibration", "select", "shadow")
"""What a policy says of itself alone and does not hand on."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One document of those that make up a policy.

    Args:
        document: Its content.
        marks: 1-based line and column by path.
        file: Its name for messages.
    """

    document: Mapping[str, Any]
    marks: Marks
    file: str


def merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], tuple[Override, ...]]:
    """Merge documents.

    Args:
        layers: The documents, the one with the last word last.

    Returns:
        The merged document without ``extends``, and what was changed on the way.
    """
    merged: dict[str, Any] = {}
    overrides: dict[str, Override] = {}
    for layer in layers:
        own = layer is layers[-1]
        above = {k: v for k, v in layer.document.items() if own or k not in OWN}
        for change in _lay(merged, above, layer.file, ""):
            first = overrides.get(change.path)
            before = first.before if first else change.before
            overrides[change.path] = Override(change.path, before, change.after, change.file)
    merged.pop("extends", None)
    changed = (o for o in overrides.values() if o.before != o.after)
    return merged, tuple(changed)


def _lay(below: dict[str, Any], above: Mapping[str, Any], file: str, path: str) -> list[Override]:
    changes: list[Override] = []
    for key, value in above.items():
        place = f"{path}.{key}" if path else key
        old = below.get(key)
        if value is None:
            if key in below:
                changes.append(Override(place, below.pop(key), None, file))
        elif isinstance(value, Mapping) and isinstance(old, Mapping):
            copy = dict(old)  # anchors may share one mapping between two places
            changes += _lay(copy, value, file, place)
            below[key] = copy
        else:
            if key in below and old != value:
                changes.append(Override(place, old, value, file))
            below[key] = without_nulls(value)
    return changes


def without_nulls(value: Any) -> Any:
    """Return a copy of plain data without the keys whose value is null."""
    if isinstance(value, Mapping):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value
