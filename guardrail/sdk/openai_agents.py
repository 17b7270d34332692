"""OpenAI Agents SDK: input and output guardrails for an ``Agent``.

    agent = Agent(
        name="helper",
        input_guardrails=[input_guardrail()],
        output_guardrails=[output_guardrail()],
    )

Needs the extra ``agents``. A block trips the SDK's own wire: the run ends with
``InputGuardrailTripwireTriggered`` or ``OutputGuardrailTripwireTriggered``, and the verdict is
in its ``guardrail_result.output.output_info``. The SDK judges the input of the first agent and the
final output alone: tool results are not judged, and ``run_streamed`` hands out events before the
verdict. Guard the client of the model (`guard_client`) where they matter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardrail.policy import Policy
from guardrail.sdk.adapters import as_plain
from guardrail.sdk.api import Guardrail
from guardrail.sdk.redaction import refuse_redaction
from guardrail.types import Action, Direction, Verdict
from guardrail.wire.json import dump

try:
    from agents import (
        Agent,
        GuardrailFunctionOutput,
        InputGuardrail,
        OutputGuardrail,
        RunContextWrapper,
    )
except ImportError as error:
    raise ImportError(
        "the OpenAI Agents integration needs: pip install 'guardrail[agents]'"
    ) from error

__all__ = ["input_guardrail", "output_guardrail"]


def input_guardrail(
    policy: str | Path | Policy | Guardrail = "default",
    *,
    run_in_parallel: bool = False,
    on_flag: Callable[[Verdict], object] | None = None,
) -> InputGuardrail[Any]:
    """Return a guardrail for ``Agent.input_guardrails``.

    Args:
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        run_in_parallel: Start the model at once; tokens are then spent on what is blocked.
        on_flag: Called with verdicts that flag.
    """
    guardrail = _loaded(policy)

    async def check(
        _context: RunContextWrapper[Any], _agent: Agent[Any], content: Any
    ) -> GuardrailFunctionOutput:
        body = content if isinstance(content, str) else {"input": as_plain(content)}
        return _result(await guardrail.acheck(body), on_flag)

    return InputGuardrail(check, name="guardrail-input", run_in_parallel=run_in_parallel)


def output_guardrail(
    policy: str | Path | Policy | Guardrail = "default",
    *,
    on_flag: Callable[[Verdict], object] | None = None,
) -> OutputGuardrail[Any]:
    """Return a guardrail for ``Agent.output_guardrails``.

    Args:
        policy: A policy file, the name of a bundled policy, a `Policy`, or a `Guardrail`.
        on_flag: Called with verdicts that flag.
    """
    guardrail = _loaded(policy)

    async def check(
        _context: RunContextWrapper[Any], _agent: Agent[Any], output: Any
    ) -> GuardrailFunctionOutput:
        text = output if isinstance(output, str) else dump(as_plain(output)).decode()
        return _result(await guardrail.acheck(text, direction=Direction.OUTPUT), on_flag)

    return OutputGuardrail(check, name="guardrail-output")


def _result(
    verdict: Verdict, on_flag: Callable[[Verdict], object] | None
) -> GuardrailFunctionOutput:
    if on_flag is not None and verdict.effective is Action.FLAG:
        on_flag(verdict)
    return GuardrailFunctionOutput(output_info=verdict, tripwire_triggered=verdict.blocked)


def _loaded(policy: str | Path | Policy | Guardrail) -> Guardrail:
    guardrail = policy if isinstance(policy, Guardrail) else Guardrail.load(policy)
    refuse_redaction(guardrail.policy, "an OpenAI Agents guardrail")
    return guardrail
