"""YAML made to break a loader: each ends at once, with a code, and without the process."""

from __future__ import annotations

import time

import pytest

from runner.errors import FlowError
from runner.flows.loader import load
from tests.hostile.yaml.corpus import CORPUS

pytestmark = pytest.mark.usefixtures("frozen_heap")


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_yaml_is_refused_with_its_code_and_in_time(name: str) -> None:
    source, code = CORPUS[name]
    started = time.thread_time()  # of this thread alone: other work of the machine must not fail the test

    with pytest.raises(FlowError) as caught:
        load(source, file="hostile.yaml")

    assert caught.value.code == code
    assert all(problem.line and problem.column and problem.file for problem in caught.value.problems)
    assert time.thread_time() - started < 2


@pytest.mark.parametrize("text", ["a: 1:" + ":".join(["59"] * 2_000), "a: 9999-99-99", "a: 12:30:45"])
def test_what_other_loaders_turn_into_numbers_or_dates_stays_text(text: str) -> None:
    assert load(text).value == {"a": text.removeprefix("a: ")}
