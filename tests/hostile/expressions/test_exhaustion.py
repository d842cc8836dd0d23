"""Expressions that try to fill the memory, to keep a thread busy, or to reach what they must not."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

from runner.errors import ExpressionError
from runner.expressions import Scope, render
from tests.hostile.expressions.corpus import ESCAPES, EXHAUSTING

_WORST_S = 1.0
_CONTEXT: dict[str, Any] = {
    "o": time,
    "f": time.monotonic,
    "text": "a" * 1000,
    "evil": "a" * 40 + "!",
    "d": {"a": {"b": ["x", "y"]}},
}


@pytest.fixture(autouse=True, scope="module")
def _thaw() -> Iterator[None]:
    """Let the collector see everything again when the module has ended."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _without_the_rest(_thaw: None) -> None:
    """Keep the collector off what other tests left: going through all of it takes longer than what is measured here."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("template", EXHAUSTING.values(), ids=EXHAUSTING)
def test_exhausting_templates_end_soon_in_a_typed_error(template: str) -> None:
    scope = Scope(_CONTEXT | {"grow": "{{ grow }}{{ grow }}"})
    started = time.thread_time()  # of this thread alone: other work of the machine must not fail the test

    with pytest.raises(ExpressionError):
        render(template, scope)

    assert time.thread_time() - started < _WORST_S


@pytest.mark.parametrize("template", ESCAPES)
def test_nothing_of_python_or_of_the_host_can_be_reached(template: str) -> None:
    own = {"flow": {"namespace": "ns", "id": "flow"}, "execution": {"id": "e1"}}

    with pytest.raises(ExpressionError):
        render(template, Scope(_CONTEXT | own))


def test_the_format_of_python_is_none_of_the_filter() -> None:
    assert render("{{ '{0.__class__}' | format('x') }}", Scope({})) == "{0.__class__}"


def test_a_webhook_body_with_an_expression_comes_out_as_it_is() -> None:
    body = {"text": "{{ secret('X') }}{% for i in 1..9 %}{% endfor %}"}

    assert render("{{ trigger.body.text }}", Scope({"trigger": {"body": body}})) == body["text"]
    assert "secret('X')" in render("{{ trigger.body }}", Scope({"trigger": {"body": body}}))


def test_large_work_within_the_limits_is_done() -> None:
    text = render("{% for i in 1..5000 %}{{ i }},{% endfor %}", Scope({}))

    assert text.endswith("5000,")
