"""Logs, triggers, tokens, environments, figures, health: what is not about flows, executions and keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from runner import __version__
from runner.metrics import Family, of_store
from runner.store.records import Delivery, Environment, ForgeLimit, Repository, Revision, TriggerState
from sync.history import cells
from sync.remarks import remarks
from sync.signatures.verdict import CommitSignature, SignatureState
from webhooks.health import health_app

TALK = """id: hello
namespace: company.team
tasks:
  - {id: one, type: core.log.Log, message: first, level: INFO}
  - {id: two, type: core.log.Log, message: second, level: ERROR}
triggers:
  - {id: nightly, type: core.trigger.Schedule, cron: "0 3 * * *"}
"""


@pytest.fixture
def talked(api: Any) -> str:
    api.store_flow(TALK)
    body = api.post("/api/v1/main/executions/company.team/hello?wait=true").json()
    assert body["state"]["current"] == "SUCCESS", body
    return str(body["id"])


def test_the_log_of_an_execution_comes_in_order(api: Any, talked: str) -> None:
    rows = api.get(f"/api/v1/main/logs/{talked}").json()
    errors = api.get(f"/api/v1/main/logs/{talked}?minLevel=ERROR").json()
    filtered = api.get(f"/api/v1/main/logs/{talked}?filters[level][EQUALS]=ERROR").json()
    of_task = api.get(f"/api/v1/main/logs/{talked}?taskId=one").json()

    assert [row["message"] for row in rows] == ["first", "second"]
    assert [row["message"] for row in errors] == [row["message"] for row in filtered] == ["second"]
    assert [row["message"] for row in of_task] == ["first"]


def test_the_log_is_downloaded_as_lines_of_text(api: Any, talked: str) -> None:
    answer = api.get(f"/api/v1/main/logs/{talked}/download")

    assert [line.split(" ", 1)[1] for line in answer.text.splitlines()] == ["INFO first", "ERROR second"]
    assert answer.headers["content-type"].startswith("text/plain")


def test_logs_are_searched_newest_first(api: Any, talked: str) -> None:
    page = api.get(f"/api/v1/main/logs/search?filters[executionId][EQUALS]={talked}").json()
    errors = api.get("/api/v1/main/logs/search?filters[level][EQUALS]=ERROR").json()
    judged = api.get("/api/v1/main/logs/search?filters[flowId][STARTS_WITH]=he&sort=timestamp:asc").json()
    theirs = api.get("/api/v1/main/logs/search", token="other").json()

    assert ([row["message"] for row in page["results"]], page["type"]) == (["second", "first"], "OFFSET")
    assert errors["total"] == 1
    assert [row["message"] for row in judged["results"]] == ["first", "second"]
    assert theirs["total"] == 0


def test_the_log_of_somebody_else_is_not_there(api: Any, talked: str) -> None:
    assert api.get(f"/api/v1/main/logs/{talked}", token="other").status_code == 404
    assert api.get(f"/api/v1/main/logs/{talked}?minLevel=LOUD").status_code == 422


def test_a_trigger_is_listed_with_its_declaration_and_switched_off(api: Any) -> None:
    api.store_flow(TALK)
    row = TriggerState("company.team", "hello", "nightly", next_at=datetime(2030, 1, 1, tzinfo=UTC))
    api.services.store.write(lambda db: db.triggers.put(row))
    identity = {"namespace": "company.team", "flowId": "hello", "triggerId": "nightly"}

    found = api.get("/api/v1/main/triggers/search?sort=triggerId:asc").json()["results"][0]
    changed = api.put("/api/v1/main/triggers/set-disabled", json={**identity, "disabled": True}).json()
    flat = api.get("/api/v1/main/triggers/company.team/hello?q=night").json()
    unknown = api.put("/api/v1/main/triggers/set-disabled", json={**identity, "triggerId": "x", "disabled": True})
    theirs = api.put("/api/v1/main/triggers/set-disabled", json={**identity, "disabled": False}, token="other")

    assert (found["trigger"]["id"], found["trigger"]["cron"]) == ("nightly", "0 3 * * *")
    assert found["state"]["nextEvaluationDate"] == "2030-01-01T00:00:00.000000Z"
    assert changed["disabled"] is True
    assert flat["results"][0]["disabled"] is True
    assert (unknown.status_code, theirs.status_code) == (404, 403)


def test_a_token_is_shown_once_and_refused_after_it_was_revoked(api: Any) -> None:
    made = api.post("/api/v1/main/tokens", json={"name": "ci", "role": "viewer", "namespaces": ["company"]}).json()
    secret = made["fullToken"]

    before = api.get("/api/v1/main/flows/search", token=secret).status_code
    listed = api.get("/api/v1/main/tokens")
    revoked = api.delete("/api/v1/main/tokens/ci").status_code
    after = api.get("/api/v1/main/flows/search", token=secret).status_code

    assert (before, revoked, after) == (200, 204, 401)
    assert secret not in listed.text
    assert "digest" not in listed.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "token.name.invalid"),
        ({"name": "x", "role": "king"}, "token.role.unknown"),
        ({"name": "x", "namespaces": []}, "token.namespaces.empty"),
        ({"name": "x", "namespaces": "a"}, "token.namespaces.invalid"),
        ({"name": "x", "maxAge": "soon"}, "duration.invalid"),
        ({"name": "admin"}, "token.name.taken"),
        ([], "request.json.invalid"),
    ],
)
def test_a_token_that_cannot_be_is_refused(api: Any, body: Any, code: str) -> None:
    answer = api.post("/api/v1/main/tokens", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_an_expired_token_is_refused(api: Any) -> None:
    made = api.post("/api/v1/main/tokens", json={"name": "short", "maxAge": "PT0.001S"}).json()

    assert api.get("/api/v1/main/flows/search", token=made["fullToken"]).status_code == 401


def test_a_repository_is_shown_without_its_secrets(api: Any) -> None:
    secrets = ("hunter2", "s3cr3t", "k3y")
    row = Repository(
        "flows",
        "https://user:hunter2@git.example/flows.git",
        password="hunter2",
        ssh_key="k3y",
        webhook_secret="s3cr3t",
    )

    def add(db: Any) -> None:
        db.repositories.put(row)
        db.environments.put(Environment("prod", "flows"))
        db.deliveries.add(Delivery("flows", "d1", "push", datetime.now(UTC), "ACCEPTED", body=b"s3cr3t"))

    api.services.store.write(add)
    answers = [
        api.get("/api/v1/main/repositories"),
        api.get("/api/v1/main/environments"),
        api.get("/api/v1/main/environments/prod"),
        api.get("/api/v1/main/environments/prod/revisions"),
        api.get("/api/v1/main/deliveries?repository=flows"),
    ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert not any(secret in answer.text for answer in answers for secret in secrets)
    assert answers[0].json()["results"][0]["url"] == "https://git.example/flows.git"
    assert answers[4].json()["results"][0]["deliveryId"] == "d1"
    assert api.get("/api/v1/main/environments/unknown").status_code == 404
    assert api.get("/api/v1/main/deliveries?repository=unknown").status_code == 404


def test_an_environment_and_its_revisions_say_who_signed_them(api: Any) -> None:
    signer = CommitSignature(SignatureState.GOOD, "ssh", "ann", "SHA256:abc", commit="a" * 40).as_json()
    kept = Revision("prod", "a" * 40, "ACTIVE", datetime.now(UTC), signature=signer)
    resumed = Revision("prod", "a" * 40, "UNCHANGED", datetime.now(UTC), action="resume")

    def add(db: Any) -> None:
        db.environments.put(Environment("prod", "flows", active="a" * 40))
        db.revisions.add(kept)
        db.revisions.add(resumed)

    api.services.store.write(add)

    one = api.get("/api/v1/main/environments/prod").json()
    rows = api.get("/api/v1/main/environments/prod/revisions").json()["results"]

    assert one["signature"] == signer
    assert [row["signature"] for row in rows] == [None, signer]
    assert [cells(row)[-1] for row in rows] == ["-", "ann"], "as `mainstem sync history` shows them"


def test_what_a_forge_still_takes_is_told_with_its_repository_until_the_number_begins_anew(api: Any) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [
        ForgeLimit("flows", 499, now, 5000, now + timedelta(minutes=9)),
        ForgeLimit("over", 0, now - timedelta(hours=2), 5000, now - timedelta(hours=1)),
    ]

    def add(db: Any) -> None:
        for row in rows:
            db.repositories.put(Repository(row.repository, "https://git.example/flows.git"))
            db.environments.put(Environment(row.repository, row.repository))
            db.forge_limits.put(row)

    api.services.store.write(add)

    found = [api.get(f"/api/v1/main/{kind}").json()["results"] for kind in ("repositories", "environments")]

    ends, seen = (f"{now + timedelta(minutes=late):%Y-%m-%dT%H:%M:%S}.000000Z" for late in (9, 0))
    told = {"remaining": 499, "of": 5000, "resetsAt": ends, "seenAt": seen, "isLow": True}
    assert [[row["forgeLimit"] for row in each] for each in found] == [[told, None]] * 2
    said = remarks([*found[1], found[1][0]])  # as `mainstem sync status` shows them
    assert [line.partition(", more at")[0] for line in said] == [
        "flows: its forge takes 499 of 5000 more requests with this token"
    ]


def test_readiness_names_what_is_missing(api: Any) -> None:
    before = api.get("/health/ready", token=None)
    api.services.ready = lambda: ["the broker does not answer"]

    after = api.get("/health/ready", token=None)

    assert (before.status_code, before.json()["status"]) == (200, "UP")
    assert (after.status_code, after.json()["missing"]) == (503, ["the broker does not answer"])
    assert api.get("/health/live", token=None).json() == {"status": "UP"}


def test_the_figures_count_executions_queues_and_sync(api: Any, talked: str) -> None:
    api.services.store.write(lambda db: db.environments.put(Environment("prod", "flows", state="DEGRADED")))

    text = api.get("/metrics").text

    assert 'mainstem_executions{state="SUCCESS"} 1' in text
    assert 'mainstem_queue_depth{kind="run"}' in text
    assert 'mainstem_tasks_waiting{queue="tasks"} 0' in text
    assert "mainstem_timers_late_seconds 0" in text
    assert f'mainstem_info{{version="{__version__}",role="up"}} 1' in text
    assert 'mainstem_sync_failing{environment="prod",state="DEGRADED"} 1' in text
    assert "mainstem_workers" in text
    assert "company" not in text
    assert talked not in text


def test_the_figures_tell_how_long_a_commit_has_not_become_active(api: Any) -> None:
    now = datetime.now(UTC)
    for name, results in {"held": ["ACTIVE", "HELD"], "mended": ["INVALID", "ACTIVE"], "new": []}.items():
        api.services.store.write(lambda db, name=name: db.environments.put(Environment(name, "flows")))
        for age, result in zip((100, 40), results, strict=False):
            revision = Revision(name, "c" * 40, result, now - timedelta(seconds=age))
            api.services.store.write(lambda db, revision=revision: db.revisions.add(revision))

    families = {family.name: family for family in of_store(api.services.store, now)}

    lags = {labels["environment"]: value for labels, value in families["mainstem_sync_lag_seconds"].samples}
    assert lags == {"held": 40.0, "mended": 0.0, "new": 0.0}


def test_the_health_port_gives_figures_and_problems_to_whoever_asks() -> None:
    problems = ["the broker does not answer"]
    family = Family("mainstem_info", "gauge", "1.")
    family.add(1, role="worker")

    transport = httpx.ASGITransport(health_app(lambda: problems, lambda: [family]))

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            return [await client.get(path) for path in ("/metrics", "/health/live", "/health/ready")]

    figures, live, ready = asyncio.run(ask())

    assert figures.text.splitlines()[-1] == 'mainstem_info{role="worker"} 1'
    assert figures.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (live.status_code, ready.status_code, ready.json()["missing"]) == (200, 503, problems)


def test_the_configuration_names_product_and_version(api: Any) -> None:
    body = api.get("/api/v1/configs").json()

    assert (body["product"], body["edition"]) == ("Mainstem", "OSS")
    assert body["uuid"]
    assert "Mainstem" in api.get("/", token=None).text


def test_the_audit_log_tells_who_did_what(api: Any) -> None:
    api.post("/api/v1/main/tokens", json={"name": "ci"})
    api.post("/api/v1/main/tokens", json={"name": "ci"}, token="viewer")
    api.services.store.flush()

    rows = api.get("/api/v1/main/audit?limit=10").json()["results"]

    assert {(row["actor"], row["action"], row["result"]) for row in rows} >= {
        ("admin", "token.create", "OK"),
        ("viewer", "token.manage", "REFUSED"),
    }
