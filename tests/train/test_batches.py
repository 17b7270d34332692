"""Batches respect their budgets, masks hide what they must, crops keep labels true."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer  # noqa: E402

from guardrail.classifier.pairs import encode_pair  # noqa: E402
from guardrail.train.batches import Batcher, BatchSettings, collate  # noqa: E402
from guardrail.train.corpus import read_corpus, read_wrappers  # noqa: E402
from guardrail.train.mixture import Mixture, Shares  # noqa: E402
from guardrail.train.model import EncoderConfig, GuardModel  # noqa: E402
from guardrail.train.rows import INDEX, OUTPUTS, example, read_rows  # noqa: E402
from tests.train import toys  # noqa: E402

ZERO = np.zeros(len(OUTPUTS), dtype=np.float32)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    folder = tmp_path_factory.mktemp("toy")
    rows = list(read_rows(toys.data(folder / "d.jsonl")))
    corpus = toys.corpus(folder / "corpus")
    examples = [example(row) for row in rows]
    return Mixture(examples, read_corpus(corpus), read_wrappers(corpus), 3)


def test_shares_are_drawn_as_asked(mixture: Mixture) -> None:
    groups = [mixture.draw().group for _ in range(4000)]
    shares = Shares()
    corpus = sum(g.startswith("corpus") for g in groups) / len(groups)
    wrapped = sum(g.startswith("wrapped") for g in groups) / len(groups)
    assert corpus == pytest.approx(shares.corpus, abs=0.03)
    assert wrapped == pytest.approx(shares.wrapped, abs=0.02)


def test_a_wrapped_request_keeps_its_cores_verdict(mixture: Mixture) -> None:
    drawn = [e for e in (mixture.draw() for _ in range(4000)) if e.group == "wrapped/user"]
    assert drawn
    for one in drawn:
        harmful = "bomb" in one.text or "poison" in one.text
        assert one.targets[INDEX["unsafe"]] == harmful
        if one.targets[INDEX["jailbreak"]]:
            assert harmful


def test_small_sources_are_drawn_more_often_than_their_size_says(tmp_path: Path) -> None:
    rows = list(read_rows(toys.data(tmp_path / "d.jsonl")))
    examples = [example(r) for r in rows if r.source == "toy0" or int(r.id) < 12]
    mixed = Mixture(examples, [], [], 3)
    counts = [mixed.draw().group for _ in range(2000)].count("toy1/assistant")
    assert counts / 2000 > 2 * 4 / len(examples)


def test_batches_stay_within_their_budget(mixture: Mixture, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(toys.base(tmp_path / "base") / "tokenizer.json"))
    settings = BatchSettings(tokens=400, examples=16, pool_batches=3, block_share=0.5)
    batches = iter(Batcher(iter(mixture), tokenizer, settings, 3))
    kinds = set()
    for _ in range(20):
        batch = next(batches)
        assert batch.input_ids.numel() <= 400
        assert len(batch.targets) <= 16
        assert batch.pool_mask.any(dim=1).all()
        kinds.add(batch.visible.dim())
    assert kinds == {2, 3}


def test_a_block_sees_all_before_it_and_nothing_after() -> None:
    one = encode_pair(list(range(110, 120)), None, 64)
    batch = collate([one], [ZERO], [ZERO], block=4)
    seen = batch.visible[0]
    assert seen[1, :5].all()
    assert not seen[1, 5:].any()
    assert seen[5, :9].all()
    assert not seen[0, 1:].any()
    assert batch.pool_mask[0, 0] == 0
    assert batch.pool_mask[0, -1] == 0


def test_a_prompt_is_seen_by_every_block_of_its_reply() -> None:
    one = encode_pair([110, 111, 112], [120, 121], 64)
    seen = collate([one], [ZERO], [ZERO], block=2).visible[0]
    assert seen[:, : one.start].all()
    assert not seen[: one.start, one.start :].any()


def test_earlier_states_do_not_change_when_a_stream_goes_on() -> None:
    torch.manual_seed(0)
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe",)).eval()
    ids = list(range(110, 126))
    states = []
    for length in (8, 16):
        batch = collate([encode_pair(ids[:length], None, 64)], [ZERO], [ZERO], block=4)
        with torch.no_grad():
            states.append(model.states(batch.input_ids, batch.token_type_ids, batch.visible))
    assert torch.allclose(states[0][0, :9], states[1][0, :9], atol=1e-5)


def test_spelled_out_and_fused_attention_agree() -> None:
    torch.manual_seed(0)
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe", "hate")).eval()
    encoded = [encode_pair(list(range(110, 110 + n)), None, 64) for n in (3, 12)]
    b = collate(encoded, [ZERO] * 2, [ZERO] * 2)
    results = []
    for fused in (False, True):
        model.fused = fused
        with torch.no_grad():
            results.append(model(b.input_ids, b.visible, b.token_type_ids, b.pool_mask))
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_what_tokens_add_sums_to_the_logit() -> None:
    torch.manual_seed(0)
    model = GuardModel(EncoderConfig(160, 32, 2, 4, 64), ("unsafe", "hate")).eval()
    encoded = [encode_pair(list(range(110, 110 + n)), [130], 64) for n in (3, 12)]
    b = collate(encoded, [ZERO] * 2, [ZERO] * 2)
    with torch.no_grad():
        logits, _, tokens = model(b.input_ids, b.visible, b.token_type_ids, b.pool_mask)
    assert torch.allclose(tokens.sum(dim=1) + model.head_value.bias, logits, atol=1e-5)
    assert tokens[0][b.pool_mask[0] == 0].abs().max() < 1e-6


def test_a_positive_text_that_cannot_keep_most_of_itself_is_passed_over() -> None:
    from guardrail.train.batches import _cut
    from guardrail.train.rows import Example

    targets, weights = ZERO.copy(), ZERO.copy()
    targets[0] = weights[0] = 1
    harmful = Example("", "user", None, targets, weights, "s/user")
    harmless = Example("", "user", None, ZERO, weights, "s/user")
    ids = list(range(1000))
    assert _cut(ids, 100, harmful, Random(0), 0.0) == []
    assert _cut(ids, 600, harmful, Random(0), 0.0) == ids[:600]
    assert len(_cut(ids, 100, harmless, Random(0), 0.0)) == 100
    hidden = Example("", "user", None, targets, weights, "wrapped/user")
    assert _cut(ids, 600, hidden, Random(0), 1.0) == []
    assert _cut(ids, 1000, hidden, Random(0), 1.0) == ids
