"""What is wrong between a flow and those that it needs: the flows it calls, the inputs it gives, those it waits for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from runner.errors import Problem, Severity
from runner.flows.outline import Called, FlowKey, Outline


def wrong_inputs(
    calls: Iterable[Called], outline_of: Callable[[FlowKey], Outline | None], file: str | None
) -> Iterator[Problem]:
    """Yield a warning for each input that a caller gives and the flow has not, or does not give and the flow demands.

    `outline_of` gives a called flow, None for one that is not known here; `file` is that of the caller.
    """
    for task_id, target, given in calls:
        flow = outline_of(target)
        if flow is None:
            continue
        name = ".".join(target)
        for key in given:
            if not any(_names(key, declared) for declared, _ in flow.inputs):
                message = f"task {task_id!r} gives the flow {name} an input {key!r}, which it does not have"
                yield Problem("flow.subflow.input.unknown", message, Severity.WARNING, file)
        for declared, is_demanded in flow.inputs:
            if is_demanded and not any(_names(key, declared) for key in given):
                message = f"task {task_id!r} calls the flow {name} without its input {declared!r}, which is required"
                yield Problem("flow.subflow.input.missing", message, Severity.WARNING, file)


def _names(key: str, declared: str) -> bool:
    """Whether a caller's `key` is the input, a part of it (`form.name`), or a map around it."""
    return declared == key or declared.startswith(f"{key}.") or key.startswith(f"{declared}.")


def deaf_triggers(flow: Outline, exists: Collection[FlowKey], file: str | None) -> Iterator[Problem]:
    """Yield a warning for each flow trigger that waits for a flow which is not there."""
    for trigger_id, target in flow.awaits:
        if target not in exists:
            message = f"trigger {trigger_id!r} waits for the flow {'.'.join(target)}, which does not exist here"
            yield Problem("flow.trigger.flow.missing", message, Severity.WARNING, file)
