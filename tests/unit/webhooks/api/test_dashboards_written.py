"""Dashboards that are written through the API: commits of the repository that owns them, or proposals."""

from __future__ import annotations

from typing import Any

from runner.store.records import StoredDashboard

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
