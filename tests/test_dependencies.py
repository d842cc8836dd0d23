"""Each runtime dependency has a row in the design that says what it does for us, with the licence it really has."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# Names in metadata that mean what the page says in SPDX.
SPDX = {
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "Apache Software License": "Apache-2.0",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "BSD-3-Clause and Public-Domain": "BSD-3-Clause",
}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return {re.split(r"[\[><=]", each)[0] for each in (*project["dependencies"], *extras)}


def described() -> dict[str, str]:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text.partition("\n## Dependencies\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", section, re.MULTILINE))


def licences_of(name: str) -> set[str]:
    metadata: dict[str, Any] = importlib.metadata.metadata(name).json
    expression = metadata.get("license_expression")
    classifiers = [each.rpartition(" :: ")[2] for each in metadata.get("classifier", ()) if "License ::" in each]
    texts = [expression] if expression else classifiers or [metadata.get("license") or _title(name)]
    return {SPDX.get(text, text) for text in texts}


def _title(name: str) -> str:
    """Return the first line of the licence that a package brings, for one that says it nowhere else."""
    files = importlib.metadata.files(name) or ()
    found = [each for each in files if each.parent.name == "licenses"]
    return found[0].read_text().splitlines()[0] if found else "none"


def test_the_design_describes_each_dependency() -> None:
    assert described().keys() == declared()


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_dependency_has_the_licence_that_the_design_names(name: str) -> None:
    licences = licences_of(name)

    assert described()[name] in {*licences, " OR ".join(sorted(licences))}


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_dependency_is_used(name: str) -> None:
    module = {
        "azure-identity": "azure.identity",
        "google-auth": "google.auth",
        "google-re2": "re2",
        "pyyaml": "yaml",
        "python-multipart": "form(",
        "pyahocorasick": "ahocorasick",
    }
    word = module.get(name, name)

    files = [
        path for folder in ("runner", "sync", "webhooks", "task_runners") for path in (ROOT / folder).rglob("*.py")
    ]

    assert any(word in path.read_text(encoding="utf-8") for path in files)
