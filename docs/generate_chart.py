# ruff: noqa: INP001 - a script beside the pages
"""Writes what the chart repeats of the program; run it after a change of settings or values.

The settings in `values.schema.json` come from the program's own, and the table of `README.md` from `values.yaml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from runner.settings import Settings

CHART: Final = Path(__file__).parents[1] / "charts" / "mainstem"
# The chart says these itself, from values of its own or from Secrets.
_SERVER: Final = {"home", "work", "host", "port", "url", "insecure", "healthPort", "workers", "gracePeriodS"}
_SHARED: Final = {"database", "broker", "storage", "encryptionKey", "adminToken"}
_BEGIN, _END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
_KEY: Final = re.compile(r"( *)([A-Za-z]+):(?: (.*))?$")


def schema() -> str:
    """Return the text of `values.schema.json` with the settings that there are."""
    path = CHART / "values.schema.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    made = Settings.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    parts = made.pop("$defs")
    made["properties"] = {name: value for name, value in made["properties"].items() if name not in _SERVER | _SHARED}
    document["$defs"] |= {"settings": made, **parts}
    return json.dumps(_plain(document), indent=2) + "\n"


def _plain(node: Any) -> Any:
    """Return a schema without the texts and titles that only the reference page needs."""
    if isinstance(node, dict):
        named = {"properties", "$defs"}
        return {
            key: {name: _plain(each) for name, each in value.items()} if key in named else _plain(value)
            for key, value in node.items()
            if not (key in {"title", "description", "default"} and "$schema" not in node)
        }
    return [_plain(each) for each in node] if isinstance(node, list) else node


def readme() -> str:
    """Return the text of `README.md` with the values that there are."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    head, rest = text.split(_BEGIN)
    _, tail = rest.split(_END)
    rows = "".join(f"| `{name}` | {default} | {about} |\n" for name, default, about in values())
    return f"{head}{_BEGIN}| value | default | meaning |\n|---|---|---|\n{rows}{_END}{tail}"


def values() -> Iterator[tuple[str, str, str]]:
    """Yield each value of `values.yaml`: its dotted name, its default, and the comment above it."""
    path: list[str] = []
    about = ""
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("# -- "):
            about = line.strip().removeprefix("# -- ")
        elif found := _KEY.match(line):
            indent, key, default = found.groups()
            path = [*path[: len(indent) // 2], key]
            if default or about:
                yield ".".join(path), f"`{default}`" if default else "", about
            about = ""


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(schema(), encoding="utf-8")
    (CHART / "README.md").write_text(readme(), encoding="utf-8")
