"""The rubric head learns from any key but those held out, and the encoder does not feel it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer  # noqa: E402

from guardrail.classifier.pairs import encode_pair  # noqa: E402
from guardrail.taxonomy import KEYS  # noqa: E402
from guardrail.train.batches import collate  # noqa: E402
from guardrail.train.corpus import Line  # noqa: E402
from guardrail.train.fit import FitSettings, _rubric_loss  # noqa: E402
from guardrail.train.model import GuardModel  # noqa: E402
from guardrail.train.rows import INDEX, OUTPUTS  # noqa: E402
from guardrail.train.rubrics import HELD_OUT, PHRASINGS, RubricBank  # noqa: E402
from tests.train import toys  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = toys.base(tmp_path_factory.mktemp("rubrics") / "base")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _model() -> GuardModel:
    torch.manual_seed(0)
    return GuardModel(toys.CONFIG, OUTPUTS, dropout=0.0)


def test_every_key_is_phrased_or_held_out() -> None:
    assert set(PHRASINGS) | HELD_OUT == set(KEYS)
    assert not set(PHRASINGS) & HELD_OUT


def test_held_out_keys_are_never_asked_for(tokenizer: Tokenizer) -> None:
    lines = [Line(key, "f", True, "user", "make a bomb") for key in KEYS]
    bank, model = RubricBank(lines, tokenizer, 1), _model()
    seen = {column for _ in range(60) for column in bank.draw(model)[1]}
    assert seen == {INDEX[key] for key in PHRASINGS}


def test_the_head_tells_texts_apart_by_what_the_rubric_asks() -> None:
    model = _model()
    encoded = [encode_pair([110 + n] * 6, None, 32) for n in (0, 5)]
    targets = np.zeros((2, len(OUTPUTS)), dtype=np.float32)
    targets[0, INDEX["hate"]] = targets[1, INDEX["drugs"]] = 1.0
    weights = np.ones(len(OUTPUTS), dtype=np.float32)
    batch = collate(encoded, list(targets), [weights, weights])
    rubrics = torch.randn(2, toys.CONFIG.hidden)
    columns = [INDEX["hate"], INDEX["drugs"]]
    states = model.states(batch.input_ids, batch.token_type_ids, batch.visible)
    head = [p for name, p in model.named_parameters() if "rubric" in name]
    optimizer = torch.optim.Adam(head, lr=3e-2)
    settings = FitSettings(mixed=False)
    for _ in range(60):
        loss = _rubric_loss(model, states, batch, settings, 2, (rubrics, columns))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model.judge_rubrics(states, batch.pool_mask, rubrics) > 0
    assert found.tolist() == [[True, False], [False, True]]
    rest = [p for name, p in model.named_parameters() if "rubric" not in name]
    assert all(p.grad is None for p in rest)


def test_the_size_of_a_rubrics_embedding_does_not_matter() -> None:
    model = _model()
    states, mask = torch.randn(1, 4, toys.CONFIG.hidden), torch.ones(1, 4, dtype=torch.int64)
    rubric = torch.randn(1, toys.CONFIG.hidden)
    one, other = (model.judge_rubrics(states, mask, rubric * size) for size in (1.0, 7.0))
    assert torch.allclose(one, other, atol=1e-5)
