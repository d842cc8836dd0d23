"""Which workers a task or its flow asks for (`workerGroup`, `workerSelector`), and what is wrong with how. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from runner.errors import TaskError
from runner.flows.models import Flow, Task
from runner.flows.spelling import did_you_mean

Fallback = Literal["WAIT", "FAIL", "CANCEL", "IGNORE"]

INVALID: Final = "task.workerGroup.invalid"
_FALLBACKS: Final = get_args(Fallback)
_MATCHES: Final = ("ALL", "ANY")
TAG: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
"""What a group may be called. `+` and `|` part the tags of a queue, so that one that has them would ask for others; `*`
stands for all; and the broker takes no list of another name."""
_HINT: Final = "a group has up to 100 letters, digits, `.`, `_` and `-`; expressions are not rendered here"


class Wanted(NamedTuple):
    """What workers are asked for: those of all `tags`, or of any of them; and what happens while there are none."""

    tags: tuple[str, ...] = ()
    any_of: bool = False
    fallback: Fallback = "WAIT"


class Fault(NamedTuple):
    """Something wrong with the property at `within` of a task or flow."""

    within: tuple[str, ...]
    message: str
    hint: str | None = None


def is_tag(value: Any) -> bool:
    """Return whether a value can be the tag or the key of a group."""
    return isinstance(value, str) and re.fullmatch(TAG, value) is not None


def wanted_by(task: Task, flow: Flow) -> Wanted:
    """Return what a task asks for, or its flow when the task does not say.

    Raises:
        TaskError: `task.workerGroup.invalid`, for a flow that was stored before this was looked at.
    """
    for owner in (task, flow):
        if owner.worker_selector is None and owner.worker_group is None:
            continue
        for fault in faults_of(owner):
            raise TaskError(INVALID, fault.message, hint=fault.hint)
        return _selected(owner.worker_selector) if owner.worker_selector is not None else _keyed(owner.worker_group)
    return Wanted()


def _selected(selector: Mapping[str, Any]) -> Wanted:
    any_of = str(selector.get("match") or "ALL").upper() == "ANY"
    return Wanted(tuple(selector.get("tags") or ()), any_of, _fallback(selector, "FAIL"))


def _keyed(group: Mapping[str, Any] | None) -> Wanted:
    given = group or {}
    key = given.get("key")
    return Wanted((key,) if key else (), fallback=_fallback(given, "WAIT"))


def _fallback(owner: Mapping[str, Any], default: Fallback) -> Fallback:
    return cast("Fallback", str(owner.get("fallback") or default).upper())


def faults_of(owner: Task | Flow) -> Iterator[Fault]:
    """Yield what is wrong with the workers that a task or flow asks for itself."""
    if owner.worker_group is not None:
        key = owner.worker_group.get("key")
        yield from _unknown("workerGroup", owner.worker_group, ("key", "fallback"))
        yield from _bad_tag(("workerGroup", "key"), key) if key not in (None, "") else ()
    if owner.worker_selector is not None:
        yield from _unknown("workerSelector", owner.worker_selector, ("tags", "match", "fallback"))
        yield from _tags(owner.worker_selector.get("tags"))


def _unknown(name: str, given: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[Fault]:
    for key in given:
        if key not in known:
            yield Fault((name, str(key)), f"`{name}` has no property {key!r}", did_you_mean(str(key), known))
    for key, values in (("fallback", _FALLBACKS), ("match", _MATCHES)):
        value = given.get(key)
        if key in known and value is not None and str(value).upper() not in values:
            yield Fault((name, key), f"`{name}.{key}` is one of {', '.join(values)}, not {value!r}")


def _tags(tags: Any) -> Iterator[Fault]:
    if not isinstance(tags, list | tuple):
        if tags is not None:
            yield Fault(("workerSelector", "tags"), f"`workerSelector.tags` is a list, not {tags!r}")
        return
    for tag in tags:
        yield from _bad_tag(("workerSelector", "tags"), tag)


def _bad_tag(within: tuple[str, ...], tag: Any) -> Iterator[Fault]:
    if not is_tag(tag):
        yield Fault(within, f"{tag!r} cannot be the name of a worker group", _HINT)
