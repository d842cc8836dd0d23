"""Dashboards that are written through the API: commits of the repository that owns them, or proposals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.settings import EnvironmentSettings
from runner.store.records import StoredDashboard
from sync.commit_record import Author
from tests.servers.application import serving

MAIN = "/api/v1/main"
BASE = f"{MAIN}/dashboards"
YAML = {"content-type": "application/x-yaml"}
SOURCE = "id: night\ntitle: Night\ncharts: [{id: a, type: core.dashboard.chart.Markdown, content: hi}]\n"
LATER = SOURCE.replace("title: Night", "title: Later")


def test_a_dashboard_is_created_changed_and_deleted_by_commits(git_api: Any) -> None:
    made = git_api.post(BASE, content=SOURCE, headers=YAML)
    again = git_api.post(BASE, content=SOURCE, headers=YAML)
    changed = git_api.put(f"{BASE}/night", content=LATER, headers=YAML)
    same = git_api.put(f"{BASE}/night", content=LATER, headers=YAML)
    gone = git_api.delete(f"{BASE}/night")
    after = git_api.get(f"{BASE}/night")

    assert (made.status_code, made.json()["sourceCode"], made.json()["path"]) == (
        200,
        SOURCE,
        "flows/_dashboards/night.yaml",
    )
    assert (again.status_code, again.json()["code"]) == (409, "dashboard.exists")
    assert (changed.json()["title"], same.json()["title"]) == ("Later", "Later")
    assert (gone.status_code, after.status_code) == (204, 404)
    repository = git_api.services.sync.repository("hosted").repository
    head = repository.head("refs/heads/main")
    assert repository.listing(head, "").files == {}
    targets = [row["target"] for row in git_api.get(f"{MAIN}/audit").json()["results"]]
    assert targets.count("dashboard night") == 4


def test_a_dashboard_of_a_namespace_stands_in_its_folder(git_api: Any) -> None:
    made = git_api.post(f"{BASE}?namespace=company.team", content=SOURCE, headers=YAML).json()

    assert (made["namespace"], made["path"]) == ("company.team", "flows/company.team/_dashboards/night.yaml")


def test_what_is_wrong_is_committed_nowhere(git_api: Any) -> None:
    git_api.post(BASE, content=SOURCE, headers=YAML)
    head = git_api.services.sync.repository("hosted").repository.head("refs/heads/main")

    answers = [
        git_api.post(BASE, content="id: other\n", headers=YAML),
        git_api.post(f"{BASE}?namespace=tests", content=SOURCE.replace("night", "other"), headers=YAML),
        git_api.post(f"{BASE}?namespace=../up", content=SOURCE.replace("night", "other"), headers=YAML),
        git_api.put(f"{BASE}/night", content=SOURCE.replace("night", "day"), headers=YAML),
        git_api.put(f"{BASE}/nothing", content=SOURCE, headers=YAML),
        git_api.delete(f"{BASE}/nothing"),
    ]

    assert [answer.json()["code"] for answer in answers] == [
        "dashboard.property.missing",
        "dashboard.namespace.invalid",
        "dashboard.namespace.invalid",
        "dashboard.identity.changed",
        "dashboard.missing",
        "dashboard.missing",
    ]
    assert git_api.services.sync.repository("hosted").repository.head("refs/heads/main") == head


def test_a_token_of_a_namespace_changes_none_of_all(git_api: Any) -> None:
    git_api.post(BASE, content=SOURCE, headers=YAML)

    answers = [
        git_api.post(BASE, content=SOURCE.replace("night", "b"), headers=YAML, token="other"),
        git_api.put(f"{BASE}/night", content=LATER, headers=YAML, token="other"),
        git_api.delete(f"{BASE}/night", token="other"),
        git_api.delete(f"{BASE}/night", token=None),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403, 401]
    assert git_api.get(f"{BASE}/night").json()["title"] == "Night"


def test_where_changes_are_proposed_each_write_is_a_proposal(proposing_api: Any) -> None:
    made = proposing_api.post(BASE, content=SOURCE, headers=YAML)
    listed = proposing_api.get(BASE).json()

    assert (made.status_code, made.json()["draft"], made.json()["title"]) == (202, True, "Night")
    assert made.json()["pullRequest"]["branch"].startswith("mainstem/_dashboards.night-")
    assert listed["total"] == 0


def test_what_an_environment_left_behind_is_read_only(git_api: Any) -> None:
    row = git_api.post(BASE, content=SOURCE, headers=YAML).json()
    at = git_api.services.store.read(lambda db: db.dashboards.get("night")).created_at
    lost = StoredDashboard("lost", "Lost", SOURCE.replace("night", "lost"), "gone", row["path"], at, at)
    git_api.services.store.write(lambda db: db.dashboards.put(lost))

    answer = git_api.delete(f"{BASE}/lost")

    assert (answer.status_code, answer.json()["code"]) == (409, "dashboard.owner.none")


@pytest.fixture
def held_api(make_services: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The API over an environment that has the dashboard `night` and takes writes as the parameter says."""
    environment = EnvironmentSettings(name="default", repository="hosted", writes=request.param)
    services = make_services(is_syncing=True, environments=(environment,))
    repository = services.sync.repository("hosted").repository
    files = {"flows/_dashboards/night.yaml": SOURCE.encode()}
    author = Author("ann", "ann@example.org")
    first = repository.commit_changes(None, files, author=author, message="first", at=datetime.now(UTC))
    repository.set_head("refs/heads/main", None, first)
    services.sync.reconcile_repository("hosted", actor="ann")
    with serving(services) as api:
        yield api


@pytest.mark.parametrize("held_api", ["propose"], indirect=True)
def test_a_change_and_a_removal_are_proposed_and_change_nothing_yet(held_api: Any) -> None:
    repository = held_api.services.sync.repository("hosted").repository

    def proposed(answer: Any) -> dict[str, Any]:
        branch = answer.json()["pullRequest"]["branch"]
        return dict(repository.listing(repository.head(f"refs/heads/{branch}"), "").files)

    changed = held_api.put(f"{BASE}/night", content=LATER, headers=YAML)
    kept = proposed(changed)
    gone = held_api.delete(f"{BASE}/night")

    assert (changed.status_code, changed.json()["draft"], changed.json()["title"]) == (202, True, "Later")
    assert (gone.status_code, set(kept), proposed(gone)) == (202, {"flows/_dashboards/night.yaml"}, {})
    assert held_api.get(f"{BASE}/night").json()["title"] == "Night"


@pytest.mark.parametrize("held_api", ["refuse"], indirect=True)
def test_where_writes_are_refused_nothing_is_committed(held_api: Any) -> None:
    repository = held_api.services.sync.repository("hosted").repository
    head = repository.head("refs/heads/main")

    answers = [
        held_api.post(BASE, content=SOURCE.replace("night", "b"), headers=YAML),
        held_api.put(f"{BASE}/night", content=LATER, headers=YAML),
        held_api.delete(f"{BASE}/night"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (403, "environment.writes.refused")
    ] * 3
    assert repository.head("refs/heads/main") == head
    assert held_api.get(f"{BASE}/night").json()["title"] == "Night"
