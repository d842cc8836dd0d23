from __future__ import annotations

import runpy
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_describes_the_settings_that_there_are() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_settings.py"))

    written = (_DOCS / "reference" / "settings.md").read_text(encoding="utf-8")

    assert written == generator["page"](), "run: python docs/generate_settings.py"


def test_the_page_of_repositories_describes_the_keys_that_there_are() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_settings.py"))

    written = (_DOCS / "reference" / "repository.md").read_text(encoding="utf-8")

    assert written == generator["repository_page"](), "run: python docs/generate_settings.py"


@pytest.mark.parametrize("name", ["settings.md", "repository.md"])
def test_each_row_of_a_table_is_one_line_with_all_its_cells(name: str) -> None:
    page = (_DOCS / "reference" / name).read_text(encoding="utf-8")

    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]

    assert len(tables) > 2
    for head, *rows in tables:
        assert [row for row in rows if row.count(" | ") != head.count(" | ") and "---" not in row] == []
