"""The whole of training as one call: read, fit, export, quantise, calibrate, measure, describe."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from guardrail import __version__
from guardrail.classifier.bundle import Bundle, seal
from guardrail.classifier.encoder import EncoderClassifier
from guardrail.classifier.pairs import Encoded
from guardrail.errors import DataError
from guardrail.evaluate.report import Measured, as_json, measure, write_json
from guardrail.evaluate.run import score_rows
from guardrail.train.batches import Batcher, BatchSettings, encode_example
from guardrail.train.build import NAME, build
from guardrail.train.card import card
from guardrail.train.clean import read_doubtful
from guardrail.train.corpus import (
    CORPUS,
    Line,
    Wrapper,
    corpus_example,
    expansions,
    read_corpus,
    read_wrappers,
)
from guardrail.train.dev import dev_examples
from guardrail.train.fit import FitSettings, Progress, fit, keep_memory
from guardrail.train.gate import cross_fitted, quantisation_cost
from guardrail.train.mixture import Mixture
from guardrail.train.model import (
    GuardModel,
    base_folder,
    blend_weights,
    load_base,
    load_weights,
)
from guardrail.train.rows import OUTPUTS, Example, Row, example, read_rows
from guardrail.train.rubrics import HELD_OUT, RubricBank
from guardrail.train.selftaught import read_focus

__all__ = ["Report", "TrainSettings", "finish", "train"]

_log = logging.getLogger(__name__)

GAUGE_ROWS = 6000
"""Most rows of other sources that are measured, drawn evenly."""

ROUNDING_ROWS, ROUNDING_LINES, ROUNDING_TOKENS = 320, 240, 64
"""Texts that weights are rounded by, and most tokens of each, so that long ones do not rule."""

PACKAGED_BASE = "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)"
METRICS = "metrics.json"
CARD = "MODEL_CARD.md"
Tell = Callable[[str, int], None]
"""Told of progress: what is going on, and how many rows of it were done."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What to train on, and how.

    Args:
        data: Labelled files; their ``train`` rows are fitted, their ``dev`` rows calibrate.
        out: The bundle folder to write.
        work: Checkpoints and intermediate graphs.
        base: Folder of the base encoder; None for the packaged one.
        corpus: Folder of the contrast corpus.
        fit: The loop's settings.
        batches: The batches' settings.
        resume: Whether to go on from a checkpoint in ``work``.
        gauge: Labelled files of other sources, which nothing is fitted on: they are only
            measured, and tell how the model fares elsewhere.
        init: Weights of an earlier run to begin with: its ``checkpoint.pt``, or ``blended.pt``,
            which a run that began so leaves beside it.
        blend: Share of this run's weights in the result, the rest being those of ``init``: such
            means often do better on texts of other sources (Wortsman et al. 2022, WiSE-FT).
        doubtful: Rows that are not fitted on, as `guardrail.train.clean` lists them.
        focus: Corpus families to draw more often, as `guardrail.train.selftaught` lists them.
    """

    data: tuple[Path, ...]
    out: Path
    work: Path
    base: Path | None = None
    corpus: Path = CORPUS
    fit: FitSettings = field(default_factory=FitSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    resume: bool = False
    gauge: tuple[Path, ...] = ()
    init: Path | None = None
    blend: float = 1.0
    doubtful: Path | None = None
    focus: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What came out.

    Args:
        bundle: The finished bundle.
        progress: Where the fit ended.
        measured: Its measures on the development set.
    """

    bundle: Bundle
    progress: Progress
    measured: tuple[Measured, ...]


