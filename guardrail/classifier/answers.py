"""What a language model is asked, and what it says, as log-probabilities of a few answers.

The one protocol behind which a judge's model stands: a local causal LM (`promptable`) or an
endpoint. Nothing here runs a model or knows a wire format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO", "YES", "AnswerModel", "Answers", "Prompt", "defang"]

YES: Final = ("yes", "Yes", "YES", " yes", " Yes")
NO: Final = ("no", "No", "NO", " no", " No")
"""Spellings of the two answers; their probabilities are summed."""

PASSES: Final = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to a model.

    Args:
        shared: What several questions have in common, such as the exchange to judge; questions
            of one call with equal ``shared`` are computed once up to where they differ.
        own: What only this one asks; the prompt is both, in this order. Where it is empty the
            question is taken together with all others of its kind.
        prefill: Beginning of the answer, which the model continues.
        raw: Whether the text is in the model's own format, special tokens included; else it is
            a user turn, and the model's chat template is put around it.
    """

    shared: str
    own: str = ""
    prefill: str = ""
    raw: bool = False

    @property
    def text(self) -> str:
        """The whole prompt, without the prefill."""
        return self.shared + self.own


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model answers.

    Args:
        logprobs: float64 (prompts, options); log of the probability of each option, its
            spellings summed. Rows sum to the share of answers that are options at all.
        tokens: int64 (prompts,); tokens of each prompt that were read.
        dropped: int64 (prompts,); tokens of each prompt that were left out, since it was
            longer than the model takes.
    """

    logprobs: NDArray[np.float64]
    tokens: NDArray[np.int64]
    dropped: NDArray[np.int64]


@runtime_checkable
class AnswerModel(Protocol):
    """Something that can be asked, and whose probabilities can be read."""

    @property
    def model_id(self) -> str:
        """Name and content hash, as every verdict carries it."""
        ...

    def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
        """Ask, and return the probability of each option.

        Args:
            prompts: The questions; may be empty.
            options: Spellings of each option, such as ``[YES, NO]``.

        Returns:
            The answers, a row for each prompt.

        Raises:
            SettingsError: An option cannot be an answer of this model.
            CheckError: The model could not be asked.
        """
        ...


def defang(text: str, markers: Iterable[str]) -> str:
    """Break up what a text must not contain, such as a model's special tokens.

    A text that could write ``<|im_end|>`` could end its own turn and answer for the model. A
    space after the first character leaves it readable and makes it plain text.

    Args:
        text: The text to judge.
        markers: Strings to break up; those of one character are left alone.

    Returns:
        The text without any of the markers.
    """
    pattern = _pattern(tuple(markers))
    if pattern is None:
        return text
    for _ in range(PASSES):  # a broken marker may complete another
        broken = pattern.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)
        if broken == text:
            return text
        text = broken
    return pattern.sub(" ", text)


@lru_cache(64)
def _pattern(markers: tuple[str, ...]) -> re.Pattern[str] | None:
    # A marker that begins with space would come back from being broken.
    known = sorted({m.strip() for m in markers if len(m.strip()) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, known))) if known else None
