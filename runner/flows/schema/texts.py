"""What editors show for a type or property: the docstrings of the models, and `texts.yaml` beside this file."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
from collections.abc import Mapping
from importlib.resources import files
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from runner.flows.build import field_names
from runner.flows.loader import load_value

TYPE = "What this is: the name of a type, with or without `io.kestra.plugin.`; older names are understood too."
_CATALOGUE = "texts.yaml"
_SENTENCE = re.compile(r"(?<=[.;:])\s+(?=\S)")


def summary(cls: type[Any] | None) -> str:
    """Return the first sentence of a class's docstring."""
    return _prose(cls).partition(". ")[0].rstrip(".")


def description(cls: type[Any] | None) -> str:
    """Return the docstring of a class, its paragraphs on lines of their own."""
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n") if cls is not None else []
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def of_property(cls: type[BaseModel], name: str, alias: str) -> str | None:
    """Return what a property is for, None when nobody wrote it down."""
    known = [other for other, field in field_names(cls).items() if field == name]
    for base in cls.__mro__:
        for word in known:
            found = shared().get(base.__name__, {}).get(word)
            if found:
                return found if alias == word else f"The same as `{word}`. {found}"
    return next((sentence for base in cls.__mro__ if (sentence := _mention(base, known))), None)


@functools.cache
def shared() -> Mapping[str, Mapping[str, str]]:
    """Return the texts of the catalogue, by class and property."""
    found: Mapping[str, Mapping[str, str]] = load_value(
        files("runner.flows.schema").joinpath(_CATALOGUE).read_bytes(), file=_CATALOGUE
    )
    return found


def _mention(cls: type[Any], names: list[str]) -> str | None:
    """Return the part of a class's docstring that names a property first."""
    if not issubclass(cls, BaseModel) or cls is BaseModel:
        return None
    for sentence in _SENTENCE.split(_prose(cls)):
        if any(f"`{name}`" in sentence for name in names):
            return sentence[:1].upper() + sentence[1:]
    return None


def _prose(cls: type[Any] | None) -> str:
    return " ".join((inspect.getdoc(cls) or "").split()) if cls is not None else ""


def of_fields(module: ModuleType) -> dict[tuple[str, str], str]:
    """Return the text below each field of a module's classes in one line, by class and field, read from its source."""
    found = {}
    for cls in ast.parse(inspect.getsource(module)).body:
        if not isinstance(cls, ast.ClassDef):
            continue
        for field, text in itertools.pairwise(cls.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[cls.name, ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found
