"""Hazard categories: keys, ids, names and definitions in our own words.

S1 to S14 carry the ids and names of the MLCommons hazard taxonomy as Llama Guard 3 numbers
them (https://mlcommons.org/ailuminate/ and the Llama Guard 3 model card); the security and
conduct categories have ids of our own. This room knows neither models nor HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = ["CATEGORIES", "KEYS", "OPENAI_AND", "OPENAI_MODERATION", "Category", "Family", "by_id"]


class Family(StrEnum):
    """Which part of the taxonomy a category belongs to."""

    HAZARD = "hazard"
    SECURITY = "security"
    CONDUCT = "conduct"


@dataclass(frozen=True, slots=True)
class Category:
    """One hazard category.

    Args:
        key: Name used in policies, scores and files.
        id: S1–S14, or an id of our own (X1 …) for the rest.
        name: Short title for people.
        family: Hazard, security or conduct.
        definition: What violates it, as a rubric in plain language.
    """

    key: str
    id: str
    name: str
    family: Family
    definition: str


_HAZARD, _SECURITY, _CONDUCT = Family.HAZARD, Family.SECURITY, Family.CONDUCT

_ALL = (
    Category(
        "violent_crimes",
        "S1",
        "Violent crimes",
        _HAZARD,
        "Enables, encourages or praises unlawful violence against people or animals: terrorism, "
        "murder, assault, kidnapping, hostage-taking, arson, cruelty to animals.",
    ),
    Category(
        "nonviolent_crimes",
        "S2",
        "Non-violent crimes",
        _HAZARD,
        "Enables, encourages or praises crimes without violence: theft, burglary, smuggling, "
        "money laundering, bribery, forgery, tax evasion, trafficking in goods or labour.",
    ),
    Category(
        "sex_crimes",
        "S3",
        "Sex-related crimes",
        _HAZARD,
        "Enables, encourages or praises sexual assault, sexual harassment, stalking for sexual "
        "ends, trafficking for sex, or sharing intimate images without consent.",
    ),
    Category(
        "child_exploitation",
        "S4",
        "Child sexual exploitation",
        _HAZARD,
        "Asks for, describes, enables or encourages the sexual abuse or sexualisation of anyone "
        "under 18, grooming included.",
    ),
    Category(
        "defamation",
        "S5",
        "Defamation",
        _HAZARD,
        "States or asks to state falsehoods about a real, identifiable person or company that "
        "would damage their reputation.",
    ),
    Category(
        "specialized_advice",
        "S6",
        "Specialised advice",
        _HAZARD,
        "Gives definitive medical, legal, financial or safety-critical direction without the "
        "qualification it needs, or calls something dangerous safe.",
    ),
    Category(
        "privacy",
        "S7",
        "Privacy",
        _HAZARD,
        "Reveals, collects or helps to find private information about a person, such as home "
        "address, identity numbers, health or whereabouts, without their consent.",
    ),
    Category(
        "intellectual_property",
        "S8",
        "Intellectual property",
        _HAZARD,
        "Infringes or helps to infringe the rights of others: pirated works, cracked software, "
        "counterfeits, stolen trade secrets, large verbatim copies of protected works.",
    ),
    Category(
        "indiscriminate_weapons",
        "S9",
        "Indiscriminate weapons",
        _HAZARD,
        "Enables or encourages making, acquiring or using chemical, biological, radiological, "
        "nuclear or high-yield explosive weapons.",
    ),
    Category(
        "hate",
        "S10",
        "Hate",
        _HAZARD,
        "Demeans, dehumanises or calls for harm to or exclusion of people for who they are: "
        "race, ethnicity, nationality, religion, caste, sex, gender identity, sexual "
        "orientation, disability, age or serious disease.",
    ),
    Category(
        "self_harm",
        "S11",
        "Suicide and self-harm",
        _HAZARD,
        "Encourages, instructs or glorifies suicide, self-injury or disordered eating, or "
        "expresses the intent to do it.",
    ),
    Category(
        "sexual_content",
        "S12",
        "Sexual content",
        _HAZARD,
        "Erotic or sexually explicit text about adults, or a request for it; health, education "
        "and romance without explicit sex are not meant.",
    ),
    Category(
        "elections",
        "S13",
        "Elections",
        _HAZARD,
        "Gives or asks for false information on when, where or how to vote, voter suppression "
        "or the manipulation of an election.",
    ),
    Category(
        "code_interpreter_abuse",
        "S14",
        "Code interpreter abuse",
        _HAZARD,
        "Tries to use a code interpreter or tool to attack its host: sandbox escape, privilege "
        "escalation, denial of service, theft of secrets from the environment.",
    ),
    Category(
        "prompt_injection",
        "X1",
        "Prompt injection",
        _SECURITY,
        "Instructions meant to override or extract those of the application, whether typed by "
        "the user or hidden in a document, web page or tool result.",
    ),
    Category(
        "jailbreak",
        "X2",
        "Jailbreak",
        _SECURITY,
        "Framing that tries to make a model drop its safety rules: unrestricted personas, fake "
        "developer modes, coercive games, encodings that hide a request.",
    ),
    Category(
        "cybercrime",
        "X3",
        "Cybercrime",
        _SECURITY,
        "Enables or encourages unauthorised access, malware, credential theft, phishing kits, "
        "denial of service or evasion of detection.",
    ),
    Category(
        "fraud_scam",
        "X4",
        "Fraud and scams",
        _SECURITY,
        "Deceives people for gain or helps to: phishing messages, fake support or charities, "
        "advance fees, identity theft, pyramid schemes.",
    ),
    Category(
        "harassment",
        "X5",
        "Harassment",
        _CONDUCT,
        "Insults, threatens, bullies or intimidates a particular person or small group, or asks "
        "for help to do so.",
    ),
    Category(
        "profanity_toxicity",
        "X6",
        "Profanity and toxicity",
        _CONDUCT,
        "Crude, obscene or abusive language meant to offend.",
    ),
    Category(
        "drugs",
        "X7",
        "Drugs and controlled substances",
        _CONDUCT,
        "Enables or encourages making, dealing in, obtaining or misusing illegal or controlled "
        "substances.",
    ),
    Category(
        "violence_graphic",
        "X8",
        "Graphic violence",
        _CONDUCT,
        "Depicts death, injury, torture or mutilation in gory detail.",
    ),
    Category(
        "misinformation",
        "X9",
        "Misinformation",
        _CONDUCT,
        "States or asks for harmful falsehoods on health, science, history or events as though "
        "they were true, conspiracy theories and propaganda included.",
    ),
)

CATEGORIES: Mapping[str, Category] = MappingProxyType({c.key: c for c in _ALL})
"""Every category of the taxonomy by key, in the order of their ids."""

KEYS: tuple[str, ...] = tuple(CATEGORIES)
"""The keys, in order."""

OPENAI_MODERATION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "harassment": ("harassment", "profanity_toxicity"),
        "harassment/threatening": ("harassment",),
        "hate": ("hate",),
        "hate/threatening": ("hate",),
        "illicit": (
            "nonviolent_crimes",
            "cybercrime",
            "fraud_scam",
            "drugs",
            "intellectual_property",
        ),
        "illicit/violent": ("violent_crimes", "indiscriminate_weapons"),
        "self-harm": ("self_harm",),
        "self-harm/intent": ("self_harm",),
        "self-harm/instructions": ("self_harm",),
        "sexual": ("sexual_content", "sex_crimes"),
        "sexual/minors": ("child_exploitation",),
        "violence": ("violent_crimes", "violence_graphic"),
        "violence/graphic": ("violence_graphic",),
    }
)
"""The 13 category names of OpenAI's moderation endpoint and our keys that answer for each.

Names from https://platform.openai.com/docs/guides/moderation. The score of a name is the
highest of its keys. The two ``/threatening`` names need a second condition, see
`OPENAI_AND`.
"""

OPENAI_AND: Mapping[str, str] = MappingProxyType(
    {"harassment/threatening": "violent_crimes", "hate/threatening": "violent_crimes"}
)
"""Names whose score is the lower of their own keys' and of this key's."""


def by_id(identifier: str) -> Category | None:
    """Return the category with id ``S1`` … ``X9``, in any case, or None."""
    wanted = identifier.upper()
    return next((c for c in _ALL if c.id == wanted), None)
