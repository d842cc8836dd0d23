"""A flow as a graph: its tasks as nodes, what comes after what as edges, and containers as clusters. Pure.

A uid is made of the ids of a task and of those around it, `root.outer.inner`. The start and the end of a cluster have a
colon in theirs, which no id of a task has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from runner.flows.models import Flow, Task, Trigger
from runner.tasks.flow import Dag, EachParallel, EachSequential, ForEach, If, LoopUntil, Parallel, Subflow, Switch
from runner.tasks.for_each_item import ForEachItem

ROOT: Final = "root"
TRIGGERS: Final = "triggers"
_SIDES: Final = {"errors": "ERROR", "finally": "FINALLY", "afterExecution": "AFTER_EXECUTION"}
_MOST_SUBFLOWS: Final = 100

FlowOf = Callable[[Subflow | ForEachItem], Flow | None]


@dataclass(frozen=True, slots=True)
class Node:
    """A task, a trigger, or the start or end of a cluster. `branch` is ERROR, FINALLY or AFTER_EXECUTION, if any."""

    uid: str
    kind: str
    branch: str | None = None
    task: Task | Trigger | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the keys `uid type branchType`, and `task` or `triggerDeclaration`."""
        shown: dict[str, Any] = {"uid": self.uid, "type": self.kind, "branchType": self.branch}
        if self.task is not None:
            name = "task" if isinstance(self.task, Task) else "triggerDeclaration"
            described = {"id": self.task.id, "type": self.task.type, "disabled": self.task.disabled}
            shown[name] = {**described, "description": self.task.description}
        return shown


@dataclass(frozen=True, slots=True)
class Edge:
    """What comes after what; `value` is the branch that a choice takes."""

    source: str
    target: str
    relation: str = "SEQUENTIAL"
    value: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the keys `source target relation`."""
        return {
            "source": self.source,
            "target": self.target,
            "relation": {"relationType": self.relation, "value": self.value},
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes of a container, without those of containers inside it; `parents` are around it, the outermost first."""

    uid: str
    kind: str
    parents: tuple[str, ...]
    start: str
    end: str
    nodes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the keys `cluster nodes parents start end`."""
        return {
            "cluster": {"uid": self.uid, "type": self.kind},
            "nodes": self.nodes,
            "parents": list(self.parents),
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a flow. `flowables` are the uids of the tasks that hold others."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)
    flowables: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the keys `nodes edges clusters flowables`."""
        return {
            "nodes": [node.as_json() for node in self.nodes],
            "edges": [edge.as_json() for edge in self.edges],
            "clusters": [cluster.as_json() for cluster in self.clusters],
            "flowables": self.flowables,
        }


def graph_of(flow: Flow, opened: Collection[str] = (), flow_of: FlowOf = lambda _task: None) -> Graph:
    """Return the graph of a flow.

    Args:
        flow: the flow.
        opened: uids of tasks that call a flow, which is drawn inside them.
        flow_of: gives the flow that such a task calls; None when it is not there.
    """
    graph = Graph()
    _Drawing(graph, frozenset(opened), flow_of).flow(flow)
    return graph


