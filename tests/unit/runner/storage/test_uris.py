from __future__ import annotations

import pytest

from runner.errors import InvalidError
from runner.storage import uris

EXECUTION = "kestra:///company/team/my-flow/executions/abc/"


def test_addresses_follow_the_layout_of_kestra() -> None:
    execution = uris.execution_uri("company.team", "My_Flow", "abc")

    assert execution == EXECUTION
    assert uris.task_uri(execution, "Load_All", "run1", "out/a.txt") == f"{EXECUTION}tasks/load-all/run1/out/a.txt"
    assert uris.input_uri(execution, "data", "a.csv") == f"{EXECUTION}inputs/data/a.csv"
    assert uris.trigger_uri(execution, "hook", "body") == f"{EXECUTION}trigger/hook/body"
    assert uris.namespace_file_uri("company.team", "/sql/a.sql") == "kestra:///company/team/_files/sql/a.sql"


@pytest.mark.parametrize(
    ("name", "stored"),
    [("C:\\temp\\a.csv", "a.csv"), ("../../a.csv", "a.csv"), ("/etc/passwd", "passwd"), ("", "file")],
)
def test_of_the_name_of_an_input_file_only_the_last_part_counts(name: str, stored: str) -> None:
    assert uris.input_uri(EXECUTION, "data", name) == f"{EXECUTION}inputs/data/{stored}"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a\nb", "a\\b", "", ".."])
def test_a_task_cannot_name_a_file_outside_its_folder(name: str) -> None:
    with pytest.raises(InvalidError):
        uris.task_uri(EXECUTION, "t", "run", name)


def test_the_parts_of_an_address_can_be_read_back() -> None:
    assert uris.execution_of(f"{EXECUTION}tasks/t/r/a") == "abc"
    assert uris.execution_of("kestra:///company/_files/a") is None
    assert uris.namespace_file_of("kestra:///company/team/_files/a/b") == uris.NamespaceFile("company.team", "a/b")
    assert uris.namespace_file_of(f"{EXECUTION}tasks/t/r/a") is None


def test_addresses_are_found_in_the_text_of_a_script() -> None:
    text = f'open("{EXECUTION}inputs/d/a.txt"); cat {EXECUTION}inputs/d/a.txt.gz, see {EXECUTION}inputs/d/b.'

    found = uris.uris_in(text)

    assert found == [f"{EXECUTION}inputs/d/a.txt.gz", f"{EXECUTION}inputs/d/a.txt", f"{EXECUTION}inputs/d/b"]
