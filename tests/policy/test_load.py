"""What the loader promises: every mistake gets file, line, column and the fix."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import PolicyError
from guardrail.policy import bundled, bundled_names, load_policy, parse_policy
from guardrail.policy.reader import MAX_BYTES

HEAD = "version: 1\nname: t\n"
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)

MISTAKES = [
    ("misspelt category", HEAD + "categories:\n  hatte: {flag: 1}", 4, 3, "did you mean 'hate'?"),
    ("misspelt key", HEAD + "ctegories: {}", 3, 1, "did you mean 'categories'?"),
    ("misspelt rule key", HEAD + "categories:\n  hate: {flg: 1}", 4, 10, "did you mean 'flag'?"),
    ("missing name", "version: 1\ncategories: {}", 1, 1, "lacks 'name:'"),
    ("wrong version", "version: 2\nname: t\ncategories: {}", 1, 1, "reads version 1"),
    (
        "wrong type",
        HEAD + "categories:\n  hate: {flag: true}",
        4,
        10,
        "a number or a mapping, not true",
    ),
    ("too high", HEAD + "categories:\n  hate: {flag: 1.5}", 4, 10, "the most is 1"),
    ("not a number", HEAD + "categories:\n  hate: {flag: .nan}", 4, 16, "finite"),
    ("bad choice", HEAD + "mode: enforced\ncategories: {}", 3, 1, "did you mean 'enforce'?"),
    ("crossed", HEAD + "categories:\n  hate: {flag: 0.9, block: 0.5}", 4, 10, "never flag"),
    ("no threshold", HEAD + "categories:\n  hate: {}", 4, 3, "no threshold"),
    ("block without", HEAD + "categories:\n  hate: {flag: 1, action: block}", 4, 19, "needs a"),
    ("shrinking stride", HEAD + "stream: {stride_chars: 10}\ncategories: {}", 3, 10, "only grows"),
    ("empty band", HEAD + "categories:\n  hate: {flag: 1, review: [1, 0]}", 4, 19, "empty"),
    ("duplicate key", HEAD + "categories:\n  hate: {flag: 1}\n  hate: {flag: 1}", 5, 3, "twice"),
    ("not YAML", HEAD + "categories: [", 4, 1, "not valid YAML"),
    ("tab", HEAD + "categories:\n\thate: 1", 4, 1, "not valid YAML"),
    ("two documents", HEAD + "categories: {}\n---\na: 1", 4, 1, "only one"),
    ("python tag", "a: !!python/object:os.system x", 1, 4, "not used here"),
    ("too deep", "[" * 10_000, 1, 33, "nested deeper"),
    ("bomb", LAUGHS, 5, 11, "aliases are expanded"),
    ("self reference", "a: &a [*a]", 1, 8, "names no finished anchor"),
    ("list", "- 1", 1, 1, "a policy is a mapping"),
    ("empty", "", None, None, "a policy is a mapping"),
    ("control character", "a: \x00", None, None, "not valid YAML"),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_named_with_its_place_and_the_fix(text, line, column, words) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, file="p.yaml")
    error = caught.value
    assert words in str(error)
    assert str(error).startswith("p.yaml:")
    assert (error.line, error.column) == (line, column)


def test_text_that_is_not_utf8_is_refused_with_its_place() -> None:
    with pytest.raises(PolicyError, match=r"p:2:4: byte 0xff is not UTF-8"):
        parse_policy(b"a: 1\nb: \xff", file="p")


def test_hostile_files_are_refused_soon_and_in_bounded_memory() -> None:
    for data in (b"a" * (MAX_BYTES + 1), LAUGHS.encode(), b"[" * MAX_BYTES, b"- a\n" * 200_000):
        started = time.thread_time()
        with pytest.raises(PolicyError):
            parse_policy(data)
        assert time.thread_time() - started < 10.0  # collecting a large heap counts too
        tracemalloc.start()
        with pytest.raises(PolicyError):
            parse_policy(data)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
        tracemalloc.stop()


@given(st.text(max_size=200) | st.text(alphabet="a: {}[]&*!|>-'\"#%\n\t,", max_size=60))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


def test_a_missing_file_suggests_the_bundled_policy(tmp_path) -> None:
    with pytest.raises(PolicyError, match="did you mean the bundled policy 'default'"):
        load_policy("defualt")
    with pytest.raises(PolicyError, match=r"nope\.yaml"):
        load_policy(tmp_path / "nope.yaml")
    with pytest.raises(PolicyError, match=r"there are: .*\bdefault\b"):
        bundled("nope")


def test_a_policy_file_is_loaded_by_path(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(HEAD + "categories: {hate: {block: 0.5}}", encoding="utf-8")
    assert load_policy(file).rules[0].category == "hate"


def test_the_hash_follows_the_meaning_not_the_spelling() -> None:
    one = parse_policy(HEAD + "categories: {hate: {flag: 0.5, block: 0.9}}")
    two = parse_policy(
        "# note\nname: t\nversion: 1\ncategories:\n  hate:\n    block: 0.9\n    flag: 0.5"
    )
    three = parse_policy(HEAD + "categories: {hate: {flag: 0.5, block: 0.91}}")
    assert one.content_hash == two.content_hash != three.content_hash
    assert one.identity == f"t@{one.content_hash[:12]}"


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_policy_loads(name: str) -> None:
    assert bundled(name).name == name
