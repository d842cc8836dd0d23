"""Writes to an environment that takes only proposals: 202, the branch, and nothing active."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.cli import call
from sync.commit_record import Author
from tests.servers.answering import Answering
from tests.servers.application import FLOW_A

_MAIN = "/api/v1/main"
_YAML = {"content-type": "application/x-yaml"}
_B = FLOW_A.replace("id: a", "id: b")
_SLOWER = FLOW_A.replace("hello", "slower")


def test_a_changed_flow_is_answered_as_it_would_be_and_the_active_one_stays(proposing_api: Any) -> None:
    answer = proposing_api.put(f"{_MAIN}/flows/w/a", content=_SLOWER, headers=_YAML)

    body = answer.json()
    found = proposing_api.get(f"{_MAIN}/flows/w/a?source=true").json()
    assert answer.status_code == 202
    assert (body["revision"], body["draft"], body["source"]) == (2, True, _SLOWER)
    assert body["tasks"][0]["message"] == "slower"
    branch = body["pullRequest"]["branch"]
    assert body["pullRequest"] == {"url": None, "number": None, "branch": branch}
    assert branch.startswith("mainstem/w.a-")
    assert answer.headers["x-mainstem-commit"] == body["commit"]
    assert (found["revision"], found["source"], found["draft"]) == (1, FLOW_A, False)


def test_each_kind_of_write_is_proposed(proposing_api: Any) -> None:
    api, files = proposing_api, f"{_MAIN}/namespaces/w/files"
    answers = [
        api.post(f"{_MAIN}/flows", content=_B, headers=_YAML),
        api.post(f"{_MAIN}/flows/bulk?delete=false", content=f"{_SLOWER}---\n{_B}", headers=_YAML),
        api.post(f"{_MAIN}/flows/disable/by-ids", json=[{"namespace": "w", "id": "a"}]),
        api.delete(f"{_MAIN}/flows/w/a"),
        api.post(f"{_MAIN}/flows/import", files={"fileUpload": ("b.yaml", _B.encode())}),
        api.post(f"{files}?path=q.sql", files={"fileContent": ("q.sql", b"select 1")}),
        api.put(f"{_MAIN}/namespaces/w", json={"description": "Ours"}),
    ]

    bodies = [answer.json() for answer in answers]
    rows = [row for body in bodies for row in (body if isinstance(body, list) else [body])]
    branches = {row["pullRequest"]["branch"] for row in rows}

    assert [answer.status_code for answer in answers] == [202] * len(answers)
    assert [row["draft"] for row in bodies[1]] == [True, True]
    assert bodies[2]["count"] == 1
    assert bodies[3]["pullRequest"]["branch"].startswith("mainstem/w.a-")
    assert bodies[4] == []
    assert bodies[6]["description"] == "Ours"
    assert len(branches) == 5
    assert [row["id"] for row in api.get(f"{_MAIN}/flows/search").json()["results"]] == ["a"]
    assert api.get(f"{files}/directory").json() == []


def test_the_audit_log_says_what_was_proposed(proposing_api: Any) -> None:
    branch = proposing_api.delete(f"{_MAIN}/flows/w/a").json()["pullRequest"]["branch"]

    rows = proposing_api.get(f"{_MAIN}/audit").json()["results"]

    assert [row["detail"]["proposal"] for row in rows if row["target"] == "w.a"] == [branch]


@pytest.mark.parametrize("source", [FLOW_A.replace("Log", "Lgo"), "id: a\nnamespace: w\ntasks: 1\n"])
def test_a_flow_with_errors_is_422_and_leaves_no_branch(proposing_api: Any, source: str) -> None:
    answer = proposing_api.put(f"{_MAIN}/flows/w/a", content=source, headers=_YAML)

    repository = proposing_api.services.sync.repository("hosted").repository
    assert answer.status_code == 422
    assert [ref for ref in repository.heads() if "mainstem/" in ref] == []


def _slowed(sync: Any) -> tuple[str, str]:
    """Push a change of the flow; return what was active before and what is now."""
    repository = sync.repository("hosted").repository
    first = repository.head("refs/heads/main")
    second = repository.commit_changes(
        first, {"flows/w/a.yaml": _SLOWER.encode()}, author=Author("a", "a"), message="m", at=datetime.now(UTC)
    )
    repository.set_head("refs/heads/main", first, second)
    sync.reconcile_repository("hosted", actor="ann")
    return first, second


def test_going_back_is_proposed_to_git_alone_or_with_a_rollback(proposing_api: Any) -> None:
    api, sync = proposing_api, proposing_api.services.sync
    first, second = _slowed(sync)
    one = f"{_MAIN}/environments/default"

    alone = api.post(f"{one}/revert", json={"reason": "slow"})
    active = api.get(one).json()["active"]
    both = api.post(f"{one}/rollback", json={"reason": "slow", "propose": True})
    wrong = [
        api.post(f"{one}/revert", json=body).status_code
        for body in ({}, {"reason": " "}, {"reason": "x", "commit": "@"})
    ]
    unknown = api.post(f"{one}/revert", json={"reason": "x", "commit": "f" * 40})

    assert (alone.status_code, active) == (202, second)
    assert alone.json()["pullRequest"] == {
        "url": None,
        "number": None,
        "branch": f"mainstem/revert-default-{first[:7]}",
    }
    assert (both.status_code, both.json()["results"][0]["active"]) == (200, first)
    assert both.json()["pullRequest"] == alone.json()["pullRequest"]
    assert wrong == [422, 422, 422]
    assert unknown.status_code == 404


def test_a_rollback_whose_proposal_fails_says_so_and_is_carried_out(proposing_api: Any) -> None:
    api, sync = proposing_api, proposing_api.services.sync
    first = sync.repository("hosted").repository.head("refs/heads/main")

    answer = api.post(
        f"{_MAIN}/environments/default/rollback", json={"reason": "x", "commit": first, "propose": True}
    ).json()

    assert answer["pullRequest"] is None
    assert answer["unproposed"].startswith("proposal.revert.none: ")
    assert answer["environment"]["state"] == "PINNED"


def test_a_revert_that_was_refused_is_told_by_the_environment_and_by_sync_status(
    proposing_api: Any, answering: Answering, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api, sync = proposing_api, proposing_api.services.sync
    first, second = _slowed(sync)
    sync.stay("default", first, action="rollback", actor="mainstem", reason="4 of 4 runs failed")
    before = api.get(f"{_MAIN}/environments/default").json()["pin"]
    sync.repository("hosted").repository.set_head(
        "refs/heads/mainstem", None, second
    )  # no branch can stand below this one

    sync.reverts.follow("default")

    answer = api.get(f"{_MAIN}/environments")
    answering.otherwise = (200, "application/json", answer.content)
    monkeypatch.setenv("MAINSTEM_URL", answering.url)
    code = call(["sync", "status"])
    [row] = answer.json()["results"]
    assert before["unproposed"] is None
    assert row["pin"]["unproposed"].startswith("not proposed to git after 1 of 12 tries: repository.push.refused: ")
    assert row["pin"]["unproposed"].endswith("(it is tried again)")
    assert f"default: {row['pin']['unproposed']}\n" in capsys.readouterr().err
    assert code == 1
