"""Writes of secrets by the API: who may, what a flow sees at once, and that no value comes back."""

from __future__ import annotations

from typing import Any

import pytest

BASE = "/api/v1/main/namespaces"
SHOW = """id: show
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: "it is {{ secret('token') }}"}
"""
VALUE = "correct-horse-battery"


def said_by(api: Any) -> list[str]:
    """Run the flow and return its lines, with the state at the end."""
    execution_id = api.post("/api/v1/main/executions/company.team/show").json()["id"]
    state = api.wait_for(execution_id, "SUCCESS", "FAILED")["state"]["current"]
    api.services.store.logs.flush()
    lines = api.get(f"/api/v1/main/logs/{execution_id}").json()
    return [*(line["message"] for line in lines), state]


def test_a_secret_is_set_used_masked_replaced_and_removed_while_the_server_runs(api: Any) -> None:
    api.store_flow(SHOW, flow_id="show")
    place = f"{BASE}/company/secrets"
    before = said_by(api)

    first = api.put(place, json={"key": "token", "value": VALUE, "tags": [{"key": "owner", "value": "data"}]})
    with_first = said_by(api)
    api.put(place, json={"key": "TOKEN", "value": "another-horse", "description": "of the forge"})
    with_second = said_by(api)
    described = api.request("PATCH", f"{place}/token", json={"description": "of nobody"})
    gone = api.delete(f"{place}/token")
    after = said_by(api)

    assert before[-1] == after[-1] == "FAILED"
    assert "Cannot find secret for key 'token'." in before[0]
    assert first.json() == [{"key": "TOKEN", "description": None, "tags": [{"key": "owner", "value": "data"}]}]
    assert with_first == with_second == ["it is ******", "SUCCESS"]
    assert described.json() == [
        {"key": "TOKEN", "description": "of nobody", "tags": [{"key": "owner", "value": "data"}]}
    ]
    assert (gone.status_code, api.delete(f"{place}/token").status_code) == (204, 404)
    masked = api.services.host.masker.mask(f"{VALUE} another-horse")
    assert masked == "****** ******"


def test_keys_are_listed_where_they_were_set_beside_those_from_outside(api: Any) -> None:
    file = api.services.settings.home / "secrets.yaml"
    file.write_text("company: {GIVEN: of-the-file}\n")
    file.chmod(0o600)
    api.store_flow(SHOW, flow_id="show")
    api.put(f"{BASE}/other/secrets", json={"key": "A", "value": VALUE})
    api.put(f"{BASE}/company/secrets", json={"key": "B", "value": VALUE})

    every = api.get("/api/v1/main/secrets?sort=key:asc")
    some = api.get("/api/v1/main/secrets?filters[namespace][PREFIX]=company&filters[q][EQUALS]=B")
    own = api.get(f"{BASE}/company/secrets")
    seen = api.get(f"{BASE}/company.team/inherited-secrets")
    narrow = api.get("/api/v1/main/secrets", token="other")

    rows = [(row["namespace"], row["key"], row["readOnly"]) for row in every.json()["results"]]
    assert rows == [("other", "A", False), ("company", "B", False), ("company.team", "GIVEN", True)]
    assert every.json()["readOnly"] is False
    assert [row["key"] for row in some.json()["results"]] == ["B"]
    assert [row["key"] for row in own.json()["results"]] == ["B", "GIVEN"]
    assert seen.json() == {"company": ["B", "GIVEN"]}
    assert [row["key"] for row in narrow.json()["results"]] == ["A"]
    assert VALUE not in every.text + some.text + own.text + seen.text + narrow.text


def test_only_developers_of_the_namespace_set_and_remove(api: Any) -> None:
    place, body = f"{BASE}/company/secrets", {"key": "TOKEN", "value": VALUE}

    refused = [
        api.request(method, path, token=token, json=body).status_code
        for token in ("viewer", "operator", "other")
        for method, path in (("PUT", place), ("PATCH", f"{place}/TOKEN"), ("DELETE", f"{place}/TOKEN"))
    ]

    assert refused == [403] * 9
    assert api.put(place, token="developer", json=body).status_code == 200


