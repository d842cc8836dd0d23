from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import MainstemError, TaskError
from runner.key_values import MemoryKeyValues, typed_value
from runner.tasks.kv import Delete, Get, GetKeys, Set

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        ("text", None, ("STRING", "text")),
        ("12", None, ("STRING", "12")),
        (True, None, ("BOOLEAN", True)),
        (1.5, None, ("NUMBER", 1.5)),
        ({"a": [1]}, None, ("JSON", {"a": [1]})),
        (None, None, ("JSON", None)),
        ("12", "NUMBER", ("NUMBER", 12)),
        ("1.50", "number", ("NUMBER", 1.5)),
        ("TRUE", "BOOLEAN", ("BOOLEAN", True)),
        ("2023-05-02T01:02:03Z", "DATETIME", ("DATETIME", "2023-05-02T01:02:03Z")),
        ("2023-05-02", "DATE", ("DATE", "2023-05-02")),
        ("PT90S", "DURATION", ("DURATION", "PT1M30S")),
        ('[{"a": 1}]', "JSON", ("JSON", [{"a": 1}])),
        (5, "STRING", ("STRING", "5")),
        (datetime(2023, 5, 2, tzinfo=UTC), None, ("DATETIME", "2023-05-02T00:00:00+00:00")),
        (timedelta(seconds=5), None, ("DURATION", "PT5S")),
    ],
)
def test_a_value_is_read_as_its_kind(value: Any, kind: str | None, stored: tuple[str, Any]) -> None:
    assert typed_value(value, kind) == stored


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", "NUMBER"),
        ("nan", "NUMBER"),
        ("maybe", "BOOLEAN"),
        ("2023-05-02T01:02:03", "DATETIME"),
        ("today", "DATE"),
        ("5", "DURATION"),
        ("{", "JSON"),
        ("x", "BLOB"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(MainstemError):
        typed_value(value, kind)


def test_what_was_set_can_be_read_with_its_type(bench: Bench) -> None:
    bench.run(build(Set, key="map", value="{{ {'a': 1} }}"))
    bench.run(build(Set, key="json", value='{"b": [2]}', kvType="JSON"))
    bench.run(build(Set, key="text", value="{{ flow.id }}"))

    values = [bench.outputs(build(Get, key=key))["value"] for key in ("map", "json", "text")]

    assert values == [{"a": 1}, {"b": [2]}, "flow"]


def test_keys_are_found_in_namespaces_around_and_listed_in_their_own(bench: Bench) -> None:
    bench.run(build(Set, namespace="company", key="outer", value="o"))
    bench.run(build(Set, key="inner", value="i"))

    assert bench.outputs(build(Get, key="outer")) == {"value": "o"}
    assert bench.outputs(build(GetKeys)) == {"keys": ["inner"]}
    assert bench.outputs(build(GetKeys, prefix="x")) == {"keys": []}


def test_a_missing_key_fails_unless_it_may_be_missing(bench: Bench) -> None:
    with pytest.raises(MainstemError) as caught:
        bench.run(build(Get, key="my-key"))

    message = "No value found for key 'my-key' in namespace 'company.team' and `errorOnMissing` is set to true"
    assert caught.value.message == message
    assert bench.outputs(build(Get, key="my-key", errorOnMissing=False)) == {"value": None}
    assert bench.outputs(build(Delete, key="my-key")) == {"deleted": False}
    with pytest.raises(MainstemError):
        bench.run(build(Delete, key="my-key", errorOnMissing=True))


def test_an_existing_key_is_kept_without_overwrite(bench: Bench) -> None:
    bench.run(build(Set, key="k", value="first"))

    with pytest.raises(MainstemError, match="overwrite"):
        bench.run(build(Set, key="k", value="second", overwrite=False))

    assert bench.outputs(build(Get, key="k")) == {"value": "first"}
    assert bench.outputs(build(Delete, key="k")) == {"deleted": True}


@pytest.mark.parametrize("key", ["", ".a", "a/b", "a b", "k" * 300, "é"])
def test_a_key_is_a_plain_name(bench: Bench, key: str) -> None:
    with pytest.raises(MainstemError, match="cannot be a key"):
        bench.run(build(Set, key=key, value="x"))


@pytest.mark.parametrize("elsewhere", ["company.team", "preview.pr-8.company.team", "preview"])
def test_a_flow_of_a_preview_changes_no_key_outside_of_it(bench: Bench, elsewhere: str) -> None:
    bench.run(build(Set, key="k", value="kept", namespace=elsewhere))

    for task in (build(Set, key="k", value="x", namespace=elsewhere), build(Delete, key="k", namespace=elsewhere)):
        with pytest.raises(TaskError, match="may not change keys") as raised:
            bench.run(task, namespace="preview.pr-7.company.team")
        assert raised.value.code == "preview.boundary"

    bench.run(build(Set, key="k", value="own"), namespace="preview.pr-7.company.team")
    assert bench.run(build(Get, key="k", namespace=elsewhere)) == {"value": "kept"}
    assert bench.run(build(Get, key="k", namespace="preview.pr-7.company.team")) == {"value": "own"}


def test_a_key_is_gone_after_its_time() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    values = MemoryKeyValues(clock=lambda: now[0])
    values.put("n", "k", "v", ttl=timedelta(minutes=1))
    before = values.get("n", "k")
    now[0] += timedelta(minutes=1)

    assert before == (True, "v")
    assert values.get("n", "k") == (False, None)
    assert values.keys("n") == []
    assert values.delete("n", "k") is False
