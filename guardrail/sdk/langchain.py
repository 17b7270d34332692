"""LangChain: a guarded runnable, and middleware for agents.

    model = guarded(ChatOpenAI(...), policy="default")
    agent = create_agent(ChatOpenAI(...), middleware=[GuardrailMiddleware()])

Needs the extra ``langchain``. What callbacks, ``astream_events`` and an agent's
``stream_mode="messages"`` tell of a model comes from the model itself, before any verdict: show
users what the runnable, or the state of the agent, holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

from guardrail.errors import GuardrailBlocked
from guardrail.policy import Policy
from guardrail.sdk.adapters import as_plain, read_content
from guardrail.sdk.api import Guardrail
from guardrail.sdk.redaction import refuse_redaction
from guardrail.sdk.scope import Options, Scope
from guardrail.types import Verdict
from guardrail.wire.json import dump
from guardrail.wire.parts import spoken

try:
    from langchain.agents.middleware import AgentMiddleware, hook_config
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
except ImportError as error:
    raise ImportError(
        "the LangChain integration needs: pip install 'guardrail[langchain]'"
    ) from error

__all__ = ["GuardedRunnable", "GuardrailMiddleware", "guarded"]

In = TypeVar("In")
Out = TypeVar("Out")
OnBlocked = Literal["raise", "message"]


def _text(item: Any) -> str:
    """Return all text of a message or chunk: content, reasoning and tool arguments."""
    if isinstance(item, str):
        return item
    if not isinstance(item, BaseMessage):
        raise TypeError(f"cannot judge a {type(item).__name__}: guard the model, not the parser")
    parts = [item.content] if isinstance(item.content, str) else [_block(b) for b in item.content]
    beside = {key: value for key, value in item.additional_kwargs.items() if key in _BESIDE}
    arguments = _arguments(item)  # some providers stream each fragment in a block of its own, too
    parts = [part for part in parts if part not in arguments]
    return "".join([*parts, *spoken(as_plain(beside))[0], *arguments])


_BESIDE: Final = ("reasoning_content", "reasoning", "refusal", "audio", "function_call")
"""Where LangChain keeps what a model said beside the content of its message."""


def _arguments(item: BaseMessage) -> list[str]:
    """Return the arguments of tool calls, those that are no valid JSON included."""
    calls = getattr(item, "tool_call_chunks", None) or getattr(item, "tool_calls", None) or ()
    found = [_written(call.get("args")) for call in calls]
    invalid = getattr(item, "invalid_tool_calls", None) or ()
    broken = [_written(call.get("args")) for call in invalid]
    return found + [text for text in broken if text not in found]  # a chunk has them twice


def _written(arguments: object) -> str:
    if isinstance(arguments, str):
        return arguments
    return dump(as_plain(arguments)).decode() if arguments else ""


def _block(block: str | dict[Any, Any]) -> str:
    """Return the text of a block, whatever provider it is of; media in a coded form are none."""
    return block if isinstance(block, str) else "".join(spoken(as_plain(block))[0])


class GuardedRunnable(Runnable[In, Out]):
    """A chat model, or a chain that ends in a message or a string, guarded.

    Args:
        bound: What is guarded.
        guardrail: What judges.
        on_block: ``raise`` or ``message``.
        on_flag: Called with verdicts that flag.
    """

    def __init__(
        self,
        bound: Runnable[In, Out],
        guardrail: Guardrail,
        on_block: OnBlocked = "raise",
        on_flag: Callable[[Verdict], object] | None = None,
    ) -> None:
        self.bound = bound
        self._options = Options(guardrail, _text, "raise", on_flag)
        self._replaces = on_block == "message"

    def invoke(
        self,
        input: In,  # noqa: A002  (LangChain's signature, here and below)
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Out:
        """Check the input, run, check the output; see `Runnable.invoke`."""
        scope, result = Scope(self._options), cast("Any", None)
        try:
            scope.input(input)
        except GuardrailBlocked as blocked:
            return self._stand_in(blocked, AIMessage, result)
        result = self.bound.invoke(input, config, **kwargs)
        try:
            return cast("Out", scope.output(result))
        except GuardrailBlocked as blocked:
            return self._stand_in(blocked, AIMessage, result)

    async def ainvoke(
        self,
        input: In,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Out:
        """Check the input, run, check the output; see `Runnable.ainvoke`."""
        scope, result = Scope(self._options), cast("Any", None)
        try:
            await scope.ainput(input)
        except GuardrailBlocked as blocked:
            return self._stand_in(blocked, AIMessage, result)
        result = await self.bound.ainvoke(input, config, **kwargs)
        try:
            return cast("Out", await scope.aoutput(result))
        except GuardrailBlocked as blocked:
            return self._stand_in(blocked, AIMessage, result)

    def stream(
        self,
        input: In,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Out]:
        """Yield chunks as they are cleared; see `Runnable.stream`."""
        scope, chunk = Scope(self._options), None
        try:
            scope.input(input)
            for chunk in scope.stream(self.bound.stream(input, config, **kwargs)):
                yield chunk
        except GuardrailBlocked as blocked:
            yield self._stand_in(blocked, AIMessageChunk, chunk)

    async def astream(
        self,
        input: In,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Out]:
        """Yield chunks as they are cleared; see `Runnable.astream`."""
        scope, chunk = Scope(self._options), None
        try:
            await scope.ainput(input)
            async for chunk in scope.astream(self.bound.astream(input, config, **kwargs)):
                yield chunk
        except GuardrailBlocked as blocked:
            yield self._stand_in(blocked, AIMessageChunk, chunk)

    def _stand_in(self, blocked: GuardrailBlocked, kind: type[AIMessage], like: object) -> Out:
        """Return the policy's message in place of a blocked answer, or raise."""
        if not self._replaces:
            raise blocked
        text = self._options.guardrail.message(blocked.verdict)
        return cast("Out", text if isinstance(like, str) else kind(content=text))


