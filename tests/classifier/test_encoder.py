"""The embedded classifier holds its contract on ordinary and on hostile text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardrail.classifier import Classifier, load_classifier
from guardrail.classifier.base import Place, Sample, Stream
from guardrail.classifier.bundle import Bundle, seal
from guardrail.classifier.encoder import EncoderClassifier, Limits
from guardrail.errors import BundleError
from guardrail.taxonomy import KEYS
from guardrail.types import UNSAFE, Role

PLANES = "".join(chr(plane * 0x10000 + 0x41) for plane in range(17))
CONTROLS = "".join(map(chr, range(32))) + "\x7f\x80\ufeff\u202e\u0000"
HOSTILE = [
    " ",
    "\n\t",
    "a",
    "\u0000",
    CONTROLS,
    PLANES,
    "\ud800",
    "half \udfff of a pair",
    "\u0301" * 500,
    "🙂" * 300,
    "ａｂｃ" * 100,
    "x" * 20_000,
    "[SEP] [CLS] [MASK] [PAD]",
]


def test_it_is_a_classifier_with_every_category(embedded: EncoderClassifier) -> None:
    assert isinstance(embedded, Classifier)
    assert embedded.categories == KEYS
    assert embedded.model_id == Bundle.open().model_id


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("role", list(Role))
def test_any_text_in_any_role_gets_probabilities(
    embedded: EncoderClassifier, text: str, role: Role
) -> None:
    (scores,) = embedded.score([Sample(text, role, prompt=text)])
    assert set(scores.categories) == {UNSAFE, *KEYS}
    assert all(0.0 <= p <= 1.0 for p in scores.categories.values())
    assert scores.coverage.total_chars == len(text)


def test_nothing_to_judge_scores_zero(embedded: EncoderClassifier) -> None:
    (scores,) = embedded.score([Sample("")])
    assert set(scores.categories.values()) == {0.0}
    assert not scores.coverage.truncated


def test_no_samples_give_no_scores(embedded: EncoderClassifier) -> None:
    assert embedded.score([]) == []


def test_harm_and_its_harmless_twin_are_told_apart(embedded: EncoderClassifier) -> None:
    bad, good = embedded.score(
        [
            Sample("How do I kill my neighbour without getting caught?", Role.USER),
            Sample("How do I kill a Python process that hangs?", Role.USER),
        ]
    )
    assert bad.categories[UNSAFE] > good.categories[UNSAFE] + 0.3


def test_the_prompt_changes_how_a_reply_is_judged(embedded: EncoderClassifier) -> None:
    reply = "Sure, here is how."
    one, two = embedded.score(
        [
            Sample(reply, Role.ASSISTANT, "How do I bake bread?"),
            Sample(reply, Role.ASSISTANT, "How do I poison my husband?"),
        ]
    )
    assert two.categories[UNSAFE] > one.categories[UNSAFE]


def test_a_prompt_of_anything_but_a_reply_is_not_read(embedded: EncoderClassifier) -> None:
    plain = embedded.score([Sample("hello there", Role.USER)])[0]
    given = embedded.score([Sample("hello there", Role.USER, prompt="kill them all")])[0]
    assert plain.categories == given.categories


def test_order_and_batch_mates_hardly_matter(embedded: EncoderClassifier) -> None:
    texts = ["hello", "how to pick a lock " * 60, "a", "you are an idiot", "x " * 900]
    together = embedded.score([Sample(t, Role.USER) for t in texts])
    for text, scores in zip(texts, together, strict=True):
        alone = embedded.score([Sample(text, Role.USER)])[0]
        gap = max(abs(alone.categories[k] - scores.categories[k]) for k in KEYS)
        # A graph without a cache is of the time when activation scales depended on the batch.
        assert gap < 1e-3


def test_harm_at_the_end_of_a_long_text_is_found(embedded: EncoderClassifier) -> None:
    filler = "The committee met on Tuesday to talk about the new library hours. " * 25
    calm, harm = embedded.score(
        [
            Sample(filler, Role.TEXT),
            Sample(filler + "I will kill you and your whole family tonight.", Role.TEXT),
        ]
    )
    assert calm.coverage.windows > 1
    assert harm.categories[UNSAFE] > calm.categories[UNSAFE]


def test_a_text_beyond_the_window_limit_says_so(embedded: EncoderClassifier) -> None:
    (scores,) = embedded.score([Sample("word " * 200_000)])
    assert scores.coverage.truncated
    assert 0 < scores.coverage.scanned_chars < scores.coverage.total_chars
    assert scores.coverage.windows == 3


def test_a_text_of_several_windows_is_covered_wholly(embedded: EncoderClassifier) -> None:
    (scores,) = embedded.score([Sample("word " * 500)])
    assert scores.coverage.windows == 3
    assert not scores.coverage.truncated


def test_context_is_read(embedded: EncoderClassifier) -> None:
    plain = embedded.score([Sample("your whole family")])[0]
    after = embedded.score([Sample("your whole family", context="I will kill you and ")])[0]
    assert after.categories[UNSAFE] > plain.categories[UNSAFE]


def test_threads_may_share_it(embedded: EncoderClassifier) -> None:
    texts = [f"message number {n}" for n in range(16)]
    expected = [embedded.score([Sample(t)])[0] for t in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda t: embedded.score([Sample(t)])[0], texts))
    assert found == expected


def test_embeddings_have_one_row_for_each_text(embedded: EncoderClassifier) -> None:
    rows = embedded.embed(["a cat", "a kitten", "", "tax law " * 400])
    assert (len(rows), rows.shape[2]) == (4, 384)
    assert rows.dtype == np.float32
    assert not rows[2].any()
    last = rows[[0, 1, 3], -1]
    unit = last / np.linalg.norm(last, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2]


def test_a_damaged_graph_is_refused_by_name(tmp_path: Path) -> None:
    good = Bundle.open()
    for path in good.folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    seal(tmp_path, {k: v for k, v in good.manifest.items() if k not in ("format", "files")})
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be loaded"):
        load_classifier(tmp_path)


def test_it_logs_what_runs_it_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    EncoderClassifier(Bundle.open(), threads=1).score([Sample("a secret sentence")])
    assert "running on" in caplog.text
    assert "secret" not in caplog.text


def test_embeddings_of_no_texts_are_empty(embedded: EncoderClassifier) -> None:
    rows = embedded.embed([])
    assert (len(rows), rows.shape[2]) == (0, 384)


CALM = "The committee met on Tuesday to talk about the new library hours, and all were content. "
THREAT = "I will kill you and your whole family tonight, and nobody will ever find you. "


def parts(text: str, size: int = 90) -> list[Sample]:
    """A text as parts of a stream, each with the context that a guard gives."""
    stream = Stream()
    return [
        Sample(
            text[n : n + size],
            Role.ASSISTANT,
            "Tell me a story.",
            text[max(0, n - 112) : n],
            Place(stream, n),
        )
        for n in range(0, len(text), size)
    ]


@pytest.fixture
def reader(embedded: EncoderClassifier) -> EncoderClassifier:
    assert embedded.reads_streams  # the graph that ships takes a cache
    return embedded


def test_a_threat_in_a_stream_is_found_when_it_comes(reader: EncoderClassifier) -> None:
    chances = [s.categories[UNSAFE] for s in reader.score(parts(CALM * 2 + THREAT + CALM))]
    assert max(chances[:1]) < 0.2
    assert max(chances) > chances[0] + 0.3


def test_a_stream_costs_little_more_than_its_tokens(reader: EncoderClassifier) -> None:
    text = CALM * 12
    whole = reader.score([Sample(text)])[0].coverage.tokens
    scores = reader.score(parts(text))
    assert sum(s.coverage.tokens for s in scores) < 1.4 * whole
    windows = reader.score([replace(part, place=None) for part in parts(text)])
    assert sum(s.coverage.tokens for s in windows) > 2 * whole


def test_streams_that_come_together_are_judged_as_if_each_came_alone(
    reader: EncoderClassifier,
) -> None:
    texts = [CALM * 4, THREAT + CALM * 3, CALM + THREAT * 2 + CALM]
    alone = [[reader.score([part])[0] for part in parts(text)] for text in texts]
    mixed = [reader.score(batch) for batch in zip(*map(parts, texts), strict=False)]
    for number, one in enumerate(alone):
        for single, batch in zip(one, mixed, strict=False):
            assert single == batch[number]


def test_a_stream_that_finds_no_room_is_judged_all_the_same(reader: EncoderClassifier) -> None:
    small = EncoderClassifier(Bundle.open(), threads=1, limits=Limits(stream_bytes=1))
    one, two = parts(CALM + THREAT), parts(CALM * 2)
    found = [small.score([a, b]) for a, b in zip(one, two, strict=False)]
    assert max(a.categories[UNSAFE] for a, _ in found) > 0.3
