from __future__ import annotations

from typing import Any

import pytest

KV = "/api/v1/main/namespaces/company.team/kv"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ('"text"', "STRING", "text"),
        ("42", "NUMBER", 42),
        ("1.5", "NUMBER", 1.5),
        ("true", "BOOLEAN", True),
        ('{"a": [1]}', "JSON", {"a": [1]}),
        ("[1, 2]", "JSON", [1, 2]),
        ("2026-11-22T10:00:00Z", "DATETIME", "2026-11-22T10:00:00Z"),
        ("2026-11-22", "DATE", "2026-11-22"),
        ("PT5M", "DURATION", "PT5M"),
    ],
)
def test_a_value_keeps_its_type(api: Any, text: str, kind: str, value: Any) -> None:
    put = api.put(f"{KV}/a.key", content=text, headers={"content-type": "text/plain"})

    body = api.get(f"{KV}/a.key").json()

    assert put.status_code == 200
    assert (body["type"], body["value"]) == (kind, value)


def test_null_is_no_value(api: Any) -> None:
    answer = api.put(f"{KV}/a.key", content="null")

    assert (answer.status_code, answer.json()["code"]) == (422, "kv.value.invalid")
    assert api.get(f"{KV}/a.key").status_code == 404


@pytest.mark.parametrize(
    ("path", "text", "headers", "status"),
    [
        (f"{KV}/key", "not json", {}, 422),
        (f"{KV}/key", "", {}, 422),
        (f"{KV}/key", "1", {"ttl": "soon"}, 422),
        (f"{KV}/key", "1", {"ttl": "PT-5M"}, 422),
        (f"{KV}/-key", "1", {}, 422),
        ("/api/v1/main/namespaces/Company/kv/key", "1", {}, 422),
    ],
)
def test_what_cannot_be_stored_is_refused(api: Any, path: str, text: str, headers: dict[str, str], status: int) -> None:
    assert api.put(path, content=text, headers=headers).status_code == status


def test_a_missing_key_is_told_from_an_expired_one(api: Any) -> None:
    api.put(f"{KV}/short", content="1", headers={"ttl": "PT0.001S"})

    assert api.get(f"{KV}/missing").status_code == 404
    assert api.get(f"{KV}/short").status_code == 410


def test_deleting_tells_whether_there_was_a_key(api: Any) -> None:
    for key in ("a", "b", "c"):
        api.put(f"{KV}/{key}", content="1")

    first, second = api.delete(f"{KV}/a").json(), api.delete(f"{KV}/a").json()
    some = api.request("DELETE", KV, json={"keys": ["b", "nothing"]}).json()

    assert (first, second) == (True, False)
    assert some == {"keys": ["b"]}
    assert [row["key"] for row in api.get(KV).json()] == ["c"]


def test_keys_are_listed_without_values_and_only_where_the_token_counts(api: Any) -> None:
    api.put(f"{KV}/a", content='"hush"')
    api.put("/api/v1/main/namespaces/company/kv/b", content="1")
    api.put("/api/v1/main/namespaces/other/kv/c", content="1")

    everything = api.get("/api/v1/main/kv?sort=key:asc")
    narrowed = api.get("/api/v1/main/kv?filters[namespace][PREFIX]=company&size=1").json()
    theirs = api.get("/api/v1/main/kv", token="other").json()
    inherited = api.get(f"{KV}/inheritance").json()

    assert [row["key"] for row in everything.json()["results"]] == ["a", "b", "c"]
    assert "hush" not in everything.text
    assert (len(narrowed["results"]), narrowed["total"]) == (1, 2)
    assert [row["key"] for row in theirs["results"]] == ["c"]
    assert [row["key"] for row in inherited] == ["b"]


def test_a_changed_value_gets_the_next_revision(api: Any) -> None:
    api.put(f"{KV}/a", content="1")
    api.put(f"{KV}/a", content="2")

    assert api.get(f"{KV}/a").json()["revision"] == 2
