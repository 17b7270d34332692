"""YAML to plain data and the place of every value, within bounds.

The only importer of yaml. A document is read from parser events rather than composed, so that
size, depth, duplicate keys and alias expansion are bounded before anything is built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import yaml

from guardrail.errors import PolicyError
from guardrail.policy.merge import Marks, Place

__all__ = ["MAX_BYTES", "decode", "read", "too_large"]

MAX_BYTES: Final = 1_048_576
"""A policy is written by people; ten megabytes of one is a mistake or an attack."""
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
"""Nodes after aliases are expanded: the "billion laughs" bound."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def decode(data: bytes | str, file: str) -> str:
    """Return a document as text.

    Raises:
        PolicyError: It is too large, or not UTF-8; with the place of the first bad byte.
    """
    if len(data) > MAX_BYTES:
        raise PolicyError(too_large(len(data)), file=file)
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


def too_large(size: int) -> str:
    """Say that a file of this size is refused."""
    return f"the file has {size:,} bytes; a policy may have {MAX_BYTES:,}"


@dataclass(slots=True)
class _Open:
    """A collection under construction."""

    value: dict[str, Any] | list[Any]
    path: Place
    size: int = 1
    key: str | None = None
    anchor: str | None = None


def read(text: str, file: str) -> tuple[Any, Marks]:
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
