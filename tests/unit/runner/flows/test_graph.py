"""Flows as graphs: whoever walks along the edges meets the tasks in the order in which they may run."""

from __future__ import annotations

import pytest

from runner.flows.graph import Graph, graph_of
from runner.flows.models import Flow
from runner.flows.parse import parse_flow


def flow(tasks: str, rest: str = "", flow_id: str = "main") -> Flow:
    found = parse_flow(f"id: {flow_id}\nnamespace: team\n{rest}tasks:\n{tasks}").require()
    assert isinstance(found, Flow)
    return found


def log(name: str) -> str:
    return f"{{id: {name}, type: core.log.Log, message: x}}"


def edges(graph: Graph) -> set[tuple[str, str, str, str | None]]:
    return {(edge.source, edge.target, edge.relation, edge.value) for edge in graph.edges}


def test_tasks_follow_one_another_from_the_start_to_the_end() -> None:
    graph = graph_of(flow(f"  - {log('a')}\n  - {log('b')}\n"))

    assert [(edge.source, edge.target) for edge in graph.edges] == [
        ("root:start", "root.a"),
        ("root.a", "root.b"),
        ("root.b", "root:end"),
    ]
    assert graph.flowables == []
    assert graph.clusters[0].nodes == ["root:start", "root:end", "root.a", "root.b"]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            "type: core.flow.Parallel\n    tasks: [{x}, {y}]",
            {("root.c", "root.c.x", "PARALLEL", None), ("root.c", "root.c.y", "PARALLEL", None)},
        ),
        (
            "type: core.flow.If\n    condition: 'true'\n    then: [{x}]\n    else: [{y}]",
            {("root.c", "root.c.x", "CHOICE", "then"), ("root.c", "root.c.y", "CHOICE", "else")},
        ),
        (
            "type: core.flow.Switch\n    value: a\n    cases: {{a: [{x}]}}\n    defaults: [{y}]",
            {("root.c", "root.c.x", "CHOICE", "a"), ("root.c", "root.c.y", "CHOICE", "defaults")},
        ),
        (
            "type: core.flow.ForEach\n    values: [1]\n    tasks: [{x}, {y}]",
            {("root.c", "root.c.x", "DYNAMIC", None), ("root.c.x", "root.c.y", "SEQUENTIAL", None)},
        ),
        (
            "type: core.flow.Sequential\n    tasks: [{x}]\n    errors: [{y}]",
            {("root.c", "root.c.x", "SEQUENTIAL", None), ("root.c", "root.c.y", "ERROR", None)},
        ),
        (
            "type: core.flow.Dag\n    tasks: [{{task: {x}}}, {{task: {y}, dependsOn: [x]}}]",
            {("root.c", "root.c.x", "PARALLEL", None), ("root.c.x", "root.c.y", "SEQUENTIAL", None)},
        ),
    ],
)
def test_a_container_is_a_cluster_with_ways_through_it(
    container: str, expected: set[tuple[str, str, str, str | None]]
) -> None:
    source = container.format(x=log("x"), y=log("y"))

    graph = graph_of(flow(f"  - id: c\n    {source}\n  - {log('z')}\n"))

    assert expected <= edges(graph)
    assert ("root.c:end", "root.z", "SEQUENTIAL", None) in edges(graph)
    assert {target for _, target, _, _ in edges(graph)} >= {"root.c.x", "root.c.y", "root.c:end", "root:end"}
    assert graph.flowables == ["root.c"]
    assert graph.clusters[1].parents == ("cluster_root",)


def test_errors_and_what_runs_at_last_are_branches_of_their_own() -> None:
    rest = f"errors: [{log('e')}]\nfinally: [{log('f')}]\nafterExecution: [{log('g')}]\n"

    graph = graph_of(flow(f"  - {log('a')}\n", rest))

    branches = {node.uid: node.branch for node in graph.nodes if node.branch}
    assert branches == {"root.e": "ERROR", "root.f": "FINALLY", "root.g": "AFTER_EXECUTION"}
    assert ("root:start", "root.e", "ERROR", None) in edges(graph)


def test_triggers_lead_to_the_start() -> None:
    graph = graph_of(flow(f"  - {log('a')}\n", "triggers: [{id: t, type: core.trigger.Webhook, key: abcdefgh}]\n"))

    assert ("triggers.t", "triggers:end", "SEQUENTIAL", None) in edges(graph)
    assert ("triggers:end", "root:start", "SEQUENTIAL", None) in edges(graph)


def test_a_called_flow_is_drawn_inside_the_task_that_calls_it() -> None:
    inner = flow(f"  - {log('a')}\n", flow_id="inner")
    outer = flow("  - {id: call, type: core.flow.Subflow, namespace: team, flowId: inner}\n")

    closed = graph_of(outer, ["root.other"], lambda _: inner)
    opened = graph_of(outer, ["root.call"], lambda _: inner)

    assert [node.kind for node in closed.nodes if node.uid == "root.call"] == ["SubflowGraphTask"]
    assert ("root.call", "root.call.a", "SEQUENTIAL", None) in edges(opened)
    assert graph_of(outer, ["root.call"]).edges == closed.edges


def test_every_node_is_named_once_and_lies_in_one_cluster() -> None:
    inner = f"{{id: b, type: core.flow.If, condition: 'true', then: [{log('start')}]}}"
    deep = f"  - {{id: a, type: core.flow.Parallel, tasks: [{inner}]}}\n"

    graph = graph_of(flow(deep))

    uids = [node.uid for node in graph.nodes]
    assert len(uids) == len(set(uids))
    assert sorted(uid for cluster in graph.clusters for uid in cluster.nodes) == sorted(uids)
    assert {uid for edge in graph.edges for uid in (edge.source, edge.target)} == set(uids)
