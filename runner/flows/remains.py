"""What is left of a model that was refused, so that the checks after it can go on.

A flow with one typing error has others that only show when its tasks are looked at together. So a refused model is
built once more without what was wrong with it; what it then lacks is empty. Nothing of this ever runs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import create_model
from pydantic.fields import FieldInfo

from runner.flows.annotations import arms
from runner.flows.models import Model


@functools.cache
def tolerant(cls: type[Model]) -> type[Model]:
    """Return a subclass of `cls` that requires no property."""
    fields: dict[str, Any] = {
        name: (field.annotation, _optional(field)) for name, field in cls.model_fields.items() if field.is_required()
    }
    return create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields)


def stand_in(cls: type[Model], values: Mapping[str, Any]) -> Model:
    """Return a `cls` that has `values`, unchecked, and is empty otherwise."""
    return tolerant(cls).model_construct(**values)


def _optional(field: FieldInfo) -> FieldInfo:
    relaxed = copy.copy(field)
    relaxed.default = _empty(field.annotation)
    return relaxed


def _empty(annotation: Any) -> Any:
    alternatives = arms(annotation)
    for arm in alternatives:
        origin = get_origin(arm) or arm
        if origin in {tuple, list, dict, str}:
            return origin()
    for arm in alternatives:
        if isinstance(arm, type) and issubclass(arm, Model):
            return stand_in(arm, {})
    return None
