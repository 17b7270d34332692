"""What a published guard model is shown, and what its answers mean: types, no text and no model.

Each guard is data: prompts as format strings, labels with the keys of our taxonomy. The
strings are the publishers' own, to the letter, since a guard was trained on nothing else; the
address of each is in its `Form`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Codes", "Fields", "Form", "Guidelines", "Label", "Labels", "Template"]


@dataclass(frozen=True, slots=True)
class Label:
    """One category of a guard.

    Args:
        code: How the guard's answer names it, or its name where it is asked about on its own.
        text: What the prompt says of it, or of a text of a user.
        keys: Keys of our taxonomy that it answers for; a custom one has its own.
        reply: What the prompt says of it for a text of an assistant; None for the same.
        overall: Whether it stands for harm of any kind.
    """

    code: str
    text: str
    keys: tuple[str, ...] = ()
    reply: str | None = None
    overall: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt in a guard's own format.

    Args:
        text: With ``{prompt}`` and ``{text}`` for the exchange, and ``{labels}`` or ``{label}``.
        prefill: What the model would write before the word that decides.
    """

    text: str
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    """How categories are read once the verdict is known.

    Args:
        prefill: What the model writes up to the first category, verdict included.
        lead: What stands before a category's name.
        line: How the prompt lists a label, with ``{code}`` and ``{text}``.
        separator: What stands between two of them.
        numbered: What custom categories are called in place of their names, such as ``S{n}``.
    """

    prefill: str
    lead: str = ""
    line: str = "{code}: {text}"
    separator: str = "\n"
    numbered: str | None = None


@dataclass(frozen=True, slots=True)
class Codes:
    """A guard that says one verdict, then the categories: Llama Guard, Qwen3Guard.

    Args:
        verdicts: Weight of each verdict in the probability of harm.
        unsafe: The verdict after which categories follow.
        labels: How they are read.
    """

    verdicts: Mapping[str, float]
    unsafe: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Guidelines:
    """A guard that is asked about one category at a time: ShieldGemma, Granite Guardian.

    Args:
        yes: Spellings of "it violates".
        no: Spellings of "it does not".
    """

    yes: tuple[str, ...]
    no: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """A guard that fills in a form: WildGuard.

    Args:
        names: Names of the fields in order; each is answered yes or no.
        user: The field that decides for a text of a user.
        reply: The field that decides for a text of an assistant.
    """

    names: tuple[str, ...]
    user: str
    reply: str


@dataclass(frozen=True, slots=True)
class Form:
    """A published guard model.

    Args:
        name: What it is called here.
        source: Where its format is published.
        models: Ids of its models.
        model_types: Architectures, as ``config.json`` names them.
        answer: How it answers; None for a sequence classifier.
        user: Prompt for a text of a user, or of no one in particular.
        reply: Prompt for a text of an assistant.
        labels: Its categories.
        reply_labels: Its categories for a text of an assistant; None for the same.
        custom: Whether it takes other categories than its own.
        bos: Whether the tokenizer's first token has to be put before the prompt.
        strip: Whether the texts lose the space around them.
        fences: Strings of the prompt that a text must not contain.
        harmful: Labels of a sequence classifier, by index, that mean harm.
    """

    name: str
    source: str
    models: tuple[str, ...]
    model_types: tuple[str, ...]
    answer: Codes | Guidelines | Fields | None
    user: Template = Template("")
    reply: Template = Template("")
    labels: tuple[Label, ...] = ()
    reply_labels: tuple[Label, ...] | None = None
    custom: bool = False
    bos: bool = False
    strip: bool = True
    fences: tuple[str, ...] = ()
    harmful: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
