"""A plugin of pytest for `python -m tests`: files that may take long begin first, and all processors end together."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what is quick last; among the quick and among the others the order, which is random, stays."""
    items.sort(key=lambda item: is_quick(item.path))


def is_quick(file: Path) -> bool:
    """Tell whether a file of tests takes seconds at most: unit tests do, but those that start a git server."""
    return "unit" in file.parts and "sync" not in file.parts
