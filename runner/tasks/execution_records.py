"""Tasks on the executions that the server keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runner.context import engine_of, own_namespace, store_of, wide_namespace
from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.plugin import Context, Outputs, State, Task
from runner.states import TERMINAL
from runner.storage.uris import execution_uri
from runner.tasks.moments import moment

if TYPE_CHECKING:
    from runner.executions.models import Execution
    from runner.store import ExecutionQuery, Page, Store

_PAGE = 500


class Count(Task):
    """Count executions of flows, and give those flows for which `expression`, which sees `count`, is `true`.

    `flows` is a list of maps with `namespace` and `flowId`, `namespaces` a list of namespaces; `states`, `startDate`
    and `endDate` (by the time of creation) narrow it down. Outputs: `results`, a list of `namespace`, `flowId` and
    `count`, and `total`, the sum of these counts.
    """

    flows: Any = None
    namespaces: Any = None
    states: Any = None
    start_date: Any = None
    end_date: Any = None
    expression: Template

    def run(self, ctx: Context) -> Outputs:
        """Return the flows that the expression picks."""
        results = []
        for namespace, flow_id in self._places(ctx):
            count = self._count(ctx, namespace, flow_id)
            if ctx.with_variables(count=count).render(self.expression).strip() == "true":
                results.append({"namespace": namespace, "flowId": flow_id, "count": count})
        return {"results": results, "total": sum(result["count"] for result in results)}

    def _places(self, ctx: Context) -> list[tuple[str, str | None]]:
        flows = ctx.render_typed(self.flows) or []
        namespaces = ctx.render_typed(self.namespaces) or []
        if not flows and not namespaces:
            raise TaskError("execution.count.unclear", "You must provide a list of flows or namespaces")
        if not all(isinstance(flow, Mapping) for flow in flows):
            raise TaskError("execution.count.unclear", "`flows` must be a list of maps with `namespace` and `flowId`")
        named = [(own_namespace(ctx, str(flow.get("namespace") or "")), flow.get("flowId")) for flow in flows]
        return [*named, *((own_namespace(ctx, str(namespace)), None) for namespace in namespaces)]

    def _count(self, ctx: Context, namespace: str, flow_id: str | None) -> int:
        from runner.store import ExecutionQuery

        query = ExecutionQuery(
            namespace=namespace,
            exact=True,
            flow_id=flow_id,
            states=states_of(ctx.render_typed(self.states)),
            since=None if self.start_date is None else moment(ctx.render(self.start_date)),
            until=None if self.end_date is None else moment(ctx.render(self.end_date)),
            size=1,
        )
        return _search(ctx, query).total


class PurgeExecutions(Task):
    """Remove executions that have ended and were created before `endDate`.

    `namespace`, `flowId`, `states` and `startDate` narrow it down. The namespace is the flow's own, or all for a flow
    of `system`; those below it count too unless `flowId` is given. `purgeExecution`, `purgeLog` and `purgeStorage` say
    what goes; metrics go with the execution, whatever `purgeMetric` says. Outputs: `executionsCount`, `logsCount`,
    `storagesCount`.
    """

    namespace: Any = None
    flow_id: Any = None
    states: Any = None
    start_date: Any = None
    end_date: Any
    purge_execution: bool = True
    purge_log: bool = True
    purge_metric: bool = True
    purge_storage: bool = True

    def run(self, ctx: Context) -> Outputs:
        """Return how much went."""
        store = store_of(ctx)
        counts = {"executionsCount": 0, "logsCount": 0, "storagesCount": 0}
        for execution in list(self._ended(ctx)):
            asking = self._removed(store, execution.id)
            if asking is None:
                continue  # it was restarted since it was found, or its parent has yet to hear of its end
            counts["executionsCount"] += self.purge_execution
            if self.purge_log:
                counts["logsCount"] += store.logs.delete(execution.id)
            if self.purge_storage:
                folder = execution_uri(execution.namespace, execution.flow_id, execution.id)
                counts["storagesCount"] += ctx.storage.delete(folder)
            _answer(store, asking)
        return counts

    def _removed(self, store: Store, execution_id: str) -> list[int] | None:
        """Remove the rows of an execution, if that is wanted; None when it stays, as `Expiry.delete`.

        Rows go first: a crash then leaves no execution without its files, and retention removes what was to follow.
        """
        if not self.purge_execution:
            return []
        return store.write(lambda db: db.expiry.delete(execution_id, logs=self.purge_log, storage=self.purge_storage))

    def _ended(self, ctx: Context) -> Iterator[Execution]:
        from runner.store import ExecutionQuery

        wanted = states_of(ctx.render_typed(self.states)) or tuple(TERMINAL)
        ended = tuple(state for state in wanted if state in TERMINAL)
        page = 1
        while ended:
            query = ExecutionQuery(
                namespace=wide_namespace(ctx, ctx.render(self.namespace)),
                exact=self.flow_id is not None,
                flow_id=ctx.render(self.flow_id) or None,
                states=ended,
                since=None if self.start_date is None else moment(ctx.render(self.start_date)),
                until=moment(ctx.render(self.end_date)),
                page=page,
                size=_PAGE,
            )
            found = _search(ctx, query).items
            yield from (execution for execution in found if execution.id != ctx.execution.id)
            if len(found) < _PAGE:
                return
            page += 1


def _search(ctx: Context, query: ExecutionQuery) -> Page[Execution]:
    return store_of(ctx).read(lambda db: db.executions.search(query))


def _answer(store: Store, asking: list[int]) -> None:
    if asking:
        store.write(lambda db: db.outbox.delete(asking))


def states_of(names: Any) -> tuple[State, ...]:
    """Return the states that `names` (a list, a text, None) lists. Raises `TaskError` `execution.state.invalid`."""
    listed = [names] if isinstance(names, str) else list(names or ())
    unknown = [str(name) for name in listed if str(name).upper() not in State.__members__]
    if unknown:
        raise TaskError("execution.state.invalid", f"there is no state {unknown[0]!r}")
    return tuple(State[str(name).upper()] for name in listed)


class Resume(Task):
    """Let a paused execution go on, with the `inputs` that its pause asks for.

    It is the execution `executionId`, of a flow in this flow's namespace or below it.
    """

    execution_id: Template
    namespace: Any = None
    flow_id: Any = None
    inputs: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Resume it; there are no outputs."""
        execution = _addressed(ctx, self.execution_id)
        engine_of(ctx).resume(
            execution.id, ctx.render_typed(self.inputs) or {}, by=f"{ctx.flow.namespace}.{ctx.flow.id}"
        )
        return {}


class Kill(Task):
    """Kill an execution, this one unless `executionId` names another, and what it started.

    With `propagateKill: false` the executions that it started go on.
    """

    execution_id: Template = "{{ execution.id }}"
    propagate_kill: Any = True

    def run(self, ctx: Context) -> Outputs:
        """Kill it; there are no outputs."""
        execution = _addressed(ctx, self.execution_id)
        engine_of(ctx).kill(execution.id, cascade=is_truthy(ctx.render(self.propagate_kill)))
        return {}


def _addressed(ctx: Context, template: Template) -> Execution:
    """Return the execution that a task names. Raises `TaskError` when its namespace is not for this flow to touch."""
    execution = engine_of(ctx).get(ctx.render(template))
    own_namespace(ctx, execution.namespace)
    return execution
