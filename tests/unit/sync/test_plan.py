from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from runner.errors import Problem, Severity
from runner.flows.head import FlowHead
from runner.flows.models import Flow, Task, Trigger
from runner.flows.outline import Outline, Taken
from runner.store.records import ActiveFlow, Environment, Revision
from sync.layout import FlowPlace
from sync.plan import ChangeKind, Plan, plan_of
from sync.plan_making import make_plan
from sync.plan_text import active_line, held_lines, invalid_line, plan_lines, problem_lines
from sync.reviews.text import counts
from sync.sifting import Candidate, Facts, NewTree, Questions, owns

AT = datetime(2026, 11, 22, tzinfo=UTC)
PROD = Environment(name="prod", repository="hosted", active="a" * 40)
LENIENT = replace(PROD, on_invalid="quarantine")


def flow(key: str, *, triggers: int = 0) -> Flow:
    namespace, _, name = key.rpartition(".")
    schedules = tuple(Trigger(id=f"t{n}", type="core.trigger.Schedule") for n in range(triggers))
    return Flow(id=name, namespace=namespace, tasks=(Task(id="x", type="core.log.Log"),), triggers=schedules)


def version(key: str, blob: str = "b1", path: str | None = None) -> ActiveFlow:
    namespace, _, name = key.rpartition(".")
    return ActiveFlow(namespace, name, 1, blob, environment="prod", path=path or f"flows/{key}.yaml")


STAGED = version("team.a.one", path="next/one.yaml")._replace(environment="staging")


