"""The reference page says what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

_DOCS = Path(__file__).parents[4] / "docs"


def test_the_reference_page_is_what_its_generator_writes() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_expressions.py"))

    written = (_DOCS / "reference" / "expressions.md").read_text(encoding="utf-8")

    assert written == generator["page"](), "run: python docs/generate_expressions.py"
