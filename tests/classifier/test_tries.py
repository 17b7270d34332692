"""Where answers part is where the model is asked; the probabilities of all ways add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.classifier.tries import Fork, grow


def test_yes_against_no_is_one_row() -> None:
    assert grow([(1,), (2,)]).forks == (Fork((), (1, 2)),)


def test_a_longer_answer_is_cut_where_only_it_is_left() -> None:
    tree = grow([(1,), (2, 3, 4)])
    assert tree.forks == (Fork((), (1, 2)),)
    assert tree.total([{1: np.log(0.3), 2: np.log(0.5)}], [0, 1]) == pytest.approx(
        np.log([0.3, 0.5])
    )


def test_an_answer_that_begins_another_has_what_the_other_leaves() -> None:
    tree = grow([(7, 1), (7, 1, 0), (7, 2)])
    assert [f.path for f in tree.forks] == [(), (7,), (7, 1)]
    found = [
        {7: np.log(0.8)},
        {1: np.log(0.3), 2: np.log(0.3)},
        {0: np.log(0.25)},
    ]
    assert np.exp(tree.total(found, [0, 1, 2])) == pytest.approx([0.8 * 0.375, 0.1, 0.4])


def test_spellings_of_one_option_are_summed() -> None:
    tree = grow([(1,), (2,), (3,)])
    found = [{1: np.log(0.2), 2: np.log(0.3), 3: np.log(0.1)}]
    assert np.exp(tree.total(found, [0, 0, 1])) == pytest.approx([0.5, 0.1])


answers = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=12,
    unique=True,
)


@given(answers, st.randoms(use_true_random=False))
def test_all_answers_together_have_the_probability_of_the_first_tokens(found, random) -> None:
    tree = grow(found)
    at = []
    for fork in tree.forks:
        weights = {t: random.uniform(0.05, 1) for t in fork.tokens}
        whole = sum(weights.values()) + random.uniform(0.05, 1)
        at.append({t: float(np.log(w / whole)) for t, w in weights.items()})
    total = tree.total(at, list(range(len(found))))
    first = np.logaddexp.reduce(list(at[0].values()))
    assert np.logaddexp.reduce(total) == pytest.approx(first, abs=1e-9)
