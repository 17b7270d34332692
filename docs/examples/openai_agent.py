"""An agent of the OpenAI Agents SDK with input and output guardrails.

pip install 'guardrail[cpu,agents]'
OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x python docs/examples/openai_agent.py
"""

from __future__ import annotations

import os

from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OutputGuardrailTripwireTriggered,
    Runner,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from guardrail.sdk.openai_agents import input_guardrail, output_guardrail

set_tracing_disabled(True)
agent = Agent(
    name="helper",
    instructions="Answer in one short sentence.",
    model=OpenAIChatCompletionsModel(os.environ.get("MODEL", "gpt-4o-mini"), AsyncOpenAI()),
    model_settings=ModelSettings(max_tokens=30),
    input_guardrails=[input_guardrail(policy="default")],
    output_guardrails=[output_guardrail(policy="default")],
)
try:
    print("agent:", Runner.run_sync(agent, "Say hello.").final_output)
except (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered) as tripped:
    print("tripped:", tripped.guardrail_result.output.output_info.categories)
