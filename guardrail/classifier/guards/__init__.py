"""Published guard models by name, and how one is loaded.

`GUARDS` is data; nothing is imported for a guard that is not loaded. Torch comes with the extra
``guards``, and only when one is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from guardrail.classifier.guards.forms import Codes, Fields, Form, Guidelines
from guardrail.classifier.guards.llama import (
    LLAMA_GUARD_3_1B,
    LLAMA_GUARD_3_8B,
    LLAMA_GUARD_4,
    PROMPT_GUARD_2,
)
from guardrail.classifier.guards.others import (
    GPT_OSS_SAFEGUARD,
    GRANITE_GUARDIAN,
    QWEN3GUARD_GEN,
    SHIELDGEMMA,
    WILDGUARD,
)
from guardrail.errors import SettingsError

if TYPE_CHECKING:
    from guardrail.classifier.base import Classifier

__all__ = ["GUARDS", "load_guard"]

GUARDS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "gpt-oss-safeguard": GPT_OSS_SAFEGUARD,
        "granite-guardian": GRANITE_GUARDIAN,
        "llama-guard-3-1b": LLAMA_GUARD_3_1B,
        "llama-guard-3-8b": LLAMA_GUARD_3_8B,
        "llama-guard-4": LLAMA_GUARD_4,
        "prompt-guard-2": PROMPT_GUARD_2,
        "qwen3guard-gen": QWEN3GUARD_GEN,
        "shieldgemma": SHIELDGEMMA,
        "wildguard": WILDGUARD,
    }
)
"""Every guard by name."""


def load_guard(
    name: str,
    where: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    categories: Mapping[str, str] | None = None,
) -> Classifier:
    """Load a published guard from this machine; nothing is fetched.

    Args:
        name: Its name in `GUARDS`.
        where: A folder, a ``.gguf`` file, or the id of a model in the Hugging Face cache.
        dtype: ``auto``, ``fp32``, ``bf16`` or ``int8``.
        device: ``auto``, ``cpu`` or ``cuda``.
        categories: What violates each category, by key, in place of the guard's own.

    Returns:
        The guard, ready to score.

    Raises:
        SettingsError: No guard has the name, it takes no other categories, or its answers are
            not in the vocabulary of the model.
        BundleError: The model is not there, or is of another architecture.
    """
    from guardrail.classifier.guards.named import NamedGuard, custom_labels
    from guardrail.classifier.local import Dtype, load_sequence

    form = _form(name)
    labels = custom_labels(form, categories) if categories is not None else ()
    if form.answer is None:
        from guardrail.classifier.guards.sequence import SequenceGuard

        return SequenceGuard(form, load_sequence(where, device, form.model_types))
    from guardrail.classifier.promptable import LocalModel

    model = LocalModel.load(
        where, dtype=Dtype.of(dtype), device=device, model_types=form.model_types
    )
    for template in (form.user, form.reply):
        shown = template.text.format(prompt="", text="", labels="", label="")
        model.require_answers(_verdicts(form), shown[-40:] + template.prefill)
    return NamedGuard(form, model, labels, model.markers, model.bos)


def _form(name: str) -> Form:
    if name in GUARDS:
        return GUARDS[name]
    near = difflib.get_close_matches(name, GUARDS, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(GUARDS)}"
    raise SettingsError(f"no guard is called {name[:80]!r}; {hint}")


def _verdicts(form: Form) -> list[list[str]]:
    """Return the answers that decide, to be looked for in a vocabulary."""
    answer = form.answer
    if isinstance(answer, Codes):
        return [[verdict] for verdict in answer.verdicts]
    if isinstance(answer, Guidelines):
        return [list(answer.yes), list(answer.no)]
    assert isinstance(answer, Fields)
    return [[f"{answer.names[0]}: {value}"] for value in ("yes", "no")]
