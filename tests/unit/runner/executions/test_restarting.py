"""Running ended executions again: what is kept, what begins anew, what is taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.errors import InvalidError
from runner.executions.restarting import copied, mark, replay, restart
from runner.executions.tree import Tree
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

WORK = "{id: %s, type: core.storage.Size, uri: x}"
OK = "{id: %s, type: core.debug.Return, format: '{{ task.id }}'}"


def again(it: Play, task: str) -> Play:
    """Replay from the newest run of a task."""
    run_id = it.run(task).id
    return it.change(lambda tree, now: replay(tree, run_id, now))


def run_of(it: Play, task: str, value: str) -> str:
    return next(run.id for run in it.runs if (run.task_id, run.value) == (task, value))


def test_a_restart_runs_the_failed_task_again_and_then_the_rest(play: Start) -> None:
    it = play(f"tasks: [{OK % 'a'}, {WORK % 'b'}, {OK % 'c'}]").fail("b")

    it.change(restart)

    assert (it.state, it.states) == (State.RESTARTED, ["a SUCCESS", "b RESTARTED"])
    assert it.history("b") == ["CREATED", "RUNNING", "FAILED", "RESTARTED"]
    assert it.execution.labels["system.restarted"] == "true"
    assert it.execution.attempt_number == 2
    assert it.advance().end("b").states == ["a SUCCESS", "b SUCCESS", "c SUCCESS"]
    assert it.history() == ["CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS"]


def test_a_restart_takes_out_what_the_failure_had_brought_about(play: Start) -> None:
    it = play(f"tasks: [{WORK % 'a'}]\nerrors: [{OK % 'e'}]\nfinally: [{OK % 'f'}]").fail("a")

    it.change(restart)

    assert it.states == ["a RESTARTED"]
    assert it.advance().end("a").states == ["a SUCCESS", "f SUCCESS"]


def test_a_restart_reopens_the_containers_around_the_failed_task_only(play: Start) -> None:
    inner = f"{{id: s, type: core.flow.Sequential, tasks: [{OK % 'x'}, {WORK % 'y'}]}}"
    it = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{OK % 'k'}, {inner}]}}]").fail("y")

    it.change(restart)

    assert it.states == ["p RUNNING", "k SUCCESS", "s RUNNING", "x SUCCESS", "y RESTARTED"]
    assert it.advance().end("y").state is State.SUCCESS


def test_a_loop_goes_on_after_the_value_that_failed(play: Start) -> None:
    it = play(f"tasks: [{{id: l, type: core.flow.ForEach, values: [u, v], tasks: [{WORK % 'a'}]}}]")
    it.end("a[u]").fail("a[v]")

    it.change(restart).advance().end("a[v]")

    assert it.states == ["l SUCCESS", "a[u] SUCCESS", "a[v] SUCCESS"]
    assert it.history("l").count("RUNNING") == 2


def test_a_working_directory_begins_anew_as_a_whole(play: Start) -> None:
    it = play(f"tasks: [{{id: w, type: core.flow.WorkingDirectory, tasks: [{WORK % 'a'}]}}]").fail("w")

    it.change(restart)

    assert it.states == ["w RESTARTED"]
    assert it.advance().states == ["w SUBMITTED"]


def test_an_execution_in_which_nothing_failed_cannot_be_restarted(play: Start) -> None:
    it = play(f"tasks: [{OK % 'a'}]")

    with pytest.raises(InvalidError, match="No task found to restart execution from!"):
        it.change(restart)


def test_a_restart_of_a_waiting_execution_lets_its_pause_go_on(play: Start) -> None:
    it = play(f"tasks: [{{id: p, type: core.flow.Pause}}, {OK % 'a'}]")

    it.change(restart).advance()

    assert it.states == ["p SUCCESS", "a SUCCESS"]


def test_a_replay_begins_with_a_task_and_forgets_what_came_after(play: Start) -> None:
    it = play(f"tasks: [{OK % 'a'}, {OK % 'b'}, {OK % 'c'}]\nfinally: [{OK % 'f'}]")

    again(it, "b")

    assert it.states == ["a SUCCESS", "b RESTARTED"]
    assert it.advance().states == ["a SUCCESS", "b SUCCESS", "c SUCCESS", "f SUCCESS"]


@pytest.mark.parametrize(
    ("container", "kept"),
    [
        ("type: core.flow.Sequential", ["c RUNNING", "x SUCCESS", "y RESTARTED"]),
        ("type: core.flow.Parallel", ["c RUNNING", "x SUCCESS", "y RESTARTED", "z SUCCESS"]),
    ],
)
def test_a_replay_keeps_the_tasks_that_ran_beside(play: Start, container: str, kept: list[str]) -> None:
    tasks = ", ".join(OK % name for name in "xyz")
    it = play(f"tasks: [{{id: c, {container}, tasks: [{tasks}]}}, {OK % 'end'}]")

    again(it, "y")

    assert it.states == kept
    assert it.advance().state is State.SUCCESS


def test_a_replay_in_a_dag_takes_out_what_depends_on_the_task(play: Start) -> None:
    members = [
        f"{{task: {OK % 'a'}}}",
        f"{{task: {OK % 'b'}, dependsOn: [a]}}",
        f"{{task: {OK % 'c'}, dependsOn: [b]}}",
        f"{{task: {OK % 'd'}}}",
    ]
    it = play(f"tasks: [{{id: g, type: core.flow.Dag, tasks: [{', '.join(members)}]}}]")

    again(it, "a")

    assert sorted(it.states) == ["a RESTARTED", "d SUCCESS", "g RUNNING"]
    assert sorted(it.advance().states) == ["a SUCCESS", "b SUCCESS", "c SUCCESS", "d SUCCESS", "g SUCCESS"]


def test_a_replay_of_one_of_several_values_at_a_time_keeps_the_others(play: Start) -> None:
    loop = f"{{id: l, type: core.flow.ForEach, values: [u, v], concurrencyLimit: 0, tasks: [{OK % 'a'}, {OK % 'b'}]}}"
    it = play(f"tasks: [{loop}]")

    again(it, "a[u]")

    assert sorted(it.states) == ["a[u] RESTARTED", "a[v] SUCCESS", "b[v] SUCCESS", "l RUNNING"]
    assert it.advance().states.count("b[u] SUCCESS") == 1


NESTED = f"""
tasks:
  - id: l
    type: core.flow.EachSequential
    value: [u, v]
    tasks:
      - {OK % "a"}
      - {{id: m, type: core.flow.EachSequential, value: [x, y], tasks: [{OK % "b"}, {OK % "c"}]}}
      - {OK % "d"}
  - {OK % "end"}
