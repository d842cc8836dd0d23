"""The files of a folder: which are flows, which are tests of flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.working_copy import flow_files, flow_root, flows_below, flows_called, suite_files

FLOW = "id: a\ntasks:\n  - {id: one, type: core.log.Log, message: hi}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "top.yaml", "team/a.yaml", "team/flows/b.yml", "team/tests/a.yaml", "team/tests/deep/b.yml", "tests/c.yaml",
        "team/_files/tests/d.yaml", ".hidden/tests/e.yaml", "team/tests/data.csv",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FLOW)
    return tmp_path


def _names(root: Path, paths: list[Path]) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths)


def test_flows_stand_outside_of_tests_and_files(root: Path) -> None:
    found = dict(flow_files([root]))

    assert _names(root, list(found)) == ["team/a.yaml", "team/flows/b.yml", "top.yaml"]
    assert found[root / "team" / "flows" / "b.yml"] == "team"


def test_tests_stand_in_folders_of_that_name(root: Path) -> None:
    everything = list(suite_files([root]))
    inside = list(suite_files([root / "team" / "tests"]))

    assert _names(root, everything) == ["team/tests/a.yaml", "team/tests/deep/b.yml", "tests/c.yaml"]
    assert _names(root, inside) == ["team/tests/a.yaml", "team/tests/deep/b.yml"]
    assert list(suite_files([root / "team" / "a.yaml"])) == [root / "team" / "a.yaml"]


def test_the_flows_that_can_run_are_read(root: Path) -> None:
    (root / "team" / "bad.yaml").write_text("id: bad\n")

    flows = flows_below(root, but=root / "top.yaml")

    assert [(flow.namespace, flow.id) for flow, *_ in flows] == [("team", "a"), ("team", "a")]


def _calling(name: str, called: str) -> str:
    return (
        f"id: {name}\nnamespace: team\ntasks:\n  - id: go\n    type: core.flow.Subflow\n    namespace: team\n{called}"
    )


def test_a_flow_that_calls_none_costs_no_look_at_its_folder(tmp_path: Path) -> None:
    nowhere = tmp_path / "gone"

    assert flows_called(nowhere, nowhere / "top.yaml", FLOW) == []


@pytest.mark.parametrize(
    ("called", "found"),
    [
        ("    flowId: near\n", {"near", "far"}),
        ("    flowId: 'near'  # the next one\n", {"near", "far"}),
        ("  - {id: b, type: core.flow.Subflow, namespace: team, flowId: far}\n    flowId: far\n", {"far"}),
        ('    "flowId": "far"\n', {"far"}),
        ("    flowId: nobody\n", set()),
        ("    flowId: '{{ inputs.which }}'\n", {"near", "far", "other", "quoted"}),
        ("    flowId: >-\n      far\n", {"near", "far", "other", "quoted"}),
        ("    flowId: quoted\n", {"quoted"}),
        ("  - {flowId: quoted}\n  - [{id: b, flowId: far}, {flowId: near, id: c}]\n", {"quoted", "near", "far"}),
        ('    x: [{"flowId":"quoted"},{"flowId": "far"}]\n', {"quoted", "far"}),
        ("    ? flowId\n    : far\n", {"near", "far", "other", "quoted"}),
        ("    message: '{{ trigger.flowId }}'\n", set()),
    ],
)
def test_the_flows_that_a_flow_may_call_are_found_with_those_that_they_call(
    tmp_path: Path, called: str, found: set[str]
) -> None:
    top = tmp_path / "top.yaml"
    top.write_text(_calling("top", "    flowId: never\n"))
    (tmp_path / "near.yaml").write_text(_calling("near", "    flowId: far\n"))
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "far.yaml").write_text(_calling("far", "    flowId: far\n"))
    (tmp_path / "other.yml").write_text(FLOW.replace("id: a", "id: other\nnamespace: team"))
    (tmp_path / "quoted.yml").write_text(FLOW.replace("id: a", 'id: "quoted"\nnamespace: team'))
    (tmp_path / "data.yaml").write_text("rows: [1, 2]\n")
    (tmp_path / "odd.yaml").symlink_to("/proc/self/mem")  # a file that cannot be read, as one of somebody else

    flows = flows_called(tmp_path, top, _calling("top", called))

    assert {flow.id for flow, *_ in flows} == found


def test_the_id_of_a_flow_that_is_written_as_json_is_not_that_of_its_last_task(tmp_path: Path) -> None:
    task = '{"type": "core.log.Log",\n"message": "hi",\n"id": "log"\n}'
    (tmp_path / "json.yaml").write_text(f'{{\n"id": "json",\n"namespace": "team",\n"tasks": [{task}]}}\n')

    flows = flows_called(tmp_path, tmp_path / "top.yaml", "flowId: json\n")

    assert [flow.id for flow, *_ in flows] == ["json"]


@pytest.mark.parametrize(
    ("file", "namespace", "root"),
    [
        ("/r/flows/a.b/x.yaml", "a.b", "/r/flows"),
        ("/r/flows/a/b/x.yaml", "a.b", "/r/flows"),
        ("/r/a.b/flows/x.yaml", "a.b", "/r"),
        ("/r/other/x.yaml", "a.b", "/r/other"),
    ],
)
def test_the_root_is_above_the_folders_of_the_namespace(file: str, namespace: str, root: str) -> None:
    assert flow_root(Path(file), namespace) == Path(root)
