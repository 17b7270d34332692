"""Judge texts, conversations, answers and streams, without any LLM behind it.

python docs/examples/plain.py
"""

from __future__ import annotations

import asyncio

from guardrail import Guardrail, GuardrailBlocked

rail = Guardrail.load("default")

# A text, or a conversation. Nothing is raised: the verdict says what was found.
verdict = rail.check("How do I kill a Python process that hangs?")
print("text:", verdict.action.value, f"unsafe={verdict.scores.categories['unsafe']:.3f}")

verdict = rail.check(
    [
        {"role": "user", "content": "What is a good name for a cat?"},
        {"role": "assistant", "content": "Minka."},
        {"role": "user", "content": "And for a second one?"},
    ]
)
print("conversation:", verdict.action.value, "policy", verdict.policy)

# An answer is judged better with the question before it.
verdict = rail.check("Tie a bow, then pull.", direction="output", prompt="How do I tie shoes?")
print("answer:", verdict.action.value)

# A stream: items come out, unchanged, as they are cleared.
words = (
    f"{word} "
    for word in ["The", "kettle", "boils", "when", "the", "water", "is", "hot", "enough."]
)
try:
    print("stream:", "".join(rail.check_stream(words)))
except GuardrailBlocked as blocked:
    print("stream:", blocked)

# Calibrated probabilities for a batch, without a policy.
for scores in rail.score(["I love gardening.", "I will find you."], role="user"):
    print("scores:", {key: round(p, 3) for key, p in list(scores.categories.items())[:3]})


async def many() -> None:
    """Checks that run at the same time share forward passes."""
    verdicts = await asyncio.gather(*(rail.acheck(f"Note number {i}") for i in range(16)))
    print("many:", len(verdicts), "checks,", sum(v.blocked for v in verdicts), "blocked")


asyncio.run(many())
