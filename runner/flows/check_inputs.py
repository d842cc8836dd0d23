"""What must hold among the inputs of a flow (language 1.1)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import re2  # type: ignore[import-untyped]  # no stubs are published

from runner.flows.casts import CastError, cast, check, shown
from runner.flows.finding import Finding, find_cycle
from runner.flows.models import Flow, Input
from runner.flows.spelling import did_you_mean

_FILE_DEFAULTS = ("file:", "nsfile:")


def input_problems(flow: Flow) -> Iterator[Finding]:
    """Yield what is wrong with the declared inputs, and with those of pauses."""
    yield from _duplicates(flow.inputs)
    yield from _dependencies(flow.inputs)
    for item in flow.inputs:
        yield from _properties(item)
    for task in flow.all_tasks():
        asked: tuple[Input, ...] = getattr(task, "on_resume", ())
        yield from _duplicates(asked)
        for item in asked:
            yield from _properties(item)


def _duplicates(inputs: tuple[Input, ...]) -> Iterator[Finding]:
    for name, count in Counter(item.id for item in inputs).items():
        if count > 1:
            again = [item for item in inputs if item.id == name][1]
            yield Finding("input.id.duplicate", f"Duplicate input with name [{name}]", again, ("id",))
    names = {item.id for item in inputs}
    for item in inputs:
        outer = next((name for name in names if item.id.startswith(f"{name}.")), None)
        if outer is not None:
            message = f"Conflict at key: '{outer}', it is an input and the beginning of {item.id!r}"
            yield Finding("input.id.conflict", message, item, ("id",))


def _dependencies(inputs: tuple[Input, ...]) -> Iterator[Finding]:
    needs = {item.id: item.depends_on.inputs if item.depends_on else () for item in inputs}
    for item in inputs:
        for index, name in enumerate(needs[item.id]):
            if name not in needs:
                message = f"Input with id '{item.id}' depends on a non-existent input '{name}'."
                within = ("dependsOn", "inputs", index)
                yield Finding("input.dependency.missing", message, item, within, did_you_mean(name, needs))
    cycle = find_cycle(needs)
    if cycle:
        first = next(item for item in inputs if item.id == cycle[0])
        message = f"Cycle dependency detected for input with id '{first.id}'"
        yield Finding("input.dependency.cycle", message, first, ("dependsOn",), " -> ".join([*cycle, cycle[0]]))


def _properties(item: Input) -> Iterator[Finding]:
    kind = item.type
    if kind == "ARRAY" and item.item_type is None:
        yield Finding("input.property.missing", "an input of type ARRAY needs `itemType`", item)
    if item.item_type is not None and item.item_type.upper() in {"ARRAY", "MULTISELECT"}:
        message = f"`itemType` cannot be `{item.item_type.upper()}`"
        yield Finding("input.property.invalid", message, item, ("itemType",))
    if kind == "MULTISELECT" and item.values is not None and item.options is not None:
        yield Finding("input.property.invalid", "give `values` or `options`, not both", item, ("options",))
    if kind in {"SELECT", "ENUM", "MULTISELECT"} and not (item.values or item.options or item.expression):
        yield Finding("input.property.missing", f"an input of type {kind} needs `values` or `expression`", item)
    if item.inputs is not None and kind != "FORM":
        message = f"`inputs` stand in a FORM only, not in an input of type {kind}"
        yield Finding("input.property.invalid", message, item, ("inputs",))
    if item.validator is not None and not _is_pattern(item.validator):
        yield Finding("input.property.invalid", f"invalid pattern [{item.validator}]", item, ("validator",))
    yield from _defaults(item)


def _is_pattern(text: str) -> bool:
    """Return whether `text` can be compiled: by the engine that matches, or as something that Java knows besides."""
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        re2.compile(text, options=quiet)
    except re2.error:
        try:
            re.compile(text)
        except re.error:
            return False
    return True


def _defaults(item: Input) -> Iterator[Finding]:
    """Yield a finding when the default could never be taken; one that holds an expression is judged when it runs."""
    if item.defaults is None or item.type == "SECRET" or "{{" in str(item.defaults):
        return
    if item.type == "FILE":
        if not str(item.defaults).startswith(_FILE_DEFAULTS):
            message = "inputs of type 'FILE' only support `defaults` that are file:/// or nsfile:/// addresses"
            yield Finding("input.defaults.invalid", message, item, ("defaults",))
        return
    try:
        check(item, cast(item.type, item.defaults, item.item_type))
    except CastError as error:
        message = f"the default {shown(item.defaults)} of the input {item.id!r} is not acceptable: {error}"
        yield Finding("input.defaults.invalid", message, item, ("defaults",))
