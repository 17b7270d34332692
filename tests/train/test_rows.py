"""Labels become masked targets: what a source never looked at stays unknown."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from guardrail.train.rows import INDEX, Example, Row, example


def made(**fields: object) -> Example:
    base: dict[str, object] = {
        "id": "1",
        "source": "s",
        "license": "MIT",
        "role": "user",
        "text": "t",
        "prompt": None,
        "unsafe": None,
        "categories": (),
        "known": (),
        "weak": (),
        "split": "train",
        "lang": "en",
    }
    return example(Row(**{**base, **fields}))  # type: ignore[arg-type]


def pair(one: Example, key: str) -> tuple[float, float]:
    return float(one.targets[INDEX[key]]), float(one.weights[INDEX[key]])


def test_nothing_labelled_is_nothing_known() -> None:
    assert not made().weights.any()


def test_a_labelled_key_is_certain_either_way() -> None:
    one = made(unsafe=1, categories=("hate",), known=("hate", "privacy"))
    assert pair(one, "unsafe") == (1, 1)
    assert pair(one, "hate") == (1, 1)
    assert pair(one, "privacy") == (0, 1)
    assert pair(one, "drugs") == (0, 0)


def test_a_harmless_text_is_negative_for_hazards_but_may_swear_or_inject() -> None:
    one = made(unsafe=0)
    assert pair(one, "violent_crimes")[1] > 0.9
    assert pair(one, "drugs") == (0, 0.5)
    for key in ("profanity_toxicity", "prompt_injection", "jailbreak"):
        assert pair(one, key) == (0, 0)


def test_a_real_label_beats_an_implied_one() -> None:
    assert pair(made(unsafe=0, categories=("hate",)), "hate") == (1, 1)


def test_keyword_labels_count_for_thin_keys_only_and_little() -> None:
    one = made(unsafe=1, weak=("elections", "cybercrime"))
    target, weight = pair(one, "elections")
    assert target == 1
    assert 0 < weight < 0.5
    assert pair(one, "cybercrime") == (0, 0)
    assert pair(made(unsafe=0, weak=("elections",)), "elections")[0] == 0


def test_offensive_comments_are_weakly_unsafe_where_moderation_counts_most_of_them() -> None:
    toxic = {"categories": ("profanity_toxicity",)}
    assert 0 < pair(made(source="paradetox", **toxic), "unsafe")[1] < 0.5
    assert pair(made(source="davidson_hate_offensive", **toxic), "unsafe") == (0, 0)


def test_plain_sources_are_weak_negatives_for_attacks() -> None:
    assert pair(made(source="aart", unsafe=1), "jailbreak")[1] > 0


def test_topical_sources_are_negative_for_far_topics_and_hardly_for_near_ones() -> None:
    one = made(source="catqa", unsafe=1, categories=("fraud_scam",), known=("fraud_scam",))
    assert pair(one, "violence_graphic") == (0, 0.5)
    assert 0 < pair(one, "cybercrime")[1] < 0.2
    assert pair(one, "fraud_scam") == (1, 1)


def test_rare_keys_are_faintly_negative_where_a_harmful_text_does_not_name_them() -> None:
    assert 0 < pair(made(unsafe=1), "child_exploitation")[1] < 0.2
    assert pair(made(unsafe=1, weak=("elections",)), "elections")[0] == 1
