"""The bundled policies on their own tests, as Markdown for docs/policies.md.

    python bench/bench_library.py [--bundle DIR] [--disguises] [--write docs/policies.md]

Known gaps count as missed. With ``--disguises`` the first six texts of each kind and category of
the taxonomy's tests are disguised as a whole and judged by ``default``, with and without
``normalise``.
"""

from __future__ import annotations

import argparse
import base64
import codecs
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from guardrail.classifier import load_classifier
from guardrail.classifier.bounds import interval
from guardrail.classifier.labels import Labelled, read_labels
from guardrail.classifier.prepare import PreparedPolicies
from guardrail.cli.policy_suite import Case, Remembering, judge, suite
from guardrail.policy import bundled, bundled_names
from guardrail.policy.schema import CATEGORY_KEYS
from guardrail.types import Action

EACH = 6
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_LOOK_ALIKE = str.maketrans("aeopcxyiABEKMHOPCTX", "аеорсхуіАВЕКМНОРСТХ")

DISGUISES: dict[str, Callable[[str], str]] = {
    "none": str,
    "tag characters": lambda text: "".join(chr(0xE0000 + ord(c)) for c in text if c.isascii()),
    "spaced letters": lambda text: "  ".join(" ".join(word) for word in text.split()),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "leetspeak": lambda text: text.translate(_LEET),
    "look-alikes": lambda text: text.translate(_LOOK_ALIKE),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "percent-escapes": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "hexadecimal": lambda text: text.encode().hex(),
}


def share(k: int, total: int) -> str:
    """Return a count with its exact 95 % interval."""
    low, high = interval(k, total)
    return f"{k} of {total} [{low:.2f}, {high:.2f}]"


def line(name: str, cases: Sequence[Case]) -> str:
    """Return a row of a table."""
    bad = [case.expected for case in cases if case.row.violates]
    good = [not case.expected for case in cases if not case.row.violates]
    return f"| {name} | {share(sum(bad), len(bad))} | {share(sum(good), len(good))} |"


def library(prepared: PreparedPolicies, model: Remembering) -> list[list[str]]:
    """Return a table of the policies, and one of the categories of their own."""
    policies = [
        "| policy | violating texts caught | false alarms on allowed texts |",
        "|---|---:|---:|",
    ]
    own = []
    for name in bundled_names():
        cases = suite(prepared.get(bundled(name)), model)
        policies.append(line(f"`{name}`", cases))
        keys = {str(case.row.category) for case in cases}.difference(CATEGORY_KEYS)
        own += [
            line(f"`{key}` | `{name}`", [c for c in cases if c.row.category == key]) for key in keys
        ]
    head = ["| category of its own | in | caught | false alarms |", "|---|---|---:|---:|"]
    return [policies, [*head, *sorted(own)]]


def first_texts() -> Iterator[Labelled]:
    """Yield the first texts of each category and kind of the taxonomy's tests."""
    policy = bundled("default")
    assert policy.file is not None
    seen: Counter[tuple[str | None, bool]] = Counter()
    for row in read_labels(Path(policy.file).parent / policy.tests[0]):
        seen[row.category, row.violates] += 1
        if seen[row.category, row.violates] <= EACH:
            yield row


def disguises(prepared: PreparedPolicies) -> list[str]:
    """Return a table of how many disguised texts ``default`` flags or blocks."""
    rows = list(first_texts())
    sides = [
        replace(bundled("default"), normalise=on, content_hash=str(on)) for on in (False, True)
    ]
    table = [
        "| disguise | violating, without | with | allowed, without | with |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, change in DISGUISES.items():
        changed = [replace(row, text=change(row.text)) for row in rows]
        counts: Counter[tuple[bool, bool]] = Counter()
        for side in sides:
            for row, verdict in zip(changed, judge(prepared.get(side), changed), strict=True):
                counts[row.violates, side.normalise] += verdict.action is not Action.PASS
        cells = [counts[violates, on] for violates in (True, False) for on in (False, True)]
        table.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return table


def put(document: str, table: Sequence[str]) -> str:
    """Return a document with the table of the same head replaced."""
    lines = document.split("\n")
    start = lines.index(table[0])
    rest = (n for n, text in enumerate(lines[start:], start) if not text.startswith("|"))
    return "\n".join([*lines[:start], *table, *lines[next(rest) :]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle")
    parser.add_argument("--disguises", action="store_true")
    parser.add_argument("--write", type=Path, help="put the tables into this document")
    options = parser.parse_args()
    model = Remembering(load_classifier(options.bundle))
    prepared = PreparedPolicies(model)
    tables = library(prepared, model)
    if options.disguises:
        tables.append(disguises(prepared))
    print(f"model {model.model_id}\n")
    print("\n\n".join("\n".join(table) for table in tables))
    if options.write:
        document = options.write.read_text(encoding="utf-8")
        for table in tables:
            document = put(document, table)
        options.write.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
