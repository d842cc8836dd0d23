from __future__ import annotations

import pytest

from runner.rules import parse_rules
from sync.layout import Layout, dashboard_place, file_index, flow_place, is_namespace_file, layout_of, new_flow_path

FLOWS = Layout("flows")


@pytest.mark.parametrize(
    ("path", "root", "namespace"),
    [
        ("flows/report.yaml", "flows", None),
        ("flows/company.team/report.yml", "flows", "company.team"),
        ("flows/company/team/report.yaml", "flows", "company.team"),
        ("flows/company.team/flows/report.yaml", "flows", "company.team"),
        ("flows/_flows/company.team/report.yaml", "flows", "company.team"),
        ("_flows/company.team/report.yaml", "", "company.team"),
        ("flows/company.team/report.yaml", "", "company.team"),
        ("flows/flows/report.yaml", "flows", "flows"),
        ("envs/prod/flows/report.yaml", "envs/prod/flows", None),
    ],
)
def test_the_folders_of_a_flow_name_its_namespace(path: str, root: str, namespace: str | None) -> None:
    place = flow_place(path, Layout(root))

    assert place is not None
    assert place.namespace == namespace


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "other/report.yaml",
        "flowsx/report.yaml",
        "flows/team/files/data.yaml",
        "flows/team/_files/data.yaml",
        "flows/tests/report.yaml",
        "flows/company.team/tests/report.yaml",
        "flows/company/team/tests/nightly/report.yaml",
        "flows/.github/ci.yaml",
        "flows/team/script.py",
    ],
)
def test_other_files_are_no_flows(path: str) -> None:
    assert flow_place(path, FLOWS) is None


def test_a_file_belongs_to_the_nearest_folder_that_holds_flows() -> None:
    paths = [
        "flows/company.team/etl.yaml",
        "flows/company.team/scripts/clean.py",
        "flows/company.team/deep/other.yaml",
        "flows/company.team/deep/query.sql",
    ]

    index = file_index(paths, FLOWS, {})

    assert index == {
        "company.team": {"scripts/clean.py": "flows/company.team/scripts/clean.py"},
        "company.team.deep": {"query.sql": "flows/company.team/deep/query.sql"},
    }


def test_the_namespace_that_the_flows_state_wins_over_the_folder() -> None:
    paths = ["flows/report.yaml", "flows/clean.py", "flows/lib/x.py", "flows/tests/y.py"]

    index = file_index(paths, FLOWS, {"flows/report.yaml": "weather"})

    assert index == {"weather": {"clean.py": "flows/clean.py", "lib/x.py": "flows/lib/x.py"}}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (
            ["flows/company.team/flows/a.yaml", "flows/company.team/files/in/x.csv"],
            {"company.team": {"in/x.csv": "flows/company.team/files/in/x.csv"}},
        ),
        (["flows/_flows/a/b.yaml", "flows/_files/a/x.csv"], {"a": {"x.csv": "flows/_files/a/x.csv"}}),
        (["flows/team/_files/x.yaml"], {"team": {"x.yaml": "flows/team/_files/x.yaml"}}),
        (["flows/team/x.csv", "flows/top.csv"], {"team": {"x.csv": "flows/team/x.csv"}}),
        (["flows/team/a.yaml", "flows/team/tests/a.yaml", "flows/team/tests/x.csv"], {}),
        (["flows/team/_files/tests/x.csv"], {"team": {"tests/x.csv": "flows/team/_files/tests/x.csv"}}),
    ],
)
def test_the_layouts_of_kestra_are_detected(paths: list[str], expected: dict[str, dict[str, str]]) -> None:
    assert file_index(paths, FLOWS, {}) == expected


