"""Makes wrong expectations out of right ones: for each value that a case expects, a copy with that value wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Case = Mapping[str, Any]

_ANOTHER_TIME = "2001-02-03T04:05:06+00:00"
_NO_EXPECTATIONS = frozenset({"flow", "within_seconds", "may_end_after_parent", "ordered"})
"""What stands among expectations and says where to look, or for how long."""
_OPPOSITES = {"not_state": "state", "logs_not_contain": "logs_contain"}
_WHOLE: dict[str, Callable[[Any], Any]] = {
    "pattern": lambda _: "'wrong'",
    "regex": lambda _: "(?!)",
    "one_of": lambda _: ["wrong"],
    "int_between": lambda limits: [limits[1] + 1, limits[1] + 2],
    "datetime": lambda _: _ANOTHER_TIME,
    "schedule_date": lambda _: _ANOTHER_TIME,
    "duration": lambda _: "PT1234S",
    "datetime_within_seconds_of_now": lambda _: -1,
    "trigger_variables": lambda dates: dict.fromkeys(dates, _ANOTHER_TIME),
    "trigger_variables_absent": lambda names: [*names, "date"],
}
"""Values that are wrong as a whole, by the names of the expectations or matchers."""


def flipped(case: Case) -> Iterator[tuple[str, Case]]:
    """Yield copies of a case in which one expected value is wrong, with the place of that value."""
    unchecked = set(case.get("expect_on_steps") or ()) if case.get("steps") else set()
    expect = case.get("expect")
    for place, wrong in _wrong(expect, "expect"):
        if not isinstance(expect, Mapping) or place.split(".")[1] not in unchecked:
            yield place, {**case, "expect": wrong}
    for number, step in enumerate(case.get("steps") or ()):
        for place, wrong in _wrong(step.get("expect") or {}, f"steps.{number}.expect"):
            steps = [*case["steps"][:number], {**step, "expect": wrong}, *case["steps"][number + 1 :]]
            yield place, {**case, "steps": steps}


def _wrong(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    name = place.rpartition(".")[2]
    if name in _WHOLE:
        yield place, _WHOLE[name](value)
    elif isinstance(value, Mapping):
        yield from _wrong_map(value, place)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            for inner, wrong in _wrong(item, f"{place}.{number}"):
                yield inner, [*value[:number], wrong, *value[number + 1 :]]
        if not value:
            yield place, ["wrong"]
    else:
        yield place, _other(value, is_least=name.startswith("min_") or ".min_" in place)


def _wrong_map(value: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    if "not" in value:
        yield f"{place}.not", value["not"]
        return
    for key, item in value.items():
        rest = {name: kept for name, kept in value.items() if name != key}
        if key in _OPPOSITES:
            yield f"{place}.{key}", {**rest, _OPPOSITES[key]: item}
        elif key not in _NO_EXPECTATIONS:
            for inner, wrong in _wrong(item, f"{place}.{key}"):
                yield inner, {**value, key: wrong}


def _other(value: Any, *, is_least: bool) -> Any:
    """Return a value that is not the given one; if that is the least of what is expected, one far above."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + (1000 if is_least else 1)
    return f"{value}-wrong" if isinstance(value, str) else "wrong"
