"""Which argument of a call is its input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

__all__ = ["Find", "finder"]

Find = Callable[[tuple[Any, ...], dict[str, Any]], object]
"""Finds the input among positional and keyword arguments."""

_NAMES: Final = ("messages", "prompt", "input", "question", "query", "text", "message", "content")
"""Parameters that are taken for the input, in this order, before the first one of any name."""


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
        TypeError: No parameter fits.
    """
    if wanted is False:
        return None
    if callable(wanted):
        adapter = wanted
        return lambda args, kwargs: adapter(*args, **kwargs)
    parameters = inspect.signature(fn).parameters
    name = wanted or next((n for n in _NAMES if n in parameters), None) or _first(parameters)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if name is None and open_ended:
        return _by_known_name
    if name is None or (name not in parameters and not open_ended):
        what = f"no parameter '{wanted}'" if wanted else "no parameter that could be the input"
        raise TypeError(
            f"guard: {getattr(fn, '__name__', fn)}() has {what}; "
            "pass input= a name, a function of the same arguments, or False"
        )
    return _by_name(name, parameters)


def _first(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    for name, parameter in parameters.items():
        if name in ("self", "cls") or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            continue
        return name
    return None


def _by_name(name: str, parameters: Mapping[str, inspect.Parameter]) -> Find:
    place = list(parameters).index(name) if name in parameters else -1
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
        else:  # a call without it fails in the function itself, with its own message
            value = default
        return "" if value is None else value

    return find


def _by_known_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    for name in _NAMES:
        if name in kwargs:
            return kwargs[name]
    if args:
        return args[0]
    raise TypeError("guard: the call has no messages, prompt or input; pass input= to guard()")