def train(
    settings: TrainSettings,
    on_step: Callable[[Progress], None] | None = None,
    tell: Tell | None = None,
) -> Report:
    """Fit a bundle from labelled files and the contrast corpus.

    Args:
        settings: What and how.
        on_step: Called after each step of the fit.
        tell: Told of the other stages.

    Returns:
        The bundle and its measures.

    Raises:
        DataError: A data or corpus file cannot be used.
    """
    rows = _rows(settings.data, tell)
    lines, wrappers = read_corpus(settings.corpus), read_wrappers(settings.corpus)
    base = settings.base or base_folder()
    device = _prepare(settings)
    model = load_base(base, OUTPUTS)
    if settings.init is not None:
        load_weights(model, settings.init)
    model.to(device)
    model.fused = device.type == "cuda"
    batches = _batches(settings, base, rows, lines, wrappers)
    bank = _rubrics(settings, base, lines)
    progress = fit(
        model,
        batches,
        settings.fit,
        settings.work,
        resume=settings.resume,
        on_step=on_step,
        rubrics=bank,
    )
    model.to("cpu")
    if settings.init is not None:
        blend_weights(model, settings.init, settings.blend)
        blended = {"average": model.state_dict(), "progress": asdict(progress)}
        torch.save(blended, settings.work / "blended.pt")
    provenance = {
        "version": __version__,
        "training": provenance_of(settings, rows, lines, wrappers, progress),
    }
    dev = dev_examples(rows, lines, wrappers)
    return finish(model, base / "tokenizer.json", settings, dev, provenance, progress, tell)


def finish(
    model: GuardModel,
    tokenizer: Path,
    settings: TrainSettings,
    dev: Sequence[Example],
    provenance: dict[str, Any],
    progress: Progress,
    tell: Tell | None = None,
) -> Report:
    """Turn a fitted network into a measured and described bundle.

    Args:
        model: The fitted network, on the CPU.
        tokenizer: Its ``tokenizer.json``.
        settings: Where to write.
        dev: Development examples, for calibration and measures.
        provenance: ``version`` and ``training`` of the manifest.
        progress: Where the fit ended.
        tell: Told of progress.
    """
    if not dev:
        raise DataError(f"{settings.data[0]}: no row has split dev; calibration needs some")
    on_done = None if tell is None else (lambda done: tell("calibrating", done))
    manifest = {"name": NAME, **provenance}
    graphs, texts = settings.work / "graphs", _texts(settings, tokenizer)
    bundle, logits = build(model, tokenizer, settings.out, graphs, dev, manifest, on_done, texts)
    measured = tuple(measure(cross_fitted(dev, logits, bundle.outputs), rounds=100))
    cost = quantisation_cost(bundle, graphs / "fused.onnx", graphs, dev, logits, on_done)
    rounded = [{k: v if isinstance(v, str) else round(v, 5) for k, v in c.items()} for c in cost]
    elsewhere = _gauge(bundle, settings.gauge)
    found = {
        "development": as_json(measured),
        "quantisation": rounded,
        "other_sources": as_json(elsewhere),
    }
    write_json(settings.out / METRICS, found)
    text = card(bundle, measured, cost, elsewhere)
    (settings.out / CARD).write_text(text, encoding="utf-8")
    seal(settings.out, {k: v for k, v in bundle.manifest.items() if k not in ("format", "files")})
    return Report(Bundle.open(settings.out), progress, measured)


