"""Guards that are sequence classifiers: Prompt Guard 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guardrail.classifier.base import Sample
from guardrail.classifier.guards.forms import Form
from guardrail.classifier.local import Loaded
from guardrail.classifier.windows import Span, bounded, spans
from guardrail.errors import BundleError, CheckError
from guardrail.types import UNSAFE, Coverage, Scores

__all__ = ["SequenceGuard"]

WINDOW = 512
"""Tokens that Prompt Guard 2 was trained on; its card says to cut longer texts into such."""
OVERLAP = 64
MAX_WINDOWS = 16
BATCH = 8
CHARS_PER_TOKEN = 6


@dataclass(frozen=True, slots=True)
class SequenceGuard:
    """A guard with one logit for each label.

    Args:
        form: Which.
        loaded: The model.
    """

    form: Form
    loaded: Loaded = field(repr=False)

    def __post_init__(self) -> None:
        has, needs = self.loaded.model.config.num_labels, max(self.form.harmful) + 1
        if has != needs:
            raise BundleError(
                f"{self.loaded.where}: has {has} labels, {self.form.name} has {needs}; name the "
                "guard's own model"
            )

    @property
    def model_id(self) -> str:
        """The guard's name and the model's identity."""
        return f"{self.form.name}:{self.loaded.model_id}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of the taxonomy that it answers for."""
        return tuple(dict.fromkeys(k for keys in self.form.harmful.values() for k in keys))

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch; of a long text each probability is the highest of its windows."""
        plans = [self._cut(sample) for sample in samples]
        windows = [window for rows, _ in plans for window in rows]
        try:
            chances = [
                p for at in range(0, len(windows), BATCH) for p in self._run(windows[at:][:BATCH])
            ]
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckError(f"{self.model_id} failed: {type(error).__name__}") from error
        out, at = [], 0
        for rows, coverage in plans:
            own = chances[at : at + len(rows)]
            at += len(rows)
            values = {
                key: max(chance[label] for chance in own)
                for label, keys in self.form.harmful.items()
                for key in (*keys, UNSAFE)
            }
            out.append(Scores(values, self.model_id, coverage))
        return out

    def _cut(self, sample: Sample) -> tuple[list[list[int]], Coverage]:
        total = len(sample.text)
        text, left_out = bounded(
            sample.context + sample.text, MAX_WINDOWS * WINDOW * CHARS_PER_TOKEN
        )
        tokenizer = self.loaded.tokenizer
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        size = min(WINDOW, self.loaded.context_tokens) - tokenizer.num_special_tokens_to_add()
        cuts = spans(len(ids), size, OVERLAP, MAX_WINDOWS)
        rows = [tokenizer.build_inputs_with_special_tokens(ids[c.start : c.end]) for c in cuts]
        missing = left_out + (len(ids) - _covered(cuts))
        return rows, Coverage(max(0, total - missing), total, sum(map(len, rows)), len(rows))

    def _run(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        torch, longest = self.loaded.torch, max(map(len, rows))
        pad = self.loaded.tokenizer.pad_token_id or 0
        ids = [[*row, *[pad] * (longest - len(row))] for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        with torch.inference_mode():
            logits = self.loaded.model(
                input_ids=torch.tensor(ids, device=self.loaded.device),
                attention_mask=torch.tensor(mask, device=self.loaded.device),
            ).logits
            found: list[list[float]] = logits.float().softmax(dim=-1).cpu().tolist()
        return found


def _covered(cuts: Sequence[Span]) -> int:
    covered = end = 0
    for cut in cuts:
        covered += cut.end - max(cut.start, end)
        end = cut.end
    return covered
