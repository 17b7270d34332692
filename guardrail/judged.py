"""Which texts of requests were judged before, so that earlier turns need no trust.

A client sends the history of a conversation along, and can write into it what it likes: that an
answer stands behind a turn does not say that the turn was ever judged. Here is remembered, by
digest and within bounds, what passed. What is not remembered is judged, which is the safe side of
forgetting. Knows neither models nor HTTP nor clocks; one event loop uses it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from guardrail.decide import Scope
from guardrail.policy import Policy, Turns
from guardrail.types import Outcome, Segment, Verdict

__all__ = ["Judged"]

MAX_TEXTS: Final = 65_536
"""Digests that are remembered: about 10 MiB, and a thousand conversations of 64 turns."""


class Judged:
    """Digests of texts that passed, the last used last.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int = MAX_TEXTS) -> None:
        self._most = most
        self._passed: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._passed)

    def unseen(self, policy: Policy, scope: Scope) -> Scope:
        """Leave out earlier turns that passed before, where the policy says so.

        Args:
            policy: The policy in force.
            scope: All texts in scope.
        """
        if policy.turns is not Turns.UNSEEN:
            return scope
        kept: list[Segment] = []
        skipped = list(scope.skipped)
        for sample, key in zip(scope.samples, _digests(policy, scope.samples), strict=True):
            if sample.latest or key not in self._passed:
                kept.append(sample)
            else:
                self._passed.move_to_end(key)
                skipped.append(f"{sample.channel} of turn {sample.turn}: passed before")
        return replace(scope, samples=tuple(kept), skipped=tuple(skipped))

    def note(self, policy: Policy, samples: Sequence[Segment], verdicts: Sequence[Verdict]) -> None:
        """Remember what passed; the rest is judged again.

        That is what was blocked, not read to its end, or not answered by a guard that was asked.

        Args:
            policy: The policy in force.
            samples: What was judged.
            verdicts: The verdict on each.
        """
        if policy.turns is not Turns.UNSEEN:
            return
        for key, verdict in zip(_digests(policy, samples), verdicts, strict=True):
            read = verdict.outcome in (Outcome.SCANNED, Outcome.SKIPPED)
            answered = all(asked.after is not None for asked in verdict.scores.escalations)
            if read and answered and not verdict.blocked:
                self._passed[key] = None
        while len(self._passed) > self._most:
            self._passed.popitem(last=False)


def _digests(policy: Policy, samples: Sequence[Segment]) -> Iterator[bytes]:
    """Yield what stands for each text; another policy, speaker, kind or prompt is another text.

    An answer is read with its prompt: "Yes, do exactly that." is harmless behind one question
    only. The same prompt stands before many answers, so it is digested once.
    """
    prompts: dict[str | None, bytes] = {None: b""}
    for sample in samples:
        prompt = prompts.get(sample.prompt)
        if prompt is None:
            prompt = prompts[sample.prompt] = _hash(sample.prompt or "")
        head = f"{policy.content_hash}\0{sample.role.value}\0{sample.channel.kind.value}\0"
        yield _hash(f"{head}{prompt.hex()}\0{sample.text}")


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
