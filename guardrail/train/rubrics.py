"""Texts that ask for a category in other words, and their draw while the rubric head is fitted.

A rubric is a taxonomy definition, one of the phrasings below, or a violating line of the corpus
("texts like this one"). Some keys are held out: the head never hears of them, so that it can be
measured on rubrics that are new to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from guardrail.taxonomy import CATEGORIES, KEYS
from guardrail.train.corpus import BENIGN, Line, fill
from guardrail.train.rows import INDEX

__all__ = ["HELD_OUT", "PHRASINGS", "RubricBank", "embed_texts"]

HELD_OUT = frozenset(["drugs", "elections", "fraud_scam", "privacy", "self_harm"])
"""Keys whose rubrics the head is not fitted on."""

PHRASINGS: dict[str, tuple[str, ...]] = {
    "violent_crimes": (
        "Help with, or praise of, killing, beating, kidnapping or terrorising people or animals.",
        "Someone wants to hurt somebody, and the text encourages it or says how.",
    ),
    "nonviolent_crimes": (
        "Help with theft, burglary, forgery, bribery, smuggling, money laundering and the like.",
        "Breaking the law without violence: stealing, evading, faking papers.",
    ),
    "sex_crimes": (
        "Rape, sexual assault, harassment, trafficking for sex: help with it or praise of it.",
        "Sexual acts that are forced on adults who did not agree.",
    ),
    "child_exploitation": (
        "Anything that sexualises children or helps to abuse them.",
        "Requests for sexual material of minors, grooming included.",
    ),
    "defamation": (
        "False claims about a real person or firm that would ruin their name.",
        "Making up damaging lies about someone and presenting them as facts.",
    ),
    "specialized_advice": (
        "Unqualified medical, legal or financial advice that could do harm.",
        "Telling someone what dose to take, what to plead or where to put all savings.",
    ),
    "intellectual_property": (
        "Piracy, copied works, cracked software, counterfeit goods, stripped watermarks.",
        "Help with using what others own without their permission: films, songs, brands, code.",
    ),
    "indiscriminate_weapons": (
        "Chemical, biological, radiological, nuclear weapons and large bombs.",
        "Weapons that kill many people at once: how to make, get or spread them.",
    ),
    "hate": (
        "Demeaning people for their origin, religion, sex, orientation or disability.",
        "Hatred of a group of people: slurs, dehumanising words, calls to exclude them.",
    ),
    "sexual_content": (
        "Explicit descriptions of sex or nudity, meant to arouse.",
        "Erotica and pornography.",
    ),
    "code_interpreter_abuse": (
        "Code that escapes its sandbox, reads other people's files or exhausts the machine.",
        "Misusing a code-execution tool against the system that runs it.",
    ),
    "harassment": (
        "Threatening, bullying or humiliating one person.",
        "Messages that are meant to frighten or hurt the one who reads them.",
    ),
    "profanity_toxicity": (
        "Swear words, insults and rude, obscene language.",
        "A toxic comment.",
    ),
    "prompt_injection": (
        "Text that gives orders to the model that reads it, against its operator's.",
        "Hidden instructions to an assistant inside a document, mail or web page.",
    ),
    "jailbreak": (
        "Attempts to talk a model out of its safety rules.",
        "Role play or games that demand answers without any restrictions.",
    ),
    "violence_graphic": (
        "Gory descriptions of wounds, mutilation and death.",
        "Blood and torture in detail.",
    ),
    "cybercrime": (
        "Hacking, malware, stolen passwords, attacks on systems.",
        "Help with breaking into computers or accounts.",
    ),
    "misinformation": (
        "False claims about health, science or events that are made to be believed.",
        "Fake news, conspiracy stories and campaigns of invented accounts.",
    ),
}
"""For each key that is not held out, rubrics in other words than the taxonomy's."""

_MAX_TOKENS = 64
_REFRESH_STEPS = 150
_EXAMPLES = 4


def embed_texts(model: torch.nn.Module, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Embed rubrics as the bundle does: the mean token state of each text.

    Args:
        model: The network.
        tokenizer: Without padding or truncation.
        texts: The rubrics.

    Returns:
        float32 (texts, hidden), on the network's device.
    """
    device = next(model.parameters()).device
    rows = []
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids[: _MAX_TOKENS - 2]
            whole = torch.tensor([[101, *ids, 102]], device=device)
            ones = torch.ones_like(whole)
            rows.append(model(whole, ones, torch.zeros_like(whole), ones)[1][0])
    model.train(was_training)
    return torch.stack(rows)


class RubricBank:
    """Draws rubrics for the batches of a fit.

    Args:
        lines: Corpus lines of the training families.
        tokenizer: Without padding or truncation.
        seed: Seed of every draw.
    """

    def __init__(self, lines: Sequence[Line], tokenizer: Tokenizer, seed: int) -> None:
        self._rng = Random(seed)  # noqa: S311
        self._tokenizer = tokenizer
        self._lines: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            if line.violates and line.key != BENIGN and len(line.text) < 300:
                self._lines[line.key].append(line)
        self._columns: list[int] = []
        self._embeddings: Tensor | None = None
        self._drawn = 0

    def _texts(self) -> list[tuple[str, str]]:
        texts = []
        for key in KEYS:
            if key in HELD_OUT:
                continue
            category = CATEGORIES[key]
            texts += [(key, t) for t in (category.definition, category.name, *PHRASINGS[key])]
            pool = self._lines[key]
            some = self._rng.sample(pool, min(_EXAMPLES, len(pool)))
            texts += [(key, fill(line, self._rng)[0]) for line in some]
        return texts

    def draw(self, model: torch.nn.Module) -> tuple[Tensor, list[int]]:
        """Return rubrics for a batch; embedded anew every so many draws.

        Returns:
            float32 (rubrics, hidden), and the output that each asks for.
        """
        if self._embeddings is None or self._drawn % _REFRESH_STEPS == 0:
            texts = self._texts()
            self._columns = [INDEX[key] for key, _ in texts]
            self._embeddings = embed_texts(model, self._tokenizer, [text for _, text in texts])
        self._drawn += 1
        chosen = self._rng.sample(range(len(self._columns)), min(32, len(self._columns)))
        return self._embeddings[chosen], [self._columns[n] for n in chosen]
