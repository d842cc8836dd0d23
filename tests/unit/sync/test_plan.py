from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runner.errors import Problem, Severity
from runner.flows.models import Flow, Task, Trigger
from runner.store.records import Environment, FlowVersion
from sync.layout import FlowPlace
from sync.plan import Candidate, ChangeKind, NewTree, Plan, Questions, make_plan, owns
from sync.plan_text import active_line, held_lines, invalid_line, plan_lines, problem_lines

AT = datetime(2026, 11, 22, tzinfo=UTC)
PROD = Environment(name="prod", repository="hosted", active="a" * 40)


def flow(key: str, *, triggers: int = 0) -> Flow:
    namespace, _, name = key.rpartition(".")
    schedules = tuple(Trigger(id=f"t{n}", type="core.trigger.Schedule") for n in range(triggers))
    return Flow(id=name, namespace=namespace, tasks=(Task(id="x", type="core.log.Log"),), triggers=schedules)


def version(key: str, blob: str = "b1", path: str | None = None) -> FlowVersion:
    namespace, _, name = key.rpartition(".")
    return FlowVersion(namespace, name, 1, blob, "", AT, environment="prod", path=path or f"flows/{key}.yaml")


def plan(
    active: Sequence[FlowVersion],
    files: dict[str, tuple[str, str]],
    *,
    broken: Sequence[str] = (),
    environment: Environment = PROD,
    owners: dict[tuple[str, str], str] | None = None,
    allowed: Sequence[tuple[str, str]] = (),
) -> Plan:
    """Plan a tree given as path -> (flow key, blob)."""

    def parse(place: FlowPlace, blob: str) -> Candidate:
        if place.path in broken:
            problem = Problem("task.type.unknown", "no such type", file=place.path, line=3, column=5)
            return Candidate(place, blob, None, None, (problem,))
        return Candidate(place, blob, flow(files[place.path][0]), "source")

    ask = Questions(
        parse=parse,
        flow_of=lambda v: flow(f"{v.namespace}.{v.flow_id}", triggers=2),
        compare=lambda _old, _new: ["tasks.x.message a -> b"],
        check=lambda _flows: [],
        next_fire=lambda _flow: AT,
        owner=(owners or {}).get,
    )
    new = NewTree("c" * 40, "t" * 40, {FlowPlace(path, None): blob for path, (_, blob) in files.items()})
    return make_plan(environment, active, new, ask, allowed_deletions=allowed)


def kinds(found: Plan) -> dict[str, ChangeKind]:
    return {f"{change.namespace}.{change.flow_id}": change.kind for change in found.changes}


def test_a_plan_tells_added_changed_moved_and_removed_flows_apart() -> None:
    active = [version("a.same"), version("a.changed"), version("a.moved"), version("a.gone")]
    files = {
        "flows/a.same.yaml": ("a.same", "b1"),
        "flows/a.changed.yaml": ("a.changed", "b2"),
        "flows/new/moved.yaml": ("a.moved", "b1"),
        "flows/a.new.yaml": ("a.new", "b3"),
    }

    found = plan(active, files)

    assert kinds(found) == {
        "a.changed": ChangeKind.CHANGED,
        "a.moved": ChangeKind.MOVED,
        "a.gone": ChangeKind.REMOVED,
        "a.new": ChangeKind.ADDED,
    }
    assert found.unchanged == 1
    assert found.is_valid
    assert found.held is None


def test_the_text_of_a_plan_has_a_sign_for_each_change() -> None:
    active = [version("a.same"), version("a.changed"), version("a.gone")]
    files = {
        "flows/a.same.yaml": ("a.same", "b1"),
        "flows/a.changed.yaml": ("a.changed", "b2"),
        "flows/a.new.yaml": ("a.new", "b3"),
    }

    lines = plan_lines(plan(active, files))

    assert lines == [
        "Mainstem plan for environment prod (main, flows/)",
        "  ~ a.changed  changed  tasks.x.message a -> b",
        "  - a.gone     removed  2 schedules stop",
        "  + a.new      new      runs next 2026-11-22 00:00 UTC",
        "  = 1 unchanged",
    ]


