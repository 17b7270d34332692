"""`@guard` around functions of every kind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from guardrail import Guardrail, GuardrailBlocked, guard
from guardrail.types import Direction, Verdict
from tests.conftest import MarkerClassifier
from tests.sdk.conftest import adrain

ASK = [{"role": "user", "content": "hello"}]
EVIL = [{"role": "user", "content": "BAD"}]
LONG = "the quick brown fox jumps over the lazy dog and runs on and on " * 4


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def test_input_and_output_are_checked_and_the_signature_stays(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(messages: list[dict[str, str]], reply: str = "fine") -> str:
        """Doc."""
        return reply

    assert chat(ASK) == "fine"
    assert (chat.__name__, chat.__doc__) == ("chat", "Doc.")
    assert list(inspect.signature(chat).parameters) == ["messages", "reply"]
    with pytest.raises(GuardrailBlocked) as on_input:
        chat(messages=EVIL)
    with pytest.raises(GuardrailBlocked) as on_output:
        chat(ASK, reply="BAD")
    ways = (on_input.value.verdict.direction, on_output.value.verdict.direction)
    assert ways == (Direction.INPUT, Direction.OUTPUT)


async def test_an_input_that_cannot_be_read_never_reaches_the_function(rail: Guardrail) -> None:
    tokens = {"model": "m", "prompt": [1, 2, 3]}

    @guard(policy=rail)
    def complete(body: dict[str, Any]) -> str:
        raise AssertionError("it was called")

    @guard(policy=rail)
    async def acomplete(body: dict[str, Any]) -> str:
        raise AssertionError("it was called")

    with pytest.raises(GuardrailBlocked):
        complete(tokens)
    with pytest.raises(GuardrailBlocked):
        await acomplete(tokens)
    with guard(policy=rail) as scope, pytest.raises(GuardrailBlocked):
        scope.input(tokens)
    async with guard(policy=rail) as scope:
        with pytest.raises(GuardrailBlocked):
            await scope.ainput(tokens)


class Spoken:
    """A client's stream, which offers its text beside its events, as Anthropic's does."""

    response = "head"

    def __init__(self) -> None:
        self.text_stream = iter(["BAD"])
        self.current_message_snapshot = "BAD"

    def get_final_text(self) -> str:
        return "BAD"

    def __iter__(self) -> Iterator[str]:
        return iter([LONG, "BAD"])

    def close(self) -> None: ...


class AsyncSpoken(Spoken):
    def __init__(self) -> None:
        super().__init__()
        self.text_stream = self.__aiter__()

    async def __aiter__(self) -> AsyncIterator[str]:
        for text in (LONG, "BAD"):
            yield text


async def test_a_guarded_stream_offers_no_way_around_itself(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> Spoken:
        return Spoken()

    @guard(policy=rail)
    async def achat(prompt: str) -> AsyncSpoken:
        return AsyncSpoken()

    for stream in (chat("hi"), await achat("hi")):
        assert stream.response == "head"
        for name in ("text_stream", "get_final_text", "current_message_snapshot"):
            with pytest.raises(AttributeError, match="not judged; iterate the stream itself"):
                getattr(stream, name)
    with pytest.raises(GuardrailBlocked):
        list(chat("hi"))
    with pytest.raises(GuardrailBlocked):
        await adrain(await achat("hi"), [])


def test_a_blocked_input_never_reaches_the_function(rail: Guardrail) -> None:
    calls: list[str] = []

    @guard(policy=rail)
    def chat(prompt: str) -> str:
        calls.append(prompt)
        return prompt

    with pytest.raises(GuardrailBlocked):
        chat("BAD")
    assert calls == []


async def test_coroutines_are_guarded_and_gather_keeps_verdicts_apart(rail: Guardrail) -> None:
    @guard(policy=rail)
    async def chat(prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt

    assert inspect.iscoroutinefunction(chat)
    texts = ["a", "BAD", "b", "MEH", "BAD"]
    results = await asyncio.gather(*(chat(t) for t in texts), return_exceptions=True)
    shown = [r if isinstance(r, str) else type(r).__name__ for r in results]
    assert shown == ["a", "GuardrailBlocked", "b", "MEH", "GuardrailBlocked"]


def test_generators_are_guarded(rail: Guardrail) -> None:
    @guard(policy=rail, input="prompt")
    def chat(prompt: str, text: str) -> Iterator[str]:
        for word in text.split():
            yield f"{word} "

    assert inspect.isgeneratorfunction(chat)
    assert "".join(chat("hi", LONG)).split() == LONG.split()
    with pytest.raises(GuardrailBlocked):
        list(chat("BAD", "x"))
    with pytest.raises(GuardrailBlocked):
        list(chat("hi", f"{LONG} BAD"))


async def test_async_generators_are_guarded(rail: Guardrail) -> None:
    @guard(policy=rail, input="prompt")
    async def chat(prompt: str, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield f"{word} "

    assert inspect.isasyncgenfunction(chat)
    assert "".join([w async for w in chat("hi", LONG)]).split() == LONG.split()
    with pytest.raises(GuardrailBlocked):
        async for _ in chat("BAD", "x"):
            pass
    out: list[str] = []
    with pytest.raises(GuardrailBlocked):
        await adrain(chat("hi", f"{LONG} BAD {LONG}"), out)
    assert "BAD" not in "".join(out)


def test_functions_that_return_streams_are_guarded(rail: Guardrail) -> None:
    class Stream:
        response = "the response"
        closed = False

        def __iter__(self) -> Iterator[str]:
            yield from ("some ", "words ", "BAD")

        def close(self) -> None:
            self.closed = True

    made = Stream()

    @guard(policy=rail)
    def chat(prompt: str) -> Any:
        return made

    with chat("hi") as stream:
        assert stream.response == "the response"
        with pytest.raises(GuardrailBlocked):
            list(stream)
    assert made.closed


async def test_coroutines_that_return_async_streams_are_guarded(rail: Guardrail) -> None:
    async def source() -> AsyncIterator[str]:
        yield "some words, "
        yield "BAD"

    @guard(policy=rail)
    async def chat(prompt: str) -> AsyncIterator[str]:
        return source()

    with pytest.raises(GuardrailBlocked):
        async for _ in await chat("hi"):
            pass


@pytest.mark.parametrize(
    ("on_block", "expected"),
    [("message", "no way"), (lambda verdict: verdict.direction.value, "input")],
)
def test_a_block_can_be_a_replacement(rail: Guardrail, on_block: Any, expected: str) -> None:
    @guard(policy=rail, on_block=on_block)
    def chat(prompt: str) -> str:
        return prompt

    @guard(policy=rail, on_block=on_block)
    def stream(prompt: str) -> Iterator[str]:
        yield prompt

    assert chat("BAD") == expected
    assert list(stream("BAD")) == [expected]


def test_a_message_in_place_of_an_answer_has_its_shape(rail: Guardrail) -> None:
    @guard(policy=rail, on_block="message")
    def chat(prompt: str) -> dict[str, Any]:
        return answer("BAD")

    replaced = chat("hi")
    assert replaced["choices"][0]["message"]["content"] == "no way"
    assert replaced["choices"][0]["finish_reason"] == "content_filter"


def test_a_blocked_stream_of_chunks_ends_with_closing_chunks(rail: Guardrail) -> None:
    @guard(policy=rail, on_block="message")
    def chat(prompt: str) -> Iterator[dict[str, Any]]:
        for word in [*LONG.split(), "BAD"]:
            choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
            yield {"object": "chat.completion.chunk", "choices": [choice]}

    last = list(chat("hi"))[-1]
    assert last["choices"][0]["finish_reason"] == "content_filter"


def test_flags_are_told(rail: Guardrail) -> None:
    told: list[Verdict] = []

    @guard(policy=rail, on_flag=told.append)
    def chat(prompt: str) -> str:
        return "MEH too"

    chat("MEH")
    assert [v.direction.value for v in told] == ["input", "output"]


@pytest.mark.parametrize("how", ["name", "function"])
def test_the_input_can_be_named_or_computed(rail: Guardrail, how: str) -> None:
    finder = "text" if how == "name" else lambda system, text: text

    @guard(policy=rail, input=finder)  # type: ignore[arg-type]
    def chat(system: str, text: str) -> str:
        return "ok"

    assert chat("BAD", "fine") == "ok"
    with pytest.raises(GuardrailBlocked):
        chat("fine", "BAD")


def test_either_side_can_be_left_unchecked(rail: Guardrail, marker: MarkerClassifier) -> None:
    @guard(policy=rail, input=False, output=False)
    def chat(prompt: str) -> str:
        return prompt

    assert chat("BAD") == "BAD"
    assert marker.seen == []


def test_outputs_of_any_kind_are_read_by_a_function(rail: Guardrail) -> None:
    @guard(policy=rail, output=lambda pair: pair[1])
    def chat(prompt: str) -> tuple[int, str]:
        return (1, "BAD") if prompt == "x" else (1, "fine")

    assert chat("y") == (1, "fine")
    with pytest.raises(GuardrailBlocked):
        chat("x")


def test_keyword_only_calls_like_the_clients_are_understood(rail: Guardrail) -> None:
    @guard(policy=rail)
    def create(*, model: str, messages: list[dict[str, str]]) -> str:
        return "fine"

    @guard(policy=rail)
    def loose(**kwargs: Any) -> str:
        return "fine"

    for call in (create, loose):
        assert call(model="m", messages=ASK) == "fine"
        with pytest.raises(GuardrailBlocked):
            call(model="m", messages=EVIL)


def test_methods_are_guarded(rail: Guardrail) -> None:
    class Bot:
        @guard(policy=rail)
        def say(self, what: str) -> str:
            return what

    assert Bot().say("fine") == "fine"
    with pytest.raises(GuardrailBlocked):
        Bot().say("BAD")


def test_a_function_without_input_is_refused_at_decoration(rail: Guardrail) -> None:
    with pytest.raises(TypeError, match="pass input="):

        @guard(policy=rail)
        def chat() -> str:
            return ""


def test_exceptions_of_the_function_pass_through(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> str:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        chat("hi")


def test_guards_can_be_nested(rail: Guardrail) -> None:
    @guard(policy=rail)
    def inner(prompt: str) -> str:
        return "BAD" if prompt == "break" else prompt

    @guard(policy=rail, on_block="message")
    def outer(prompt: str) -> str:
        return inner(prompt)

    assert outer("fine") == "fine"
    assert outer("BAD") == "no way"
    with pytest.raises(GuardrailBlocked):  # the inner guard's own answer to a block
        outer("break")


def test_calls_from_a_thread_pool_keep_their_verdicts(rail: Guardrail) -> None:
    @guard(policy=rail, on_block=lambda _: "blocked")
    def chat(prompt: str) -> str:
        return prompt

    texts = ["BAD" if i % 2 else f"t{i}" for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(chat, texts))
    assert results == ["blocked" if t == "BAD" else t for t in texts]


def test_a_guard_is_a_context_manager(rail: Guardrail) -> None:
    with guard(policy=rail) as scope:
        assert scope.input(ASK) is ASK
        assert scope.output("fine") == "fine"
        assert list(scope.stream(iter(["a", "b"]))) == ["a", "b"]
        with pytest.raises(GuardrailBlocked):
            scope.output("BAD")
    assert [v.blocked for v in scope.verdicts] == [False, False, True]


async def test_a_guard_is_an_async_context_manager(rail: Guardrail) -> None:
    async with guard(policy=rail, on_block="message") as scope:
        await scope.ainput("hello")
        assert await scope.aoutput("BAD") == "no way"
        with pytest.raises(GuardrailBlocked):  # a blocked input has no answer to stand in for
            await scope.ainput("BAD")


def test_an_answer_that_cannot_be_read_follows_the_failure_mode(rail: Guardrail) -> None:
    @guard(policy=rail)
    def chat(prompt: str) -> dict[str, Any]:
        return {**answer("fine"), "novel_field": "text that no one knows how to read"}

    with pytest.raises(GuardrailBlocked) as caught:
        chat("hi")
    assert caught.value.verdict.findings[0].reason == "unreadable"


def test_a_mistyped_on_block_is_refused() -> None:
    with pytest.raises(TypeError, match="on_block"):
        guard(on_block="mesage")  # type: ignore[arg-type]