def _texts(settings: TrainSettings, tokenizer: Path) -> list[Encoded]:
    """Return what int8 is rounded by: rows and corpus lines, none of the development set."""
    rows = [row for path in settings.data for row in read_rows(path) if row.split == "train"]
    lines = [line for line in read_corpus(settings.corpus) if not line.dev]
    chosen = [example(row) for row in rows[:: -(-len(rows) // ROUNDING_ROWS) or 1]]
    for line in lines[:: -(-len(lines) // ROUNDING_LINES) or 1]:
        chosen += [corpus_example(line, *filled) for filled in expansions(line, 1)]
    pieces = Tokenizer.from_file(str(tokenizer))
    return [encode_example(pieces, one, ROUNDING_TOKENS) for one in chosen]


def _gauge(bundle: Bundle, files: Sequence[Path]) -> list[Measured]:
    rows = [row for path in files for row in read_rows(path)]
    if not rows:
        return []
    every = -(-len(rows) // GAUGE_ROWS)
    classifier = EncoderClassifier(bundle)
    return measure(score_rows(classifier, rows[::every]), rounds=100)


def provenance_of(
    settings: TrainSettings,
    rows: Sequence[Row],
    lines: Sequence[Line],
    wrappers: Sequence[Wrapper],
    progress: Progress,
) -> dict[str, Any]:
    """Return what a bundle says of its training: sources, licences, counts, seed and steps."""
    counts = Counter((r.source, r.license, r.split) for r in rows)
    sources = sorted({(source, license_) for source, license_, _ in counts})
    return {
        "base_model": PACKAGED_BASE if settings.base is None else settings.base.name,
        "seed": settings.fit.seed,
        "steps": progress.step,
        "examples": progress.examples,
        "begun_with": _begun_with(settings),
        "doubtful_rows_left_out": _left_out(settings, rows),
        "rubrics_held_out": sorted(HELD_OUT),
        "settings": {**asdict(settings.fit), "batches": asdict(settings.batches)},
        "corpus": {
            "lines": len(lines),
            "held_out_lines": sum(line.dev for line in lines),
            "wrappers": len(wrappers),
            "license": "Apache-2.0",
        },
        "sources": [
            {
                "source": source,
                "license": license_,
                "train_rows": counts[source, license_, "train"],
                "dev_rows": counts[source, license_, "dev"],
            }
            for source, license_ in sources
        ],
    }


def _begun_with(settings: TrainSettings) -> dict[str, Any] | None:
    """What is known of the run whose weights this one began with."""
    init = settings.init
    if init is None:
        return None
    progress = torch.load(init, map_location="cpu", weights_only=True)["progress"]
    digest = hashlib.sha256(init.read_bytes()).hexdigest()
    return {
        "sha256": digest,
        "steps": progress["step"],
        "examples": progress["examples"],
        "share_of_its_weights": round(1.0 - settings.blend, 4),
    }


def _left_out(settings: TrainSettings, rows: Sequence[Row]) -> int:
    if settings.doubtful is None:
        return 0
    doubtful = read_doubtful(settings.doubtful)
    return sum(row.split == "train" and row.id in doubtful for row in rows)


def _rows(files: Sequence[Path], tell: Tell | None) -> list[Row]:
    rows: list[Row] = []
    for path in files:
        rows.extend(read_rows(path))
        if tell is not None:
            tell("reading", len(rows))
    return rows


def _prepare(settings: TrainSettings) -> torch.device:
    settings.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.fit.seed)
    if torch.cuda.is_available():
        _log.info("training on CUDA")
        return torch.device("cuda")
    keep_memory()
    return torch.device("cpu")


def _tokenizer(base: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _rubrics(settings: TrainSettings, base: Path, lines: Sequence[Line]) -> RubricBank:
    ours = [line for line in lines if not line.dev]
    return RubricBank(ours, _tokenizer(base), settings.fit.seed)


def _batches(
    settings: TrainSettings,
    base: Path,
    rows: Sequence[Row],
    lines: Sequence[Line],
    wrappers: Sequence[Wrapper],
) -> Any:
    doubtful = frozenset() if settings.doubtful is None else read_doubtful(settings.doubtful)
    examples = [example(r) for r in rows if r.split == "train" and r.id not in doubtful]
    if not any(e.weights.any() for e in examples):
        raise DataError(f"{settings.data[0]}: no labelled row of split train")
    tokenizer = _tokenizer(base)
    # A resumed run must not draw again what it has already seen.
    seed = settings.fit.seed + _steps_done(settings)
    mixture = Mixture(
        examples,
        [line for line in lines if not line.dev],
        [wrapper for wrapper in wrappers if not wrapper.dev],
        seed,
        focus=frozenset() if settings.focus is None else read_focus(settings.focus),
    )
    return iter(Batcher(iter(mixture), tokenizer, settings.batches, seed))


def _steps_done(settings: TrainSettings) -> int:
    path = settings.work / "checkpoint.pt"
    if not (settings.resume and path.is_file()):
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    return int(state["progress"]["step"])