"""


def test_a_replay_in_a_loop_keeps_what_stands_before_the_task_for_later_values_too(play: Start) -> None:
    it = play(NESTED)

    it.change(lambda tree, now: replay(tree, run_of(it, "m", "u"), now))

    assert it.states == ["l RUNNING", "a[u] SUCCESS", "m[u] RUNNING", "a[v] SUCCESS"]
    assert sorted(it.advance().states) == sorted(play(NESTED).states)
    assert it.started[-2:] == ["d[v]", "end"]
    assert it.started.index("d[u]") < it.started.index("m[v]")


def test_a_replay_in_a_loop_inside_a_loop_turns_both_back(play: Start) -> None:
    it = play(NESTED)

    it.change(lambda tree, now: replay(tree, it.runs[3].id, now))

    assert it.states == ["l RUNNING", "a[u] SUCCESS", "m[u] RUNNING", "b[x] RESTARTED", "a[v] SUCCESS"]
    assert sorted(it.advance().states) == sorted(play(NESTED).states)


def test_a_replay_of_a_replay_keeps_the_values_before_it_whole(play: Start) -> None:
    it = play(NESTED)
    it.change(lambda tree, now: replay(tree, run_of(it, "m", "u"), now)).advance()

    it.change(lambda tree, now: replay(tree, run_of(it, "a", "v"), now))

    assert "d[u] SUCCESS" in it.states
    assert [state for state in it.states if "[v]" in state] == ["a[v] RESTARTED"]
    assert sorted(it.advance().states) == sorted(play(NESTED).states)


def test_values_wait_for_their_turn_in_a_loop_that_was_turned_back(play: Start) -> None:
    it = play(f"tasks: [{{id: l, type: core.flow.ForEach, values: [u, v], tasks: [{OK % 'a'}, {WORK % 'b'}]}}]")
    it.end("b[u]").end("b[v]")

    it.change(lambda tree, now: replay(tree, run_of(it, "b", "u"), now)).advance()

    assert it.open == ["l", "b[u]"]
    assert it.end("b[u]").open == ["l", "b[v]"]
    assert it.end("b[v]").state is State.SUCCESS


def test_a_replay_of_a_container_keeps_its_decision_and_runs_its_tasks_again(play: Start) -> None:
    chosen = f"{{id: i, type: core.flow.If, condition: 'true', then: [{OK % 'a'}], else: [{OK % 'b'}]}}"
    it = play(f"tasks: [{chosen}]")

    again(it, "i")

    assert it.states == ["i RUNNING"]
    assert it.advance().states == ["i SUCCESS", "a SUCCESS"]


def test_a_replay_from_an_unknown_run_is_refused(play: Start) -> None:
    it = play(f"tasks: [{OK % 'a'}]")

    with pytest.raises(InvalidError, match="No task found"):
        it.change(lambda tree, now: replay(tree, "nothing", now))


def test_a_run_that_is_marked_lets_the_flow_go_on_after_it(play: Start) -> None:
    it = play(f"tasks: [{WORK % 'a'}, {OK % 'b'}]\nerrors: [{OK % 'e'}]").fail("a")
    run_id = it.run("a").id

    it.change(lambda tree, now: mark(tree, run_id, State.SUCCESS, [], now)).advance()

    assert (it.state, it.states) == (State.SUCCESS, ["a SUCCESS", "b SUCCESS"])


def test_a_copy_has_the_same_tree_under_new_ids(play: Start) -> None:
    it = play(f"tasks: [{{id: s, type: core.flow.Sequential, tasks: [{OK % 'a'}]}}]")
    numbers = (f"new-{number}" for number in range(9))

    copy = copied(Tree(it.index, it.loaded), "other", numbers, [], it.outputs)

    assert [(run.id, run.parent_id, run.execution_id) for run in copy.runs] == [
        ("new-0", None, "other"),
        ("new-1", "new-0", "other"),
    ]
    assert copy.outputs == {"new-1": {"value": "a"}}