def plan(
    active: Sequence[ActiveFlow],
    files: dict[str, tuple[str, str]],
    *,
    broken: Sequence[str] = (),
    environment: Environment = PROD,
    owners: dict[tuple[str, str], ActiveFlow] | None = None,
    allowed: Sequence[tuple[str, str]] = (),
    fires: Callable[[Flow | FlowHead], Sequence[datetime]] | None = None,
    differences: Sequence[str] = ("tasks.x.message a -> b",),
    check: Callable[[Sequence[tuple[str, Facts]]], Sequence[Problem]] = lambda _flows: (),
) -> Plan:
    """Plan a tree given as path -> (flow key, blob)."""

    def parse(place: FlowPlace, blob: str) -> Candidate:
        if place.path in broken:
            problem = Problem("task.type.unknown", "no such type", file=place.path, line=3, column=5)
            return Candidate(place, blob, None, None, (problem,))
        found = flow(files[place.path][0])
        return Candidate(place, blob, FlowHead.of(found), "source", read=lambda: found)

    ask = Questions(
        parse=parse,
        flow_of=lambda v: flow(f"{v.namespace}.{v.flow_id}", triggers=2),
        facts_of=lambda v: Facts(Outline((v.namespace, v.flow_id), inputs=(Taken("old", is_demanded=False),))),
        facts=lambda candidate: Facts(Outline.of(candidate.flow)) if candidate.flow else None,
        compare=lambda _old, _new: differences,
        check=check,
        next_fires=fires or (lambda _flow: [AT]),
        owner=(owners or {}).get,
        likeness=lambda flow: flow.id.removeprefix("new-"),
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


@pytest.mark.parametrize("environment", [PROD, LENIENT])
def test_a_copy_of_a_flow_is_a_problem_in_the_copy(environment: Environment) -> None:
    files = {"flows/a.one-old.yaml": ("a.one", "b2"), "flows/a.one.yaml": ("a.one", "b3")}

    found = plan([version("a.one")], files, environment=environment)

    assert [(p.code, p.file) for p in found.problems] == [("flow.id.duplicate", "flows/a.one-old.yaml")]
    assert [(change.path, change.blob) for change in found.activated] == [("flows/a.one.yaml", "b3")]


def test_flows_of_another_owner_are_a_problem() -> None:
    files = {"flows/a.yaml": ("team.a.one", "b1"), "flows/b.yaml": ("team.b.two", "b2")}

    found = plan([], files, environment=replace(PROD, namespaces=("team.a",)), owners={("team.a", "one"): STAGED})

    assert [(p.code, p.message) for p in found.problems] == [
        ("flow.namespace.owned", "team.a.one belongs to environment staging, which has it in next/one.yaml"),
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


def test_a_change_of_schedules_tells_the_next_times_before_and_after() -> None:
    before, after = ([AT + timedelta(hours=hour) for hour in hours] for hours in ((6, 30, 54), (1, 2, 25)))
    times = iter([after, before])

    found = plan(
        [version("a.one")],
        {"flows/a.one.yaml": ("a.one", "b2")},
        fires=lambda _flow: next(times),
        differences=["triggers.t0.cron 0 6 * * * -> 0 1,2 * * *"],
    )

    [change] = found.changes
    assert change.note == (
        "runs next 2026-11-22 01:00 UTC, then 2026-11-22 02:00, 2026-11-23 01:00; "
        "before: 2026-11-22 06:00 UTC, then 2026-11-23 06:00, 2026-11-24 06:00"
    )
    assert change.as_json()["fires"]["before"][0] == "2026-11-22T06:00:00+00:00"
    assert plan_of(found.as_json()).changes[0].after == change.after


def test_times_that_differ_by_seconds_are_shown_with_them() -> None:
    found = plan([], {"flows/a.yaml": ("a.one", "b")}, fires=lambda _: [AT, AT + timedelta(seconds=5)])

    assert found.changes[0].note == "runs next 2026-11-22 00:00:00 UTC, then 2026-11-22 00:00:05"


def test_a_flow_that_comes_back_under_another_name_is_renamed_and_held_by_no_guard() -> None:
    found = plan([version("a.one")], {"flows/a.one.yaml": ("a.new-one", "b2")})

    assert kinds(found) == {"a.one": ChangeKind.REMOVED, "a.new-one": ChangeKind.RENAMED}
    assert plan_lines(found)[1:3] == [
        "  ~ a.new-one  renamed  from a.one; tasks.x.message a -> b; runs next 2026-11-22 00:00 UTC",
        "  - a.one      removed  renamed to a.new-one",
    ]
    assert found.held is None


def test_a_flow_that_is_renamed_counts_once_and_as_renamed() -> None:
    active = [version("a.one"), version("a.gone"), version("a.stays")]

    found = plan(active, {"flows/a.one.yaml": ("a.new-one", "b2"), "flows/a.stays.yaml": ("a.stays", "b1")})

    row = Revision("prod", "c" * 40, "ACTIVE", AT, changes=tuple(each.as_json() for each in found.changes))
    assert counts(found) == "1 renamed, 1 removed"
    assert counts(plan_of(found.as_json())) == counts(found)
    assert (len(row.changes), row.flows_changed) == (3, 2)


def test_in_quarantine_a_file_with_errors_costs_the_others_nothing() -> None:
    files = {"flows/a.one.yaml": ("a.one", "b2"), "flows/a.two.yaml": ("a.two", "b2"), "flows/n.yaml": ("a.n", "b3")}
    broken = ["flows/a.one.yaml", "flows/n.yaml"]

    found = plan([version("a.one"), version("a.two")], files, broken=broken, environment=LENIENT)

    assert kinds(found) == {"a.one": ChangeKind.QUARANTINED, "a.two": ChangeKind.CHANGED, ".n": ChangeKind.QUARANTINED}
    assert [change.note for change in found.quarantined] == ["is not active", "keeps its version of before"]
    assert (found.is_valid, found.is_whole, len(found.faults), found.errors) == (True, False, 2, ())
    assert [change.key for change in found.activated] == [("a", "two")]
    assert plan_of(found.as_json()).errors == ()


def test_a_broken_file_that_moved_keeps_its_flow_in_quarantine() -> None:
    found = plan(
        [version("a.one")], {"flows/x/one.yaml": ("a.one", "b2")}, broken=["flows/x/one.yaml"], environment=LENIENT
    )

    assert kinds(found) == {"a.one": ChangeKind.QUARANTINED}


def test_what_only_shows_between_flows_puts_the_changed_file_in_quarantine() -> None:
    files = {"flows/a.one.yaml": ("a.one", "b1"), "flows/a.two.yaml": ("a.two", "b2")}

    def circle(located: Sequence[tuple[str, Facts]]) -> Sequence[Problem]:
        is_new = any(path == "flows/a.two.yaml" and facts.outline.inputs == () for path, facts in located)
        return [Problem("flow.subflow.cycle", "a circle", file="flows/a.two.yaml")] if is_new else []

    found = plan([version("a.one"), version("a.two")], files, environment=LENIENT, check=circle)

    assert kinds(found) == {"a.two": ChangeKind.QUARANTINED}
    assert [problem.code for problem in found.faults] == ["flow.subflow.cycle"]
    assert found.is_valid


def test_what_is_wrong_with_no_flow_file_blocks_a_commit_in_spite_of_quarantine() -> None:
    problem = Problem("repository.settings.invalid", "unknown key", file=".mainstem.yaml")

    found = plan([], {}, environment=LENIENT, check=lambda _flows: [problem])

    assert found.errors == (problem,)


def test_a_flow_that_another_environment_owns_is_left_to_it_by_quarantine() -> None:
    found = plan([], {"flows/a.yaml": ("a.one", "b1")}, environment=LENIENT, owners={("a", "one"): STAGED})

    assert [(change.kind, change.note) for change in found.changes] == [(ChangeKind.QUARANTINED, "is not active")]
    assert found.activated == ()


def test_one_long_name_does_not_push_the_others_away() -> None:
    long = f"team.a.{'x' * 80}"

    lines = plan_lines(plan([], {"flows/1.yaml": ("team.a.one", "b"), "flows/2.yaml": (long, "b")}))

    assert any(line.startswith("  + team.a.one  new") for line in lines)
    assert any(line.startswith(f"  + {long}  new") for line in lines)
