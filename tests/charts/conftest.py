from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NoReturn

import pytest


@pytest.fixture(scope="session")
def module(optional: Callable[[str, str], NoReturn]) -> Callable[[str], Any]:
    """Give packages of the dependency group `charts` by name."""

    def load(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError:
            optional("charts", f"{name} is missing; pip install --group charts brings it")

    return load


@pytest.fixture(scope="session")
def helm(module: Callable[[str], Any]) -> Any:
    """Give Helm's engine."""
    return module("helm_python")
