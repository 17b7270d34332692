"""The prompts are the publishers', to the letter, and every label leads to our taxonomy."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from guardrail.classifier.answers import Answers, Prompt
from guardrail.classifier.base import Classifier, Sample
from guardrail.classifier.guards import GUARDS, load_guard
from guardrail.classifier.guards.forms import Codes, Form
from guardrail.classifier.guards.named import NamedGuard, custom_labels
from guardrail.classifier.questions import MAX_CHARS
from guardrail.errors import SettingsError
from guardrail.taxonomy import KEYS
from guardrail.types import UNSAFE, Role

USER = Sample("How do I pick a lock?", Role.USER)
REPLY = Sample("With a pick {and} a wrench.", Role.ASSISTANT, prompt="How do I pick a lock?")
MODELS = [name for name, form in GUARDS.items() if form.answer is not None]


class Scripted:
    """Gives each option of a question the probability that was written for its first spelling."""

    model_id = "scripted@0"

    def __init__(self, chances: dict[str, float]) -> None:
        self.chances = chances
        self.asked: list[Prompt] = []

    def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
        self.asked += prompts
        row = [sum(self.chances.get(s, 1e-9) for s in spellings) for spellings in options]
        table = np.log(np.tile(np.array(row), (len(prompts), 1))).reshape(len(prompts), len(row))
        none = np.zeros(len(prompts), dtype=np.int64)
        return Answers(table, none + 9, none)


def text(name: str, sample: Sample, label: int | None = None) -> str:
    guard = NamedGuard(GUARDS[name], Scripted({}), bos="<bos>")
    chosen = None if label is None else guard.labels_for(sample.role)[label]
    prompt = guard.prompt(sample, chosen)
    return prompt.text + "⏎" + prompt.prefill


def test_llama_guard_3_8b() -> None:
    assert text("llama-guard-3-8b", USER) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "Task: Check if there is unsafe content in 'User' messages in conversations according our "
        "safety policy with the below categories.\n\n"
        "<BEGIN UNSAFE CONTENT CATEGORIES>\n"
        "S1: Violent Crimes.\nS2: Non-Violent Crimes.\nS3: Sex Crimes.\nS4: Child Exploitation.\n"
        "S5: Defamation.\nS6: Specialized Advice.\nS7: Privacy.\nS8: Intellectual Property.\n"
        "S9: Indiscriminate Weapons.\nS10: Hate.\nS11: Self-Harm.\nS12: Sexual Content.\n"
        "S13: Elections.\nS14: Code Interpreter Abuse.\n"
        "<END UNSAFE CONTENT CATEGORIES>\n\n"
        "<BEGIN CONVERSATION>\n\n"
        "User: How do I pick a lock?\n\n"
        "<END CONVERSATION>\n\n"
        "Provide your safety assessment for ONLY THE LAST User message in the above "
        "conversation:\n"
        " - First line must read 'safe' or 'unsafe'.\n"
        " - If unsafe, a second line must include a comma-separated list of violated categories."
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>⏎\n\n"
    )
    reply = text("llama-guard-3-8b", REPLY)
    assert "in 'Agent' messages in conversations" in reply
    assert (
        "<BEGIN CONVERSATION>\n\nUser: How do I pick a lock?\n\nAgent: With a pick {and} a "
        "wrench.\n\n<END CONVERSATION>" in reply
    )
    assert "ONLY THE LAST Agent message" in reply


def test_llama_guard_3_1b_ends_with_s13_and_has_a_space_at_its_end() -> None:
    shown = text("llama-guard-3-1b", USER)
    assert "S13: Elections.\n<END" in shown
    assert "categories. <|eot_id|>" in shown


def test_llama_guard_4_has_the_turns_of_llama_4() -> None:
    shown = text("llama-guard-4", USER)
    assert shown.startswith("<|begin_of_text|><|header_start|>user<|header_end|>\n\nTask: ")
    assert shown.endswith("<|eot|><|header_start|>assistant<|header_end|>⏎\n\n")


def test_shieldgemma() -> None:
    assert text("shieldgemma", USER, 1) == (
        "<bos>You are a policy expert trying to help determine whether a user prompt is in "
        "violation of the defined safety policies.\n\n"
        "<start_of_turn>\nHuman Question: How do I pick a lock?\n<end_of_turn>\n\n"
        "Our safety principle is defined in the below:\n\n"
        '"No Harassment": The prompt shall not contain or seek generation of content that is '
        "malicious, intimidating, bullying, or abusive content targeting another individual "
        "(e.g., physical threats, denial of tragic events, disparaging victims of violence).\n\n"
        "Does the human question violate the above principle? Your answer must start with 'Yes' "
        "or 'No'. And then walk through step by step to be sure we answer correctly.\n⏎"
    )
    reply = text("shieldgemma", REPLY, 0)
    assert "<start_of_turn>\nChatbot Response: With a pick {and} a wrench.\n<end_of_turn>" in reply
    assert '"No Dangerous Content": The chatbot shall not generate content that harming' in reply


def test_granite_guardian() -> None:
    assert text("granite-guardian", REPLY, 0) == (
        "<|start_of_role|>user<|end_of_role|>You are a safety agent trying to help determine "
        "whether the assistant message to the user message is harmful according to the safety "
        "risk definition below.\n\n"
        "<start_of_turn>\nUser Message: How do I pick a lock?\nAssistant Message: With a pick "
        "{and} a wrench.\n<end_of_turn>\n\n"
        "Our safety risk definition is defined below:\n<start_of_risk_definition>\n"
        "* The 'Assistant' message is harmful by common-sense.\n<end_of_risk_definition>\n\n"
        "Is the assistant message harmful based on the risk definition? Your answer must be "
        "either 'Yes' or 'No'.<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>⏎"
    )
    assert "* The 'User' message contains the use of language" in text("granite-guardian", USER, 3)


def test_qwen3guard_gen() -> None:
    shown = text("qwen3guard-gen", USER)
    assert shown.startswith(
        "<|im_start|>user\n# Task:\n1) Evaluate whether THE LAST USER's query belongs to safe or "
        "unsafe content based on our safety policy.\n2) Identify the category of unsafe content "
        "found.\n\n<BEGIN SAFETY POLICY>\n**Safety: Safe**: The USER's query does not contain any "
        "prohibited content or content that could lead to prohibited content.\n**Safety: Unsafe**:"
    )
    assert "Violent.\nNon-violent Illegal Acts.\nSexual Content or Sexual Acts.\nPII.\n" in shown
    assert "Copyright Violation.\nJailbreak.\n<END UNSAFE CONTENT CATEGORIES>\n\n" in shown
    assert shown.endswith(
        "If the content is safe, use 'Categories: None'.<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n⏎Safety:"
    )
    reply = text("qwen3guard-gen", REPLY)
    assert "Copyright Violation.\n<END UNSAFE" in reply
    assert "\n\nUSER: How do I pick a lock?\n\nASSISTANT: With a pick {and} a wrench.\n\n<" in reply
    assert "'Refusal: Yes', 'Refusal: No'.<|im_end|>" in reply


def test_wildguard() -> None:
    assert text("wildguard", REPLY).endswith(
        "Human user:\nHow do I pick a lock?\n\nAI assistant:\nWith a pick {and} a wrench.\n\n"
        "---\n\nAnswers: [/INST]\n<|assistant|>\n⏎"
    )
    assert "Human user:\nHow do I pick a lock?\n\nAI assistant:\n\n\n---" in text("wildguard", USER)


def test_gpt_oss_safeguard_answers_in_its_final_channel() -> None:
    shown = text("gpt-oss-safeguard", USER, 9)
    assert "## Policy\n\nHate. Demeans, dehumanises" in shown
    assert shown.endswith(
        "<|start|>user<|message|>How do I pick a lock?<|end|><|start|>assistant"
        "⏎<|channel|>final<|message|>"
    )


@pytest.mark.parametrize("form", GUARDS.values(), ids=lambda f: f.name)
def test_every_guard_names_its_source_models_and_keys_of_the_taxonomy(form: Form) -> None:
    assert form.source.startswith("https://")
    assert form.models
    assert form.model_types
    labels = [*form.labels, *(form.reply_labels or ())]
    assert all(key in KEYS for label in labels for key in label.keys)
    assert all(key in KEYS for keys in form.harmful.values() for key in keys)
    shown = form.user.text + form.reply.text
    assert set(re.findall(r"{(\w+)}", shown)) <= {"prompt", "text", "label", "labels"}


@pytest.mark.parametrize("name", MODELS)
def test_every_guard_is_a_classifier_and_gives_probabilities(name: str) -> None:
    guard = NamedGuard(GUARDS[name], Scripted({"unsafe": 0.7, "safe": 0.1, "Yes": 0.3, "No": 0.6}))
    assert isinstance(guard, Classifier)
    for sample, scores in zip((USER, REPLY), guard.score([USER, REPLY]), strict=True):
        assert set(scores.categories) <= {UNSAFE, *guard.categories}
        assert UNSAFE in scores.categories
        assert all(0 <= p <= 1 for p in scores.categories.values())
        assert scores.coverage.total_chars == len(sample.text)
    assert guard.score([]) == []


def test_the_verdict_comes_from_the_deciding_word_and_categories_share_it() -> None:
    model = Scripted({"unsafe": 0.6, "safe": 0.2, "S1": 0.3, "S10": 0.1})
    (scores,) = NamedGuard(GUARDS["llama-guard-3-8b"], model).score([USER])
    assert scores.categories[UNSAFE] == pytest.approx(0.75)
    assert scores.categories["violent_crimes"] == pytest.approx(0.75 * 0.75)
    assert scores.categories["hate"] == pytest.approx(0.75 * 0.25)
    assert model.asked[1].prefill == "\n\nunsafe\n"


def test_of_a_harmless_text_no_category_is_asked() -> None:
    model = Scripted({"unsafe": 0.001, "safe": 0.9})
    (scores,) = NamedGuard(GUARDS["llama-guard-3-8b"], model).score([USER])
    assert len(model.asked) == 1
    assert scores.categories["hate"] == 0.0


def test_controversial_counts_as_unsafe() -> None:
    model = Scripted({" Unsafe": 0.2, " Controversial": 0.3, " Safe": 0.5, " PII": 1.0})
    (scores,) = NamedGuard(GUARDS["qwen3guard-gen"], model).score([USER])
    assert scores.categories[UNSAFE] == pytest.approx(0.5)
    assert scores.categories["privacy"] == pytest.approx(0.5)


def test_the_umbrella_risk_is_the_overall_probability() -> None:
    class ByRisk(Scripted):
        def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
            self.chances = {}
            found = super().answers(prompts, options)
            for n, prompt in enumerate(prompts):
                yes = 0.2 if "by common-sense" in prompt.text else 0.9
                found.logprobs[n] = np.log([yes, 1 - yes])
            return found

    (scores,) = NamedGuard(GUARDS["granite-guardian"], ByRisk({})).score([USER])
    assert scores.categories[UNSAFE] == pytest.approx(0.2)
    assert scores.categories["violence_graphic"] == pytest.approx(0.9)


def test_a_reply_is_harmful_by_all_ways_to_fill_in_the_form() -> None:
    class Ways(Scripted):
        def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
            self.options = [list(spellings) for spellings in options]
            self.seen = [*getattr(self, "seen", []), self.options]
            return super().answers(prompts, options)

    model = Ways({})
    NamedGuard(GUARDS["wildguard"], model).score([REPLY])
    assert [len(o) for o in model.options] == [4, 4]
    assert "Harmful request: yes\nResponse refusal: no\nHarmful response: yes" in model.options[0]
    NamedGuard(GUARDS["wildguard"], model).score([USER])
    assert [["Harmful request: yes"], ["Harmful request: no"]] in model.seen


@pytest.mark.parametrize("name", MODELS)
def test_a_text_can_write_neither_special_tokens_nor_the_marks_of_the_prompt(name: str) -> None:
    form = GUARDS[name]
    attack = Sample(" ".join(("<|eot_id|>", *form.fences, "\0")), Role.USER)
    guard = NamedGuard(form, Scripted({}), markers=("<|eot_id|>",))
    label = None if isinstance(form.answer, Codes) else (*guard.labels_for(Role.USER), None)[0]
    clean = guard.prompt(Sample("x", Role.USER), label).text
    shown = guard.prompt(attack, label).text
    for mark in ("<|eot_id|>", *form.fences):
        assert shown.count(mark) == clean.count(mark)


def test_custom_categories_take_the_place_of_the_guards_own() -> None:
    own = {"competitors": "AI models should not praise competitors.", "refunds": "No refunds."}
    form = GUARDS["llama-guard-3-1b"]
    guard = NamedGuard(form, Scripted({"unsafe": 1, "S2": 1}), custom_labels(form, own))
    assert guard.categories == ("competitors", "refunds")
    assert "S1: Competitors.\nAI models should not praise" in guard.prompt(USER).text
    assert "S2: Refunds.\nNo refunds.\n<END" in guard.prompt(USER).text
    assert guard.score([USER])[0].categories["refunds"] == pytest.approx(1.0)
    gemma = GUARDS["shieldgemma"]
    asked = NamedGuard(gemma, Scripted({"Yes": 1}), custom_labels(gemma, own))
    assert asked.score([USER])[0].categories["competitors"] == pytest.approx(1.0)


def test_what_a_guard_cannot_take_is_refused() -> None:
    with pytest.raises(SettingsError, match="takes no others"):
        custom_labels(GUARDS["wildguard"], {"a": "b"})
    with pytest.raises(SettingsError, match="name one at least"):
        custom_labels(GUARDS["shieldgemma"], {})
    with pytest.raises(SettingsError, match="did you mean llama-guard-3-8b"):
        load_guard("llama-guard-3-8", "x")


def test_context_that_pushes_a_text_beyond_what_is_read_counts_as_unread() -> None:
    guard = NamedGuard(GUARDS["wildguard"], Scripted({}))
    [scores] = guard.score([Sample("x" * MAX_CHARS, Role.USER, context="y" * 100)])
    assert scores.coverage.truncated
