"""Where flows are read from: folders, exports, repositories, servers."""

from __future__ import annotations

import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runner.errors import AccessError, MainstemError, NotFoundError
from sync.kestra.places import documents
from sync.kestra.server import Access
from tests.servers.git import git
from tests.servers.kestra import kestra_server

FLOWS = {("company", f"flow-{number}"): f"id: flow-{number}\nnamespace: company\ntasks: []\n" for number in range(3)}
NAMES = ["company.flow-0.yml", "company.flow-1.yml", "company.flow-2.yml"]


def _files(place: str | Path, **access: Any) -> list[str]:
    return [source.file for source in documents(str(place), Access(**access))]


def test_a_folder_is_read_without_what_lies_beside_flows(tmp_path: Path) -> None:
    for name in ("a.yml", "company/team/b.yaml", "company/_files/c.yaml", "company/tests/d.yaml", ".git/e.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id: x\n")

    found = {Path(source.file).name: source.namespace for source in documents(str(tmp_path), Access())}

    assert found == {"a.yml": None, "b.yaml": "company.team"}


def test_the_zip_of_an_export_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flows.zip", "w") as archive:
        for (namespace, name), source in FLOWS.items():
            archive.writestr(f"{namespace}.{name}.yml", source)
        archive.writestr("flows.csv", "id\n")

    assert _files(tmp_path / "flows.zip") == NAMES


@pytest.mark.parametrize("form", ["bare", "file", "http"])
def test_a_repository_is_read_at_the_head_a_branch_or_a_tag(
    tmp_path: Path, git_server: Any, work_tree: Any, form: str
) -> None:
    work_tree.write({"_flows/company/a.yml": "id: a\n", "README.md": "x", "company/_files/x.yaml": "y: 1\n"})
    served = git_server.repository("flows.git")
    work_tree.push(served)
    git(work_tree.path, "tag", "-a", "v1", "-m", "one")
    git(work_tree.path, "push", "-q", str(served), "v1")
    work_tree.write({"_flows/company/b.yml": "id: b\n"})
    work_tree.push(served)
    place = {"bare": str(served), "file": f"file://{served}", "http": f"{git_server.url}/flows.git"}[form]

    at_head = [(source.file, source.namespace) for source in documents(place, Access())]
    at_branch, at_tag = _files(place, ref="main"), _files(place, ref="v1")

    assert at_head == [("_flows/company/a.yml", "company"), ("_flows/company/b.yml", "company")]
    assert at_branch == ["_flows/company/a.yml", "_flows/company/b.yml"]
    assert at_tag == ["_flows/company/a.yml"]
    with pytest.raises(NotFoundError) as caught:
        _files(place, ref="refs/heads/gone")
    assert caught.value.code == "repository.ref.missing"


def test_an_address_without_git_in_its_name_is_asked_what_it_is(git_server: Any, work_tree: Any) -> None:
    work_tree.write({"a.yml": "id: a\n"})
    work_tree.push(git_server.repository("flows"))

    assert _files(f"{git_server.url}/flows") == ["a.yml"]


def test_a_server_gives_its_export() -> None:
    with kestra_server(FLOWS) as server:
        found = _files(f"{server.url}/ui/main/flows")

    assert found == NAMES
    assert server.asked[-1] == "/api/v1/main/flows/export/by-query"


def test_a_server_without_export_gives_its_flows_page_by_page() -> None:
    many = {("company", f"f{number:03}"): f"id: f{number:03}\nnamespace: company\n" for number in range(205)}
    with kestra_server(many, tenant="prod", has_export=False) as server:
        sources = list(documents(server.url, Access(tenant="prod")))

    assert [source.file for source in sources] == [f"company.f{number:03}.yml" for number in range(205)]
    assert sources[7].text == "id: f007\nnamespace: company\n"
    assert server.asked.count("/api/v1/prod/flows/search") == 3


@pytest.mark.parametrize("has_export", [True, False])
def test_a_server_of_before_tenants_is_understood(has_export: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    with kestra_server(FLOWS, tenant=None, has_export=has_export) as server:
        assert _files(server.url) == NAMES


def test_a_server_that_asks_who_is_there_gets_the_password() -> None:
    with kestra_server(FLOWS, login=("ann", "s3cret")) as server:
        with pytest.raises(AccessError) as caught:
            _files(server.url)
        found = _files(server.url, username="ann", password="s3cret")

    assert (caught.value.code, caught.value.exit_code) == ("kestra.access.denied", 4)
    assert found == NAMES


def test_a_server_of_something_else_is_named() -> None:
    with kestra_server(FLOWS, tenant="prod") as server, pytest.raises(MainstemError) as caught:
        _files(server.url)

    assert (caught.value.code, caught.value.exit_code) == ("kestra.server.unknown", 6)
    assert "--tenant" in (caught.value.hint or "")


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        with pytest.raises(MainstemError) as caught:
            _files(f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert (caught.value.code, caught.value.exit_code) == ("kestra.server.unreachable", 6)


def test_a_place_that_is_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        _files(tmp_path / "gone")

    assert (caught.value.code, caught.value.exit_code) == ("kestra.place.missing", 3)
