"""What is wrong with settings, so that their writer finds it: the file or variable, the key, the nearest name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel, to_snake

from runner.errors import InvalidError
from runner.flows.spelling import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_CODE: Final = "settings.invalid"
_PAGE: Final = "docs/reference/settings.md has every setting"


def refused(settings: type[BaseModel], error: ValidationError, file: Path, environ: Mapping[str, str]) -> InvalidError:
    """Return the error `settings.invalid` for the first fault, with the file or the variable that it came from."""
    first = error.errors(include_url=False, include_context=False)[0]
    loc = first["loc"]
    source = source_of(str(loc[0]) if loc else "", file, environ)
    if first["type"] == "extra_forbidden":
        near = did_you_mean(str(loc[-1]), _names(settings, loc[:-1]))
        hint = f"{near} {_PAGE}" if near else _PAGE
        return InvalidError(_CODE, f"{source}: there is no setting {_written(loc)}", hint=hint)
    return InvalidError(_CODE, f"{source}: {_sentence(first)}", hint=_PAGE)


def source_of(name: str, file: Path, environ: Mapping[str, str]) -> str:
    """Return what gives the setting `name`: its variable where that is set, else the file."""
    variable = f"MAINSTEM_{to_snake(name).upper()}"
    return variable if name and environ.get(variable) else str(file)


def unreadable(file: Path, error: Exception) -> InvalidError:
    """Return the error `settings.invalid` for a file that is no text or no YAML, with line and column where known."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}"
        return InvalidError(_CODE, f"{place} is no YAML: {error.problem}", hint="mend the file at or above this place")
    return InvalidError(_CODE, f"{file} cannot be read: {error}")


def _sentence(fault: ErrorDetails) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    text = f"{message[:1].lower()}{message[1:]}"
    return f"{_written(fault['loc'])}: {text}" if fault["loc"] else text


def _written(loc: Sequence[int | str]) -> str:
    """Return a place as the file has it: `environments[0].rejectInvalid`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{to_camel(part)}" for part in loc]
    return "".join(parts).removeprefix(".")


def _names(settings: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the keys that there are at a place of the settings; none where it is no model."""
    model: type[BaseModel] | None = settings
    for part in (part for part in loc if isinstance(part, str)):
        fields = (
            {} if model is None else {key: each for name, each in model.model_fields.items() for key in _keys(name)}
        )
        model = _model_in(fields[part].annotation) if part in fields else None
    return [] if model is None else [to_camel(name) for name in model.model_fields]


def _keys(name: str) -> tuple[str, str]:
    return name, to_camel(name)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a field, of the items of a list, or of a field that may be left out."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
