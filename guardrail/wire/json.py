"""JSON from peers: parsed within bounds, and read the way every server reads it.

A guard that reads a body differently from the server behind it can be talked past. Duplicate
keys are refused, because parsers disagree on which one counts; so are keys that differ from a
field's name in case only, because Go's decoder takes them for the field; so is anything but
UTF-8 without a byte order mark.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from guardrail.errors import WireError

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_DEPTH",
    "carries_text",
    "clean",
    "dump",
    "is_coded",
    "is_plain",
    "optional",
    "parse_object",
    "strict_keys",
    "strings",
]

MAX_BODY_BYTES = 64 * 1_048_576
"""Bound on a body; inline images make requests large, texts do not."""

MAX_DEPTH = 64
"""Bound on nesting. Tool schemas in use stay below 20."""


def parse_object(body: bytes | str, *, what: str, unique: bool = True) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        body: UTF-8 bytes, or text.
        what: What it is, for the message: ``request body``.
        unique: Whether duplicate keys and NaN are refused.

    Returns:
        The object.

    Raises:
        WireError: Not UTF-8, not JSON, not an object, too large, too deep, duplicate keys.
    """
    if len(body) > MAX_BODY_BYTES:
        raise WireError(f"the {what} is larger than {MAX_BODY_BYTES} bytes")
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = _STRICT.decode(text) if unique else json.loads(text)
    except UnicodeDecodeError:
        raise WireError(f"the {what} is not UTF-8") from None
    except RecursionError:
        raise WireError(f"the {what} is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise WireError(f"the {what} is not valid JSON: {error.msg} at {error.pos}") from None
    except ValueError:  # a number with more digits than int() takes
        raise WireError(f"the {what} is not valid JSON: a number is too long") from None
    if not isinstance(value, dict):
        raise WireError(f"the {what} must be a JSON object")
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth_over(value, MAX_DEPTH):
        raise WireError(f"the {what} is nested deeper than {MAX_DEPTH} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                name = key if is_plain(key) else "a key"
                raise WireError(
                    f"{name} occurs twice in one object; parsers disagree on which one counts",
                    param=key if is_plain(key) else None,
                )
            seen.add(key)
    return value


def _no_constant(name: str) -> float:
    raise WireError(f"{name} is not JSON; use null")


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _depth_over(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)  # type: ignore[attr-defined]
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def strict_keys(obj: Mapping[str, Any], fields: Collection[str], path: str) -> None:
    """Refuse keys that are a field's name in another case.

    Args:
        obj: The object.
        fields: Names of the fields that we read, in lower case.
        path: Where the object stands, for the message; empty for the body.

    Raises:
        WireError: Such a key is there.
    """
    for key in obj:
        if key not in fields and (name := key.casefold()) in fields:
            raise WireError(
                f"write {name} in lower case: some servers would read this key as {name}",
                param=f"{path}.{name}" if path else name,
            )


def optional(obj: Mapping[str, Any], key: str, kind: type[Any], path: str = "") -> Any:
    """Return a field of one type, or None where it is absent or null.

    Args:
        obj: The object.
        key: The field.
        kind: Its type; ``int`` does not take booleans.
        path: Where the object stands.

    Raises:
        WireError: The field has another type.
    """
    value = obj.get(key)
    if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    where = f"{path}.{key}" if path else key
    raise WireError(f"{where} must be {_NAMES.get(kind, kind.__name__)}", param=where)


_NAMES: dict[type[Any], str] = {
    bool: "true or false",
    dict: "an object",
    int: "an integer",
    list: "a list",
    str: "a string",
}


def clean(text: str) -> str:
    """Return text without lone surrogates, which JSON escapes can make and UTF-8 cannot carry."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_plain(name: str) -> bool:
    """Return whether a name is an identifier and not a sentence, and so no text to judge."""
    return len(name) <= 128 and name.isascii() and not _NOT_NAME.intersection(name)


def is_coded(value: str) -> bool:
    """Return whether a text is ASCII without blanks, as URLs, ids, seals and base64 are.

    JSON is none of these: LiteLLM writes the thoughts of some providers where seals stand.
    """
    return value.isascii() and value[:1] not in _JSON and not any(b in value for b in _BLANKS)


_BLANKS = " \t\v\f"
_JSON = ("{", "[")


_NOT_NAME = frozenset(chr(c) for c in range(128)) - frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-"
)


def strings(value: object, skip: Collection[str] = ()) -> Iterator[str]:
    """Yield every non-empty string in a value, in order, and every key that is not plain.

    Args:
        value: Any decoded JSON; `parse_object` has bounded its depth.
        skip: Keys whose values are left out where they are strings, or lists of seals; but for
            those that are sentences, which are no labels.
    """
    if isinstance(value, str):
        if value:
            yield clean(value)
    elif isinstance(value, list):
        for child in value:
            yield from strings(child, skip)
    elif isinstance(value, dict):
        for key, child in value.items():
            if not is_plain(key):
                yield clean(key)
            if not (key in skip and _is_label(child)):
                yield from strings(child, skip)


def _is_label(value: object) -> bool:
    if isinstance(value, list):  # one by one, words would pass for seals
        return all(isinstance(v, str) and len(v) >= _SEAL_CHARS and is_coded(v) for v in value)
    return isinstance(value, str) and is_coded(value)


_SEAL_CHARS = 64
"""Fewest characters of a seal in a list of them."""


def carries_text(obj: Mapping[str, Any], known: Collection[str]) -> bool:
    """Return whether an object has a string anywhere outside its known keys.

    A ``type`` that is no word says nothing of the kind, so what stands in it is not known.

    Args:
        obj: The object.
        known: Keys that were read, or are known to carry no text.
    """
    kind = obj.get("type")
    if kind.__class__ not in _WORDS and next(strings(kind), None) is not None:
        return True
    return any(
        key not in known and value.__class__ not in _MUTE and next(strings(value), None) is not None
        for key, value in obj.items()
    )


_MUTE = frozenset({bool, int, float, type(None)})
_WORDS = _MUTE | {str}


def dump(value: object) -> bytes:
    """Return a value as compact JSON bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
