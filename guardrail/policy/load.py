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
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator

from guardrail.errors import PolicyError
from guardrail.policy.build import build
from guardrail.policy.merge import Layer, Marks, Place, merge, without_nulls
from guardrail.policy.messages import explain, order
from guardrail.policy.schema import SCHEMA
from guardrail.policy.types import Policy

__all__ = ["bundled", "bundled_names", "load_policy", "parse_policy"]

MAX_BYTES: Final = 1_048_576
"""A policy is written by people; ten megabytes of one is a mistake or an attack."""
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
"""Nodes after aliases are expanded: the "billion laughs" bound."""

_VALIDATOR: Final = Draft202012Validator(SCHEMA)
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_LAYERS: Final = 64
"""Documents that one policy may build on, each counted as often as it is named."""


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
    policy = parse_policy(_read_file(path, str(source)), file=str(path), base=path.parent)
    return replace(policy, file=str(path))


def _read_file(path: Path, named: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PolicyError(_too_large(path.stat().st_size), file=str(path))
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(_no_such(named, error), file=str(path)) from error


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
    policy = parse_policy(path.read_bytes(), file=path.name, base=path.parent)
    return replace(policy, file=str(path))


def _bundled_dir() -> Path:
    """Find the policies: inside an installed wheel, or beside the package in a checkout."""
    inside = Path(str(resources.files("guardrail"))) / "_policies"
    return inside if inside.is_dir() else inside.parent.parent / "policies"


def parse_policy(data: bytes | str, *, file: str = "<policy>", base: Path | None = None) -> Policy:
    """Parse and validate a policy document, merged with what it extends.

    Args:
        data: YAML as UTF-8 bytes or text, at most 1 MiB.
        file: Its name for error messages.
        base: Folder from which paths in ``extends`` are read; None allows only bundled names.

    Returns:
        The policy.

    Raises:
        PolicyError: Anything wrong with it, with line, column and fix.
    """
    layers = _layers(data, file, base, (), [0])
    document, overrides = merge(layers)

    def problem(path: Sequence[str | int], message: str) -> PolicyError:
        name, line, column = _place(layers, tuple(path))
        return PolicyError(message, file=name, line=line, column=column)

    decisive = {key: value for key, value in document.items() if key != "tests"}
    canonical = json.dumps(decisive, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
    policy = build(document, digest, problem)
    extends = layers[-1].document.get("extends", ())
    return replace(
        policy,
        extends=(extends,) if isinstance(extends, str) else tuple(extends),
        overrides=overrides,
    )


def _layers(
    data: bytes | str, file: str, base: Path | None, above: tuple[str, ...], count: list[int]
) -> list[Layer]:
    """Return the documents that make up a policy, the one with the last word last."""
    count[0] += 1
    if count[0] > MAX_LAYERS:
        raise PolicyError(f"more than {MAX_LAYERS} policies are extended; use fewer", file=file)
    layer = _layer(data, file)
    wanted = layer.document.get("extends", [])
    found: list[Layer] = []
    for number, name in enumerate([wanted] if isinstance(wanted, str) else wanted):
        place = ("extends",) if isinstance(wanted, str) else ("extends", number)
        below, key = _extended(name, base, _problem_at(layer, place))
        if key in above:
            chain = " -> ".join(Path(k).name for k in (*above[above.index(key) :], key))
            raise _problem_at(layer, place)(f"'{name}' extends itself: {chain}; remove one step")
        found += _layers(_read_file(below, name), str(below), below.parent, (*above, key), count)
    return [*found, layer]


def _extended(name: str, base: Path | None, problem: Any) -> tuple[Path, str]:
    """Find a policy that another extends."""
    if name in bundled_names():
        path = _bundled_dir() / f"{name}.yaml"
    elif base is not None and (base / name).is_file():
        path = base / name
    else:
        near = difflib.get_close_matches(name, bundled_names(), 1)
        hint = f"; did you mean the bundled policy '{near[0]}'?" if near else ""
        raise problem(f"'extends' names '{name[:120]}', which cannot be found{hint}")
    return path, str(path.resolve())


def _problem_at(layer: Layer, path: Place) -> Any:
    def make(message: str) -> PolicyError:
        name, line, column = _place([layer], path)
        return PolicyError(message, file=name, line=line, column=column)

    return make


def _layer(data: bytes | str, file: str) -> Layer:
    """Read one document and check it against the schema."""
    document, marks = _read(_decode(data, file), file)
    layer = Layer(document if isinstance(document, dict) else {}, marks, file)
    if not isinstance(document, dict):
        message = "a policy is a mapping; begin with 'version: 1' and 'name: …'"
        raise _problem_at(layer, ())(message)
    # In a document that extends another, null takes away what it would inherit.
    checked = without_nulls(document) if "extends" in document else document
    error = next(iter(sorted(_VALIDATOR.iter_errors(checked), key=order)), None)
    if error is not None:
        path, message = explain(error)
        raise _problem_at(layer, path)(message) from None
    return layer


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
    path: Place
    size: int = 1
    key: str | None = None
    anchor: str | None = None


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

    def _put(self, event: Any, value: Any, size: int) -> Place:
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
            path: Place = (*top.path, len(top.value))
            top.value.append(value)
            self.marks[path] = place
            return path
        assert top.key is not None
        path = (*top.path, top.key)
        top.value[top.key] = value
        top.key = None
        return path


def _place(layers: Sequence[Layer], path: Place) -> tuple[str, int | None, int | None]:
    """Find the mark of a path, or of the nearest thing that contains it, topmost layer first."""
    for length in range(len(path), -1, -1):
        for layer in reversed(layers):
            if path[:length] in layer.marks:
                return layer.file, *layer.marks[path[:length]]
    return layers[-1].file, None, None
