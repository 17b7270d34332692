"""The review queue: decisions that wait for a person, and what the person says.

A decision waits while a category of it lies in its rule's review band and nobody has answered.
An answer approves the decision or overturns it; with the action this says whether the text
violates the category, and so is a label to train and to calibrate on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

from guardrail.audit.export import shown_time
from guardrail.audit.seal import Sealer
from guardrail.audit.store import Query, Store
from guardrail.errors import SettingsError
from guardrail.taxonomy import CATEGORIES, Family
from guardrail.types import UNSAFE, Action

__all__ = ["Answer", "answer", "labels_of", "policy_rows", "training_rows", "waiting", "withdraw"]

MAX_NAME_CHARS: Final = 80
MAX_NOTE_CHARS: Final = 1_000
OPEN_S: Final = 3600.0
"""An answer that goes on for longer was cut by a crash, and its record is the last one."""
SOURCE: Final = "review"


class Answer(StrEnum):
    """What a person says of a decision."""

    APPROVE = "approve"
    OVERTURN = "overturn"


def waiting(
    store: Store, limit: int, *, before: tuple[float, str] | None = None
) -> list[dict[str, Any]]:
    """Return decisions that wait for a person, the newest first.

    Args:
        store: The open database.
        limit: Most of them.
        before: Time and identity of the decision below which to go on.
    """
    return store.select(Query(review=True, labelled=False), limit, before=before)


def answer(
    store: Store,
    identity: str,
    said: Answer,
    reviewer: str,
    time: float,
    *,
    categories: Sequence[str] | None = None,
    note: str = "",
    seen: str | None = None,
) -> list[dict[str, Any]]:
    """Record what a person says of a decision; a later answer replaces an earlier one.

    Args:
        store: The open database.
        identity: Which decision.
        said: Whether it was right.
        reviewer: Who says so.
        time: When, in seconds since 1970.
        categories: Which of its findings are meant; None for those in their review band, or
            for all where none is.
        note: Why.
        seen: Time of the record that the person saw, as `opened` shows it; None where that is
            not known.

    Returns:
        The labels of the decision.

    Raises:
        SettingsError: There is no such decision, it found nothing, the name is empty, or the
            record is about another text by now, or soon may be: that of a streamed answer is
            written again when a worse window comes.
    """
    reviewer = " ".join(reviewer.split())[:MAX_NAME_CHARS]
    if not reviewer:
        raise SettingsError("who reviews? name the reviewer")
    found = store.get(identity)
    if found is None:
        raise SettingsError(f"there is no decision {identity[:100]!r}")
    if not found["final"] and time - found["time"] < OPEN_S:
        raise SettingsError("this answer still goes on; review it when it is over")
    if seen is not None and seen != shown_time(found["time"]):
        raise SettingsError("this decision has changed since it was shown; look at it again")
    labels = _meant(found, categories)
    if not labels:
        raise SettingsError(f"decision {identity} found none of these categories; nothing to say")
    for category, acted in labels.items():
        violates = acted is (said is Answer.APPROVE)
        store.execute(
            "INSERT INTO guardrail_labels VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (decision_id, category) DO UPDATE SET answer = excluded.answer, "
            "violates = excluded.violates, reviewer = excluded.reviewer, time = excluded.time, "
            "note = excluded.note",
            [identity, category, said.value, int(violates), reviewer, time, note[:MAX_NOTE_CHARS]],
        )
    store.connection.commit()
    return labels_of(store, identity)


def _meant(found: dict[str, Any], categories: Sequence[str] | None) -> dict[str, bool]:
    """Return the categories that an answer is about, each with whether its rule acted."""
    findings = found["detail"].get("findings", [])
    in_band = [one for one in findings if one[5]]
    meant = in_band or findings if categories is None else findings
    return {
        str(one[0]): one[1] != Action.PASS.value
        for one in meant
        if categories is None or one[0] in categories
    }


def withdraw(store: Store, identity: str) -> int:
    """Take back what was said of a decision; return how many labels that were."""
    cursor = store.execute("DELETE FROM guardrail_labels WHERE decision_id = ?", [identity])
    store.connection.commit()
    return int(cursor.rowcount)


def labels_of(store: Store, identity: str) -> list[dict[str, Any]]:
    """Return what was said of a decision, by category."""
    rows = store.execute(
        "SELECT category, answer, violates, reviewer, time, note FROM guardrail_labels "
        "WHERE decision_id = ? ORDER BY category",
        [identity],
    ).fetchall()
    store.connection.rollback()
    names = ("category", "answer", "violates", "reviewer", "time", "note")
    return [{**dict(zip(names, row, strict=True)), "violates": bool(row[2])} for row in rows]


def policy_rows(store: Store, sealer: Sealer) -> Iterator[dict[str, Any]]:
    """Yield a labelled text for each label: what ``calibration:`` and ``tests:`` take.

    Labels of decisions whose text was not kept, or cannot be opened, are left out.

    Args:
        store: The open database.
        sealer: Opens texts.
    """
    for found, labels, text, prompt in _labelled(store, sealer):
        for label in labels:
            yield {
                "text": text,
                "violates": label["violates"],
                "category": label["category"],
                "role": found["role"],
                "prompt": prompt,
            }


def training_rows(store: Store, sealer: Sealer) -> Iterator[dict[str, Any]]:
    """Yield a row for each labelled decision in the format that ``guardrail train`` reads.

    A category that nobody answered for is unknown, not absent. The overall label is known
    where it was asked for, or where the text violates a hazard.

    Args:
        store: The open database.
        sealer: Opens texts.
    """
    for found, labels, text, prompt in _labelled(store, sealer):
        known = {one["category"]: one["violates"] for one in labels}
        violated = [key for key, violates in known.items() if violates and key in CATEGORIES]
        hazard = any(CATEGORIES[key].family is Family.HAZARD for key in violated)
        overall = known.get(UNSAFE, True if hazard else None)
        yield {
            "id": found["id"],
            "source": SOURCE,
            "license": "own",
            "role": found["role"] if found["role"] in ("user", "assistant") else "text",
            "text": text,
            "prompt": prompt,
            "unsafe": None if overall is None else int(overall),
            "categories": violated,
            "categories_known": [key for key in known if key in CATEGORIES],
            "split": "train",
        }


def _labelled(
    store: Store, sealer: Sealer
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], str, str | None]]:
    for found in store.every(Query(labelled=True)):
        form = str(found["text_form"])
        text = sealer.open(found["text"], form)
        if text:
            prompt = sealer.open(found["prompt"], form)
            yield found, labels_of(store, found["id"]), text, prompt
