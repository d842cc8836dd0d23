"""Judges assertions against an ended execution, in the scope that its own expressions had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runner.errors import MainstemError, UndefinedError
from runner.executions.burst import BurstActions
from runner.executions.models import Loaded, LogEntry
from runner.executions.rest import StoredRuns
from runner.executions.tree import Tree
from runner.expressions import Scope, render, render_deep, render_typed
from runner.flowtests.assertions import NAMES, holds
from runner.flowtests.models import Assertion
from runner.flowtests.results import Finding
from runner.flowtests.suites import LocatedSuite
from runner.local import LocalEngine
from runner.services import Host


class Judge:
    """Evaluates the assertions of one execution."""

    def __init__(
        self, located: LocatedSuite, local: LocalEngine, host: Host, loaded: Loaded, logs: Sequence[LogEntry]
    ) -> None:
        execution, store = loaded.execution, local.engine.store
        index = local.engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        tree = Tree(index, loaded)
        outputs = StoredRuns(store, execution.id).outputs
        actions = BurstActions(tree, host, host.clock(), outputs, local.engine.start_subflow)
        self._located = located
        self._variables = actions.variables(None)
        self._services = host.expression_services(tree.flow, execution)
        self._mask = host.masker.mask
        self._loaded = loaded
        self._logs = logs

    def findings(self, assertion: Assertion) -> Iterator[Finding]:
        """Yield one finding for each operator that does not hold."""
        scope = Scope(self._variables.plus(self._extra(assertion.task_id)), self._services)
        mark = self._located.mark(assertion, "value")
        written = assertion.value if isinstance(assertion.value, str) else repr(assertion.value)
        base = Finding(mark.line, mark.column, written, note=self._note(assertion, scope))
        operators = [name for name in NAMES if name in assertion.model_fields_set]
        try:
            actual = _rendered(assertion.value, scope)
        except UndefinedError as error:
            if not {"is_null", "is_not_null"}.issuperset(operators):
                yield replace(base, operator=operators[0], expected=getattr(assertion, operators[0]), reason=str(error))
                return
            actual = None
        except MainstemError as error:
            yield replace(base, operator=operators[0], expected=getattr(assertion, operators[0]), reason=error.message)
            return
        for name in operators:
            for finding in self._judged(base, name, actual, getattr(assertion, name), scope):
                yield self._masked(finding)

    def _masked(self, finding: Finding) -> Finding:
        """Return a finding as reports may show it: without the secrets that its values hold."""
        reason = self._mask(finding.reason) if finding.reason else None
        return replace(
            finding,
            expected=_deep(finding.expected, self._mask),
            actual=_deep(finding.actual, self._mask),
            reason=reason,
        )

    def _judged(self, base: Finding, name: str, actual: Any, written: Any, scope: Scope) -> Iterator[Finding]:
        found = replace(base, operator=name, expected=written, actual=actual)
        try:
            expected = _rendered(written, scope)
            if not holds(name, actual, expected):
                yield replace(found, expected=expected)
        except MainstemError as error:
            yield replace(found, reason=error.message)
        except ValueError as error:
            yield replace(found, reason=f"{error}; it is {actual!r}")

    def _note(self, assertion: Assertion, scope: Scope) -> str | None:
        if assertion.error_message is None:
            return assertion.description
        try:
            return render(assertion.error_message, scope)
        except MainstemError:
            return assertion.error_message

    def _extra(self, task_id: str | None) -> Mapping[str, Any]:
        logs = [entry for entry in self._logs if task_id in {None, entry.task_id}]
        runs = [run for run in self._loaded.runs if run.task_id == task_id]
        state = self._loaded.execution.state if task_id is None else runs[-1].state if runs else None
        return {"logs": "\n".join(map(line, logs)), "state": state.value if state else None}


def _rendered(value: Any, scope: Scope) -> Any:
    """Return what a value of the test file stands for: the native value of one expression, text for anything mixed."""
    if not isinstance(value, str):
        return render_deep(value, scope)
    text = value.strip()
    is_one = text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1
    return render_typed(text, scope) if is_one else render(value, scope)


def _deep(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): _deep(item, change) for key, item in value.items()}
    return [_deep(item, change) for item in value] if isinstance(value, list | tuple) else value


def line(entry: LogEntry) -> str:
    """Return a log entry as reports and assertions see it: level, task, message."""
    return f"{entry.level} {entry.task_id or entry.flow_id}: {entry.message}"
