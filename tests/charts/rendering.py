"""The chart as Helm renders it for each set of values, and the golden files of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "mainstem"
VALUES: Final = sorted((Path(__file__).parent / "values").glob("*.yaml"))
SETS: Final = [path.stem for path in VALUES]
_GOLDEN: Final = Path(__file__).parent / "golden"
_RELEASE, _NAMESPACE = "team", "flows"


def golden_file(name: str) -> Path:
    """Return the file with what a set of values must render to."""
    return _GOLDEN / f"{name}.yaml"


def golden(name: str) -> list[dict[str, Any]]:
    """Return the manifests that a set of values renders to, as the golden file has them. Needs no Helm."""
    return [document for document in yaml.safe_load_all(golden_file(name).read_text(encoding="utf-8")) if document]


def values(name: str) -> dict[str, Any]:
    """Return a set of values."""
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "values" / f"{name}.yaml").read_text("utf-8"))
    return found


def render(helm: Any, given: Mapping[str, Any]) -> str:
    """Return the manifests for values, with the file each comes from, and last the notes."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(given, name=_RELEASE, namespace=_NAMESPACE)
    return "".join(_texts(files)) + _commented(files["mainstem/templates/NOTES.txt"])


def _texts(files: Mapping[str, str]) -> Iterator[str]:
    for path, text in sorted(files.items()):
        lines = [line.rstrip() for line in text.strip().splitlines()]
        if path.endswith(".yaml") and any(line and not line.startswith(("#", "---")) for line in lines):
            body = "\n".join(lines).removeprefix("---\n")
            yield f"---\n# {path}\n{body}\n"


def _commented(text: str) -> str:
    return "---\n" + "".join(f"# {line}".rstrip() + "\n" for line in text.strip().splitlines())
