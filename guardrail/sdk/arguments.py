"""Which argument of a call is its input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

__all__ = ["Find", "finder"]

Find = Callable[[tuple[Any, ...], dict[str, Any]], object]
"""Finds the input among positional and keyword arguments."""

_NAMES: Final[tuple[str, ...]] = (
    "messages",
    "prompt",
    "input",
    "question",
    "query",
    "text",
    "message",
    "content",
)
"""Parameters that are taken for the input, before the first one of any name."""
_MANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
"""Parameters that are no argument of a call, but what is left of it."""


def finder(
    fn: Callable[..., Any],
    wanted: str | Callable[..., object] | Literal[False] | None,
) -> Find | None:
    """Return how the input is found in a call; worked out once, not at every call.

    Args:
        fn: The function that is called.
        wanted: Name of a parameter, a function of the call's arguments, False for no input, or
            None to go by the names.

    Raises:
        TypeError: No parameter fits, or several do: one of them would go unread.
    """
    if wanted is False:
        return None
    if callable(wanted):
        adapter = wanted
        return lambda args, kwargs: adapter(*args, **kwargs)
    parameters = inspect.signature(fn).parameters
    single = {n: p for n, p in parameters.items() if p.kind not in _MANY}
    declared = [n for n in _NAMES if n in single]
    known = wanted or _only(declared, f"{getattr(fn, '__name__', fn)}()")
    name = known or next((n for n in single if n not in ("self", "cls")), None)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if wanted is None and open_ended:
        return _by_known_name(None if name is None else _by_name(name, parameters), declared)
    if name is None or (name not in single and (name in parameters or not open_ended)):
        what = f"no parameter '{wanted}'" if wanted else "no parameter that could be the input"
        raise TypeError(
            f"guard: {getattr(fn, '__name__', fn)}() has {what}; "
            "pass input= a name, a function of the same arguments, or False"
        )
    return _by_name(name, parameters)


def _given(value: object) -> bool:
    """Return whether a value is one: None and the marks of openai and anthropic are not."""
    return value is not None and type(value).__name__ not in ("NotGiven", "Omit")


def _only(names: list[str], where: str) -> str | None:
    """Return the only one of these names, None where there is none.

    Raises:
        TypeError: There are several, and all but one would go unread.
    """
    if len(names) > 1:
        several = " and ".join(map(repr, names))
        raise TypeError(
            f"guard: {where} has {several}, each of which could be the input; pass "
            f"input={names[0]!r}, or a function of the same arguments that returns all of them"
        )
    return names[0] if names else None


def _by_name(name: str, parameters: Mapping[str, inspect.Parameter]) -> Find:
    declared = name in parameters
    place = list(parameters).index(name) if declared else -1
    parameter = parameters.get(name)
    positional = parameter is not None and parameter.kind in (
        parameter.POSITIONAL_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )
    default = "" if parameter is None or parameter.default is parameter.empty else parameter.default

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if name in kwargs:
            value = kwargs[name]
        elif positional and place < len(args):
            value = args[place]
        elif not declared:  # the function would take the call, and nothing of it would be read
            raise TypeError(f"guard: the call has no '{name}'; pass it by name")
        else:  # a call without it fails in the function itself, with its own message
            value = default
        return "" if value is None else value

    return find


def _by_known_name(otherwise: Find | None, declared: list[str]) -> Find:
    """Return what looks for a known name in a call that may have any.

    Args:
        otherwise: What finds the input where no other has a known name; None for the first
            argument.
        declared: The known name that the function declares, if it does.
    """

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        free = [n for n in _NAMES if n in kwargs and n not in declared]
        free = [n for n in free if _given(kwargs[n])] or free[:1]
        if len(free) > 1 or declared:  # mappings are settings then: text= of the Responses API
            free = [n for n in free if not isinstance(kwargs[n], Mapping)]
        name = _only([*declared, *free], "the call")
        if name is not None and name not in declared:
            return kwargs[name]
        if otherwise is not None:
            return otherwise(args, kwargs)
        if args:
            return args[0]
        raise TypeError("guard: the call has no messages, prompt or input; pass input= to guard()")

    return find
