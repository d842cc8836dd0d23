from __future__ import annotations

from pathlib import Path

from runner.cli.files import placed

FILE = "kestra:///company/team/flow/executions/e1/tasks/t/r1"


def test_files_lie_below_their_task_and_value() -> None:
    outputs = {"uri": f"{FILE}/a.csv", "more": [{"x": f"{FILE}/b.csv"}], "text": "kestra is a bird", "n": 1}

    found = placed([("load", None, outputs), ("each", "Gentoo", {"uri": f"{FILE}/c.csv"})])

    assert found == {
        Path("load/a.csv"): f"{FILE}/a.csv",
        Path("load/b.csv"): f"{FILE}/b.csv",
        Path("each/Gentoo/c.csv"): f"{FILE}/c.csv",
    }


def test_a_name_that_stands_twice_gets_a_number() -> None:
    found = placed([("t", None, {"a": f"{FILE}/x/same", "b": f"{FILE}/y/same", "c": f"{FILE}/y/same"})])

    assert found == {Path("t/same"): f"{FILE}/x/same", Path("t/2-same"): f"{FILE}/y/same"}


def test_no_name_leads_out_of_its_folder() -> None:
    found = placed(
        [
            ("..", "../../etc", {"uri": f"{FILE}/x;y"}),
            ("t", "a/b", {"uri": f"{FILE}/...", "no": "kestra:///../executions/e/x"}),
        ]
    )

    assert [str(path) for path in found] == ["_/.._.._etc/x_y", "t/a_b/_"]
