"""`@guard` around a chat call of your own; OPENAI_BASE_URL says where the model is.

OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x python docs/examples/decorator.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import openai

from guardrail import GuardrailBlocked, Verdict, guard

client = openai.OpenAI()
model = os.environ.get("MODEL", "gpt-4o-mini")


def report(verdict: Verdict) -> None:
    """Called with verdicts that flag."""
    print("flagged:", verdict.direction.value, verdict.categories)


@guard(policy="default", on_flag=report)
def chat(prompt: str) -> str:
    """A whole answer; a block raises `GuardrailBlocked`."""
    messages = [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=40)
    return answer.choices[0].message.content or ""


@guard(policy="default", on_block="message")
def stream(prompt: str) -> Iterator[str]:
    """A streamed answer; a block ends it with the policy's own message."""
    messages = [{"role": "user", "content": prompt}]
    chunks = client.chat.completions.create(
        model=model, messages=messages, max_tokens=40, stream=True
    )
    for chunk in chunks:
        yield chunk.choices[0].delta.content or "" if chunk.choices else ""


try:
    print("whole:", chat("Say hello in one short sentence."))
except GuardrailBlocked as blocked:
    print("whole:", blocked)

print("stream:", "".join(stream("Name three colours.")))

# The same as a context manager, around calls that you cannot decorate.
with guard(policy="default", on_block="message") as scope:
    prompt = scope.input("What is a kettle?")
    print("scope:", scope.output(f"You asked: {prompt} It boils water."))
