from __future__ import annotations

import pytest

from runner.errors import InvalidError
from runner.flows.edits import with_disabled, with_namespace

FLOW = """# our flow
id: hello   # a name
namespace: company.team

tasks:
  - {id: say, type: core.log.Log, message: "disabled: false"}
"""


def test_a_flow_is_switched_off_below_its_namespace_and_nothing_else_moves() -> None:
    changed = with_disabled(FLOW, disabled=True)

    assert changed == FLOW.replace("company.team\n", "company.team\ndisabled: true\n")


def test_a_flow_is_switched_on_where_it_says_that_it_is_off() -> None:
    off = FLOW.replace("\ntasks", "disabled : true   # until Monday\n\ntasks")

    assert with_disabled(off, disabled=False) == off.replace("disabled : true", "disabled : false")


def test_line_ends_of_windows_and_a_missing_last_one_stay() -> None:
    windows = with_disabled("tasks: []\r\nid: a\r\n", disabled=True)
    short = with_disabled("tasks: []\nid: a", disabled=True)

    assert windows == "tasks: []\r\nid: a\r\ndisabled: true\r\n"
    assert short == "tasks: []\nid: a\ndisabled: true\n"


def test_tests_that_follow_the_flow_stay_as_they_are() -> None:
    both = FLOW + "---\nid: check\nflowId: hello\ndisabled: false\ntestCases: []\n"

    assert with_disabled(both, disabled=True).endswith("disabled: false\ntestCases: []\n")


def test_another_namespace_takes_the_place_of_the_one_that_is_written() -> None:
    assert with_namespace(FLOW, "other") == FLOW.replace("company.team", "other")
    assert with_namespace("id: a\ntasks: []\n", "other") == "id: a\nnamespace: other\ntasks: []\n"


@pytest.mark.parametrize(
    "source",
    [
        "{id: a, namespace: b, tasks: []}",
        "id: >-\n  a\nnamespace: >-\n  b\ntasks: []\n",
        "id: a\ndisabled: &off true\nlabels: {off: *off}\n",
        "? id\n: a\n",
        "- id: a\n",
        "",
    ],
    ids=["flow style", "folded", "anchored", "explicit key", "list", "empty"],
)
def test_what_one_line_cannot_say_is_refused_instead_of_damaged(source: str) -> None:
    with pytest.raises(InvalidError) as caught:
        with_disabled(source, disabled=False)

    assert caught.value.code == "flow.edit.impossible"
