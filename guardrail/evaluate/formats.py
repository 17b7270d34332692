"""Published data formats, mapped to rows: which text is judged, as whose, and what is known.

Each format is a function from a record, as `guardrail.evaluate.records` reads it, to rows.
Columns are those of the files as their authors publish them; docs/evaluation.md names the files.
What a benchmark does not label stays unknown. Rows of a format have no split: all are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guardrail.errors import DataError
from guardrail.evaluate.records import Record, read_records
from guardrail.evaluate.rows import HAZARDS, Row, parse_row
from guardrail.taxonomy import KEYS
from guardrail.types import UNSAFE, Role

__all__ = ["FORMATS", "Format", "read_any"]

Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text of a record with what is known of it.

    Args:
        text: The text.
        unsafe: 1, 0, or None where unknown.
        role: Who speaks.
        prompt: The user turn before an assistant's reply, or None.
        yes: Categories that it violates.
        no: Categories that it does not.
        group: Part of the benchmark, for a slice of its own.
        lang: Its language.
    """

    text: str
    unsafe: int | None
    role: str = "user"
    prompt: str | None = None
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    group: str = ""
    lang: str = "en"


@dataclass(frozen=True, slots=True)
class Format:
    """A published format.

    Args:
        columns: Columns that a record must have; of alternatives, parted by ``|``, one.
        read: Makes texts of a record; raises ValueError for a value that is none of its own.
        license: Licence of the data, as their authors state it.
    """

    columns: tuple[str, ...]
    read: Callable[[Columns], Iterable[Labelled]]
    license: str = "see its authors"

    def missing(self, record: Columns) -> list[str]:
        """Return the columns that a record lacks."""
        return [c for c in self.columns if not any(one in record for one in c.split("|"))]


def _yes(value: Any, column: str) -> bool | None:
    """Read a truth value as JSON, CSV and Parquet write it; None where there is none."""
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "nan", "none", "null"):
        return None
    if text in ("1", "1.0", "true", "yes"):
        return True
    if text in ("0", "0.0", "false", "no"):
        return False
    raise ValueError(f"{column} is {text[:40]!r}, not true or false")


def _label(value: Any, column: str, positive: str, negative: str) -> int | None:
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "nan", "none", "null"):
        return None
    if text not in (positive, negative):
        raise ValueError(f"{column} is {text[:40]!r}, neither {positive} nor {negative}")
    return int(text == positive)


_OPENAI: Final = {
    "S": "sexual_content",
    "H": "hate",
    "V": "",
    "HR": "harassment",
    "SH": "self_harm",
    "S3": "child_exploitation",
    "H2": "",
    "V2": "violence_graphic",
}
"""``V`` and ``H2`` are about threats and violence as such, which no key of ours is alone."""


def _openai_moderation(record: Columns) -> Iterator[Labelled]:
    found = {name: _yes(record.get(name), name) for name in _OPENAI}
    yes = tuple(key for name, key in _OPENAI.items() if key and found[name])
    no = tuple(key for name, key in _OPENAI.items() if key and found[name] is False)
    yield Labelled(str(record["prompt"]), int(any(found.values())), "text", yes=yes, no=no)


def _toxicchat(record: Columns) -> Iterator[Labelled]:
    toxic = _yes(record["toxicity"], "toxicity")
    attack = _yes(record["jailbreaking"], "jailbreaking")
    yield Labelled(
        str(record["user_input"]),
        None if toxic is None else int(toxic),
        yes=("jailbreak",) if attack else (),
        no=("jailbreak",) if attack is False else (),
    )


def _wildguard(record: Columns) -> Iterator[Labelled]:
    name = "prompt_harm_label"
    adversarial = _yes(record.get("adversarial"), "adversarial")
    kind = {None: "", True: "adversarial", False: "vanilla"}[adversarial]
    prompt = str(record["prompt"])
    yield Labelled(prompt, _label(record[name], name, "harmful", "unharmful"), group=kind)
    response, name = record.get("response"), "response_harm_label"
    if response:
        unsafe = _label(record.get(name), name, "harmful", "unharmful")
        yield Labelled(str(response), unsafe, "assistant", prompt, group=kind)


def _xstest(record: Columns) -> Iterator[Labelled]:
    kind = str(record.get("type") or "")
    if "label" in record:
        unsafe = _label(record["label"], "label", "unsafe", "safe")
    else:
        unsafe = int(kind.startswith("contrast_"))
    yield Labelled(str(record["prompt"]), unsafe, group=kind)


