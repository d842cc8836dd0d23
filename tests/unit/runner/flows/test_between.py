"""Problems between the flows of an environment."""

from __future__ import annotations

from runner.errors import Severity
from runner.flows.check import LocatedFlow, check_flows
from runner.flows.outline import Outline
from runner.flows.parse import parse_flow


def _flow(name: str, *calls: str, file: str | None = None) -> LocatedFlow:
    tasks = "".join(
        f"  - {{id: call-{index}, type: core.flow.Subflow, namespace: company, flowId: '{call}'}}\n"
        for index, call in enumerate(calls)
    )
    source = f"id: {name}\nnamespace: company\ntasks:\n  - {{id: hi, type: core.log.Log, message: hi}}\n{tasks}"
    return LocatedFlow(Outline.of(parse_flow(source).require()), file or f"{name}.yaml")


def test_the_same_flow_in_two_files_is_an_error_that_names_both() -> None:
    problems = check_flows([_flow("a", file="x/a.yaml"), _flow("a", file="y/a.yaml")])

    assert [(problem.code, problem.file, problem.hint) for problem in problems] == [
        ("flow.id.duplicate", "y/a.yaml", "the other one is x/a.yaml")
    ]


def test_a_call_of_a_flow_that_is_not_there_is_a_warning() -> None:
    problems = check_flows([_flow("loader", "laoder2"), _flow("loader2")])

    assert [(problem.code, problem.severity, problem.hint) for problem in problems] == [
        ("flow.subflow.missing", Severity.WARNING, "did you mean 'company.loader2'?")
    ]


def test_known_flows_and_rendered_names_are_no_missing_targets() -> None:
    assert check_flows([_flow("a", "b", "{{ inputs.x }}")], known={("company", "b")}) == []


def test_each_circle_of_calls_is_an_error() -> None:
    problems = check_flows([_flow("a", "b"), _flow("b", "c"), _flow("c", "a"), _flow("d", "e"), _flow("e", "d")])

    assert [(problem.code, problem.message) for problem in problems] == [
        ("flow.subflow.cycle", "flows call one another in a circle: company.a, company.b, company.c"),
        ("flow.subflow.cycle", "flows call one another in a circle: company.d, company.e"),
    ]


def test_two_calls_of_one_flow_are_no_circle() -> None:
    assert check_flows([_flow("a", "b", "c"), _flow("b", "c"), _flow("c")]) == []


def test_a_chain_of_two_thousand_flows_is_searched_without_recursion() -> None:
    flows = [_flow(f"f{n}", *([f"f{n + 1}"] if n < 1999 else [])) for n in range(2000)]

    assert check_flows(flows) == []


def test_inputs_that_a_caller_gives_wrongly_or_not_at_all_are_warnings() -> None:
    called = parse_flow(
        "id: b\nnamespace: company\ninputs:\n  - {id: day, type: STRING}\n  - {id: n, type: INT, defaults: 1}\n"
        "tasks:\n  - {id: hi, type: core.log.Log, message: hi}\n"
    ).require()
    caller = parse_flow(
        "id: a\nnamespace: company\ntasks:\n"
        "  - {id: call, type: core.flow.Subflow, namespace: company, flowId: b, inputs: {dya: x, n: 2}}\n"
    ).require()

    problems = check_flows([LocatedFlow(Outline.of(called), "b.yaml"), LocatedFlow(Outline.of(caller), "a.yaml")])

    assert [(problem.code, problem.severity, problem.file) for problem in problems] == [
        ("flow.subflow.input.unknown", Severity.WARNING, "a.yaml"),
        ("flow.subflow.input.missing", Severity.WARNING, "a.yaml"),
    ]


def test_a_trigger_that_waits_for_a_flow_that_is_not_there_is_a_warning() -> None:
    listener = parse_flow(
        "id: a\nnamespace: company\ntasks:\n  - {id: hi, type: core.log.Log, message: hi}\ntriggers:\n"
        "  - id: after\n    type: core.trigger.Flow\n    conditions:\n"
        "      - {type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company, flowId: gone}\n"
    ).require()

    alone, together = (
        check_flows([LocatedFlow(Outline.of(listener), "a.yaml")], known) for known in ((), {("company", "gone")})
    )

    assert [(problem.code, problem.message) for problem in alone] == [
        ("flow.trigger.flow.missing", "trigger 'after' waits for the flow company.gone, which does not exist here")
    ]
    assert together == []
