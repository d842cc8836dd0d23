from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.commit_record import Author

BASE = "/api/v1/main/namespaces"
FLOW = "id: {0}\nnamespace: {1}\ntasks:\n  - {{id: say, type: core.log.Log, message: hi}}\n"


@pytest.fixture
def files_api(git_api: Any) -> Any:
    """A repository with two flows and files of a namespace."""
    sync = git_api.services.sync
    source = sync.repository("hosted")
    files = {
        "flows/company.team/a.yaml": FLOW.format("a", "company.team").encode(),
        "flows/other/b.yaml": FLOW.format("b", "other").encode(),
        "flows/company.team/_files/data/rows.csv": b"a,b\n1,2\n",
        "flows/company.team/_files/readme.txt": b"read me",
    }
    author = Author("somebody", "somebody@example.org")
    with source.repository.lock:
        commit = source.repository.commit_changes(None, files, author=author, message="files", at=datetime.now(UTC))
        assert source.push("refs/heads/main", None, commit)
    sync.reconcile_repository("hosted", actor="test")
    git_api.services.catalogue.invalidate()
    return git_api


def test_files_are_read_as_they_are_at_the_active_commit(files_api: Any) -> None:
    place = f"{BASE}/company.team/files"

    answer = files_api.get(f"{place}?path=/data/rows.csv")
    root = files_api.get(f"{place}/directory").json()
    inner = files_api.get(f"{place}/directory?path=/data").json()

    assert answer.content == b"a,b\n1,2\n"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert [(row["fileName"], row["type"], row["size"]) for row in root] == [
        ("data", "Directory", 0),
        ("readme.txt", "File", 7),
    ]
    assert [row["fileName"] for row in inner] == ["rows.csv"]
    assert files_api.get(f"{place}/stats?path=data").json()["type"] == "Directory"
    assert files_api.get(f"{place}/stats?path=readme.txt").json()["size"] == 7
    assert files_api.get(f"{place}/search?q=ROWS").json() == ["/data/rows.csv"]
    assert files_api.get(f"{BASE}/empty/files/directory").json() == []


def test_all_files_come_as_a_zip(files_api: Any) -> None:
    answer = files_api.get(f"{BASE}/company.team/files/export")

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["data/rows.csv", "readme.txt"]
        assert archive.read("readme.txt") == b"read me"


@pytest.mark.parametrize("path", ["nothing", "../company.team/a.yaml", "a.yaml", "%2Fetc%2Fpasswd", "data"])
def test_what_is_no_file_of_the_namespace_is_not_there(files_api: Any, path: str) -> None:
    assert files_api.get(f"{BASE}/company.team/files?path={path}").status_code == 404


def test_files_of_other_namespaces_are_refused(files_api: Any) -> None:
    answers = [
        files_api.get(f"{BASE}/company.team/files{place}", token="other").status_code
        for place in ("?path=readme.txt", "/directory", "/stats?path=a", "/search?q=a", "/export")
    ]

    assert answers == [403] * 5
    assert files_api.get(f"{BASE}/company.team/files").status_code == 400


def test_namespaces_are_listed_searched_and_shown(files_api: Any) -> None:
    rows = files_api.get(f"{BASE}/search?sort=id:desc").json()
    some = files_api.get(f"{BASE}/search?filters[q][EQUALS]=team").json()
    own = files_api.get(f"{BASE}/search", token="other").json()

    assert [row["id"] for row in rows["results"]] == ["other", "company.team"]
    assert [row["id"] for row in some["results"]] == ["company.team"]
    assert own["total"] == 1
    assert files_api.post(f"{BASE}/autocomplete", json={"q": "com"}).json() == ["company.team"]
    assert files_api.get(f"{BASE}/company").json()["id"] == "company"
    assert files_api.get(f"{BASE}/nobody").status_code == 404
