"""A guarded OpenAI client: same type, same methods, every call checked, streams included.

    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x \\
        python docs/examples/guarded_client.py

The same goes for `AsyncOpenAI`, `Anthropic` and `AsyncAnthropic`.
"""

from __future__ import annotations

import os

import openai

from guardrail import GuardrailBlocked, guard_client

client = guard_client(openai.OpenAI(), policy="default")
model = os.environ.get("MODEL", "gpt-4o-mini")
ask = [{"role": "user", "content": "Say hello in one short sentence."}]

try:
    answer = client.chat.completions.create(model=model, messages=ask, max_tokens=30)
    print("whole:", answer.choices[0].message.content)
    print("stream: ", end="")
    chunks = client.chat.completions.create(model=model, messages=ask, max_tokens=30, stream=True)
    for chunk in chunks:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="")
    print()
except GuardrailBlocked as blocked:
    print("blocked:", blocked.verdict.categories)
