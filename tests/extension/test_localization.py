"""Translations cover what the field table shows, and nothing that is no longer shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from motion.fields.table import Choice, Image, Several
from motion.settings.sections import SECTIONS
from motion.settings.tab import TAB_FIELDS
from sparsectrl.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "localizations").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_of_the_table_is_translated(path: Path) -> None:
    translated = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in TAB_FIELDS.values() if row.name != "enabled"]
    shown = {row.label for row in rows} | {row.help for row in rows if not isinstance(row, Image)}
    shown |= {label for row in rows if isinstance(row, (Choice, Several)) for label in row.choices.values()}
    shown |= {row.detail for row in rows if row.detail} | set(filter(None, SECTIONS.values()))
    shown |= {text for use in PRESETS.values() for text in (use.label, use.help)}
    assert shown <= translated.keys()
    drawn = [*(ROOT / "motion" / "extension").rglob("*.py"), *(ROOT / "javascript").glob("*.js")]
    page = "".join(file.read_text(encoding="utf-8") for file in drawn)
    assert all(f'"{text}"' in page for text in translated.keys() - shown)
    assert all(isinstance(text, str) and text for text in translated.values())
