"""An instruct model as a judge: told what to look for, read by the logits of yes and no.

A rubric and an exchange go into a question, the answer is one forward pass of an `AnswerModel`,
and its logit is calibrated: first against the same question about an empty exchange (contextual
calibration, Zhao et al. 2021), then by what was fitted on labelled data. Of an empty exchange "no"
is the right answer, however sure; only a lean to "yes" is a bias, and is taken off.

A judge is a `Classifier` as well, so that it can stand wherever one does. It knows neither HTTP
nor actions, and nothing of how its model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.answers import NO, YES, AnswerModel
from guardrail.classifier.base import Sample
from guardrail.classifier.questions import MAX_CHARS, Exchange, Rubric, ask, check_parts, parts
from guardrail.classifier.scaling import Scaling, load_scalings
from guardrail.taxonomy import CATEGORIES
from guardrail.types import UNSAFE, Coverage, Role, Scores

__all__ = ["Judgement", "PromptableJudge"]

LEAST_LOGPROB = -30.0
"""What an answer has that an endpoint does not name: it names its likeliest tokens only."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge found of one exchange by one rubric.

    Args:
        rubric: Key of the rubric.
        probability: Calibrated probability that the text matches it.
        logit: Its logit before the fitted calibration, a lean to yes taken off.
        answered: Share of the model's answers that were yes or no at all; where it is small,
            the model did not understand.
        tokens: Tokens that were read.
        dropped: Tokens and characters that were left out, since the exchange was too long.
    """

    rubric: str
    probability: float
    logit: float
    answered: float
    tokens: int = 0
    dropped: int = 0


@dataclass(slots=True)
class PromptableJudge:
    """Judges exchanges by rubrics.

    Args:
        model: What answers.
        rubrics: What `score` looks for; those of the taxonomy by default.
        scalings: Fitted calibration by rubric key, ``all`` for the others.
    """

    model: AnswerModel
    rubrics: tuple[Rubric, ...] = ()
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    _null: dict[tuple[str, Role, tuple[str, ...]], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rubrics = self.rubrics or tuple(
            Rubric(key, category.definition) for key, category in CATEGORIES.items()
        )

    @classmethod
    def load(
        cls,
        where: str,
        *,
        dtype: str = "auto",
        device: str = "auto",
        rubrics: Sequence[Rubric] = (),
        calibration: Path | None = None,
    ) -> PromptableJudge:
        """Load an instruct model from this machine and see that it can judge.

        Args:
            where: A folder, a ``.gguf`` file, or the id of a model in the Hugging Face cache.
            dtype: ``auto``, ``fp32``, ``bf16`` or ``int8``.
            device: ``auto``, ``cpu`` or ``cuda``.
            rubrics: What `score` looks for; those of the taxonomy by default.
            calibration: A file that `save_scalings` wrote.

        Returns:
            The judge.

        Raises:
            BundleError: The model cannot be used, or the calibration is another model's.
            SettingsError: Its vocabulary has no yes or no, or the device cannot be used.
        """
        from guardrail.classifier.local import Dtype
        from guardrail.classifier.promptable import LocalModel

        model = LocalModel.load(where, dtype=Dtype.of(dtype), device=device)
        model.require_chat_template()
        model.require_answers([YES, NO])
        scalings = load_scalings(calibration, model.model_id) if calibration else {}
        return cls(model, tuple(rubrics), scalings)

    @property
    def model_id(self) -> str:
        """Identity of the model behind it."""
        return self.model.model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of its rubrics."""
        return tuple(rubric.key for rubric in self.rubrics if rubric.key != UNSAFE)

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch by all rubrics; see `Classifier.score`.

        The overall probability is that of the rubric ``unsafe`` where there is one, else the
        highest of the harmful ones.
        """
        exchanges = [_exchange(sample) for sample in samples]
        found = self.judge(exchanges, self.rubrics)
        return [self._scores(e, row) for e, row in zip(exchanges, found, strict=True)]

    def _scores(self, exchange: Exchange, row: Sequence[Judgement]) -> Scores:
        values = {j.rubric: j.probability for j in row}
        harmful = [values[r.key] for r in self.rubrics if r.harmful]
        values.setdefault(UNSAFE, max(harmful, default=0.0))
        total, tokens = len(exchange.text), sum(j.tokens for j in row)
        dropped = max((j.dropped for j in row), default=0)
        read = max(0, total - dropped)  # a token is a character at least
        return Scores(values, self.model_id, Coverage(read, total, tokens, 1))

    def judge(
        self, exchanges: Sequence[Exchange], rubrics: Sequence[Rubric]
    ) -> list[list[Judgement]]:
        """Judge each exchange by each rubric; the exchange is read once for all of them.

        Args:
            exchanges: What to judge; may be empty.
            rubrics: What to look for.

        Returns:
            For each exchange one judgement for each rubric.

        Raises:
            SettingsError: An exchange lacks what a rubric needs.
            CheckError: The model could not be asked.
        """
        for rubric in rubrics:
            for exchange in exchanges:
                check_parts(rubric, exchange)
        prompts = [ask(exchange, rubric) for exchange in exchanges for rubric in rubrics]
        found = self.model.answers(prompts, [YES, NO])
        self._learn_nulls(exchanges, rubrics)
        logits, answered = _logits(found.logprobs), _mass(found.logprobs)
        out: list[list[Judgement]] = []
        for i, exchange in enumerate(exchanges):
            row = []
            for k, rubric in enumerate(rubrics):
                at = i * len(rubrics) + k
                logit = float(logits[at]) - self._null[_key(rubric, exchange)]
                scaling = self.scalings.get(rubric.key, self.scalings.get("all", Scaling()))
                probability = float(scaling.apply(np.array([logit]))[0])
                tokens, dropped = int(found.tokens[at]), int(found.dropped[at])
                dropped += max(0, len(exchange.text) - MAX_CHARS)
                row.append(
                    Judgement(rubric.key, probability, logit, float(answered[at]), tokens, dropped)
                )
            out.append(row)
        return out

    def _learn_nulls(self, exchanges: Sequence[Exchange], rubrics: Sequence[Rubric]) -> None:
        """Ask each question about an empty exchange of the same shape, once."""
        wanted = {_key(r, e): (r, e) for e in exchanges for r in rubrics}
        missing = {key: pair for key, pair in wanted.items() if key not in self._null}
        prompts = [ask(_empty(e), r) for r, e in missing.values()]
        if prompts:
            found = _logits(self.model.answers(prompts, [YES, NO]).logprobs)
            lean = np.maximum(found, 0.0)
            self._null.update(zip(missing, lean.tolist(), strict=True))


def _logits(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.maximum(logprobs, LEAST_LOGPROB)
    return np.asarray(known[:, 0] - known[:, 1])


def _mass(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(np.logaddexp.reduce(logprobs, axis=1)))


def _key(rubric: Rubric, exchange: Exchange) -> tuple[str, Role, tuple[str, ...]]:
    return rubric.text, exchange.role, tuple(name for name, _ in parts(exchange))


def _empty(exchange: Exchange) -> Exchange:
    blank = {name: "" for name, _ in parts(exchange) if name != "text"}
    return Exchange("", exchange.role, **blank)


def _exchange(sample: Sample) -> Exchange:
    return Exchange(sample.context + sample.text, sample.role, sample.prompt)
