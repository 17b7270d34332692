"""The settings file that names the models behind the proxy: aliases, providers and keys.

    models:
      fast: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}
      smart:                                 # several: load is spread, a failure tries the next
        - {model: anthropic/claude-sonnet-4-5, api_key: os.environ/ANTHROPIC_API_KEY}
        - {model: bedrock/anthropic.claude-sonnet-4-5-v1, aws_region_name: eu-central-1}
    retries: 1

The fields of a model are LiteLLM's ``litellm_params``. A client names an alias and nothing else:
no request can choose a provider, an address or a key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from guardrail.errors import PolicyError, SettingsError
from guardrail.policy.reader import decode, read

__all__ = ["Models", "load_models"]

MAX_RETRIES: Final = 10
_ENVIRON: Final = "os.environ/"


@dataclass(frozen=True, slots=True)
class Models:
    """What the upstream serves.

    Args:
        deployments: For each alias the providers behind it, each as LiteLLM's parameters, keys
            still as references to the environment where they were written so.
        retries: Further tries of a request that failed before its first byte.
    """

    deployments: Mapping[str, tuple[Mapping[str, Any], ...]] = field(repr=False)
    retries: int = 0


def load_models(path: Path) -> Models:
    """Read a models file.

    Args:
        path: A YAML file as shown at the top of this module.

    Returns:
        The models.

    Raises:
        SettingsError: It cannot be read, or a field is wrong; with file, line and the fix.
    """
    try:
        document, marks = read(decode(path.read_bytes(), str(path)), str(path))
    except OSError as error:
        raise SettingsError(f"--models: {path}: {error.strerror}") from error
    except PolicyError as error:  # the same reader, with the same bounds, as for policies
        raise SettingsError(f"--models: {error}") from error

    def wrong(message: str, *place: str | int) -> SettingsError:
        line = marks.get(place, (1, 1))[0]
        return SettingsError(f"--models: {path}:{line}: {message}")

    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise wrong("write 'models:' with an alias and its model on each line below it")
    if unknown := sorted(set(document) - {"models", "retries"}):
        raise wrong(f"unknown key '{unknown[0]}'; known are models and retries", unknown[0])
    retries = document.get("retries", 0)
    if not isinstance(retries, int) or not 0 <= retries <= MAX_RETRIES:
        raise wrong(f"retries is a whole number from 0 to {MAX_RETRIES}", "retries")
    deployments = {alias: _several(given) for alias, given in document["models"].items()}
    for alias, several in deployments.items():
        for problem in filter(None, map(_problem, several or [None])):
            raise wrong(f"{alias}: {problem}", "models", alias)
    return Models(deployments, retries)


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list) else (given,)


def _problem(deployment: Any) -> str | None:
    """Say what is wrong with one model, if anything is."""
    if not isinstance(deployment, dict) or not isinstance(deployment.get("model"), str):
        return "write {model: provider/name, api_key: os.environ/NAME}"
    for key, value in deployment.items():
        if isinstance(value, str) and value.startswith(_ENVIRON):
            name = value.removeprefix(_ENVIRON)
            if not os.environ.get(name):
                return f"{key} refers to the variable {name}, which is not set"
    return None