class _Drawing:
    def __init__(self, graph: Graph, opened: frozenset[str], flow_of: FlowOf) -> None:
        self._graph = graph
        self._opened = opened
        self._flow_of = flow_of
        self._subflows = 0

    def flow(self, flow: Flow) -> None:
        root = self._cluster(ROOT, "GraphCluster", ())
        self._lists(flow, root, ROOT, root.start)
        if flow.triggers:
            cluster = self._cluster(TRIGGERS, "GraphCluster", ())
            for trigger in flow.triggers:
                uid = self._node(f"{TRIGGERS}.{trigger.id}", "GraphTrigger", cluster, None, trigger)
                self._edge(cluster.start, uid)
                self._edge(uid, cluster.end)
            self._edge(cluster.end, root.start)

    def _lists(self, flow: Flow, cluster: Cluster, prefix: str, start: str) -> None:
        self._sequence(flow.tasks, cluster, prefix, None, Edge(start, cluster.end))
        sides = (("errors", flow.errors), ("finally", flow.finally_), ("afterExecution", flow.after_execution))
        for name, tasks in sides:
            self._side(name, tasks, cluster, prefix, start)

    def _side(self, name: str, tasks: Iterable[Task], cluster: Cluster, prefix: str, start: str) -> None:
        tasks = tuple(tasks)
        if tasks:
            self._sequence(tasks, cluster, prefix, _SIDES[name], Edge(start, cluster.end, _SIDES[name]))

    def _cluster(self, uid: str, kind: str, parents: tuple[str, ...], branch: str | None = None) -> Cluster:
        cluster = Cluster(f"cluster_{uid}", kind, parents, f"{uid}:start", f"{uid}:end")
        self._graph.clusters.append(cluster)
        self._node(cluster.start, "GraphClusterRoot", cluster, branch)
        self._node(cluster.end, "GraphClusterEnd", cluster, branch)
        return cluster

    def _node(
        self, uid: str, kind: str, cluster: Cluster, branch: str | None, task: Task | Trigger | None = None
    ) -> str:
        self._graph.nodes.append(Node(uid, kind, branch, task))
        cluster.nodes.append(uid)
        return uid

    def _edge(self, source: str, target: str, relation: str = "SEQUENTIAL", value: str | None = None) -> None:
        self._graph.edges.append(Edge(source, target, relation, value))

    def _sequence(self, tasks: Iterable[Task], cluster: Cluster, prefix: str, branch: str | None, way: Edge) -> None:
        """Draw tasks one after the other, from the source of `way` to its target; its relation leads to the first."""
        before, relation, value = way.source, way.relation, way.value
        for task in tasks:
            enter, leave = self._task(task, cluster, prefix, branch)
            self._edge(before, enter, relation, value)
            before, relation, value = leave, "SEQUENTIAL", None
        self._edge(before, way.target, relation, value)

    def _task(self, task: Task, around: Cluster, prefix: str, branch: str | None) -> tuple[str, str]:
        """Draw a task with all that is in it; return the uids where one comes in and goes out."""
        uid = f"{prefix}.{task.id}"
        lists = [(name, tasks) for name, tasks in task.branches() if tasks]
        called = self._called(task, uid)
        if not lists and called is None and not isinstance(task, ForEachItem):
            kind = "SubflowGraphTask" if isinstance(task, Subflow) else "GraphTask"
            return (self._node(uid, kind, around, branch, task),) * 2
        parents = (*around.parents, around.uid)
        cluster = self._cluster(uid, "SubflowGraphCluster" if called else "GraphCluster", parents, branch)
        self._node(uid, "GraphTask", cluster, branch, task)
        self._graph.flowables.append(uid)
        self._edge(cluster.start, uid)
        if called is not None:
            self._lists(called, cluster, uid, uid)
        else:
            self._main(task, cluster, uid, branch)
            for name, tasks in lists:
                if name in _SIDES:
                    self._side(name, tasks, cluster, uid, uid)
        return cluster.start, cluster.end

    def _called(self, task: Task, uid: str) -> Flow | None:
        if uid not in self._opened or not isinstance(task, Subflow | ForEachItem) or self._subflows >= _MOST_SUBFLOWS:
            return None
        self._subflows += 1
        return self._flow_of(task)

    def _main(self, task: Task, cluster: Cluster, uid: str, branch: str | None) -> None:
        """Draw the lists of a container other than `errors` and `finally`."""
        if isinstance(task, Dag):
            self._dag(task, cluster, uid, branch)
            return
        main = [(name, tasks) for name, tasks in task.branches() if name not in _SIDES]
        if isinstance(task, Parallel | EachParallel):
            children = [child for _, tasks in main for child in tasks]
            for child in children:
                self._sequence([child], cluster, uid, branch, Edge(uid, cluster.end, "PARALLEL"))
            return
        is_loop = isinstance(task, ForEach | EachSequential | LoopUntil)
        for name, tasks in main:
            if isinstance(task, If | Switch):
                way = Edge(uid, cluster.end, "CHOICE", name.removeprefix("case:"))
            else:
                way = Edge(uid, cluster.end, "DYNAMIC" if is_loop else "SEQUENTIAL")
            self._sequence(tasks, cluster, uid, branch, way)

    def _dag(self, dag: Dag, cluster: Cluster, uid: str, branch: str | None) -> None:
        places = {each.task.id: self._task(each.task, cluster, uid, branch) for each in dag.tasks}
        needed = {name for each in dag.tasks for name in each.depends_on}
        for each in dag.tasks:
            enter, leave = places[each.task.id]
            before = [places[name][1] for name in each.depends_on if name in places]
            for source in before or [uid]:
                self._edge(source, enter, "SEQUENTIAL" if before else "PARALLEL")
            if each.task.id not in needed:
                self._edge(leave, cluster.end)
