"""Filters between values and the texts JSON, YAML and Ion, and jq."""

from __future__ import annotations

from typing import Any

from runner.expressions.frame import Frame
from runner.expressions.ion import to_ion as ion_text
from runner.expressions.jq_program import run
from runner.expressions.registry import filter_
from runner.expressions.values import to_json as json_text
from runner.expressions.yaml_text import dump_yaml


@filter_()
def jq(frame: Frame, value: Any, expression: str) -> list[Any]:
    """Return the list of all results of a jq program; text is read as JSON first.

    Programs that read the environment, files or the clock, and unbounded loops, are refused.

    Example:
        {{ {'a': [1, 2]} | jq('.a[]') }} {{ '{"b": 3}' | jq('.b') | first }} -> [1,2] 3
    """
    return run(expression, value, frame.limits)


@filter_("toJson", "json", nulls=True)
def to_json(value: Any) -> str:
    """Return the value as compact JSON; dates are ISO text.

    Example:
        {{ {'a': [1, null, 'b']} | toJson }} -> {"a":[1,null,"b"]}
    """
    return json_text(value)


@filter_("toIon", nulls=True)
def to_ion(value: Any) -> str:
    """Return the value as Ion text.

    Example:
        {{ {'a': [1, null, 'b']} | toIon }} -> {a:[1,null,"b"]}
    """
    return ion_text(value)


@filter_("yaml", nulls=True)
def yaml_(value: Any) -> str:
    """Return the value as YAML, ended by a line break.

    Example:
        {{ {'a': 1, 'b': [true]} | yaml }} -> a: 1
        b:
         - true
    """
    return dump_yaml(value)
