"""guardrail: streaming guardrail middleware for LLM traffic, with a safety taxonomy.

    from guardrail import guard

    @guard(policy="default")
    def chat(messages): ...

Names are imported when they are first used, and a model is loaded when it is first needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guardrail.errors import GuardrailBlocked, GuardrailError, PolicyError
    from guardrail.policy import Policy, load_policy
    from guardrail.sdk.api import Guardrail
    from guardrail.sdk.clients import guard_client
    from guardrail.sdk.decorator import guard
    from guardrail.types import Action, Direction, Role, Scores, Segment, Verdict

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Direction",
    "Guardrail",
    "GuardrailBlocked",
    "GuardrailError",
    "Policy",
    "PolicyError",
    "Role",
    "Scores",
    "Segment",
    "Verdict",
    "guard",
    "guard_client",
    "load_policy",
]

_HOMES: Final = {
    "Action": "types",
    "Direction": "types",
    "Guardrail": "sdk.api",
    "GuardrailBlocked": "errors",
    "GuardrailError": "errors",
    "Policy": "policy",
    "PolicyError": "errors",
    "Role": "types",
    "Scores": "types",
    "Segment": "types",
    "Verdict": "types",
    "guard": "sdk.decorator",
    "guard_client": "sdk.clients",
    "load_policy": "policy",
}
"""Where each public name lives."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'guardrail' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"guardrail.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
