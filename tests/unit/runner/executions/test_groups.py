"""Groups of workers: the queue of a task, and who serves it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.executions.groups import lists_of, lists_served, serves, wanted_of
from runner.flows.parse import parse_flow

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

    assert wanted_of(parsed.tasks[0], parsed) == expected


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
