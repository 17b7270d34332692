"""The guardrails for the OpenAI Agents SDK, run by its own `Runner` on a model of the test."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("agents", reason="needs the extra `integrations`")

from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    Model,
    ModelResponse,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunContextWrapper,
    Runner,
    Usage,
)
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from guardrail import Guardrail, Verdict
from guardrail.sdk.openai_agents import input_guardrail, output_guardrail
from tests.conftest import MarkerClassifier

QUIET = RunConfig(tracing_disabled=True)


class Echo(Model):
    """Says what it was given."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.calls = 0

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        self.calls += 1
        part = ResponseOutputText(text=self.text, type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="m", content=[part], role="assistant", status="completed", type="message"
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("not streamed here")


def agent(model: Echo, rail: Guardrail) -> Agent[Any]:
    return Agent(
        name="a",
        model=model,
        input_guardrails=[input_guardrail(rail)],
        output_guardrails=[output_guardrail(rail)],
    )


async def test_a_harmless_run_goes_through(rail: Guardrail) -> None:
    result = await Runner.run(agent(Echo("fine"), rail), "hi", run_config=QUIET)
    assert result.final_output == "fine"


@pytest.mark.parametrize("content", ["BAD", [{"role": "user", "content": "BAD"}]])
async def test_a_harmful_input_trips_before_the_model_runs(rail: Guardrail, content: Any) -> None:
    model = Echo("fine")
    with pytest.raises(InputGuardrailTripwireTriggered) as tripped:
        await Runner.run(agent(model, rail), content, run_config=QUIET)
    verdict = tripped.value.guardrail_result.output.output_info
    assert isinstance(verdict, Verdict)
    assert verdict.blocked
    assert model.calls == 0


async def test_a_harmful_output_trips(rail: Guardrail) -> None:
    with pytest.raises(OutputGuardrailTripwireTriggered):
        await Runner.run(agent(Echo("BAD"), rail), "hi", run_config=QUIET)


async def test_structured_output_is_judged_as_it_is_written(
    rail: Guardrail, marker: MarkerClassifier
) -> None:
    guardrail = output_guardrail(rail)
    await guardrail.run(RunContextWrapper(None), agent(Echo(""), rail), {"a": "größer"})
    assert marker.seen[-1].text == '{"a":"größer"}'
