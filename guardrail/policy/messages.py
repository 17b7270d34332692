"""A JSON Schema error in the words of a policy's author."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["explain", "order"]

Place = tuple[str | int, ...]


def order(error: ValidationError) -> tuple[int, list[str]]:
    """Return a sort key of errors: unknown keys first, as they make others look missing."""
    return (0 if error.validator == "additionalProperties" else 1), [str(p) for p in error.path]


def explain(error: ValidationError) -> tuple[Place, str]:
    """Return the place of a schema error, and what is wrong and how to fix it."""
    path = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        return (*path, str(error.instance)), _bad_name(path, str(error.instance))
    if error.validator == "additionalProperties":
        return _unknown_key(error, path)
    name = ".".join(str(part) for part in path) or "the policy"
    value = _show(error.instance)
    expected: Any = error.validator_value
    messages = {
        "required": lambda: f"{name} lacks {_missing(error)}; add it",
        "type": lambda: f"'{name}' should be {_article(expected)}, not {value}",
        "enum": lambda: (
            f"'{name}' is {value}; use one of {', '.join(map(str, expected))}"
            f"{_near(error.instance, expected)}"
        ),
        "const": lambda: f"'{name}' is {value}; this release reads version {expected}",
        "minimum": lambda: f"'{name}' is {value}; the least is {expected}",
        "maximum": lambda: f"'{name}' is {value}; the most is {expected}",
        "exclusiveMinimum": lambda: f"'{name}' is {value}; use more than {expected}",
        "exclusiveMaximum": lambda: f"'{name}' is {value}; use less than {expected}",
        "minItems": lambda: f"'{name}' has too few entries; {expected} is the least",
        "maxItems": lambda: f"'{name}' has too many entries; {expected} is the most",
        "minLength": lambda: f"'{name}' is empty; fill it in or remove it",
        "maxLength": lambda: f"'{name}' has more than {expected:,} characters; shorten it",
        "uniqueItems": lambda: f"'{name}' has an entry twice; remove one",
        "minProperties": lambda: f"'{name}' is empty; fill it in or remove it",
        "pattern": lambda: f"'{name}' is {value}; use lower-case letters, digits, - and _",
    }
    make = messages.get(str(error.validator))
    return path, make() if make else f"'{name}': {error.message[:200]}"


def _bad_name(path: Place, name: str) -> str:
    if path[-1:] == ("header",):
        return f"the header '{name[:80]}' cannot be used; write its name in lower case"
    rule = (
        "a language tag in lower case, such as 'de' or 'pt-br'"
        if path[-1:] == ("message",)
        else "lower-case letters, digits and _, beginning with a letter"
    )
    return f"the key '{name[:80]}' cannot be used; write {rule}"


def _missing(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    instance: Any = error.instance
    absent = [key for key in wanted if key not in instance]
    return ", ".join(f"'{key}:'" for key in absent)


def _unknown_key(error: ValidationError, path: Place) -> tuple[Place, str]:
    schema: Any = error.schema
    instance: Any = error.instance
    known = list(schema["properties"])
    key = next(k for k in instance if k not in known)
    guess = _near(key, known)
    return (*path, key), f"unknown key '{key[:80]}'{guess or '; known: ' + ', '.join(known)}"


def _near(value: object, choices: Sequence[object]) -> str:
    near = difflib.get_close_matches(str(value)[:80].lower(), [str(c) for c in choices], 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def _show(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{_article('object' if isinstance(value, dict) else 'array')}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "empty",
}


def _article(kind: object) -> str:
    if isinstance(kind, list):
        return " or ".join(_article(one) for one in kind)
    return _WORDS.get(str(kind), str(kind))
