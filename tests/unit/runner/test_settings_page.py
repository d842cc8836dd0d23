from __future__ import annotations

import runpy
from pathlib import Path

_DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_describes_the_settings_that_there_are() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_settings.py"))

    written = (_DOCS / "reference" / "settings.md").read_text(encoding="utf-8")

    assert written == generator["page"](), "run: python docs/generate_settings.py"
