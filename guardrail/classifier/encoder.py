"""The embedded classifier: an int8 encoder run by ONNX Runtime.

The only importer of onnxruntime and tokenizers on the serving side; both are imported when a
classifier is built, not before. It knows neither HTTP nor actions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.base import Sample
from guardrail.classifier.batching import batches, feed
from guardrail.classifier.bundle import Bundle
from guardrail.classifier.pairs import Encoded, encode_pair, prompt_part
from guardrail.classifier.session import open_session
from guardrail.classifier.streams import PAST, Reading, StreamReader, unused_inputs
from guardrail.classifier.windows import Span, bounded, prompt_text, spans, speakable
from guardrail.errors import BundleError, CheckError
from guardrail.types import UNSAFE, Coverage, Role, Scores

if TYPE_CHECKING:
    import tokenizers

__all__ = ["EncoderClassifier", "Limits"]

_log = logging.getLogger(__name__)

_FEATURES, _LAST_LAYER = "features", "embedding"
"""Results that heads are fitted on: the mean states of every layer, or of an older bundle's last
alone."""
CHARS_PER_TOKEN = 6
"""Characters kept for each token that may be scored, before tokenizing; English has about 4."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the work that one text may cause.

    Args:
        max_windows: Most windows of a text; beyond, its middle is not scored and `Coverage`
            says so. 64 windows of 256 tokens are about 60,000 characters of English.
        batch_tokens: Padded tokens of one run of the model.
        stream_bytes: Memory for what is kept of streams between their parts, about 18 KiB a token;
            a stream that finds no room is judged by windows that overlap.
    """

    max_windows: int = 64
    batch_tokens: int = 2048
    stream_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Plan:
    windows: tuple[Encoded, ...]
    coverage: Coverage


class EncoderClassifier:
    """Scores texts with the encoder of a bundle. Safe to call from several threads.

    Args:
        bundle: A verified bundle; None for the embedded one.
        threads: Threads of one run; None for one for each CPU that the process may use.
        providers: ONNX Runtime execution providers; None for CUDA where usable, else the CPU.
        limits: Bounds on the work of one text.

    Raises:
        BundleError: The bundle's model or tokenizer cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._bundle = Bundle.open() if bundle is None else bundle
        self._limits = limits or Limits()
        self._tokenizer = _tokenizer(self._bundle)
        self._session = open_session(_runtime(), self._bundle, threads, providers)
        self._results = [result.name for result in self._session.get_outputs()]
        self._states = self._head_states()
        self._reader = self._stream_reader()

    @property
    def model_id(self) -> str:
        """Name and content hash, as every verdict carries it."""
        return self._bundle.model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """Keys of the categories it can score, besides the overall one."""
        return tuple(name for name in self._bundle.outputs if name != UNSAFE)

    @property
    def bundle(self) -> Bundle:
        """The bundle that it runs."""
        return self._bundle

    @property
    def reads_streams(self) -> bool:
        """Whether the bundle's graph takes a cache, so that a stream's tokens are read once."""
        return self._reader is not None

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch; see `Classifier.score`.

        A text longer than a window is cut into overlapping ones, and each probability is the
        highest of its windows'. A text without any token has nothing to violate with: 0. The
        next part of a stream is read with what was kept of the parts before it.

        Args:
            samples: The texts, of any mix of lengths.

        Returns:
            One `Scores` for each sample, in order.

        Raises:
            CheckError: The model could not be run.
        """
        readings = [self._read(sample) for sample in samples]
        alone = [s for s, reading in zip(samples, readings, strict=True) if reading is None]
        plans = self._plan(alone)
        (logits,) = self._run(plans, "logits")
        rest = iter(self._scores(alone, plans, logits))
        return [
            next(rest) if reading is None else self._streamed(sample, reading)
            for sample, reading in zip(samples, readings, strict=True)
        ]

    def score_and_embed(
        self, samples: Sequence[Sample]
    ) -> tuple[list[Scores], list[NDArray[np.float32]]]:
        """Score a batch and embed it in the same pass, for heads of a policy's own.

        Args:
            samples: The texts, of any mix of lengths.

        Returns:
            One `Scores` for each sample, and for each a float32 (windows, layers, hidden).

        Raises:
            CheckError: The model could not be run.
        """
        plans = self._plan(samples)
        logits, states = self._run(plans, "logits", self._states)
        ends = np.cumsum([len(plan.windows) for plan in plans])
        parts = np.split(_by_layer(states), ends[:-1]) if plans else []
        return self._scores(samples, plans, logits), parts

    def _scores(
        self, samples: Sequence[Sample], plans: Sequence[_Plan], logits: NDArray[np.float32]
    ) -> list[Scores]:
        scores, at = [], 0
        for sample, plan in zip(samples, plans, strict=True):
            rows = logits[at : at + len(plan.windows)]
            at += len(plan.windows)
            scores.append(self._calibrated(rows, sample.role, plan.coverage))
        return scores

    def _calibrated(self, rows: NDArray[np.float32], role: Role, coverage: Coverage) -> Scores:
        best = np.zeros(len(self._bundle.outputs))
        if len(rows):
            best = self._bundle.calibration.apply(rows, role).max(axis=0)
        values = {n: float(p) for n, p in zip(self._bundle.outputs, best, strict=True)}
        return Scores(values, self.model_id, coverage)

    def _streamed(self, sample: Sample, reading: Reading) -> Scores:
        total = len(sample.context) + len(sample.text)
        coverage = Coverage(total, total, reading.tokens, len(reading.logits))
        return self._calibrated(reading.logits, sample.role, coverage)

    def _read(self, sample: Sample) -> Reading | None:
        if sample.place is None or self._reader is None:
            return None
        try:
            return self._reader.read(sample)
        except Exception as error:  # onnxruntime's errors share no base class
            raise CheckError(f"the embedded model failed: {type(error).__name__}") from error

    def _head_states(self) -> str:
        """Return the name of the graph's result that heads are fitted on."""
        if _FEATURES in self._results:
            return _FEATURES
        if _LAST_LAYER not in self._results:
            raise BundleError(
                f"{self._bundle.model_path}: has neither the output '{_FEATURES}' nor "
                f"'{_LAST_LAYER}', so no rubric can be fitted on it; export the model anew"
            )
        _log.warning(
            "%s: an older bundle, without the output '%s': rubrics are fitted on its last layer "
            "alone and learn little from more than eight examples; fetch or build it anew",
            self._bundle.model_path,
            _FEATURES,
        )
        return _LAST_LAYER

    def _stream_reader(self) -> StreamReader | None:
        """Return a reader, or None for a bundle whose graph takes no cache."""
        if not any(name.startswith(PAST) for name in unused_inputs(self._session, 1)):
            return None
        return StreamReader(
            self._session,
            self._tokenize,
            max_tokens=self._bundle.max_tokens,
            overlap_tokens=self._bundle.overlap_tokens,
            max_bytes=self._limits.stream_bytes,
        )

    def logits(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return uncalibrated logits, the highest over windows, float32 (samples, outputs).

        Raises:
            CheckError: The model could not be run.
        """
        plans = self._plan(samples)
        (rows,) = self._run(plans, "logits")
        return _highest(plans, rows)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: the mean token states of the encoder's layers, averaged over windows.

        Args:
            texts: The texts.

        Returns:
            float32 (texts, layers, hidden), not normalised; zeros for a text without tokens. Of
            a bundle that gives the last layer's alone, layers is 1.

        Raises:
            CheckError: The model could not be run.
        """
        plans = self._plan([Sample(text) for text in texts])
        rows = _by_layer(*self._run(plans, self._states))
        result = np.zeros((len(texts), *rows.shape[1:]), dtype=np.float32)
        at = 0
        for number, plan in enumerate(plans):
            if plan.windows:
                sizes = [len(window.ids) for window in plan.windows]
                result[number] = np.average(rows[at : at + len(sizes)], axis=0, weights=sizes)
                at += len(sizes)
        return result

    @property
    def takes_rubrics(self) -> bool:
        """Whether the bundle's graph judges texts by rubrics that it is given."""
        return "rubric_logits" in self._results

    def rubric_logits(
        self, samples: Sequence[Sample], rubrics: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Judge texts by any rubrics, in one pass for all of them; see `takes_rubrics`.

        Args:
            samples: The texts.
            rubrics: float32 (rubrics, hidden), the last layer of what `embed` returns.

        Returns:
            float32 (samples, rubrics), the highest over windows; -10 for a text without tokens.

        Raises:
            CheckError: The model could not be run.
        """
        plans = self._plan(samples)
        (rows,) = self._run(plans, "rubric_logits", rubrics=rubrics)
        return _highest(plans, rows)

    def _plan(self, samples: Sequence[Sample]) -> list[_Plan]:
        limit_chars = self._limits.max_windows * self._bundle.max_tokens * CHARS_PER_TOKEN
        kept = [bounded(s.context + s.text, limit_chars) for s in samples]
        prompts = [prompt_text(s.prompt) if s.role is Role.ASSISTANT else "" for s in samples]
        ids = self._tokenize([text for text, _ in kept])
        before = self._tokenize(prompts)
        return [
            self._plan_one(sample, one, kept[n][1], before[n])
            for n, (sample, one) in enumerate(zip(samples, ids, strict=True))
        ]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        ready = [speakable(text) for text in texts]
        encoded = self._tokenizer.encode_batch_fast(ready, add_special_tokens=False)
        return [list(one.ids) for one in encoded]

    def _plan_one(
        self, sample: Sample, ids: list[int], left_out_chars: int, before: list[int]
    ) -> _Plan:
        total = len(sample.context) + len(sample.text)
        if not ids:
            return _Plan((), Coverage(total, total))
        prompt = before if sample.role is Role.ASSISTANT else None
        special = 2 if prompt is None else 3 + len(prompt_part(prompt))
        room = self._bundle.max_tokens - special
        overlap = min(self._bundle.overlap_tokens, room // 2)
        cuts = spans(len(ids), room, overlap, self._limits.max_windows)
        windows = tuple(
            encode_pair(ids[cut.start : cut.end], prompt, self._bundle.max_tokens) for cut in cuts
        )
        share = _covered(cuts) / len(ids)
        scanned = int((total - left_out_chars) * share)
        tokens = sum(len(window.ids) for window in windows)
        return _Plan(windows, Coverage(scanned, total, tokens, len(windows)))

    def _run(
        self, plans: Sequence[_Plan], *results: str, rubrics: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], ...]:
        windows = [window for plan in plans for window in plan.windows]
        shapes = [self._session.get_outputs()[self._results.index(r)].shape for r in results]
        widths = [s[1:] if rubrics is None else [len(rubrics)] for s in shapes]
        rows = tuple(np.zeros((len(windows), *width), dtype=np.float32) for width in widths)
        given = {} if rubrics is None else {"rubrics": rubrics}
        for members in batches(windows, self._limits.batch_tokens):
            inputs: dict[str, NDArray[Any]] = {
                **feed([windows[n] for n in members]),
                **unused_inputs(self._session, len(members)),
                **given,
            }
            try:
                found = self._session.run(list(results), inputs)
            except Exception as error:  # onnxruntime's errors share no base class
                raise CheckError(f"the embedded model failed: {type(error).__name__}") from error
            for into, part in zip(rows, found, strict=True):
                into[members] = part
        return rows


def _by_layer(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return states as float32 (rows, layers, hidden), the last layer's alone too."""
    return rows if rows.ndim == 3 else rows[:, None, :]


def _highest(plans: Sequence[_Plan], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest logits over the windows of each text; -10 for one without tokens."""
    result = np.full((len(plans), rows.shape[1]), -10.0, dtype=np.float32)
    at = 0
    for number, plan in enumerate(plans):
        if plan.windows:
            result[number] = rows[at : at + len(plan.windows)].max(axis=0)
        at += len(plan.windows)
    return result


def _covered(cuts: Sequence[Span]) -> int:
    covered = end = 0
    for cut in cuts:
        covered += cut.end - max(cut.start, end)
        end = cut.end
    return covered


def _tokenizer(bundle: Bundle) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(bundle.tokenizer_path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{bundle.tokenizer_path}: cannot be loaded: {error}") from error
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


def _runtime() -> Any:
    # Its Linux builds (1.31) otherwise report their use to its maker, over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise BundleError(
            "the classifier needs ONNX Runtime: pip install 'guardrail[cpu]' "
            "(or 'guardrail[gpu]' on a CUDA machine)"
        ) from error
    return onnxruntime
