"""Namespaces as objects of the API: what is said about one is a file of the repository, and flows see it at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

FLOWS = "/api/v1/main/flows"
BASE = "/api/v1/main/namespaces"
YAML = {"content-type": "application/x-yaml"}
FLOW = """id: where
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: "{{ namespace.region }} {{ namespace.db }}"}
"""


def file_at(api: Any, path: str) -> str | None:
    source = api.services.sync.repository("hosted")
    head = source.heads(["refs/heads/main"])["refs/heads/main"]
    blob = source.repository.find(head, path)
    return source.repository.blob(blob).decode() if blob else None


def commit_by_hand(api: Any, files: dict[str, str]) -> None:
    environment = api.services.sync.environment("default")
    edits = {path: text.encode() for path, text in files.items()}
    api.services.sync.namespaces.commits.commit(environment, lambda *_: edits, actor="test", message="by hand")


def written(api: Any) -> list[str]:
    source = api.services.sync.repository("hosted")
    head = source.heads(["refs/heads/main"])["refs/heads/main"]
    walker = source.repository.raw.get_walker(include=[head.encode()])
    return [entry.commit.message.decode().splitlines()[0] for entry in walker]


def said_by(api: Any) -> tuple[str, str]:
    """Run the flow; return its state and its last line."""
    execution_id = api.post("/api/v1/main/executions/company.team/where").json()["id"]
    state = api.wait_for(execution_id, "SUCCESS", "FAILED")["state"]["current"]
    api.services.store.logs.flush()
    return state, api.get(f"/api/v1/main/logs/{execution_id}").json()[-1]["message"]


def test_a_namespace_is_created_read_changed_and_deleted_by_commits(git_api: Any) -> None:
    body = {"id": "company", "deleted": False, "description": "All of us", "variables": {"region": "eu", "count": 1}}

    created = git_api.post(BASE, json=body)
    again = git_api.post(BASE, json=body)
    read = git_api.get(f"{BASE}/company")
    first = file_at(git_api, "flows/company/_defaults.yaml")
    defaults = [{"type": "core.log.Log", "values": {"level": "DEBUG"}}]
    changed = git_api.put(f"{BASE}/company", json={"id": "company", "deleted": False, "pluginDefaults": defaults})
    second = file_at(git_api, "flows/company/_defaults.yaml")
    gone = git_api.delete(f"{BASE}/company")

    assert (created.status_code, again.status_code, changed.status_code, gone.status_code) == (200, 409, 200, 204)
    assert again.json()["code"] == "namespace.exists"
    assert created.json() == read.json()
    assert read.json() == body | {"pluginDefaults": [], "file": "flows/company/_defaults.yaml"}
    assert first == "namespace: company\ndescription: All of us\nvariables:\n  region: eu\n  count: 1\n"
    assert second is not None
    assert second.startswith("namespace: company\npluginDefaults:\n")
    assert changed.json()["pluginDefaults"] == [defaults[0] | {"forced": False}]
    assert file_at(git_api, "flows/company/_defaults.yaml") is None
    assert written(git_api)[:2] == ["Say nothing about the namespace company", "Describe the namespace company"]
    after = [git_api.get(f"{BASE}/company"), git_api.delete(f"{BASE}/company"), git_api.put(f"{BASE}/company", json={})]
    assert [(each.status_code, each.json()["code"]) for each in after] == [(404, "namespace.missing")] * 3


def test_flows_see_variables_of_the_namespaces_around_until_their_revision_is_another(git_api: Any) -> None:
    git_api.post(BASE, json={"id": "company", "variables": {"region": "eu", "db": {"host": "far", "port": 1}}})
    git_api.post(FLOWS, content=FLOW, headers=YAML)
    far = said_by(git_api)

    git_api.put(f"{BASE}/company.team", json={"variables": {"db": {"host": "near"}}})
    near = said_by(git_api)
    git_api.delete(f"{BASE}/company")
    without = said_by(git_api)
    old = git_api.post("/api/v1/main/executions/company.team/where?revision=1").json()["id"]

    assert far == ("SUCCESS", 'eu {"host":"far","port":1}')
    assert near == ("SUCCESS", 'eu {"host":"near","port":1}')
    assert without[0] == "FAILED"
    assert "Unable to find `region`" in without[1]
    assert git_api.get(f"{FLOWS}/company.team/where").json()["revision"] == 3
    assert git_api.wait_for(old, "SUCCESS", "FAILED")["state"]["current"] == "SUCCESS"


def test_what_is_around_a_namespace_is_read_as_far_as_the_caller_may_see(git_api: Any) -> None:
    defaults = [{"type": "core.log.Log", "values": {"level": "DEBUG"}, "forced": False}]
    git_api.post(BASE, json={"id": "other", "variables": {"a": 1}, "pluginDefaults": defaults})
    git_api.post(BASE, json={"id": "other.team", "variables": {"b": "{{ secret('X') }}"}})
    git_api.post(BASE, json={"id": "company", "variables": {"c": 3}})
    git_api.services.access.create("inner", "viewer", namespaces=["other.team"])

    variables = git_api.get(f"{BASE}/other.team/inherited-variables").json()
    around = git_api.get(f"{BASE}/other.team/inherited-plugindefaults").json()
    listed = git_api.get(f"{BASE}/search?existing=true&sort=id:desc").json()
    narrow = git_api.get(f"{BASE}/search", token="other").json()

    assert variables == {"other": {"a": 1}, "other.team": {"b": "{{ secret('X') }}"}}
    assert around == {"other": defaults, "other.team": []}
    assert [row["id"] for row in listed["results"]] == ["other.team", "other", "company"]
    assert [row["id"] for row in narrow["results"]] == ["other", "other.team"]
    assert git_api.get(f"{BASE}/company/inherited-variables", token="other").status_code == 403


def test_a_namespace_that_its_flows_make_can_be_described_and_not_deleted(git_api: Any) -> None:
    git_api.post(FLOWS, content=FLOW, headers=YAML)

    refused = git_api.delete(f"{BASE}/company.team")
    implied = git_api.get(f"{BASE}/search?existing=true").json()["total"], git_api.get(f"{BASE}/search").json()["total"]
    described = git_api.put(f"{BASE}/company.team", json={"description": "Ours"})

    assert (refused.status_code, refused.json()["code"]) == (409, "namespace.implied")
    assert implied == (0, 1)
    assert described.json()["description"] == "Ours"
    assert git_api.get(f"{FLOWS}/company.team/where").status_code == 200


def test_what_its_author_wrote_around_a_change_stays(git_api: Any) -> None:
    text = "# ours\nvariables:\n  region: eu  # for now\ndescription: Team\n"
    git_api.post(FLOWS, content=FLOW, headers=YAML)
    path = "flows/company.team/_defaults.yaml"
    commit_by_hand(git_api, {path: text})

    answer = git_api.put(f"{BASE}/company.team", json={"description": "Squad", "variables": {"region": "eu"}})

    assert answer.status_code == 200
    assert file_at(git_api, path) == text.replace("Team", "Squad")


def test_the_file_of_another_namespace_is_never_overwritten(git_api: Any) -> None:
    path, text = "flows/team/_defaults.yaml", "namespace: company.team\nvariables: {region: eu}\n"
    commit_by_hand(git_api, {path: text})

    answer = git_api.post(BASE, json={"id": "team", "description": "Mine"})

    assert (answer.status_code, answer.json()["code"]) == (409, "namespace.path.taken")
    assert path in answer.json()["detail"]
    assert file_at(git_api, path) == text
    assert git_api.get(f"{BASE}/company.team").json()["variables"] == {"region": "eu"}


@pytest.mark.parametrize("name", ["2024", "1.5", "true", "null", "1e3", "0x1f"])
def test_a_namespace_that_looks_like_another_value_is_written_as_a_text(git_api: Any, name: str) -> None:
    created = git_api.post(BASE, json={"id": name, "description": "Ours"})
    changed = git_api.put(f"{BASE}/{name}", json={"description": "Theirs"})

    assert (created.status_code, changed.status_code) == (200, 200), created.text
    assert git_api.get(f"{BASE}/{name}").json()["description"] == "Theirs"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"id": "Not One"}, "namespace.invalid"),
        ({}, "namespace.invalid"),
        ({"id": "a", "variables": ["region"]}, "flow.invalid"),
        ({"id": "a", "variables": {"v": "x" * 70_000}}, "flow.invalid"),
        ({"id": "a", "description": {"no": "text"}}, "flow.invalid"),
        ({"id": "a", "pluginDefaults": [{"type": "core.log.Log", "values": {"levle": "x"}}]}, "flow.invalid"),
        ({"id": "a", "pluginDefaults": {"type": "core.log.Log"}}, "flow.invalid"),
        ({"id": "a", "allowedNamespaces": [{"namespace": "b"}]}, "namespace.property.unknown"),
        ({"id": "tests"}, "namespace.path.invalid"),
        ([], "request.json.invalid"),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_is_committed(git_api: Any, body: Any, code: str) -> None:
    git_api.post(BASE, json={"id": "first"})
    before = written(git_api)

    answer = git_api.post(BASE, json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert written(git_api) == before
    assert git_api.get(f"{BASE}/search").json()["total"] == 1


def test_only_developers_of_the_namespace_write_and_only_where_writes_are_taken(git_api: Any) -> None:
    body = {"id": "company", "description": "Ours"}
    refused = [git_api.post(BASE, json=body, token=token) for token in ("viewer", "operator", "other")]
    refused += [git_api.put(f"{BASE}/company", json=body, token=token) for token in ("operator", "other")]
    refused += [git_api.delete(f"{BASE}/company", token=token) for token in ("operator", "other")]
    store = git_api.services.store
    environment = git_api.services.sync.environment("default")
    store.write(lambda db: db.environments.declare(replace(environment, writes="refuse")))

    elsewhere = git_api.post(BASE, json=body)

    assert [each.status_code for each in refused] == [403] * 7
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "environment.writes.refused")
    assert git_api.get(f"{BASE}/company").status_code == 404
