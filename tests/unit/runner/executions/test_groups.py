"""Groups of workers: the queue of a task, and who serves it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import TaskError
from runner.executions.groups import lists_of, lists_served, queue_of, serves
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.flows.worker_groups import wanted_by

FLOW = """\
id: work
namespace: team
{flow}
tasks:
  - id: body
    type: scripts.shell.Commands
    commands: ["true"]
    {task}
"""


@pytest.mark.parametrize(
    ("flow", "task", "expected"),
    [
        ("", "", ("tasks", "WAIT")),
        ("", "workerGroup: {key: gpu}", ("tasks.gpu", "WAIT")),
        ("", "workerGroup: {key: gpu, fallback: CANCEL}", ("tasks.gpu", "CANCEL")),
        ("workerGroup: {key: gpu}", "", ("tasks.gpu", "WAIT")),
        ("workerGroup: {key: gpu}", "workerGroup: {key: cpu, fallback: fail}", ("tasks.cpu", "FAIL")),
        ("", "workerSelector: {tags: [b, a]}", ("tasks.a+b", "FAIL")),
        ("", "workerSelector: {tags: [b, a], match: ANY, fallback: IGNORE}", ("tasks.a|b", "IGNORE")),
        ("", "workerSelector: {tags: []}", ("tasks", "FAIL")),
    ],
)
def test_the_task_asks_before_its_flow(flow: str, task: str, expected: tuple[str, str]) -> None:
    parsed = parse_flow(FLOW.format(flow=flow, task=task)).require()

    assert _queue(parsed) == expected


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("workerGroup: {key: a+b}", "'a+b' cannot be the name"),
        ("workerGroup: {key: a|b}", "'a|b' cannot be the name"),
        ("workerGroup: {key: '*'}", "'*' cannot be the name"),
        ("workerGroup: {key: '{{ flow.id }}'}", "cannot be the name"),
        ("workerGroup: {key: gpu/a}", "'gpu/a' cannot be the name"),
        ("workerGroup: {key: [a]}", "cannot be the name"),
        ("workerGroup: {kye: gpu}", "no property 'kye'"),
        ("workerGroup: {key: gpu, fallback: LATER}", "`workerGroup.fallback` is one of WAIT, FAIL, CANCEL, IGNORE"),
        ("workerSelector: {tags: gpu}", "`workerSelector.tags` is a list"),
        ("workerSelector: {tags: 5}", "`workerSelector.tags` is a list"),
        ("workerSelector: {tags: [a, 'b c']}", "'b c' cannot be the name"),
        ("workerSelector: {tags: [a], match: SOME}", "`workerSelector.match` is one of ALL, ANY"),
    ],
)
@pytest.mark.parametrize("is_of_flow", [False, True])
def test_workers_that_cannot_be_asked_for_are_a_problem_of_the_flow(task: str, said: str, *, is_of_flow: bool) -> None:
    source = FLOW.format(flow=task if is_of_flow else "", task="" if is_of_flow else task)

    (problem,) = parse_flow(source).problems

    assert (problem.code, said in problem.message) == ("task.workerGroup.invalid", True)
    assert problem.line == (3 if is_of_flow else 8)


def test_a_stored_flow_that_asks_so_is_refused_when_its_task_starts() -> None:
    flow = parse_flow(FLOW.format(flow="", task="")).require()
    task = flow.tasks[0].model_copy(update={"worker_group": {"key": "a|b"}})

    with pytest.raises(TaskError) as caught:
        wanted_by(task, flow)

    assert caught.value.code == "task.workerGroup.invalid"


def test_a_task_in_a_working_directory_selects_no_workers() -> None:
    inner = "{id: a, type: core.log.Log, message: x, workerSelector: {tags: [gpu]}}"
    source = f"id: f\nnamespace: n\ntasks: [{{id: d, type: core.flow.WorkingDirectory, tasks: [{inner}]}}]\n"

    problems = parse_flow(source).problems

    assert [problem.code for problem in problems] == ["task.workerGroup.invalid"]


def _queue(flow: Flow) -> tuple[str, str]:
    wanted = wanted_by(flow.tasks[0], flow)
    return queue_of(wanted.tags, any_of=wanted.any_of), wanted.fallback


@pytest.mark.parametrize(
    ("groups", "served"),
    [
        (None, {"tasks", "tasks.gpu", "tasks.a+b", "tasks.a|b"}),
        ((), {"tasks"}),
        (("gpu",), {"tasks.gpu"}),
        (("a",), {"tasks.a|b"}),
        (("a", "b"), {"tasks.a+b", "tasks.a|b"}),
    ],
)
def test_a_worker_serves_the_queues_of_its_groups(groups: Any, served: set[str]) -> None:
    queues = ("tasks", "tasks.gpu", "tasks.a+b", "tasks.a|b")

    assert {queue for queue in queues if serves(groups, queue)} == served


@pytest.mark.parametrize("groups", [(), ("gpu",), ("a", "b"), ("b",)])
@pytest.mark.parametrize("queue", ["tasks", "tasks.gpu", "tasks.a+b", "tasks.a|b"])
def test_a_queue_that_a_worker_serves_rings_a_list_that_it_reads(groups: tuple[str, ...], queue: str) -> None:
    is_reached = bool(set(lists_of(queue)) & lists_served(groups))

    assert is_reached or not serves(groups, queue)