_BEAVERTAILS: Final = {
    "animal_abuse": "",
    "child_abuse": "child_exploitation",
    "controversial_topics,politics": "",
    "discrimination,stereotype,injustice": "hate",
    "drug_abuse,weapons,banned_substance": "",
    "financial_crime,property_crime,theft": "nonviolent_crimes",
    "hate_speech,offensive_language": "hate",
    "misinformation_regarding_ethics,laws_and_safety": "misinformation",
    "non_violent_unethical_behavior": "",
    "privacy_violation": "privacy",
    "self_harm": "self_harm",
    "sexually_explicit,adult_content": "sexual_content",
    "terrorism,organized_crime": "violent_crimes",
    "violence,aiding_and_abetting,incitement": "violent_crimes",
}


def _beavertails(record: Columns) -> Iterator[Labelled]:
    kinds = record.get("category") or {}
    if isinstance(kinds, str):
        kinds = json.loads(kinds)
    if not isinstance(kinds, Mapping):
        raise ValueError("category is no mapping of names to true or false")
    marked = {key: _yes(kinds.get(name), name) for name, key in _BEAVERTAILS.items() if key}
    yes = {_BEAVERTAILS.get(name, "") for name, there in kinds.items() if _yes(there, name)} - {""}
    no = {key for key, there in marked.items() if there is False} - yes
    safe = _yes(record["is_safe"], "is_safe")
    yield Labelled(
        str(record["response"]), None if safe is None else int(not safe), "assistant",
        str(record["prompt"]), tuple(sorted(yes)), tuple(sorted(no)),
    )  # fmt: skip


_HARMBENCH: Final = {
    "chemical_biological": ("indiscriminate_weapons",),
    "copyright": ("intellectual_property",),
    "cybercrime_intrusion": ("cybercrime",),
    "harassment_bullying": ("harassment",),
    "misinformation_disinformation": ("misinformation",),
}


def _harmbench(record: Columns) -> Iterator[Labelled]:
    kind, context = str(record["SemanticCategory"]), record.get("ContextString")
    text = f"{context}\n\n{record['Behavior']}" if context else str(record["Behavior"])
    yield Labelled(text, 1, yes=_HARMBENCH.get(kind, ()), group=kind)


_AEGIS: Final = {
    "controlled/regulated substances": "drugs",
    "guns and illegal weapons": "",
    "harassment": "harassment",
    "hate/identity hate": "hate",
    "pii/privacy": "privacy",
    "profanity": "profanity_toxicity",
    "sexual": "sexual_content",
    "sexual (minor)": "child_exploitation",
    "suicide and self harm": "self_harm",
    "violence": "",
}


def _aegis(record: Columns) -> Iterator[Labelled]:
    if "labels_0" in record:
        yield _aegis_first(record)
        return
    named = str(record.get("violated_categories") or "").lower().split(",")
    yes = tuple(dict.fromkeys(k for n in named if (k := _AEGIS.get(n.strip()))))
    prompt, response = str(record["prompt"]), record.get("response")
    asked = _label(record["prompt_label"], "prompt_label", "unsafe", "safe")
    said = _label(record.get("response_label"), "response_label", "unsafe", "safe")
    if prompt != "REDACTED":
        # The categories are of the exchange: the prompt's own where there is no answer.
        yield Labelled(prompt, asked, yes=yes if asked and not response else ())
    if response:
        yield Labelled(str(response), said, "assistant", prompt, yes=yes if said else ())


def _aegis_first(record: Columns) -> Labelled:
    """Read version 1: three to five people each name categories, or ``Safe``."""
    votes = [record.get(f"labels_{n}") for n in range(5)]
    given = [str(v).lower() for v in votes if v is not None and str(v) not in ("", "None", "nan")]
    if not given:
        raise ValueError("labels_0 is empty: nobody labelled it")
    unsafe = int(2 * sum(vote == "safe" for vote in given) < len(given))
    said = [n.strip() for vote in given for n in vote.split(",")]
    yes = {_AEGIS[n] for n in said if _AEGIS.get(n) and 2 * said.count(n) > len(given)}
    kind = str(record["text_type"])
    role = {"user_message": "user", "llm_response": "assistant"}.get(kind, "text")
    marked = tuple(sorted(yes)) if unsafe else ()
    return Labelled(str(record["text"]).strip(), unsafe, role, yes=marked, group=kind)


ABUSE_OF_OTHERS: Final = ("target_indiv_nh", "target_group_nh")
"""Parts of HateCheck that are not hate, since no protected group is meant, and still abuse."""