@pytest.mark.parametrize(
    ("path", "layout", "expected"),
    [
        ("flows/team/x.csv", FLOWS, True),
        ("flows/team/a.yaml", FLOWS, False),
        ("flows/team/_defaults.yaml", FLOWS, False),
        ("flows/team/_templates/a.yaml", FLOWS, False),
        ("flows/team/tests/a.yaml", FLOWS, False),
        ("flows/team/tests/data/x.csv", FLOWS, False),
        ("flows/team/_files/tests/x.csv", FLOWS, True),
        ("flows/team/_files/x.yaml", FLOWS, True),
        (".mainstem.yaml", Layout(""), False),
        ("data/tests/x.csv", Layout("flows", "data"), True),
        ("flows/x.csv", Layout("flows", "data"), False),
    ],
)
def test_what_tasks_may_read_is_no_flow_and_no_test_of_flows(path: str, layout: Layout, *, expected: bool) -> None:
    assert is_namespace_file(path, layout) is expected


@pytest.mark.parametrize(
    ("namespace", "layout", "expected"),
    [
        ("team", FLOWS, "flows/team/a.yaml"),
        ("tests", FLOWS, "flows/tests.a.yaml"),
        ("team.tests", FLOWS, "flows/team.tests/a.yaml"),
        ("tests", Layout(""), "tests.a.yaml"),
        ("files", FLOWS, "flows/files/a.yaml"),
    ],
)
def test_a_new_flow_goes_where_flows_are_read(namespace: str, layout: Layout, expected: str) -> None:
    path = new_flow_path(namespace, "a", layout)

    assert path == expected
    assert flow_place(path, layout)


@pytest.mark.parametrize("path", ["_dashboards/main.yaml", "_global/dashboards/main.yaml", "team/_dashboards/a/b.yml"])
def test_dashboards_of_kestra_are_neither_flows_nor_namespace_files(path: str) -> None:
    layout = Layout("")

    index = file_index([path, "_flows/team/a.yaml", "team/b.yaml"], layout, {})

    assert (flow_place(path, layout), is_namespace_file(path, layout), index) == (None, False, {})


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("_dashboards/a.yaml", "", (None,)),
        ("flows/_dashboards/deep/a.yml", "flows", (None,)),
        ("flows/_global/dashboards/a.yaml", "flows", (None,)),
        ("flows/team/_dashboards/a.yaml", "flows", ("team",)),
        ("flows/team/dashboards/a.yaml", "flows", None),
        ("flows/company/team/_dashboards/a.yaml", "flows", ("company.team",)),
        ("flows/_flows/team/_dashboards/a.yaml", "flows", ("team",)),
        ("flows/team/_dashboards/notes.md", "flows", None),
        ("flows/team/_dashboards/.draft/a.yaml", "flows", None),
        ("flows/dashboards/a.yaml", "flows", None),
        ("flows/_flows/dashboards/a.yaml", "flows", None),
        ("flows/team.dashboards/a.yaml", "flows", None),
        ("flows/team/_files/_dashboards/a.yaml", "flows", None),
        ("flows/team/tests/_dashboards/a.yaml", "flows", None),
        ("flows/_templates/_dashboards/a.yaml", "flows", None),
        ("flows/_global/flows/a.yaml", "flows", None),
        ("_dashboards/a.yaml", "flows", None),
    ],
)
def test_a_dashboard_is_yaml_in_a_folder_of_them_below_a_namespace(
    path: str, root: str, expected: tuple[str | None] | None
) -> None:
    place = dashboard_place(path, Layout(root))

    assert (place and (place.namespace,)) == expected


def test_a_folder_called_dashboards_is_a_namespace_and_one_with_a_line_before_it_is_none() -> None:
    paths = ["flows/team/dashboards/a.yaml", "flows/team/_dashboards/d.yaml", "flows/team/_dashboards/x.json"]

    place = flow_place(paths[0], Layout("flows"))

    assert (place and place.namespace) == "team.dashboards"
    assert [flow_place(path, Layout("flows")) for path in paths[1:]] == [None, None]
    assert [is_namespace_file(path, Layout("flows")) for path in paths] == [False, False, False]


def test_the_settings_of_a_repository_name_its_folders() -> None:
    layout = layout_of("flows/", parse_rules(b"{flows: pipelines, files: ./data}"))

    assert layout.roots() == ("pipelines", "data")
    assert file_index(["data/team/x/y.csv", "pipelines/team/a.py"], layout, {}) == {
        "team": {"x/y.csv": "data/team/x/y.csv"}
    }
