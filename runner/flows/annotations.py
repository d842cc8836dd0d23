"""What the annotation of a model's field admits."""

from __future__ import annotations

import functools
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin


@functools.lru_cache(maxsize=4096)
def arms(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of an annotation, without `Annotated` around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return arms(get_args(annotation)[0])
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return arms(annotation.__value__)
    if origin in {Union, types.UnionType}:
        return tuple(arm for member in get_args(annotation) for arm in arms(member))
    return (annotation,)


def admits_none(annotation: Any) -> bool:
    """Return whether None is one of the alternatives."""
    alternatives = arms(annotation)
    return type(None) in alternatives or Any in alternatives
