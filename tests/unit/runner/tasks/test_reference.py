from __future__ import annotations

import runpy
from pathlib import Path

_DOCS = Path(__file__).parents[4] / "docs"


def test_the_reference_describes_the_tasks_that_there_are() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_tasks.py"))

    written = (_DOCS / "reference" / "tasks.md").read_text(encoding="utf-8")

    assert written == generator["page"](), "run: python docs/generate_tasks.py"