def guarded(
    bound: Runnable[In, Out],
    *,
    policy: str | Path | Policy | Guardrail = "default",
    on_block: OnBlocked = "raise",
    on_flag: Callable[[Verdict], object] | None = None,
) -> GuardedRunnable[In, Out]:
    """Guard a chat model or a chain.

    Args:
        bound: What takes a string, messages or a prompt value, and answers with a message or a
            string. Guard the model rather than a parser of other things behind it.
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        on_block: ``raise`` for `GuardrailBlocked`, ``message`` for an `AIMessage` with the
            policy's text.
        on_flag: Called with verdicts that flag.
    """
    return GuardedRunnable(bound, _loaded(policy), on_block, on_flag)


class GuardrailMiddleware(AgentMiddleware[Any, Any, Any]):
    """Agent middleware: what goes to the model and what it says, tool calls included.

    Args:
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        on_block: ``raise`` for `GuardrailBlocked`, ``message`` to end the run with the policy's
            text as the agent's answer.
        on_flag: Called with verdicts that flag.
    """

    def __init__(
        self,
        policy: str | Path | Policy | Guardrail = "default",
        *,
        on_block: OnBlocked = "message",
        on_flag: Callable[[Verdict], object] | None = None,
    ) -> None:
        super().__init__()
        self._options = Options(_loaded(policy), _text, "raise", on_flag)
        self._replaces = on_block == "message"

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """Judge what goes to the model: user turns and tool results."""
        try:
            Scope(self._options).input(state["messages"])
        except GuardrailBlocked as blocked:
            return self._ended(blocked)
        return None

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """Judge what goes to the model; see `before_model`."""
        try:
            await Scope(self._options).ainput(state["messages"])
        except GuardrailBlocked as blocked:
            return self._ended(blocked)
        return None

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """Judge what the model says, before any tool runs."""
        scope, answer = self._answer(state)
        try:
            scope.output(answer)
        except GuardrailBlocked as blocked:
            return self._ended(blocked, answer)
        return None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002
        """Judge what the model says; see `after_model`."""
        scope, answer = self._answer(state)
        try:
            await scope.aoutput(answer)
        except GuardrailBlocked as blocked:
            return self._ended(blocked, answer)
        return None

    def _answer(self, state: Any) -> tuple[Scope, BaseMessage]:
        messages: list[BaseMessage] = state["messages"]
        prompt = read_content(messages[:-1]).prompt
        return Scope(self._options, prompt), messages[-1]

    def _ended(
        self, blocked: GuardrailBlocked, answer: BaseMessage | None = None
    ) -> dict[str, Any]:
        """End the run with the policy's message; a blocked answer is replaced by it."""
        if not self._replaces:
            raise blocked
        text = self._options.guardrail.message(blocked.verdict)
        message = AIMessage(content=text, id=answer.id if answer is not None else None)
        return {"messages": [message], "jump_to": "end"}


def _loaded(policy: str | Path | Policy | Guardrail) -> Guardrail:
    guardrail = policy if isinstance(policy, Guardrail) else Guardrail.load(policy)
    refuse_redaction(guardrail.policy, "a LangChain guardrail")
    return guardrail
