"""What problem codes mean, for `mainstem explain`. The texts stand in `codes.yaml` beside this module."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from runner.flows.loader import load_value

CATALOGUE = "codes.yaml"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A code, what it means, an example of what brings it about, and what to do where that is not plain."""

    code: str
    meaning: str
    example: str
    remedy: str | None = None


@functools.cache
def explanations() -> Mapping[str, Explanation]:
    """Return all explanations by code, in the order of the catalogue."""
    entries = load_value(files("runner.flows").joinpath(CATALOGUE).read_bytes(), file=CATALOGUE)
    return {code: Explanation(code, *texts) for code, texts in entries.items()}
