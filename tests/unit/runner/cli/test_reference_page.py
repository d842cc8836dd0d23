from __future__ import annotations

import re
import runpy
from pathlib import Path

from runner.cli import COMMANDS

_DOCS = Path(__file__).parents[4] / "docs"


def test_the_reference_describes_the_commands_that_there_are() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_cli.py"))

    written = (_DOCS / "reference" / "cli.md").read_text(encoding="utf-8")

    assert written == generator["page"](), "run: python docs/generate_cli.py"
    assert re.findall(r"^### mainstem (\S+)$", written, re.MULTILINE) == list(COMMANDS)


def test_the_list_of_commands_says_what_the_commands_say_of_themselves() -> None:
    generator = runpy.run_path(str(_DOCS / "generate_cli.py"))

    listed = re.findall(r"^\| \[`(\S+)`\]\(\S+\) \| (.+) \|$", generator["page"](), re.MULTILINE)

    assert [name for name, _ in listed] == list(COMMANDS)
