"""A causal language model on this machine, read by the logits of its answers: no generation.

It is given prompts and possible answers (`guardrail.classifier.answers`) and knows neither
rubrics nor guards, HTTP nor actions. `guardrail.classifier.local` loads and runs the model.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.classifier.answers import Answers, Prompt, defang
from guardrail.classifier.local import Dtype, Loaded, load
from guardrail.classifier.tries import Fork, Tree, grow
from guardrail.errors import BundleError, CheckError, SettingsError

__all__ = ["LocalModel"]

WORTH_SHARING = 16
"""Fewest common tokens for which a pass of their own is cheaper than repeating them."""

MAX_TREES = 256
"""Sets of answers that are remembered, by the end of the prompt that they follow."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One row to run: the tokens of a prompt, on to a fork."""

    prompt: int
    fork: int
    ids: tuple[int, ...]


class LocalModel:
    """Answers questions by one forward pass over each. Safe to call from several threads.

    Args:
        loaded: A loaded model and its tokenizer.
        max_tokens: Longest prompt that is read; of a longer one the middle is left out.
        batch_tokens: Most tokens, padding and shared beginning included, of one pass.
    """

    def __init__(self, loaded: Loaded, *, max_tokens: int = 8192, batch_tokens: int = 8192) -> None:
        self._loaded = loaded
        self._max_tokens = min(max_tokens, loaded.context_tokens)
        self._batch_tokens = max(batch_tokens, self._max_tokens)
        self._markers = tuple(loaded.markers)
        self._trees: dict[object, tuple[Tree, tuple[int, ...]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        where: str,
        *,
        dtype: Dtype = Dtype.AUTO,
        device: str = "auto",
        max_tokens: int = 8192,
        model_types: Sequence[str] = (),
    ) -> LocalModel:
        """Load a model from this machine; nothing is fetched.

        Args:
            where: A folder, a ``.gguf`` file, or the id of a model in the Hugging Face cache.
            dtype: Number format of the weights; by default bf16 on CUDA and fp32 on a CPU.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
            max_tokens: Longest prompt that is read.
            model_types: Architectures to insist on, as ``config.json`` names them.

        Returns:
            The model, ready to answer.

        Raises:
            BundleError: The packages are missing, or the model is not there, incomplete or of
                another architecture.
            SettingsError: The device or the number format cannot be used here.
        """
        return cls(load(where, dtype, device, model_types), max_tokens=max_tokens)

    @property
    def model_id(self) -> str:
        """Name, content hash and number format."""
        return self._loaded.model_id

    @property
    def markers(self) -> tuple[str, ...]:
        """Special tokens, which a text to judge must not contain."""
        return self._markers

    @property
    def bos(self) -> str:
        """The token that begins every text, or nothing."""
        return str(self._loaded.tokenizer.bos_token or "")

    def require_chat_template(self) -> None:
        """Check that the model takes user turns.

        Raises:
            BundleError: It has no chat template.
        """
        if not self._loaded.tokenizer.chat_template:
            raise BundleError(
                f"{self._loaded.where}: has no chat template, so it is no instruct model, or its "
                "tokenizer_config.json is incomplete; name an instruct model"
            )

    def require_answers(self, options: Sequence[Sequence[str]], tail: str | None = None) -> None:
        """Check that the vocabulary has the answers, before anything is asked.

        Args:
            options: Spellings of each option.
            tail: End of the prompts, after which they stand; None for the chat template's.

        Raises:
            SettingsError: It has not.
        """
        self._tree(self.render(Prompt("?")) if tail is None else tail, options)

    def answers(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> Answers:
        """Ask, and return the probability of each option; see `AnswerModel.answers`.

        Args:
            prompts: The questions; may be empty.
            options: Spellings of each option.

        Returns:
            The answers.

        Raises:
            SettingsError: An option has no tokens of its own in this model's vocabulary.
            CheckError: The model failed.
        """
        count = len(prompts)
        out = Answers(
            np.full((count, len(options)), -np.inf),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )
        with self._lock:
            groups: dict[tuple[str, str, bool], list[int]] = {}
            for number, prompt in enumerate(prompts):
                key = (prompt.shared if prompt.own else "", prompt.prefill, prompt.raw)
                groups.setdefault(key, []).append(number)
            singles: list[int] = []
            for members in groups.values():
                if len(members) == 1:
                    singles += members
                else:
                    self._ask(prompts, members, options, out)
            for same in _by_prefill(prompts, singles):
                self._ask(prompts, same, options, out)
        return out

    def _ask(
        self,
        prompts: Sequence[Prompt],
        members: Sequence[int],
        options: Sequence[Sequence[str]],
        out: Answers,
    ) -> None:
        """Answer prompts that have a beginning in common, if only the chat template's."""
        texts = [self.render(prompts[n]) for n in members]
        tree, owners = self._tree(texts[0], options)
        rows = []
        for number, text in zip(members, texts, strict=True):
            ids, out.dropped[number] = self._cropped(self._encode(text))
            out.tokens[number] = len(ids)
            rows += [_Row(number, f, (*ids, *fork.path)) for f, fork in enumerate(tree.forks)]
        found: dict[tuple[int, int], dict[int, float]] = {}
        for row, logprobs in self._run(rows):
            fork: Fork = tree.forks[row.fork]
            found[row.prompt, row.fork] = {t: float(logprobs[t]) for t in fork.tokens}
        for number in members:
            at = [found[number, f] for f in range(len(tree.forks))]
            out.logprobs[number] = tree.total(at, owners)

    def render(self, prompt: Prompt) -> str:
        """Return the whole text that the model reads for a prompt."""
        if prompt.raw:
            return prompt.text + prompt.prefill
        turn = [{"role": "user", "content": defang(prompt.text, self._markers)}]
        rendered = self._loaded.tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True
        )
        return str(rendered) + prompt.prefill

    def _encode(self, text: str) -> list[int]:
        return list(self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _cropped(self, ids: list[int]) -> tuple[list[int], int]:
        """Leave out the middle of what is too long: the task and the question are at its ends."""
        excess = len(ids) - self._max_tokens
        if excess <= 0:
            return ids, 0
        head = self._max_tokens // 2
        return ids[:head] + ids[head + excess :], excess

    def _tree(self, text: str, options: Sequence[Sequence[str]]) -> tuple[Tree, tuple[int, ...]]:
        """Return the tokens of the options, as they follow on the end of a prompt."""
        tail = text[-40:]
        key = (tail, tuple(map(tuple, options)))
        if key not in self._trees:
            if len(self._trees) >= MAX_TREES:
                self._trees.clear()
            self._trees[key] = self._grow(tail, options)
        return self._trees[key]

    def _grow(self, tail: str, options: Sequence[Sequence[str]]) -> tuple[Tree, tuple[int, ...]]:
        base = self._encode(tail)
        owner: dict[tuple[int, ...], int] = {}
        for number, spellings in enumerate(options):
            usable = {s: tuple(self._continuation(tail, base, s)) for s in spellings}
            # Of several spellings of a word those of one token are what a model would say.
            whole = len(spellings) == 1
            words = [u for s, u in usable.items() if len(u) == 1 or (u and (whole or " " in s[1:]))]
            unknown = self._loaded.tokenizer.unk_token_id
            words = [w for w in words if unknown is None or unknown not in w]
            taken = [w for w in words if owner.get(w, number) != number]
            if not words or taken:
                raise SettingsError(
                    f"{self._loaded.where}: the answer {spellings[0]!r} "
                    + ("is one with another answer" if taken else "is no token of its vocabulary")
                    + "; name another model, or other answers"
                )
            owner.update(dict.fromkeys(words, number))
        return grow(list(owner)), tuple(owner.values())

    def _continuation(self, tail: str, base: list[int], spelling: str) -> list[int]:
        together = self._encode(tail + spelling)
        if together[: len(base)] == base:
            return together[len(base) :]
        return self._encode(spelling)

    def _run(self, rows: Sequence[_Row]) -> Iterator[tuple[_Row, NDArray[np.float32]]]:
        """Run rows, their common beginning once; yields float32 (vocabulary,) for each."""
        common = _common([row.ids for row in rows])
        size = len(common) if len(rows) > 1 and len(common) >= WORTH_SHARING else 0
        try:
            past = self._loaded.begin(common[:size]) if size else None
            for chunk in _chunks(rows, size, self._batch_tokens):
                # A pass writes into its cache, so that each gets one of its own.
                cache = copy.deepcopy(past) if len(chunk) < len(rows) else past
                found = self._loaded.last([row.ids[size:] for row in chunk], cache, size)
                yield from zip(chunk, found, strict=True)
        except (RuntimeError, ValueError, IndexError) as error:
            # torch reports a full GPU, a wrong shape and a bad index by these.
            raise CheckError(f"{self.model_id} failed: {type(error).__name__}") from error


def _by_prefill(prompts: Sequence[Prompt], numbers: Sequence[int]) -> list[list[int]]:
    groups: dict[tuple[str, bool], list[int]] = {}
    for number in numbers:
        groups.setdefault((prompts[number].prefill, prompts[number].raw), []).append(number)
    return list(groups.values())


def _common(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the common beginning, so short that each sequence goes on behind it."""
    first, last = min(sequences), max(sequences)
    limit = min(len(sequence) for sequence in sequences) - 1
    same = 0
    while same < limit and first[same] == last[same]:
        same += 1
    return first[:same]


def _chunks(rows: Sequence[_Row], shared: int, budget: int) -> Iterator[list[_Row]]:
    """Group rows of like length under a budget of tokens."""
    chunk: list[_Row] = []
    for row in sorted(rows, key=lambda r: len(r.ids)):
        if chunk and (len(chunk) + 1) * len(row.ids) > max(budget, shared):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk
