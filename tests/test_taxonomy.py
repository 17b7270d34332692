"""What the taxonomy promises."""

from __future__ import annotations

from pathlib import Path

from guardrail.taxonomy import CATEGORIES, OPENAI_MODERATION

PAGE = (Path(__file__).parent.parent / "docs" / "taxonomy.md").read_text(encoding="utf-8")


def test_the_page_says_what_the_code_says() -> None:
    for category in CATEGORIES.values():
        row = f"| {category.id} | `{category.key}` | {category.name} | {category.definition} |"
        assert row in PAGE, f"docs/taxonomy.md is out of date for {category.key}"
    for name, keys in OPENAI_MODERATION.items():
        assert f"| `{name}` | {', '.join(f'`{key}`' for key in keys)}" in PAGE
