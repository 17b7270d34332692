"""Writes the model card of a bundle from its manifest and measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guardrail.classifier.bundle import Bundle
from guardrail.evaluate.report import Measured, markdown

__all__ = ["card"]

LEAST_POSITIVES = 30

_INTENDED = """\
A small text classifier that gives calibrated probabilities that a text is unsafe, and that it
falls under each of {categories} hazard categories. It is the embedded classifier of `guardrail`,
for user requests, assistants' answers (judged together with the request before) and other
texts. It is one layer of defence and no authority over people: do not use it to
punish, to profile, or where a wrong verdict cannot be appealed.
"""

_HOW = """\
- Encoder: {base}, fine-tuned; 6 layers, 384 wide, uncased word pieces; mostly English.
- Input: `[CLS] text [SEP]`, or `[CLS] prompt [SEP] answer [SEP]` with token type 1 for the
  answer. Windows of {max_tokens} tokens that overlap by {overlap}; the highest probability counts.
- Outputs: one attention-pooled logit for each of {outputs} names, the mean token state
  after each layer (`features`), what each token adds to each logit (`token_logits`), and a head
  that judges any rubric (`rubric_logits`).
- Training: masked binary cross-entropy on sources balanced by temperature, contrast twins,
  requests inside harmless and adversarial wrappers, orders to the model inside documents, spelling
  changes and crops; {block_share:.0%} of the batches with block-causal attention. {steps:,} steps,
  {examples:,} examples, seed {seed}{before}. {left_out:,} rows whose label two judges contradict
  (an earlier bundle and a cross-validated linear model) were left out.
- Int8 weights for each channel, rounded by what training texts show of their inputs (SmoothQuant,
  GPTQ), activations quantised for each token as it runs, the heads of the outputs in fp32. What a
  text scores does not depend on what is scored beside it.
- Streams are read block by block with a key/value cache (`past_key_values.*`), each token once;
  `token_weights` and `token_values` are what the pooling averages, to be joined over blocks.
- Calibration: slope and offset for each output and role, shrunk to the estimate over all
  roles, fitted after quantisation on the development set.
"""

_LIMITS = """\
- The development set shares its sources with the training set, apart from the contrast
  families, which are held out whole. Its measures flatter. Its classes are more balanced than
  real traffic, where harm is rare: probabilities are then too high until recalibrated.
- Labels come from many sources that do not mean one thing by "unsafe", some are made by
  models or rules, and spot checks found 10 to 25% of some sources wrong.
- Some categories rest almost wholly on the contrast corpus (indiscriminate weapons, graphic
  violence, defamation, elections, intellectual property, child exploitation): expect less of
  them on texts of another style.
- Languages besides English are incidental. Spelling tricks beyond those trained on,
  ciphers, and harm that only shows over several turns will be missed.
- Several sources mark African-American English and reclaimed words as offensive.
"""


def card(
    bundle: Bundle,
    measured: Sequence[Measured],
    cost: Sequence[dict[str, Any]] = (),
    elsewhere: Sequence[Measured] = (),
) -> str:
    """Return the model card as Markdown.

    Args:
        bundle: The calibrated bundle.
        measured: Its measures on the development set.
        cost: What quantisation cost, slice by slice.
        elsewhere: Its measures on sources that nothing was fitted on.
    """
    training = bundle.manifest.get("training", {})
    how = _HOW.format(
        base=training.get("base_model", "BERT"),
        max_tokens=bundle.max_tokens,
        overlap=bundle.overlap_tokens,
        outputs=len(bundle.outputs),
        steps=training.get("steps", 0),
        examples=training.get("examples", 0),
        seed=training.get("seed", 0),
        before=_before(training.get("begun_with")),
        left_out=training.get("doubtful_rows_left_out", 0),
        block_share=training.get("settings", {}).get("batches", {}).get("block_share", 0.0),
    )
    parts = [
        f"# {bundle.name} {bundle.version}\n",
        _INTENDED.format(categories=len(bundle.outputs) - 1),
        "## How it works\n",
        how,
        "## Measures on the development set\n",
        "AUPRC is average precision; brackets hold 95% bootstrap intervals. `overall`, roles and\n"
        "sources measure `unsafe`; each category measures itself. For these measures each half\n"
        "of the rows was calibrated by the other; what is shipped is calibrated by both.\n",
        markdown(measured),
        *_quantisation(cost),
        *_elsewhere(elsewhere),
        "## Limits\n",
        _LIMITS + "".join(f"- {note}\n" for note in training.get("notes", ())),
        "## Training data\n",
        _sources(training),
        "## Licence\n",
        "Apache-2.0, as the package and the base encoder. The licences of the data are above;\n"
        "no text of theirs is part of this bundle.\n",
    ]
    return "\n".join(parts)


def _before(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    share = run.get("share_of_its_weights", 0.0)
    mean = f", whose weights make up {share:.0%} of the result" if share else ""
    return (
        f", after {run['steps']:,} steps and {run['examples']:,} examples of an earlier run{mean}"
    )


def _quantisation(cost: Sequence[dict[str, Any]]) -> list[str]:
    judged = [one for one in cost if one["positives"] >= LEAST_POSITIVES]
    if not judged:
        return []
    worst = min(judged, key=lambda one: one["difference"])
    overall = judged[0]
    return [
        "## What int8 cost\n",
        f"Against the fp32 graph, AUPRC of `{overall['slice']}` changes by "
        f"{overall['difference']:+.4f} and {overall['flipped']:.2%} of its verdicts at 0.5 flip.\n"
        f"The worst of the {len(judged)} slices with at least {LEAST_POSITIVES} positives is "
        f"`{worst['slice']}` with {worst['difference']:+.4f}.\n",
    ]


def _elsewhere(measured: Sequence[Measured]) -> list[str]:
    if not measured:
        return []
    return [
        "## Measures on other sources\n",
        "Sources that no weight and no calibration has seen, in the proportions in which they\n"
        "came. They were looked at during development, so they flatter a little too.\n",
        markdown(measured),
    ]


def _sources(training: dict[str, Any]) -> str:
    corpus = training.get("corpus", {})
    lines = [
        f"The contrast corpus of this package: {corpus.get('lines', 0):,} lines, of which "
        f"{corpus.get('held_out_lines', 0):,} are held out, and {corpus.get('wrappers', 0):,} "
        f"wrappers ({corpus.get('license', 'Apache-2.0')}). Besides it:\n",
        "| source | licence | training rows | development rows |",
        "|---|---|---:|---:|",
    ]
    lines.extend(
        f"| {s['source']} | {s['license']} | {s['train_rows']:,} | {s['dev_rows']:,} |"
        for s in training.get("sources", ())
    )
    return "\n".join(lines) + "\n"
