"""Files of keys: what they may say, and where it is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runner.flows.seeds import MOST_SEEDS, SeedFile, parse_seeds


def parse(text: str, namespace: str | None = "team") -> SeedFile:
    return parse_seeds(text.encode(), file="flows/team/_kv.yaml", namespace=namespace)


@pytest.mark.parametrize(
    ("said", "kind", "value"),
    [
        ("hello", "STRING", "hello"),
        ("0.07", "NUMBER", 0.07),
        ("true", "BOOLEAN", True),
        ("{small: 10}", "JSON", {"small": 10}),
        ("[1, two]", "JSON", [1, "two"]),
        ("2026-12-24", "STRING", "2026-12-24"),
        ("{value: 2026-12-24, type: date}", "DATE", "2026-12-24"),
        ("{value: PT90M, type: DURATION}", "DURATION", "PT1H30M"),
        ("{value: '2026-12-24T08:00:00Z', type: DATETIME}", "DATETIME", "2026-12-24T08:00:00Z"),
        ("{value: '7', type: NUMBER}", "NUMBER", 7),
        ("{value: {value: 1}}", "JSON", {"value": 1}),
    ],
)
def test_a_value_has_the_type_that_it_looks_like_or_that_is_named(said: str, kind: str, value: Any) -> None:
    file = parse(f"rate: {said}\n")

    (seed,) = file.seeds
    assert file.problems == ()
    assert (seed.namespace, seed.key, seed.kind, seed.value, seed.line) == ("team", "rate", kind, value, 1)


def test_a_key_may_end_be_described_and_win_over_run_time() -> None:
    file = parse("rate: {value: 1, ttl: P30D, description: of the month, overwrite: true}\n")

    (seed,) = file.seeds
    assert (seed.ttl, seed.description, seed.overwrite) == (timedelta(days=30), "of the month", True)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("- rate\n", "seed.file.invalid", 1),
        ("a: 1\nrate: null\n", "kv.value.invalid", 2),
        ("a: 1\nrate: {value: null}\n", "kv.value.invalid", 2),
        ("a: 1\n'not a key': 2\n", "kv.key.invalid", 2),
        ("a: 1\nrate: {value: abc, type: NUMBER}\n", "kv.value.invalid", 2),
        ("a: 1\nrate: {value: abc, type: WORD}\n", "kv.type.unknown", 2),
        ("a: 1\nrate: {value: abc, type: [1]}\n", "seed.option.invalid", 2),
        ("a: 1\nrate: {value: 1, tpye: NUMBER}\n", "seed.option.invalid", 2),
        ("a: 1\nrate: {value: 1, overwrite: perhaps}\n", "seed.option.invalid", 2),
        ("a: 1\nrate: {value: 1, description: [1]}\n", "seed.option.invalid", 2),
        ("a: 1\nrate: {value: 1, ttl: -PT1S}\n", "kv.ttl.invalid", 2),
        ("a: 1\nrate: {value: 1, ttl: P9999999D}\n", "kv.ttl.invalid", 2),
        (f"a: 1\nrate: {'1' * 40}\n", "kv.value.invalid", 2),
        (f"a: 1\nrate: {{b: [{'1' * 40}]}}\n", "kv.value.invalid", 2),
        ("a: 1\nrate: {value: 1, ttl: tomorrow}\n", "duration.invalid", 2),
        ("a: 1\na: 2\n", "yaml.key.duplicate", 2),
        ("a: [1\n", "yaml.syntax.invalid", 2),
        ("".join(f"k{number}: 1\n" for number in range(MOST_SEEDS + 1)), "seed.file.invalid", 1),
    ],
)
def test_a_file_with_a_mistake_says_where_and_seeds_nothing(text: str, code: str, line: int) -> None:
    file = parse(text)

    assert [(each.code, each.file, each.line) for each in file.problems] == [(code, "flows/team/_kv.yaml", line)]
    assert file.seeds == ()


@pytest.mark.parametrize("namespace", [None, "Not One"])
def test_keys_stand_in_the_folder_of_a_namespace(namespace: str | None) -> None:
    file = parse("rate: 1\n", namespace)

    assert [each.code for each in file.problems] == ["seed.namespace.missing"]
    assert file.seeds == ()
