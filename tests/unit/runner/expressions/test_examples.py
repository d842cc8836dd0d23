"""Every filter, function and test shows what it does; what the docstrings show is run here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from runner.expressions import Scope, Services, render
from runner.expressions.functions.context import parse_json_field
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS, Builtin
from runner.ids import new_id
from runner.storage.uris import namespace_file_uri


class _Outside:
    """The outside as the reference page describes it."""

    zone = ZoneInfo("Europe/Paris")
    files: Final = {"greeting.txt": b"hello"}

    def now(self) -> datetime:
        return datetime(2024, 6, 1, 12, tzinfo=UTC)

    def secret(self, key: str, _namespace: str | None = None, subkey: str | None = None) -> str:
        found = {"API_KEY": "s3cr3t", "LOGIN": '{"user": "ann"}'}[key]
        return parse_json_field(found, subkey) if subkey else found

    def kv(self, key: str, _namespace: str | None = None, *, error_on_missing: bool = True) -> Any:
        return {"region": "eu"}[key] if error_on_missing else {"region": "eu"}.get(key)

    def environment(self, name: str, default: str | None = None) -> str | None:
        return {"stage": "production"}.get(name, default)

    def error_logs(self) -> list[dict[str, Any]]:
        return [{"taskId": "load", "level": "ERROR", "message": "no such table"}]

    def tasks_with_state(self, state: str) -> list[dict[str, Any]]:
        return [{"taskId": "load", "state": state}]

    def http(self, uri: str, **_options: Any) -> Any:
        return {"https://example.com/rates": {"EUR": 1.25}}[uri]

    def read_file(self, uri_or_path: str) -> bytes:
        return self.files[uri_or_path]

    def file_size(self, uri: str) -> int:
        return len(self.files[uri])

    def file_exists(self, uri: str) -> bool:
        return uri in self.files

    def file_uri(self, path: str) -> str:
        return namespace_file_uri("company.team", path)

    def random_int(self, lower: int, upper: int) -> int:
        return range(lower, upper)[0]

    def random_bytes(self, count: int) -> bytes:
        return bytes(range(count))

    def random_port(self) -> int:
        return 20_000

    def new_id(self) -> str:
        return new_id()

    def uuid(self) -> str:
        return str(UUID(int=1))


# A task of the inner of two loops, in the iteration `x` of the iteration `a`.
_INSIDE_LOOPS = {
    "outputs": {"inner": {"a": {"x": {"value": "x of a"}}}},
    "taskrun": {"value": "x"},
    "parents": [{"taskrun": {"value": "a"}, "outputs": {"outer": {"value": "a done"}}}],
}
_NEEDS_VARIABLES = {"currentEachOutput", "parentOutput"}
_ALL = {
    f"{builtin.kind} {builtin.name}": builtin for table in (FILTERS, FUNCTIONS, TESTS) for builtin in table.values()
}


def _example(builtin: Builtin) -> tuple[str, str] | None:
    match = re.search(r"Example:\n((?:    .*\n?)+)", builtin.documentation)
    if match is None:
        return None
    template, _, result = re.sub(r"^    ", "", match[1], flags=re.MULTILINE).rstrip("\n").partition(" -> ")
    return template, result


@pytest.mark.parametrize("builtin", _ALL.values(), ids=_ALL)
def test_the_example_of_each_builtin_gives_what_it_says(builtin: Builtin) -> None:
    example = _example(builtin)
    assert example is not None, "its docstring needs an example"
    template, expected = example
    variables = _INSIDE_LOOPS if builtin.name in _NEEDS_VARIABLES else {}

    rendered = render(template, Scope(variables, cast("Services", _Outside())))

    assert rendered.rstrip("\n") == expected


@pytest.mark.parametrize("builtin", _ALL.values(), ids=_ALL)
def test_each_builtin_says_what_it_returns(builtin: Builtin) -> None:
    assert builtin.documentation.startswith("Return ")
