from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.servers.embedded import Server

FLOWS = (
    """id: steps
namespace: team
tasks:
  - id: each
    type: core.flow.ForEach
    values: [one, "<img src=x onerror=window.hacked=1>"]
    tasks:
      - id: body
        type: scripts.shell.Commands
        commands: ['for i in 1 2 3 4; do echo "line $i of {{ taskrun.value }}"; sleep 0.3; done']
  - id: broken
    type: scripts.shell.Commands
    commands: ["echo '<script>window.hacked=1</script>'; exit 3"]
""",
    """id: quick
namespace: team
tasks:
  - {id: say, type: core.log.Log, message: hello}
""",
    """id: waits
namespace: team
tasks:
  - {id: pause, type: core.flow.Sleep, duration: PT30S}
""",
)


@pytest.fixture(scope="module")
def chromium(optional: Callable[[str, str], NoReturn]) -> Iterator[Any]:
    """Give a browser, the one of the system: other builds are downloaded by their package."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        optional("chromium", "there is no chromium on the PATH")
    try:
        driver = importlib.import_module("playwright.sync_api")
    except ImportError:
        optional("chromium", "playwright is missing; pip install --group pages brings it")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give a server with two flows, one of which has run."""
    folder = Path(tempfile.mkdtemp(prefix="mainstem-pages-"))
    folder.chmod(0o755)
    made = Server(folder).start()
    try:
        made.api.deploy(*FLOWS)
        for _ in range(3):
            made.api.post("/executions/team/quick", params={"wait": "true"})
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