def test_the_audit_log_has_the_key_and_never_the_value(api: Any) -> None:
    place = f"{BASE}/company/secrets"
    api.put(place, json={"key": "token", "value": VALUE})
    api.put(place, token="viewer", json={"key": "token", "value": VALUE})
    api.delete(f"{place}/token")

    api.services.store.flush()
    log = api.get("/api/v1/main/audit?action=secret.write")

    rows = [(row["actor"], row["target"], row["result"]) for row in log.json()["results"]]
    assert rows == [
        ("admin", "company/TOKEN", "OK"),
        ("viewer", "company", "REFUSED"),
        ("admin", "company/TOKEN", "OK"),
    ]
    assert VALUE not in log.text


@pytest.mark.parametrize(
    ("namespace", "body", "code"),
    [
        ("company", {"key": "TOKEN"}, "secret.body.invalid"),
        ("company", {"key": "TOKEN", "value": 12345678}, "secret.body.invalid"),
        ("company", {"key": ["TOKEN"], "value": VALUE}, "secret.body.invalid"),
        ("company", {"key": "TOKEN", "value": VALUE, "tags": {"a": "b"}}, "secret.body.invalid"),
        ("company", {"key": "TOKEN", "value": VALUE, "tags": [{"key": "a", "value": 1}]}, "secret.body.invalid"),
        ("company", {"key": "TOKEN", "value": VALUE, "tags": [{"key": ["a"], "value": "b"}]}, "secret.body.invalid"),
        ("company", {"key": "TOKEN", "value": VALUE, "description": "x" * 1_001}, "secret.body.invalid"),
        ("company", {"key": "a/b", "value": VALUE}, "secret.key.invalid"),
        ("company", {"key": "TOKEN", "value": "abc"}, "secret.value.invalid"),
        ("Not-One", {"key": "TOKEN", "value": VALUE}, "namespace.invalid"),
        ("company", [VALUE], "request.json.invalid"),
    ],
)
def test_a_body_that_is_no_secret_is_told_without_its_value(api: Any, namespace: str, body: Any, code: str) -> None:
    answer = api.put(f"{BASE}/{namespace}/secrets", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert VALUE not in answer.text
    assert api.get("/api/v1/main/secrets").json()["total"] == 0


def test_what_comes_from_outside_is_not_removed_here(api: Any) -> None:
    file = api.services.settings.home / "secrets.yaml"
    file.write_text("company: {GIVEN: of-the-file}\n")
    file.chmod(0o600)

    answer = api.delete(f"{BASE}/company/secrets/given")

    assert (answer.status_code, answer.json()["code"]) == (403, "secret.readonly")


@pytest.mark.parametrize("pair", [{"key": ["a"], "value": "b"}, {"key": {}, "value": "b"}, {"value": "b"}, ["a", "b"]])
def test_a_tag_that_is_no_pair_of_texts_changes_nothing_about_a_secret(api: Any, pair: Any) -> None:
    place = f"{BASE}/company/secrets"
    api.put(place, json={"key": "TOKEN", "value": VALUE, "tags": [{"key": "owner", "value": "data"}]})

    answer = api.request("PATCH", f"{place}/TOKEN", json={"tags": [pair]})

    assert (answer.status_code, answer.json()["code"]) == (422, "secret.body.invalid")
    assert api.get(place).json()["results"][0]["tags"] == [{"key": "owner", "value": "data"}]


def test_a_secret_is_set_masked_and_noted_while_the_file_of_others_is_wrong(api: Any) -> None:
    file = api.services.settings.home / "secrets.yaml"
    file.write_text("- no map\n")
    file.chmod(0o600)

    answer = api.put(f"{BASE}/company/secrets", json={"key": "TOKEN", "value": VALUE})

    api.services.store.flush()
    rows = api.get("/api/v1/main/audit?action=secret.write").json()["results"]
    assert (answer.status_code, [row["key"] for row in answer.json()]) == (200, ["TOKEN"])
    assert [(row["target"], row["result"]) for row in rows] == [("company/TOKEN", "OK")]
    assert api.services.host.masker.mask(VALUE) == "******"
