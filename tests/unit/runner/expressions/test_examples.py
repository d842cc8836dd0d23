"""Every filter, function and test shows what it does; what the docstrings show is run here."""

from __future__ import annotations

import re

import pytest

from runner.expressions import Scope, render
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS, Builtin

# These answer from services or from randomness; their own tests fill the services.
_WITHOUT_EXAMPLE = {
    "currentEachOutput", "decrypt", "encrypt", "env", "errorLogs", "fileExists", "fileSize", "fileURI", "http", "id",
    "isFileEmpty", "ksuid", "kv", "nanoId", "now", "parentOutput", "randomInt", "randomPort", "read", "secret",
    "tasksWithState", "uuid",
}  # fmt: skip
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
    if example is None:
        assert builtin.name in _WITHOUT_EXAMPLE
        return
    template, expected = example

    rendered = render(template, Scope({}))

    assert rendered.rstrip("\n") == expected


@pytest.mark.parametrize("builtin", _ALL.values(), ids=_ALL)
def test_each_builtin_says_what_it_returns(builtin: Builtin) -> None:
    assert builtin.documentation.startswith("Return ")
