"""What answers for each kind of guard, made from what a policy says of it. Asks nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from guardrail.classifier.asking import RubricJudge
from guardrail.classifier.base import Classifier, Judge, Sample
from guardrail.errors import SettingsError
from guardrail.policy import GuardKind, GuardSpec, GuardTemplate
from guardrail.types import Scores

if TYPE_CHECKING:
    from guardrail.classifier.endpoint import Endpoint

__all__ = ["LOCAL_BATCH", "LocalJudge", "make_judge"]

LOCAL_BATCH: Final = 16
"""Most texts in one call of a guard on this machine."""


@dataclass(frozen=True, slots=True)
class LocalJudge:
    """A classifier on this machine as a guard; it scores all of its categories at once.

    Args:
        classifier: Another model bundle, or any classifier.
    """

    classifier: Classifier

    @property
    def model_id(self) -> str:
        """The classifier's identity."""
        return self.classifier.model_id

    @property
    def categories(self) -> tuple[str, ...]:
        """The classifier's categories."""
        return self.classifier.categories

    def score(self, samples: Sequence[Sample]) -> list[Scores]:
        """Score a batch."""
        return self.classifier.score(samples)

    def ask(self, samples: Sequence[Sample], _: Sequence[str]) -> list[Scores]:
        """Score a batch; to leave categories out would save nothing."""
        return self.classifier.score(samples)


def make_judge(spec: GuardSpec, rubrics: Mapping[str, str], folder: Path) -> Judge:
    """Make what answers for a guard.

    Args:
        spec: The guard as the policy has it.
        rubrics: What violates each category, in words.
        folder: Where local paths begin.

    Returns:
        The judge; nothing has been asked yet.

    Raises:
        SettingsError: The variable of the key is not set, or a package is missing.
        BundleError: A local model cannot be loaded.
    """
    return _JUDGES[spec.kind](spec, rubrics, folder)


def _key(spec: GuardSpec) -> str | None:
    if spec.key_env is None:
        return None
    key = os.environ.get(spec.key_env, "").strip()
    if not key:
        raise SettingsError(f"guards.{spec.name}: the variable {spec.key_env} is not set; set it")
    return key


def _endpoint(spec: GuardSpec) -> Endpoint:
    from guardrail.classifier.endpoint import Endpoint  # not needed by most policies

    return Endpoint(
        spec.url,
        _key(spec),
        timeout_s=spec.timeout_ms / 1000,
        retries=spec.retries,
        connections=spec.concurrency,
    )


def _logprobs(spec: GuardSpec, rubrics: Mapping[str, str], _: Path) -> Judge:
    from guardrail.classifier.remote import LlamaGuardJudge, RemoteModel

    if spec.template is GuardTemplate.LLAMA_GUARD:
        return LlamaGuardJudge(_endpoint(spec), spec.model)
    return RubricJudge(RemoteModel(_endpoint(spec), spec.model, spec.api), rubrics)


def _moderations(spec: GuardSpec, _: Mapping[str, str], __: Path) -> Judge:
    from guardrail.classifier.remote import ModerationsJudge

    return ModerationsJudge(_endpoint(spec), spec.model)


def _votes(spec: GuardSpec, rubrics: Mapping[str, str], _: Path) -> Judge:
    from guardrail.classifier.votes import VoteJudge

    return VoteJudge(
        spec.model,
        rubrics,
        votes=spec.votes,
        key=_key(spec),
        url=spec.url or None,
        timeout_s=spec.timeout_ms / 1000,
        retries=spec.retries,
    )


def _local(spec: GuardSpec, rubrics: Mapping[str, str], folder: Path) -> Judge:
    """Load another bundle, a causal LM or a published guard.

    A causal LM is ``hf:`` and an id or folder, or a ``.gguf`` file; a guard ``guard:NAME=PATH``.
    """
    if spec.model.startswith("guard:"):
        from guardrail.classifier.guards import load_guard

        guard, _, path = spec.model.removeprefix("guard:").partition("=")
        here = folder / path
        return LocalJudge(load_guard(guard, str(here) if path and here.exists() else path))
    name, is_lm = spec.model.removeprefix("hf:"), spec.model.startswith("hf:")
    beside = folder / name
    where = str(beside) if beside.exists() else name
    if spec.form:
        from guardrail.classifier.guards import load_guard

        return LocalJudge(load_guard(spec.form, where))
    if not is_lm and not name.endswith(".gguf"):
        from guardrail.classifier import load_classifier

        return LocalJudge(load_classifier(beside))
    from guardrail.classifier.answers import NO, YES
    from guardrail.classifier.promptable import LocalModel

    model = LocalModel.load(where)
    model.require_chat_template()
    model.require_answers([YES, NO])
    return RubricJudge(model, rubrics, batch=LOCAL_BATCH, by_category=False)


_JUDGES: Final[Mapping[GuardKind, Callable[[GuardSpec, Mapping[str, str], Path], Judge]]] = (
    MappingProxyType(
        {
            GuardKind.OPENAI_LOGPROBS: _logprobs,
            GuardKind.MODERATIONS: _moderations,
            GuardKind.LITELLM: _votes,
            GuardKind.LOCAL: _local,
        }
    )
)
