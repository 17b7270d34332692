"""Published guard models as classifiers: their own prompts in, probabilities by our keys out.

Harm is the probability of the deciding word, taken from its logit, not a label. Categories are
a second question where the guard names them (the first that it would name), or a question each
where it is asked about one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.answers import AnswerModel, Answers, Prompt, defang
from guardrail.classifier.base import Sample
from guardrail.classifier.guards.forms import Codes, Fields, Form, Guidelines, Label, Template
from guardrail.classifier.questions import MAX_CHARS, PROMPT_CHARS
from guardrail.classifier.windows import bounded
from guardrail.errors import SettingsError
from guardrail.types import UNSAFE, Coverage, Role, Scores

__all__ = ["NamedGuard", "custom_labels"]

Floats = NDArray[np.float64]
NEGLIGIBLE = 0.01
"""Probability of harm below which no category is asked for; each then has 0."""

_LABEL = "\0"


def custom_labels(form: Form, categories: Mapping[str, str]) -> tuple[Label, ...]:
    """Make labels of categories that are not the guard's own.

    Args:
        form: The guard.
        categories: What violates each, in words, by key.

    Returns:
        One label for each.

    Raises:
        SettingsError: The guard takes no others, or none were given.
    """
    if not form.custom:
        raise SettingsError(f"{form.name}: was trained for its own categories and takes no others")
    if not categories:
        raise SettingsError(f"{form.name}: no categories were given; name one at least")
    names = form.answer.labels.numbered if isinstance(form.answer, Codes) else None
    labels = []
    for n, (key, text) in enumerate(categories.items(), 1):
        title = key.replace("_", " ").capitalize()
        if names is not None:
            labels.append(Label(names.replace("{n}", str(n)), f"{title}.\n{text}", (key,)))
        else:
            labels.append(Label(key, text, (key,)))
    return tuple(labels)


@dataclass(frozen=True, slots=True)
class NamedGuard:
    """A guard that is a language model.

    Args:
        form: Which, with its prompts.
        model: What answers.
        labels: Its categories for a text of a user; the form's by default.
        markers: Special tokens, which a text must not contain.
        bos: The token that begins every text.
    """

    form: Form
    model: AnswerModel
    labels: tuple[Label, ...] = ()
    markers: tuple[str, ...] = field(default=(), repr=False)
    bos: str = ""

    @property
    def model_id(self) -> str:
        """The guard's name and the model's identity."""
        return f"{self.form.name}:{self.model.model_id}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of the taxonomy that it answers for, or of its custom categories."""
        keys = (key for label in (self.labels or self.form.labels) for key in label.keys)
        return tuple(dict.fromkeys(keys))

    def labels_for(self, role: Role) -> tuple[Label, ...]:
        """Return the categories that a text of a speaker is judged by."""
        if self.labels:
            return self.labels
        replies = self.form.reply_labels
        return replies if replies is not None and _is_reply(role) else self.form.labels

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch; see `Classifier.score`."""
        answer = self.form.answer
        if isinstance(answer, Codes):
            return self._codes(answer, samples)
        if isinstance(answer, Guidelines):
            return self._guidelines(answer, samples)
        assert isinstance(answer, Fields)  # a sequence classifier is not made into one of these
        return self._fields(answer, samples)

    def prompt(self, sample: Sample, label: Label | None = None) -> Prompt:
        """Put a sample into the guard's own format.

        Args:
            sample: What to judge.
            label: The category to ask about, where it is asked about one at a time.

        Returns:
            The prompt; all before the text is shared by the prompts of a batch.
        """
        reply = _is_reply(sample.role)
        template: Template = self.form.reply if reply else self.form.user
        text = template.text.format(
            prompt=self._clean(sample.prompt or "", PROMPT_CHARS),
            text=self._clean(sample.context + sample.text, MAX_CHARS),
            labels=self._listed(sample.role),
            label=_LABEL,
        )
        head, _, tail = text.partition(_LABEL)
        own = "" if label is None else _about(label, reply) + tail
        return Prompt((self.bos if self.form.bos else "") + head, own, template.prefill, raw=True)

    def _clean(self, text: str, limit_chars: int) -> str:
        kept, _ = bounded(text, limit_chars)
        plain = defang(kept.replace(_LABEL, "\ufffd"), (*self.markers, *self.form.fences))
        return plain.strip() if self.form.strip else plain

    def _listed(self, role: Role) -> str:
        answer = self.form.answer
        if not isinstance(answer, Codes):
            return ""
        shape = answer.labels
        lines = (shape.line.format(code=n.code, text=n.text) for n in self.labels_for(role))
        return shape.separator.join(lines)

    def _codes(self, answer: Codes, samples: Sequence[Sample]) -> list[Scores]:
        prompts = [self.prompt(sample) for sample in samples]
        found = self.model.answers(prompts, [[verdict] for verdict in answer.verdicts])
        harm = _shares(found.logprobs) @ np.array(list(answer.verdicts.values()))
        values: list[dict[str, float]] = [{} for _ in samples]
        for labels, members in self._by_labels(samples).items():
            # Where there is no harm to speak of there is no category to ask for.
            asked = [n for n in members if harm[n] >= NEGLIGIBLE]
            second = [_ahead(prompts[n], answer.labels.prefill) for n in asked]
            codes = [[answer.labels.lead + label.code] for label in labels]
            shares = _shares(self.model.answers(second, codes).logprobs)
            for n, own in zip(asked, shares, strict=True):
                values[n] = _spread(labels, own * harm[n], together=True)
            for n in members:
                values[n] = values[n] or _spread(labels, np.zeros(len(labels)), together=True)
        return [
            self._scores(sample, {UNSAFE: float(harm[n]), **values[n]}, found, n)
            for n, sample in enumerate(samples)
        ]

    def _by_labels(self, samples: Sequence[Sample]) -> dict[tuple[Label, ...], list[int]]:
        groups: dict[tuple[Label, ...], list[int]] = {}
        for n, sample in enumerate(samples):
            groups.setdefault(self.labels_for(sample.role), []).append(n)
        return groups

    def _guidelines(self, answer: Guidelines, samples: Sequence[Sample]) -> list[Scores]:
        asked = [(n, label) for n, s in enumerate(samples) for label in self.labels_for(s.role)]
        prompts = [self.prompt(samples[n], label) for n, label in asked]
        found = self.model.answers(prompts, [answer.yes, answer.no])
        chances = _shares(found.logprobs)[:, 0] if len(asked) else np.zeros(0)
        out, at = [], 0
        for sample in samples:
            labels = self.labels_for(sample.role)
            own = chances[at : at + len(labels)]
            overall = [float(p) for label, p in zip(labels, own, strict=True) if label.overall]
            values = _spread(labels, own, together=False)
            harm = max(overall or [float(p) for p in own])
            out.append(self._scores(sample, {UNSAFE: harm, **values}, found, at))
            at += len(labels)
        return out

    def _fields(self, answer: Fields, samples: Sequence[Sample]) -> list[Scores]:
        prompts = [self.prompt(sample) for sample in samples]
        out: list[Scores | None] = [None] * len(samples)
        for name in dict.fromkeys((answer.user, answer.reply)):
            members = [
                n
                for n, s in enumerate(samples)
                if name == (answer.reply if _is_reply(s.role) else answer.user)
            ]
            options = _filled(answer.names[: answer.names.index(name) + 1])
            found = self.model.answers([prompts[n] for n in members], options)
            harm = _shares(found.logprobs)
            for at, n in enumerate(members):
                out[n] = self._scores(samples[n], {UNSAFE: float(harm[at, 0])}, found, at)
        return [scores for scores in out if scores is not None]

    def _scores(
        self, sample: Sample, values: Mapping[str, float], found: Answers, at: int
    ) -> Scores:
        total = len(sample.context) + len(sample.text)
        dropped = int(found.dropped[at])
        read = max(0, min(total, MAX_CHARS) - dropped)
        return Scores(values, self.model_id, Coverage(read, total, int(found.tokens[at]), 1))


def _is_reply(role: Role) -> bool:
    return role is Role.ASSISTANT


def _about(label: Label, reply: bool) -> str:
    return label.reply if reply and label.reply is not None else label.text


def _ahead(prompt: Prompt, written: str) -> Prompt:
    """Return the prompt once the model has written more."""
    return Prompt(prompt.shared, prompt.own, prompt.prefill + written, prompt.raw)


def _filled(names: Sequence[str]) -> list[list[str]]:
    """Return every way to fill in the fields up to the last, by its answer: yes, then no."""
    ways: list[list[str]] = [[], []]
    for answers in product(("yes", "no"), repeat=len(names)):
        lines = (f"{name}: {value}" for name, value in zip(names, answers, strict=True))
        ways[answers[-1] == "no"].append("\n".join(lines))
    return ways


def _shares(logprobs: Floats) -> Floats:
    """Return each option's share of all options, float64 of the same shape."""
    whole = np.logaddexp.reduce(logprobs, axis=1, keepdims=True)
    return np.asarray(np.exp(logprobs - whole))


def _spread(labels: Sequence[Label], values: Floats, *, together: bool) -> dict[str, float]:
    """Give each key what its labels have: the sum of shares, or the highest of chances."""
    out: dict[str, float] = {}
    for label, value in zip(labels, values, strict=True):
        for key in label.keys:
            before = out.get(key, 0.0)
            out[key] = min(1.0, before + float(value)) if together else max(before, float(value))
    return out
