from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _units() -> ModuleType:
    """The same receivers as in the unit tests, which stand in another folder."""
    path = Path(__file__).parents[2] / "unit" / "webhooks" / "conftest.py"
    spec = importlib.util.spec_from_file_location("webhook_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


_module = _units()
serving = _module.serving
hooks_for = _module.hooks_for
