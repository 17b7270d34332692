"""The `Classifier` protocol: texts in, calibrated `Scores` out.

Whatever judges text stands behind this protocol: the embedded encoder, rules, a causal-LM
guard, a remote endpoint, or a cascade of them. It is synchronous and may be called from any
thread; `guardrail.check` runs it off the event loop. It knows neither HTTP nor actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from guardrail.types import Role, Scores

__all__ = ["Classifier", "Judge", "Sample", "Stream"]


class Stream:
    """One channel of text whose parts are judged one after another.

    It stands for the channel and holds nothing: a classifier may keep what it has read under it,
    for as long as it lives and there is room, and so read each part once.
    """

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Sample:
    """One text to score.

    Args:
        text: The text to judge.
        role: Who speaks: the encoder tells a user's request from an assistant's answer.
        prompt: The user turn before an assistant's reply, or None.
        context: Text of the same speaker just before ``text``, already judged; it is read but
            its own findings are not what is asked for.
        stream: The channel that ``text`` is the next part of, or None where it stands alone. A
            classifier may ignore it: ``context`` is there all the same.
        start: Position of the first character of ``text`` in its channel.
    """

    text: str
    role: Role = Role.TEXT
    prompt: str | None = None
    context: str = ""
    stream: Stream | None = None
    start: int = 0


@runtime_checkable
class Classifier(Protocol):
    """Something that scores texts."""

    @property
    def model_id(self) -> str:
        """Name and content hash, as every verdict carries it."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of the categories it can score, besides the overall one."""
        ...

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch.

        Args:
            samples: The texts; may be empty, and of any mix of lengths.

        Returns:
            One `Scores` for each sample, in order.

        Raises:
            CheckError: The batch could not be scored.
        """
        ...


@runtime_checkable
class Judge(Classifier, Protocol):
    """A classifier that can be asked about some of its categories only.

    What costs a model call for each category, a language model above all, stands behind this.
    """

    def ask(self, samples: Sequence[Sample], categories: Sequence[str], /) -> list[Scores]:
        """Score a batch for some categories.

        Args:
            samples: The texts.
            categories: Keys out of `categories`, or the overall one where it can score that.

        Returns:
            One `Scores` for each sample, in order, with the probabilities of ``categories``.

        Raises:
            CheckError: The batch could not be scored.
        """
        ...
