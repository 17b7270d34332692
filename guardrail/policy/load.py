"""YAML to `Policy`, with errors that name file, line, column and the fix.

The only importer of yaml. A document is read from parser events rather than composed, so that
size, depth, duplicate keys and alias expansion are bounded before anything is built.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from guardrail.errors import PolicyError
from guardrail.policy.schema import SCHEMA, Policy, build

__all__ = ["bundled", "bundled_names", "load_policy", "parse_policy"]

MAX_BYTES: Final = 1_048_576
"""A policy is written by people; ten megabytes of one is a mistake or an attack."""
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
"""Nodes after aliases are expanded: the "billion laughs" bound."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Path_ = tuple[str | int, ...]


def load_policy(source: str | Path) -> Policy:
    """Load a policy from a file, or a bundled one by name.

    Args:
        source: A path, or the name of a bundled policy such as ``default``.

    Returns:
        The policy.

    Raises:
        PolicyError: No such policy, or one that does not validate.
    """
    path = Path(source)
    if not path.suffix and str(source) in bundled_names():
        return bundled(str(source))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PolicyError(_too_large(path.stat().st_size), file=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise PolicyError(_no_such(str(source), error), file=str(path)) from error
    return parse_policy(data, file=str(path))


def bundled_names() -> tuple[str, ...]:
    """Return the names of the policies that come with the package, sorted."""
    return tuple(sorted(p.stem for p in _bundled_dir().glob("*.yaml")))


@cache
def bundled(name: str = "default") -> Policy:
    """Load a policy that comes with the package.

    Raises:
        PolicyError: There is none of that name.
    """
    path = _bundled_dir() / f"{name}.yaml"
    if name not in bundled_names():
        raise PolicyError(
            f"no bundled policy is called '{name}'; there are: {', '.join(bundled_names())}"
        )
    return parse_policy(path.read_bytes(), file=path.name)


def _bundled_dir() -> Path:
    """Find the policies: inside an installed wheel, or beside the package in a checkout."""
    inside = Path(str(resources.files("guardrail"))) / "_policies"
    return inside if inside.is_dir() else inside.parent.parent / "policies"


def parse_policy(data: bytes | str, *, file: str = "<policy>") -> Policy:
    """Parse and validate a policy document.

    Args:
        data: YAML as UTF-8 bytes or text, at most 1 MiB.
        file: Its name for error messages.

    Returns:
        The policy.

    Raises:
        PolicyError: Anything wrong with it, with line, column and fix.
    """
    text = _decode(data, file)
    document, marks = _read(text, file)

    def problem(path: Sequence[str | int], message: str) -> PolicyError:
        line, column = _place(marks, tuple(path))
        return PolicyError(message, file=file, line=line, column=column)

    if not isinstance(document, dict):
        raise problem((), "a policy is a mapping; begin with 'version: 1' and 'name: …'")
    error = next(iter(sorted(Draft202012Validator(SCHEMA).iter_errors(document), key=_order)), None)
    if error is not None:
        path, message = _explain(error)
        raise problem(path, message) from None
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return build(
        document, hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest(), problem
    )


def _decode(data: bytes | str, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise PolicyError(_too_large(len(data)), file=file)
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        raise PolicyError(
            f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8",
            file=file,
            line=before.count(b"\n") + 1,
            column=error.start - (before.rfind(b"\n") + 1) + 1,
        ) from error


def _too_large(size: int) -> str:
    return f"the file has {size:,} bytes; a policy may have {MAX_BYTES:,}"


def _no_such(source: str, error: OSError) -> str:
    near = difflib.get_close_matches(source, bundled_names(), 1)
    hint = f"; did you mean the bundled policy '{near[0]}'?" if near else ""
    return f"cannot read the policy ({error.strerror or error}){hint}"


# --- reading: events to plain data and the place of each value ---------------------------


@dataclass(slots=True)
class _Open:
    """A collection under construction."""

    value: dict[str, Any] | list[Any]
    path: Path_
    size: int = 1
    key: str | None = None
    anchor: str | None = None


Marks = dict[Path_, tuple[int, int]]


def _read(text: str, file: str) -> tuple[Any, Marks]:
    """Parse one YAML document into plain data and 1-based marks by path."""
    reader = _Reader(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PolicyError(
            f"not valid YAML: {error.problem or error.context}",
            file=file,
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        ) from error
    except yaml.YAMLError as error:
        raise PolicyError(f"not valid YAML: {str(error).splitlines()[0]}", file=file) from error
    return reader.root, reader.marks


class _Reader:
    """Builds plain data from YAML events within bounds."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Any = None
        self.marks: Marks = {}
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._documents = 0
        self._constructor = yaml.constructor.SafeConstructor()
        self._resolver: Any = yaml.resolver.Resolver()

    def take(self, event: Any) -> None:
        """Take one parser event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(event, "only one YAML document fits in a policy; remove '---'")
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._stack.pop()
            if done.anchor is not None:
                self._anchors[done.anchor] = (done.value, done.size)
            if self._stack:
                self._stack[-1].size += done.size

    def _error(self, event: Any, message: str) -> PolicyError:
        mark = event.start_mark
        return PolicyError(message, file=self.file, line=mark.line + 1, column=mark.column + 1)

    def _open(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if self._awaits_key():
            raise self._error(event, "a key is a plain word, not a list or a mapping")
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._put(event, value, 0)
        self._stack.append(_Open(value, path, anchor=event.anchor))

    def _awaits_key(self) -> bool:
        return bool(
            self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None
        )

    def _scalar(self, event: Any) -> None:
        if self._awaits_key():
            self._key(event)
            return
        value = self._construct(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(event, value, 1)

    def _key(self, event: Any) -> None:
        top = self._stack[-1]
        assert isinstance(top.value, dict)
        if event.value in top.value:
            raise self._error(event, f"the key '{event.value[:80]}' is there twice; remove one")
        top.key = event.value
        self.marks[(*top.path, event.value)] = (
            event.start_mark.line + 1,
            event.start_mark.column + 1,
        )

    def _construct(self, event: Any) -> Any:
        node = yaml.ScalarNode(event.tag, event.value, event.start_mark, event.end_mark)
        if event.tag is None:
            node.tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "bool" and event.value.lower() not in ("true", "false"):
            return event.value  # YAML 1.2: `no` is a word, not false
        if kind not in ("str", "int", "float", "bool", "null"):
            if kind == "timestamp":
                return event.value
            raise self._error(
                event,
                f"the tag or merge key '{event.value[:40] or kind}' is not used here; remove it",
            )
        if len(event.value) > 400 and kind != "str":
            raise self._error(event, "a number of more than 400 digits; shorten it")
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            raise self._error(event, f"'{event.value[:40]}' is not a {kind}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(event, f"'{event.value}' is not a finite number")
        return value

    def _alias(self, event: Any) -> None:
        if self._awaits_key():
            raise self._error(event, "an alias cannot be a key")
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias '*{event.anchor}' names no finished anchor")
        value, size = self._anchors[event.anchor]
        self._put(event, value, size)

    def _put(self, event: Any, value: Any, size: int) -> Path_:
        self._nodes += max(size, 1)
        if self._nodes > MAX_NODES:
            raise self._error(event, f"more than {MAX_NODES:,} values once aliases are expanded")
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if not self._stack:
            self.root = value
            self.marks[()] = place
            return ()
        top = self._stack[-1]
        top.size += size  # of an open collection: added when it closes
        if isinstance(top.value, list):
            path: Path_ = (*top.path, len(top.value))
            top.value.append(value)
            self.marks[path] = place
            return path
        assert top.key is not None
        path = (*top.path, top.key)
        top.value[top.key] = value
        top.key = None
        return path


def _place(marks: Marks, path: Path_) -> tuple[int | None, int | None]:
    """Find the mark of a path, or of the nearest thing that contains it."""
    for length in range(len(path), -1, -1):
        if path[:length] in marks:
            return marks[path[:length]]
    return None, None


# --- explaining: a JSON Schema error in the author's words --------------------------------


def _order(error: ValidationError) -> tuple[int, list[str]]:
    """Unknown keys first: a misspelt key also makes the right one look missing."""
    return (0 if error.validator == "additionalProperties" else 1), [str(p) for p in error.path]


def _explain(error: ValidationError) -> tuple[Path_, str]:
    path = tuple(error.absolute_path)
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
        "pattern": lambda: f"'{name}' is {value}; use lower-case letters, digits, - and _",
    }
    make = messages.get(str(error.validator))
    return path, make() if make else f"'{name}': {error.message[:200]}"


def _missing(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    instance: Any = error.instance
    absent = [key for key in wanted if key not in instance]
    return ", ".join(f"'{key}:'" for key in absent)


def _unknown_key(error: ValidationError, path: Path_) -> tuple[Path_, str]:
    schema: Any = error.schema
    instance: Any = error.instance
    known = list(schema["properties"])
    key = next(k for k in instance if k not in known)
    what = "category" if path == ("categories",) else "key"
    guess = _near(key, known)
    return (*path, key), f"unknown {what} '{key[:80]}'{guess or '; known: ' + ', '.join(known)}"


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
    return _WORDS.get(str(kind), str(kind))
