"""Files of namespaces, written as commits to a hosted repository and read at the commit that is active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PLACE = "/api/v1/main/namespaces/company.team/files"
FLOW = """id: hello
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: hello}
"""


@pytest.fixture
def team(git_api: Any) -> Any:
    """A namespace with one flow."""
    assert git_api.post("/api/v1/main/flows", content=FLOW).status_code == 200
    return git_api


@pytest.fixture
def put(team: Any) -> Callable[[str, bytes], int]:
    def write(path: str, content: bytes) -> int:
        answer = team.post(f"{PLACE}?path={path}", files={"fileContent": ("file", content)})
        return int(answer.status_code)

    return write


def test_a_file_is_written_read_moved_and_deleted(team: Any, put: Callable[[str, bytes], int]) -> None:
    written = [put("/sql/a.sql", b"select 1"), put("/sql/b.sql", b"select 2")]

    moved = team.put(f"{PLACE}?from=sql/a.sql&to=/queries/first.sql").status_code
    read = team.get(f"{PLACE}?path=queries/first.sql").content
    listed = team.get(f"{PLACE}/search?q=sql").json()
    deleted = team.delete(f"{PLACE}?path=sql").status_code

    assert (written, moved, deleted) == ([200, 200], 200, 200)
    assert read == b"select 1"
    assert listed == ["/queries/first.sql", "/sql/b.sql"]
    assert team.get(f"{PLACE}/search?q=sql").json() == ["/queries/first.sql"]


def test_each_commit_that_changes_a_file_is_a_revision_of_it(team: Any, put: Callable[[str, bytes], int]) -> None:
    for content in (b"one", b"two", b"two", b"three"):
        put("notes.txt", content)

    revisions = team.get(f"{PLACE}/revisions?path=notes.txt").json()

    assert [row["revision"] for row in revisions] == [1, 2, 3]
    assert team.get(f"{PLACE}?path=notes.txt&revision=2").content == b"two"
    assert team.get(f"{PLACE}?path=notes.txt&revision=4").status_code == 404
    assert team.get(f"{PLACE}/revisions?path=other.txt").status_code == 404


def test_a_folder_is_kept_although_it_is_empty(team: Any) -> None:
    made = team.post(f"{PLACE}/directory?path=/empty").status_code

    rows = team.get(f"{PLACE}/directory").json()

    assert made == 200
    assert [(row["fileName"], row["type"]) for row in rows] == [("empty", "Directory")]
    assert team.post(f"{PLACE}/directory").status_code == 200


def test_an_empty_body_is_an_empty_file(team: Any) -> None:
    assert team.post(f"{PLACE}?path=empty.txt").status_code == 200
    assert team.get(f"{PLACE}?path=empty.txt").content == b""


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "a//b", ".git/config", "a/.GIT/x", "a%0Ab", "a%5Cb", "%00", "x" * 600]
)
def test_a_path_that_leads_elsewhere_is_refused(team: Any, put: Callable[[str, bytes], int], path: str) -> None:
    put("safe.txt", b"safe")
    before = team.services.store.read(lambda db: db.environments.all())[0].active

    statuses = [
        put(path, b"x"),
        team.put(f"{PLACE}?from=safe.txt&to={path}").status_code,
        team.delete(f"{PLACE}?path={path}").status_code,
        team.post(f"{PLACE}/directory?path={path}").status_code,
    ]

    assert statuses == [422] * 4
    assert team.services.store.read(lambda db: db.environments.all())[0].active == before


def test_what_is_not_there_or_in_the_way_is_told(team: Any, put: Callable[[str, bytes], int]) -> None:
    put("a.txt", b"a")
    put("b.txt", b"b")

    onto = team.put(f"{PLACE}?from=a.txt&to=b.txt")
    nothing = team.put(f"{PLACE}?from=c.txt&to=d.txt")

    assert (onto.status_code, onto.json()["code"]) == (409, "namespace.file.exists")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "namespace.file.missing")
    assert team.delete(f"{PLACE}?path=c.txt").status_code == 404
    assert team.post("/api/v1/main/namespaces/company.team/files").json()["code"] == "request.parameter.missing"


def test_only_developers_of_the_namespace_write(team: Any) -> None:
    statuses = [
        team.request("POST", f"{PLACE}?path=x.txt", token=token).status_code
        for token in ("viewer", "operator", "other")
    ]

    assert statuses == [403, 403, 403]


def test_secrets_and_variables_around_a_namespace_are_names_only(team: Any) -> None:
    secrets = team.services.settings.home / "secrets.yaml"
    secrets.write_text("company: {SHARED: one-secret}\ncompany.team: {OWN: two-secret}\n")
    secrets.chmod(0o600)

    inherited = team.get("/api/v1/main/namespaces/company.team/inherited-secrets")
    every = team.get("/api/v1/main/secrets?filters[q][EQUALS]=OWN&size=1")

    assert inherited.json() == {"company": ["SHARED"], "company.team": ["OWN"]}
    assert [row["key"] for row in every.json()["results"]] == ["OWN"]
    assert [row["readOnly"] for row in every.json()["results"]] == [True]
    assert "secret" not in inherited.text + every.text.replace("SecretName", "")
    assert team.get("/api/v1/main/namespaces/company.team/inherited-variables").json() == {
        "company": {},
        "company.team": {},
    }
