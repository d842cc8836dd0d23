"""What deciding asks of the outside, answered for one burst of one execution."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.context import TaskContext
from runner.errors import FlowError, MainstemError, StoreError, TaskError
from runner.executions.items import Batch
from runner.executions.models import Execution
from runner.executions.outputs import MOST_BYTES, kept, restored
from runner.executions.outputs_view import LoadOutputs, OutputsView
from runner.executions.tree import Node, Tree
from runner.executions.variables import LazyVariables, build_variables
from runner.expressions import Scope, render, render_deep, render_typed, to_json
from runner.expressions.ion import from_ion
from runner.flows.inputs import cast_outputs, resolve_inputs
from runner.flows.models import Output
from runner.plugin import InstantTask, Outcome
from runner.policies import demand_groups_allowed, demand_task_allowed
from runner.services import Host
from runner.settings import expression_variables
from runner.states import State
from runner.storage.uris import execution_uri, task_uri
from runner.tasks.flow import Pause
from runner.triggers.conditions import ConditionContext, all_hold

BUDGET_S = 0.05  # a burst yields after this long, so that one execution cannot hold a thread

StartSubflow = Callable[[Tree, Node, "BurstActions", Batch | None], Execution]


class BurstActions:
    """The port `Actions` for one execution: renders, runs instant tasks, collects their logs."""

    def __init__(
        self,
        tree: Tree,
        host: Host,
        now: datetime,
        load_outputs: LoadOutputs,
        start_subflow: StartSubflow,
    ) -> None:
        self.now = now
        self.tree = tree
        self.host = host
        self.outputs = OutputsView(tree, lambda run_ids: restored(host.storage, load_outputs(run_ids)))
        self.shared = shared_variables(host, tree.execution)
        self._start_subflow = start_subflow
        self._own_host = self._own(host)
        self._services = self._own_host.expression_services(tree.flow, tree.execution)
        self._rows: dict[str, dict[str, Any]] = {}
        self.fault: StoreError | None = None
        self._deadline = host.monotonic() + BUDGET_S

    def _own(self, host: Host) -> Host:
        """Return the host as this burst has it.

        Expressions see what is decided and not committed yet. Logs and metrics are kept until the commit: a burst that
        loses its commit leaves none.
        """
        tree, stored = self.tree, host.error_logs_of
        return replace(
            host,
            runs_of=lambda _id: tree.rows(),
            error_logs_of=lambda id_: [*stored(id_), *(entry for entry in tree.logs if entry.level == "ERROR")],
            log=tree.logs.append,
            metric=tree.metrics.append,
        )

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Keep the error of a store that is away: what was decided without its answer must not be committed."""
        try:
            yield
        except StoreError as error:
            self.fault = error
            raise

    def new_id(self) -> str:
        """Return a fresh id."""
        return self.host.new_id()

    def fraction(self) -> float:
        """Return a random number in [0, 1)."""
        return self.host.fraction()

    def is_over_budget(self) -> bool:
        """Return whether the burst has taken its time."""
        return self.host.monotonic() > self._deadline

    def variables(self, node: Node | None) -> LazyVariables:
        """Return what the expressions of a run see."""
        return build_variables(self.tree, node, self.outputs, self.shared)

    def scope(self, node: Node | None) -> Scope:
        """Return the scope that templates of a run are rendered in."""
        return Scope(self.variables(node), self._services)

    def render(self, node: Node, template: Any) -> str:
        """Render a template as the task of `node` sees it."""
        if not isinstance(template, str):
            return str(template)
        with self._watched():
            return render(template, self.scope(node))

    def render_root(self, template: str) -> str:
        """Render a template as the execution itself sees it."""
        with self._watched():
            return render(template, self.scope(None))

    def render_typed(self, node: Node | None, template: str) -> Any:
        """Render a template to its native value."""
        with self._watched():
            return render_typed(template, self.scope(node))

    def render_deep(self, node: Node, value: Any) -> Any:
        """Render all strings inside a value."""
        with self._watched():
            return render_deep(value, self.scope(node))

    def resume_defaults(self, node: Node) -> dict[str, Any]:
        """Return the `onResume` inputs of a Pause that nobody gave: the defaults; those without one are left out."""
        assert isinstance(node.task, Pause)
        variables, encryption = self.variables(node), self.host.encryption
        with self._watched():
            return resolve_inputs(
                node.task.on_resume,
                {},
                render=lambda template, extra: render_typed(template, Scope(variables.plus(extra), self._services)),
                render_text=lambda template, extra: render(template, Scope(variables.plus(extra), self._services)),
                encrypt=encryption.seal if encryption else None,
                missing_allowed=True,
            )

    def demand_groups(self, tags: Sequence[str]) -> None:
        """Refuse worker groups that the flow may not use. Raises `MainstemError`."""
        rules = self.host.rules_of(self.tree.execution.environment)
        demand_groups_allowed(self.host.settings, rules, self.tree.flow.namespace, tags)

    def run_instant(self, node: Node) -> Outcome:
        """Run an instant task. What it raises becomes a failed outcome: one task must not stop the execution."""
        task = node.task
        assert isinstance(task, InstantTask)
        context = TaskContext(
            self._own_host, self.tree.flow, self.tree.execution, node.row, self.variables(node), task=task
        )
        try:
            with self._watched():
                rules = self.host.rules_of(self.tree.execution.environment)
                demand_task_allowed(rules, self.tree.flow.namespace, task.type)
                outcome = task.run(context)
            outputs = outcome.outputs if isinstance(outcome, Outcome) else outcome
            if outputs:
                self._rows[node.row.id] = kept(self.host.storage, self.tree.execution, node.row, outputs)
        except TaskError as error:
            context.log("ERROR", error.message)
            return Outcome(error.outputs, State.FAILED, error.message)
        except MainstemError as error:
            context.log("ERROR", error.message)
            return Outcome({}, State.FAILED, error.message)
        except Exception as error:  # noqa: BLE001 - the task boundary: a plugin may raise anything
            context.log("ERROR", f"{type(error).__name__}: {error}")
            return Outcome({}, State.FAILED, f"{type(error).__name__}: {error}")
        return outcome if isinstance(outcome, Outcome) else Outcome(outcome or {})

    def rows_of(self, outputs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return what the rows of the runs hold for their outputs: for large ones, where these are."""
        return {run_id: self._rows.get(run_id, values) for run_id, values in outputs.items()}

    def batches(self, node: Node) -> list[str]:
        """Return the addresses that the split beside `node` wrote to its list."""
        split = node.container.children["tasks"][0]
        with self.host.storage.open(self.outputs.of_run(split.row.id)["splits"]) as file:
            return file.read().decode().split()

    def start_subflow(self, node: Node, batch: Batch | None = None) -> Execution:
        """Return the execution that a Subflow task creates."""
        with self._watched():
            return self._start_subflow(self.tree, node, self, batch)

    def listener_holds(self, number: int) -> bool:
        """Return whether the conditions of a listener hold for the ended execution."""
        execution, scope = self.tree.execution, self.scope(None)

        def text(template: str, extra: Mapping[str, Any] | None = None, /) -> str:
            return render(template, Scope(self.variables(None).plus(extra or {}), scope.services))

        context = ConditionContext(
            render=text,
            namespace=execution.namespace,
            flow_id=execution.flow_id,
            state=execution.state,
            labels=execution.labels,
            outputs=execution.outputs,
        )
        with self._watched():
            return all_hold(self.tree.flow.listeners[number].conditions, context)

    def rows(self, _node: Node, uri: str) -> list[Any]:
        """Return the rows of a file in internal storage."""
        with self._watched():
            if self._services.file_size(uri) > MOST_BYTES:
                raise FlowError("loop.values.large", f"{uri} holds more than {MOST_BYTES:,} bytes of values")
            return list(from_ion(self._services.read_file(uri).decode("utf-8", "replace")))

    def stored_rows(self, node: Node, rows: list[Any]) -> str:
        """Write rows to a file of the task of `node`; return its address."""
        execution = self.tree.execution
        own = execution_uri(execution.namespace, execution.flow_id, execution.id)
        uri = task_uri(own, node.row.task_id, node.row.id, "outputs.jsonl")
        with self._watched():
            self.host.storage.put(uri, io.BytesIO("".join(f"{to_json(row)}\n" for row in rows).encode()))
        return uri

    def gather_outputs(self) -> None:
        """Read all outputs of the execution at once."""
        with self._watched():
            self.outputs.gather()

    def keep_outputs(self, node: Node, outputs: Mapping[str, Any]) -> None:
        """Take the last outputs of a container; large ones go to storage."""
        with self._watched():
            self._rows[node.row.id] = kept(self.host.storage, self.tree.execution, node.row, outputs)

    def flow_outputs(self) -> dict[str, Any]:
        """Render and cast the flow's outputs."""
        return self._declared(self.tree.flow.outputs, self.scope(None))

    def declared_outputs(self, node: Node, outputs: tuple[Output, ...]) -> dict[str, Any]:
        """Render and cast declared outputs as the task of `node` sees them."""
        return self._declared(outputs, self.scope(node))

    def _declared(self, outputs: tuple[Output, ...], scope: Scope) -> dict[str, Any]:
        with self._watched():
            rendered = {
                output.id: render_typed(output.value, scope)
                if isinstance(output.value, str)
                else render_deep(output.value, scope)
                for output in outputs
            }
        encryption = self.host.encryption
        return cast_outputs(outputs, rendered, encrypt=encryption.seal if encryption else None)


def shared_variables(host: Host, execution: Execution) -> dict[str, Callable[[], Any]]:
    """Return the providers of what does not come from the execution's rows."""

    def inputs() -> Any:
        if not execution.inputs:
            return {}
        if host.encryption is None:
            return execution.inputs
        return host.encryption.unseal(execution.inputs, host.masker.add)

    return {
        "inputs": inputs,
        "envs": lambda: expression_variables(host.environment),
        "globals": lambda: host.settings.globals,
        "kestra": lambda: {"environment": host.settings.environment_name, "url": host.settings.public_url},
    }
