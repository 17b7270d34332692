"""YAML to `Policy`, with errors that name file, line, column and the fix.

Reads the document (`reader`), lays it over those that it extends (`merge`), checks it against
the schema (`schema`, `messages`) and builds the types (`build`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from guardrail.errors import PolicyError
from guardrail.policy.build import Problem, build
from guardrail.policy.merge import Layer, Place, merge, without_nulls
from guardrail.policy.messages import explain, order
from guardrail.policy.reader import MAX_BYTES, decode, read, too_large
from guardrail.policy.schema import SCHEMA
from guardrail.policy.types import Policy, Selection

__all__ = ["bundled", "bundled_names", "load_policy", "parse_policy"]


@cache
def _validator() -> Any:
    # Imported with the first policy: it takes a quarter of the time of importing guardrail.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMA)


_IDLE: Final = ("tests", "shadow")
"""What a policy says that decides nothing, and so is no part of its version."""
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
            raise PolicyError(too_large(path.stat().st_size), file=str(path))
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

    decisive = {key: value for key, value in document.items() if key not in _IDLE}
    canonical = json.dumps(decisive, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
    policy = build(document, digest, problem)
    extends = layers[-1].document.get("extends", ())
    selections = _selections(layers[-1], base, problem)
    files = [layer.file for layer in layers] if base else []
    shadow = _shadow(layers[-1], base, problem)
    others = [*(s.policy for s in selections), *([shadow] if shadow else [])]
    below = [source for other in others for source in other.sources]
    if selections:  # what is in force changes with any of them
        parts = "".join([digest, *(s.policy.content_hash for s in selections)])
        policy = replace(policy, content_hash=hashlib.sha256(parts.encode()).hexdigest())
    return replace(
        policy,
        extends=(extends,) if isinstance(extends, str) else tuple(extends),
        overrides=overrides,
        sources=tuple(dict.fromkeys((*files, *below))),
        selections=selections,
        shadow=shadow,
    )


def _shadow(layer: Layer, base: Path | None, problem: Problem) -> Policy | None:
    """Load the policy on trial."""
    if "shadow" not in layer.document:
        return None
    return _other(layer, layer.document["shadow"], base, ("shadow",), problem)


def _other(layer: Layer, name: str, base: Path | None, where: Place, problem: Problem) -> Policy:
    """Load a policy that is in force beside this one; it can have no others itself."""
    path, _ = _extended(name, base, _problem_at(layer, where), f"'{where[-1]}'")
    data = _read_file(path, name)
    if {"select", "shadow"} & set(_layer(data, str(path)).document):
        raise problem(where, f"'{name}' has 'select:' or 'shadow:' itself; have them here only")
    return replace(parse_policy(data, file=str(path), base=path.parent), file=str(path))


def _selections(layer: Layer, base: Path | None, problem: Problem) -> tuple[Selection, ...]:
    """Load the policies that are in force for some requests only."""
    found = []
    for number, body in enumerate(layer.document.get("select", ())):
        where = ("select", number, "use")
        policy = _other(layer, body["use"], base, where, problem)
        when = body["when"]
        found.append(
            Selection(
                policy,
                when.get("route"),
                when.get("model"),
                when.get("key_sha256"),
                when.get("header", {}),
            )
        )
    return tuple(found)


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


def _extended(
    name: str, base: Path | None, problem: Any, key: str = "'extends'"
) -> tuple[Path, str]:
    """Find a policy that another one names."""
    if name in bundled_names():
        path = _bundled_dir() / f"{name}.yaml"
    elif base is not None and _is_file(base / name):
        path = base / name
    else:
        near = difflib.get_close_matches(name, bundled_names(), 1)
        hint = f"; did you mean the bundled policy '{near[0]}'?" if near else ""
        raise problem(f"{key} names '{name[:120]}', which cannot be found{hint}")
    return path, str(path.resolve())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that is closed to us
        return False


def _problem_at(layer: Layer, path: Place) -> Any:
    def make(message: str) -> PolicyError:
        name, line, column = _place([layer], path)
        return PolicyError(message, file=name, line=line, column=column)

    return make


def _layer(data: bytes | str, file: str) -> Layer:
    """Read one document and check it against the schema."""
    document, marks = read(decode(data, file), file)
    layer = Layer(document if isinstance(document, dict) else {}, marks, file)
    if not isinstance(document, dict):
        message = "a policy is a mapping; begin with 'version: 1' and 'name: …'"
        raise _problem_at(layer, ())(message)
    # In a document that extends another, null takes away what it would inherit.
    checked = without_nulls(document) if "extends" in document else document
    error = next(iter(sorted(_validator().iter_errors(checked), key=order)), None)
    if error is not None:
        path, message = explain(error)
        raise _problem_at(layer, path)(message) from None
    return layer


def _no_such(source: str, error: OSError) -> str:
    near = difflib.get_close_matches(source, bundled_names(), 1)
    hint = f"; did you mean the bundled policy '{near[0]}'?" if near else ""
    return f"cannot read the policy ({error.strerror or error}){hint}"


def _place(layers: Sequence[Layer], path: Place) -> tuple[str, int | None, int | None]:
    """Find the mark of a path, or of the nearest thing that contains it, topmost layer first."""
    for length in range(len(path), -1, -1):
        for layer in reversed(layers):
            if path[:length] in layer.marks:
                return layer.file, *layer.marks[path[:length]]
    return layers[-1].file, None, None
