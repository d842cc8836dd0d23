"""Whatever stands in a flow file, parsing it ends with a flow or with problems."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.flows.parse import parse_flow
from tests.rich_flow import RICH, changed, paths

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["x", "", "{{ inputs.x | }}", "{{ outputs.a.b }}", "PT5S", "PT", "core.log.Log", "core.flow.If"]),
    st.text(max_size=8),
)
_NAMES = (
    "id type namespace tasks triggers inputs outputs labels errors finally then else cases defaults retry timeout "
    "pluginDefaults values forced runner docker taskRunner conditions cron dependsOn task message condition "
    "value labels"
)
_TYPE_NAMES = (
    "core.log.Log core.flow.If core.flow.Dag core.flow.Switch core.flow.ForEach core.flow.WorkingDirectory "
    "core.trigger.Schedule core.trigger.Flow core.condition.Not scripts.shell.Commands core.runner.Process "
    "STRING"
)
_WORDS = st.sampled_from(_NAMES.split())
_TYPES = st.sampled_from(_TYPE_NAMES.split())
_VALUES = st.recursive(
    _SCALARS | _TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=20,
)
_FLOWS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("a") | _VALUES,
        "namespace": st.just("x") | _VALUES,
        "tasks": st.lists(
            st.fixed_dictionaries({"id": st.just("one") | _SCALARS, "type": _TYPES}) | _VALUES, max_size=3
        ),
        "triggers": _VALUES,
        "inputs": _VALUES,
        "labels": _VALUES,
        "pluginDefaults": _VALUES,
        "retry": _VALUES,
        "errors": _VALUES,
    },
)


@settings(max_examples=150, deadline=None)
@given(tree=_FLOWS, strict=st.booleans())
def test_any_tree_is_a_flow_or_has_problems(tree: dict[str, Any], *, strict: bool) -> None:
    parsed = parse_flow(yaml.safe_dump(tree, allow_unicode=True), file="any.yaml", strict=strict)

    assert parsed.flow is not None or parsed.problems
    assert all(problem.line and problem.column for problem in parsed.problems)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab:-[]{}'\"|>#&*!%@`\n\t ,?.<~1", max_size=60))
def test_any_text_is_a_flow_or_has_problems(text: str) -> None:
    parsed = parse_flow(text, file="any.yaml")

    assert parsed.flow is None
    assert parsed.problems


@pytest.mark.parametrize("new", ["gone", None, 5, "x", [], {}, [{}], {"x": 1}], ids=str)
def test_any_part_of_a_flow_may_be_missing_or_of_another_kind(new: Any) -> None:
    tree = yaml.safe_load(RICH)

    for path in paths(tree):
        parsed = parse_flow(changed(tree, path, new), file="rich.yaml")

        assert parsed.flow is not None or parsed.problems, path
        assert not any("cannot be read" in problem.message for problem in parsed.problems), path


def test_the_flow_whose_parts_are_changed_is_a_good_one() -> None:
    assert parse_flow(RICH).problems == ()
