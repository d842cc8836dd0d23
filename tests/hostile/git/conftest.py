from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _acceptance() -> ModuleType:
    """The same server as in the acceptance tests, which stand in another folder."""
    path = Path(__file__).parents[2] / "acceptance" / "sync" / "conftest.py"
    spec = importlib.util.spec_from_file_location("hosted_git_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


_module = _acceptance()
start_hosted = _module.start_hosted
hosted = _module.hosted
work_tree = _module.work_tree
flow_text = _module.flow_text
