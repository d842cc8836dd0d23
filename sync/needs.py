"""What the changed flows of a plan need that git does not hold: secrets, keys, and what others need of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from runner.errors import MainstemError, Problem, Severity
from runner.flows.dependents import wrong_inputs
from runner.flows.outline import FlowKey, Outline
from runner.key_values import lookup
from runner.plugin import KeyValues
from runner.secrets.base import Secrets
from runner.secrets.file import around
from runner.store.records import ActiveFlow
from sync.plan import Change, Plan
from sync.seeds import SeedingKind
from sync.sifting import Facts

log = logging.getLogger(__name__)

Holds = Callable[[str, str, str], bool | None]
"""`secret` or `kv`, a namespace, a key -> whether it is there, None when that cannot be said here."""

_CODES: Final = {"secret": "flow.secret.missing", "kv": "flow.kv.missing"}
_SENTENCES: Final = {
    "secret": "reads the secret {key!r}, which no backend of this server has for {namespace}",
    "kv": "reads the key {key!r}, which neither {namespace} nor a namespace around it has",
}


def unknown(_kind: str, _namespace: str, _key: str) -> bool | None:
    """Say nothing about secrets and keys: there is no server to ask, or whoever asks may not know."""
    return None


def is_known(secrets: Secrets, key_values: KeyValues, kind: str, namespace: str, key: str) -> bool | None:
    """Answer as `Holds` for a server: from the names that its backends list, and from its key-value store."""
    try:
        if kind == "kv":
            return lookup(key_values, namespace, key)[0]
        return key.upper() in (name.upper() for name in secrets.keys(namespace))
    except MainstemError as error:  # a backend that is away is no reason to plan nothing
        log.warning("a secret or key cannot be looked up: %s", error, extra={"code": error.code})
        return None


def beside_seeds(plan: Plan, holds: Holds) -> Holds:
    """Return `holds` as it will answer once the keys and secrets of a plan are there."""
    gone = {(each.what, each.namespace, each.key) for each in plan.seedings if each.kind is SeedingKind.REMOVED}

    def answer(kind: str, namespace: str, key: str) -> bool | None:
        if plan.seeds is not None and plan.seeds.has(kind, namespace, key):
            return True
        name = key.upper() if kind == "secret" else key
        removed = [place for place in around(namespace) if (kind, place, name) in gone]
        outside = removed[-1].rpartition(".")[0] if removed else namespace
        return holds(kind, outside, key) if outside else False

    return answer


def with_needs(plan: Plan, holds: Holds) -> Plan:
    """Return the plan with a warning for each secret and key that a changed flow names and that is not there.

    What `holds` cannot tell stands in `unchecked`. Only names are asked for, never values.
    """
    problems: list[Problem] = []
    unchecked: list[str] = []
    holds = beside_seeds(plan, holds)
    for change in plan.activated:
        for kind, namespace, key in _needs(change):
            is_there = holds(kind, namespace, key)
            if is_there is None:
                unchecked.append(f"{kind}('{key}') of {namespace}")
            elif not is_there:
                problems.append(_missing(change, kind, namespace, key))
    return plan.with_problems(problems, unchecked=(*plan.unchecked, *sorted(set(unchecked))))


def _needs(change: Change) -> Sequence[tuple[str, str, str]]:
    texts = (change.source or "", change.defaults or "")
    # Few flows read either, and reading all texts of a flow costs more than this look.
    if change.head is None or not any(f"{word}(" in text.replace(" ", "") for word in _CODES for text in texts):
        return ()
    from runner.flows.needs import needs_of

    flow = change.read()
    return needs_of(flow) if flow is not None else ()


def _missing(change: Change, kind: str, namespace: str, key: str) -> Problem:
    what = _SENTENCES[kind].format(key=key, namespace=namespace)
    message = f"{change.namespace}.{change.flow_id} {what}"
    line, column = _place(change.source or "", kind, key)
    return Problem(_CODES[kind], message, Severity.WARNING, change.path, line, column)


def _place(source: str, kind: str, key: str) -> tuple[int, int] | tuple[None, None]:
    """Return where the key is first read, line and column counted from 1; None twice when plugin defaults read it."""
    for number, text in enumerate(source.splitlines(), start=1):
        if kind in text and key in text:
            return number, text.index(kind) + 1
    return None, None


def with_outsiders(plan: Plan, others: Sequence[ActiveFlow], facts_of: Callable[[ActiveFlow], Facts | None]) -> Plan:
    """Return the plan with a warning for each flow of another environment that loses what it calls or waits for.

    `others` are the active flows of the other environments; the facts of them are asked for only when something is
    taken away.
    """
    arriving = {change.key for change in plan.activated}
    gone = {change.key for change in plan.removed} - arriving
    changed = {
        change.key: Outline.of(flow)
        for change in plan.activated
        if any("inputs." in line for line in change.diff) and (flow := change.read()) is not None
    }
    if not gone and not changed:
        return plan
    found = [
        replace(problem, code="flow.dependent.broken", message=f"{_name(row)}: {problem.message}")
        for row in others
        if (facts := facts_of(row)) is not None
        for problem in _broken(facts.outline, gone, changed.get)
    ]
    return plan.with_problems(found)


def _broken(flow: Outline, gone: set[FlowKey], changed: Callable[[FlowKey], Outline | None]) -> Iterator[Problem]:
    lost = [(f"task {task!r} calls", key) for task, key, _ in flow.calls if key in gone]
    lost += [(f"trigger {trigger!r} waits for", key) for trigger, key in flow.awaits if key in gone]
    for what, key in lost:
        message = f"{what} the flow {'.'.join(key)}, which is removed"
        yield Problem("flow.dependent.broken", message, Severity.WARNING)
    yield from wrong_inputs(flow.calls, changed, None)


def _name(row: ActiveFlow) -> str:
    return f"{row.namespace}.{row.flow_id} of environment {row.environment}"
