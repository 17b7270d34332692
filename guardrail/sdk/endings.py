"""What a plain guarded stream does about its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from guardrail.errors import GuardrailBlocked
from guardrail.sdk.codecs import Codec
from guardrail.types import Action, Verdict

__all__ = ["Raising"]


class Raising:
    """The plain ending: a block raises, a flag is told to a callback.

    Args:
        unreadable: Returns what an unreadable answer means.
        on_flag: Called with a verdict that flags.
    """

    def __init__(
        self, unreadable: Callable[[], Verdict], on_flag: Callable[[Verdict], object] | None
    ) -> None:
        self._unreadable = unreadable
        self._on_flag = on_flag

    def flagged(self, verdict: Verdict) -> None:
        """Tell the callback."""
        if self._on_flag is not None and verdict.effective in (Action.FLAG, Action.REDACT):
            self._on_flag(verdict)

    def blocked(self, verdict: Verdict, codec: Codec[Any]) -> Iterable[Any]:  # noqa: ARG002
        """Raise."""
        raise GuardrailBlocked(verdict)

    def unreadable(self, codec: Codec[Any]) -> Iterable[Any]:
        """Raise with the verdict of the failure mode."""
        return self.blocked(self._unreadable(), codec)
