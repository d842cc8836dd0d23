"""The task runner that third parties see as an example, as if it were installed: its jobs outlive their worker."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from task_runners import registry

FOLDER = Path(__file__).resolve().parents[1] / "plugins" / "spool"


@contextlib.contextmanager
def installed_spool() -> Iterator[type]:
    """Have `spool.Spool` known to this process and importable in those that it starts; give its class."""
    path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
    known = {**registry._installed(), "spool.Spool": "mainstem_spool:Spool"}
    with (
        mock.patch.dict(os.environ, {"PYTHONPATH": path}),
        mock.patch.object(registry, "_installed", return_value=known),
    ):
        sys.path.insert(0, str(FOLDER))
        try:
            yield importlib.import_module("mainstem_spool").Spool
        finally:
            sys.path.remove(str(FOLDER))
