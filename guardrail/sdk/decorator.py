"""`@guard`: one line around any chat call, sync or async, whole or streamed.

Owns how a call's input and output are found and what a block becomes; the judging is `api`'s.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
)
from contextlib import aclosing, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, overload

from guardrail.policy import Policy
from guardrail.sdk.api import Guardrail
from guardrail.sdk.arguments import Find, finder
from guardrail.sdk.handles import (
    AsyncBegun,
    AsyncGuardedStream,
    Begun,
    GuardedStream,
    is_async_stream,
    is_stream,
)
from guardrail.sdk.redaction import put_back
from guardrail.sdk.scope import OnBlock, Options, Scope
from guardrail.types import Verdict

__all__ = ["Guard", "guard"]

F = TypeVar("F", bound=Callable[..., Any])


class Guard:
    """A guard with its settings: a decorator, and a context manager.

    Args:
        guardrail: What judges.
        input: How a call's input is found; see `guard`.
        output: How a call's output is read; see `guard`.
        on_block: What a block becomes.
        on_flag: Called with verdicts that flag or redact.
    """

    def __init__(
        self,
        guardrail: Guardrail,
        *,
        input: str | Callable[..., object] | Literal[False] | None = None,  # noqa: A002
        output: Callable[[Any], str] | Literal[False] | None = None,
        on_block: OnBlock = "raise",
        on_flag: Callable[[Verdict], object] | None = None,
    ) -> None:
        if not callable(on_block) and on_block not in ("raise", "message"):
            raise TypeError(f"on_block: {on_block!r}; use 'raise', 'message' or a function")
        self._options = Options(guardrail, output, on_block, on_flag)
        self._input = input

    def __enter__(self) -> Scope:
        return Scope(self._options)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    async def __aenter__(self) -> Scope:
        return Scope(self._options)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def __call__(self, fn: F) -> F:
        """Guard a function of any kind; its signature stays.

        Args:
            fn: A function, coroutine function, generator or async generator.

        Raises:
            TypeError: It has no parameter that could be the input.
        """
        find = finder(fn, self._input)
        if inspect.isasyncgenfunction(fn):
            made: Callable[..., Any] = self._async_generator(fn, find)
        elif inspect.isgeneratorfunction(fn):
            made = self._generator(fn, find)
        elif inspect.iscoroutinefunction(fn):
            made = self._coroutine(fn, find)
        else:
            made = self._function(fn, find)
        return cast("F", functools.wraps(fn)(made))

    def _function(self, fn: Callable[..., Any], find: Find | None) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            scope = Scope(self._options)
            refused, result = _call(scope, find, args, kwargs, fn)
            if refused is not None:
                return scope.replacement(refused)
            if inspect.isawaitable(result):
                return _awaited(scope, result)
            if is_stream(result):
                return GuardedStream(result, scope.stream(result))
            if is_async_stream(result):
                return AsyncGuardedStream(result, scope.astream(result))
            return scope.output(result)

        return guarded

    def _coroutine(self, fn: Callable[..., Any], find: Find | None) -> Callable[..., Any]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            scope = Scope(self._options)
            refused, result = await _acall(scope, find, args, kwargs, fn)
            if refused is not None:
                return scope.replacement(refused)
            return await _finish(scope, result)

        return guarded

    def _generator(self, fn: Callable[..., Any], find: Find | None) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
            scope = Scope(self._options)

            def begin(*given: Any, **named: Any) -> Begun[Any]:
                return Begun(scope.stream(fn(*given, **named)))

            refused, stream = _call(scope, find, args, kwargs, begin)
            if stream is None:
                yield scope.replacement(cast("Verdict", refused))
                return
            with closing(stream):
                yield from stream

        return guarded

    def _async_generator(self, fn: Callable[..., Any], find: Find | None) -> Callable[..., Any]:
        async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            scope = Scope(self._options)

            async def begin(*given: Any, **named: Any) -> AsyncBegun[Any]:
                return await AsyncBegun.of(scope.astream(fn(*given, **named)))

            refused, stream = await _acall(scope, find, args, kwargs, begin)
            if stream is None:
                yield scope.replacement(cast("Verdict", refused))
                return
            async with aclosing(stream):
                async for item in stream:
                    yield item

        return guarded


async def _awaited(scope: Scope, work: Awaitable[Any]) -> Any:
    return await _finish(scope, await work)


async def _finish(scope: Scope, result: Any) -> Any:
    if is_async_stream(result):
        return AsyncGuardedStream(result, scope.astream(result))
    if is_stream(result):
        return GuardedStream(result, scope.stream(result))
    return await scope.aoutput(result)


def _call(
    scope: Scope,
    find: Find | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fn: Callable[..., Any],
) -> tuple[Verdict | None, Any]:
    """Check the input and make the call; return the verdict that refuses it, or the result."""
    if find is None:
        return None, fn(*args, **kwargs)
    found = find(args, kwargs)

    def call(content: object) -> Any:
        given, named = put_back(args, kwargs, found, content)
        return fn(*given, **named)

    return scope.call(found, call)


async def _acall(
    scope: Scope,
    find: Find | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fn: Callable[..., Awaitable[Any]],
) -> tuple[Verdict | None, Any]:
    if find is None:
        return None, await fn(*args, **kwargs)
    found = find(args, kwargs)

    def call(content: object) -> Awaitable[Any]:
        given, named = put_back(args, kwargs, found, content)
        return fn(*given, **named)

    return await scope.acall(found, call)


@overload
def guard(fn: F, /) -> F: ...


@overload
def guard(
    *,
    policy: str | Path | Policy | Guardrail = "default",
    input: str | Callable[..., object] | Literal[False] | None = None,
    output: Callable[[Any], str] | Literal[False] | None = None,
    on_block: OnBlock = "raise",
    on_flag: Callable[[Verdict], object] | None = None,
) -> Guard: ...


def guard(
    fn: F | None = None,
    /,
    *,
    policy: str | Path | Policy | Guardrail = "default",
    input: str | Callable[..., object] | Literal[False] | None = None,  # noqa: A002
    output: Callable[[Any], str] | Literal[False] | None = None,
    on_block: OnBlock = "raise",
    on_flag: Callable[[Verdict], object] | None = None,
) -> F | Guard:
    """Guard a chat call: what goes in and what comes out.

    ``@guard``, ``@guard(policy=...)`` and ``with guard(policy=...) as scope`` all work.

    Where the policy says ``input: {check: parallel}``, the call is made while its input is
    checked, and nothing of its answer is handed out before the verdict. If it blocks, an async
    call is cancelled at once; a sync one cannot be, so it runs to its end (a stream: to its first
    item) and is dropped. What a call does besides answering is then done.

    Where the policy redacts, the function gets and its caller gets the redacted text, in the same
    shapes; what cannot be rebuilt raises `PolicyError`.

    Args:
        fn: The function, where the decorator has no arguments.
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        input: Name of the parameter to check, a function of the call's arguments that returns
            what to check, False for no check, or None to find it by name.
        output: A function that returns the text of a result (or of one item of a stream), False
            for no check, or None for strings, messages and answers of known APIs.
        on_block: ``raise`` for `GuardrailBlocked`; ``message`` for the policy's text, in the
            shape of the answer where there is one; or a function of the verdict.
        on_flag: Called with verdicts that flag or redact.

    Returns:
        The guarded function, or a `Guard`.

    Raises:
        PolicyError: The policy does not validate.
        TypeError: The function has no parameter that could be the input, or several.
    """
    guardrail = policy if isinstance(policy, Guardrail) else Guardrail.load(policy)
    made = Guard(guardrail, input=input, output=output, on_block=on_block, on_flag=on_flag)
    return made if fn is None else made(fn)