@pytest.mark.parametrize(
    ("before", "after", "held"),
    [
        (1, 0, "it deletes 1 flow and leaves none"),
        (9, 0, "it deletes 9 flows and leaves none"),
        (9, 1, None),
        (10, 7, None),
        (10, 6, "it deletes 4 of 10 flows, more than 30%"),
        (200, 150, None),
        (200, 149, "it deletes 51 flows, more than 50"),
        (0, 0, None),
    ],
)
def test_a_plan_that_deletes_much_is_held(before: int, after: int, held: str | None) -> None:
    active = [version(f"a.f{n}", f"blob{n}") for n in range(before)]
    files = {f"flows/a.f{n}.yaml": (f"a.f{n}", f"blob{n}") for n in range(after)}

    assert plan(active, files).held == held


def test_a_flow_whose_file_id_or_namespace_only_moved_is_no_deletion() -> None:
    active = [version("a.one", "b1"), version("a.two", "b2")]
    files = {"flows/x/one.yaml": ("b.one", "b9"), "flows/c/two.yaml": ("c.two", "b2")}

    found = plan(active, files)

    assert found.held is None
    assert len(found.removed) == 2


def test_deletions_that_were_asked_for_by_name_are_not_held() -> None:
    assert plan([version("a.one")], {}, allowed=[("a", "one")]).held is None


def test_a_file_with_errors_does_not_count_as_deleted() -> None:
    found = plan([version("a.one")], {"flows/a.one.yaml": ("a.one", "b2")}, broken=["flows/a.one.yaml"])

    assert not found.is_valid
    assert found.held is None
    assert found.removed == ()
    assert invalid_line(found) == "revision ccccccc not activated: 1 problem. aaaaaaa stays active."


def test_the_same_flow_in_two_files_is_a_problem_in_the_second() -> None:
    found = plan([], {"flows/a.yaml": ("a.one", "b1"), "flows/b.yaml": ("a.one", "b2")})

    assert [(p.code, p.file) for p in found.problems] == [("flow.id.duplicate", "flows/b.yaml")]


def test_flows_of_another_owner_are_a_problem() -> None:
    files = {"flows/a.yaml": ("team.a.one", "b1"), "flows/b.yaml": ("team.b.two", "b2")}

    found = plan([], files, environment=replace(PROD, namespaces=("team.a",)), owners={("team.a", "one"): "staging"})

    assert [(p.code, p.message) for p in found.problems] == [
        ("flow.namespace.owned", "team.a.one belongs to environment staging"),
        ("flow.namespace.foreign", "environment prod may not hold flows of namespace 'team.b'"),
    ]


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (("*",), "any", ""),
        (("a.b",), "a.b", "a.bc"),
        (("a.b",), "a.b.c", "a"),
        (("a.b.*",), "a.b.c", "a.bc"),
        (("x", "a"), "a", "y"),
        ((), "", "a"),
    ],
)
def test_an_environment_owns_namespaces_by_whole_segments(patterns: tuple[str, ...], inside: str, outside: str) -> None:
    environment = replace(PROD, namespaces=patterns)

    assert not inside or owns(environment, inside)
    assert not outside or not owns(environment, outside)


def test_the_lines_of_a_push_name_the_revision_and_the_command() -> None:
    found = replace(plan([version("a.one")], {}), base=None)

    assert held_lines(found)[1] == "allow it with: mainstem sync run --allow-deletes cccccccccccc"
    assert active_line(found, 0.0841) == "revision ccccccc active in 84 ms"


def test_problems_beyond_the_limit_are_counted() -> None:
    problems = [Problem("x.y", "m", severity=Severity.WARNING, file=f"f{n}") for n in range(25)]

    lines = problem_lines(problems, lambda problem: [str(problem.file)])

    assert len(lines) == 21
    assert lines[-1] == "and 5 more problems"