def _hatecheck(record: Columns) -> Iterator[Labelled]:
    hateful = _label(record["label_gold"], "label_gold", "hateful", "non-hateful")
    part = str(record["functionality"])
    unsafe = None if part in ABUSE_OF_OTHERS else hateful
    hate = ("hate",)
    yield Labelled(
        str(record["test_case"]), unsafe, "text", yes=hate if hateful else (),
        no=() if hateful else hate, group=part, lang=str(record.get("language") or "en"),
    )  # fmt: skip


def _labels(record: Columns) -> Iterator[Labelled]:
    """Read the labelled texts of `guardrail policy test`: text, violates, category, role."""
    violates, key = record["violates"], record.get("category")
    if not isinstance(violates, bool) or not isinstance(record["text"], str):
        raise ValueError("text is no text, or violates neither true nor false")
    role = str(Role(record.get("role") or "user"))
    unsafe: int | None = None
    if key == UNSAFE or (violates and key in HAZARDS) or key is None:
        unsafe = int(violates)
    yes = (key,) if violates and key in KEYS else ()
    no = () if violates else KEYS if key is None else (key,) if key in KEYS else ()
    yield Labelled(record["text"], unsafe, role, record.get("prompt"), yes, no)


FORMATS: Final[Mapping[str, Format]] = {
    "rows": Format(("text", "unsafe"), lambda _: ()),
    "labels": Format(("text", "violates"), _labels),
    "openai-moderation": Format(("prompt", "|".join(_OPENAI)), _openai_moderation),
    "toxicchat": Format(("user_input", "toxicity", "jailbreaking"), _toxicchat),
    "wildguardtest": Format(("prompt", "prompt_harm_label"), _wildguard),
    "beavertails": Format(("prompt", "response", "is_safe"), _beavertails),
    "harmbench": Format(("Behavior", "SemanticCategory", "BehaviorID"), _harmbench),
    "aegis": Format(("prompt|text", "prompt_label|labels_0", "prompt_label|text_type"), _aegis),
    "hatecheck": Format(("functionality", "test_case", "label_gold"), _hatecheck),
    "xstest": Format(("prompt", "type", "label|focus"), _xstest),
}
"""By name, in the order in which a file's columns are tried; ``rows`` is this project's own."""


def read_any(path: Path, name: str = "auto") -> Iterator[Row]:
    """Read the rows of a data file in any known format.

    Args:
        path: JSONL, JSON, CSV, TSV or Parquet.
        name: Key of `FORMATS`, or ``auto`` to tell by the columns of the first record.

    Yields:
        The rows in file order; those of a published format with an empty split.

    Raises:
        DataError: The file cannot be read, a column is missing, or a value is none that the
            format has; names file, line, column and fix.
    """
    records = read_records(path)
    first = next(records, None)
    if first is None:
        raise DataError(f"{path}: has no records; name a file with data")
    chosen = _detect(first[1], path) if name == "auto" else name
    yield from _rows([first], chosen, path)
    yield from _rows(records, chosen, path)


def _detect(record: Columns, path: Path) -> str:
    found = next((n for n, one in FORMATS.items() if not one.missing(record)), None)
    if found is None:
        columns = ", ".join(str(c) for c in record)[:200]
        raise DataError(
            f"{path}: the columns are {columns}: of no known format; name one with --format, or "
            'write JSONL with "text" and "unsafe" (1 or 0)'
        )
    return found


def _rows(records: Iterable[Record], name: str, path: Path) -> Iterator[Row]:
    for number, record in records:
        place = f"{path}:{number}"
        lacking = FORMATS[name].missing(record)
        if lacking:
            raise DataError(
                f"{place}: format {name} has the columns {', '.join(FORMATS[name].columns)}; "
                f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing; check the "
                "file or give another --format"
            )
        try:
            if name == "rows":
                yield parse_row(record, path.name.split(".")[0], number, split="")
            else:
                texts = list(FORMATS[name].read(record))
                yield from (_row(one, name, number, n) for n, one in enumerate(texts))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{place}: {error}; not as format {name} has it") from error


def _row(one: Labelled, name: str, number: int, part: int) -> Row:
    known: Sequence[str] = (*one.yes, *one.no)
    return Row(
        id=f"{name}:{number}" + (f".{part}" if part else ""),
        source=f"{name}:{one.group}" if one.group else name,
        license=FORMATS[name].license,
        role=one.role,
        text=one.text,
        prompt=one.prompt,
        unsafe=one.unsafe,
        categories=one.yes,
        known=tuple(known),
        weak=(),
        split="",
        lang=one.lang,
    )
