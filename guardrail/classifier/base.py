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

__all__ = ["Classifier", "Judge", "Place", "Sample", "Stream"]


class Stream:
    """One channel of text whose parts are judged one after another.

    It stands for the channel and holds nothing: a classifier may keep what it has read under it,
    for as long as it lives and there is room, and so read each part once.
    """

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands in a stream.

    Args:
        stream: The channel that it is the next part of.
        start: Position of its first character in the channel.
    """

    stream: Stream
    start: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One text to score.

    Args:
        text: The text to judge.
        role: Who speaks: the encoder tells a user's request from an assistant's answer.
        prompt: The user turn before an assistant's reply, or None.
        context: Text of the same speaker just before ``text``, already judged; it is read but
            its own findings are not what is asked for.
        place: Where ``text`` stands in a stream, or None where it stands alone. A classifier may
            ignore it: ``context`` is there all the same.
    """

    text: str
    role: Role = Role.TEXT
    prompt: str | None = None
    context: str = ""
    place: Place | None = None


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
