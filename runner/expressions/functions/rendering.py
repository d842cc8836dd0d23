"""Functions that render, and those that look at the template itself."""

from __future__ import annotations

from typing import Any

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.registry import function
from runner.expressions.template import render_again


@function()
def render(frame: Frame, to_render: Any, recursive: bool = True) -> Any:  # noqa: FBT001, FBT002 - the signature in templates
    """Return the value with the expressions in it rendered, by default until none is left (at most 100 passes).

    Values are otherwise never rendered twice; give this no text that comes from outside.

    Example:
        {{ render('1 + 1 = {' ~ '{ 1 + 1 }}') }} -> 1 + 1 = 2
    """
    return render_again(to_render, frame, recursive=bool(recursive))


@function("renderOnce")
def render_once(frame: Frame, to_render: Any) -> Any:
    """Return the value with the expressions in it rendered one time.

    Example:
        {{ renderOnce('{' ~ '{ 1 + 1 }}') }} -> 2
    """
    return render_again(to_render, frame, recursive=False)


@function()
def block(frame: Frame, name: str) -> str:
    """Return the content of the block `name` of this template.

    Example:
        {% block a %}x{% endblock %}{{ block('a') }} -> xx
    """
    body = (frame.blocks or {}).get(name)
    if body is None:
        raise ExpressionError("expression.value", f"this template has no block {name!r}")
    frame.enter()
    try:
        return body()
    finally:
        frame.leave()
