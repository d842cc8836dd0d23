"""The tables of types in the documents are those of the registry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[4] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_types", DOCS / "generate_types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_compatibility_page_lists_every_type() -> None:
    generator = _generator()
    text = generator.PAGE.read_text()

    assert generator.page(text) == text, "run: python docs/generate_types.py"
