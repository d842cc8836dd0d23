"""The log of deliveries through the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.store.records import Delivery, Environment, Repository
from sync.service import SyncService

NOW = datetime(2026, 11, 2, 9, 15, 30, tzinfo=UTC)
ROWS = [
    Delivery("team", "d-1", "push", NOW, "ACCEPTED", ref="refs/heads/main", after="a" * 40, body=b'{"ref": 1}'),
    Delivery("team", "d-2", "star", NOW, "IGNORED", reason="nothing is done for the event 'star'"),
    Delivery("other", "d-3", "push", NOW, "REFUSED", reason="ref: wrong", body=b"\xff\x00"),
]


@pytest.fixture
def logged(api: Any, tmp_path: Any) -> list[int]:
    """Give the numbers of three deliveries of two repositories."""

    def write(db: Any) -> list[int]:
        db.repositories.put(Repository("team", f"file://{tmp_path / 'absent.git'}"))
        db.repositories.put(Repository("other", "https://git.example.org/other.git"))
        db.environments.put(Environment("production", "team"))
        for row in ROWS:
            db.deliveries.put(row)
        return [db.deliveries.find(row.repository, row.delivery_id).id for row in ROWS]

    numbers: list[int] = api.services.store.write(write)
    return numbers


def ids(answer: Any) -> list[str]:
    return [row["deliveryId"] for row in answer.json()["results"]]


@pytest.mark.usefixtures("logged")
def test_deliveries_are_listed_newest_first_by_repository_and_result(api: Any) -> None:
    base = "/api/v1/main/deliveries"

    assert ids(api.get(base)) == ["d-3", "d-2", "d-1"]
    assert ids(api.get(f"{base}?repository=team")) == ["d-2", "d-1"]
    assert ids(api.get(f"{base}?result=REFUSED")) == ["d-3"]
    assert ids(api.get(f"{base}?limit=1")) == ["d-3"]
    assert api.get(f"{base}?repository=none").status_code == 404
    assert api.get(f"{base}?result=MAYBE").json()["code"] == "delivery.result.unknown"
    assert api.get(f"{base}?limit=1001").json()["code"] == "request.page.invalid"


def test_one_delivery_is_shown_with_its_body(api: Any, logged: list[int]) -> None:
    first, last = (api.get(f"/api/v1/main/deliveries/{number}").json() for number in (logged[0], logged[2]))

    assert (first["body"], first["bodyEncoding"]) == ('{"ref": 1}', "text")
    assert (last["body"], last["bodyEncoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize("number", ["999999", "0", "-1", "x", "٣", "9" * 30])
def test_a_number_without_a_delivery_is_not_found(api: Any, logged: list[int], number: str) -> None:
    answers = [api.get(f"/api/v1/main/deliveries/{number}"), api.post(f"/api/v1/main/deliveries/{number}/replay")]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "delivery.missing")] * 2


def test_reading_needs_an_operator_and_replaying_a_developer(api: Any, logged: list[int]) -> None:
    one = f"/api/v1/main/deliveries/{logged[0]}"

    codes = [
        api.get("/api/v1/main/deliveries", token="viewer").status_code,
        api.get(one, token="viewer").status_code,
        api.get(one, token="operator").status_code,
        api.post(f"{one}/replay", token="operator").status_code,
        api.get(one, token="other").status_code,
        api.get(one, token=None).status_code,
    ]

    assert codes == [403, 403, 200, 403, 403, 401]


def test_a_replay_looks_at_the_repository_and_stands_in_log_and_audit(api: Any, logged: list[int]) -> None:
    services = api.services
    services.sync = SyncService(services.store, services.catalogue, services.settings)

    answer = api.post(f"/api/v1/main/deliveries/{logged[1]}/replay", token="developer")

    assert answer.status_code == 200
    assert [result["result"] for result in answer.json()["results"]] == ["FAILED"]  # there is no such repository
    assert answer.json()["delivery"]["reason"] == "replayed by developer"
    assert api.get(f"/api/v1/main/deliveries/{logged[1]}").json()["result"] == "ACCEPTED"
    audit = api.get("/api/v1/main/audit").json()["results"]
    assert any(row["actor"] == "developer" and row["detail"].get("verb") == "replay" for row in audit)


def test_a_refused_delivery_is_not_done_again(api: Any, logged: list[int]) -> None:
    answer = api.post(f"/api/v1/main/deliveries/{logged[2]}/replay")

    assert (answer.status_code, answer.json()["code"]) == (409, "delivery.refused")


def test_a_process_that_follows_nothing_says_who_does(api: Any, logged: list[int]) -> None:
    answer = api.post(f"/api/v1/main/deliveries/{logged[0]}/replay")

    assert (answer.status_code, answer.json()["code"]) == (409, "sync.elsewhere")
