"""Each hostile template through each door that templates come in by, and through those that must never render one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runner.cli.eval import command as evaluate
from runner.errors import MainstemError
from runner.executions.creation import NewExecution
from tests.hostile.expressions.corpus import ESCAPES, EXHAUSTING

Bounded = Callable[[], AbstractContextManager[None]]
TEMPLATES = [*EXHAUSTING.values(), *ESCAPES]
VARIABLES = {"text": "a" * 1000, "evil": "a" * 40 + "!", "d": {"a": {"b": ["x", "y"]}}, "grow": "{{ grow }}{{ grow }}"}
FINE = "tasks: [{id: t, type: core.debug.Return, format: fine}]\n"
HOOK = "/api/v1/main/executions/webhook/company.team/hello/s3cret"


def _flow(rest: str) -> str:
    return f"id: hello\nnamespace: company.team\nvariables: {json.dumps(VARIABLES)}\n{rest}"


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_eval_refuses_it_in_words(bounded: Bounded, tmp_path: Path, template: str) -> None:
    context = tmp_path / "context.json"
    context.write_text(json.dumps(VARIABLES))

    with bounded():
        arguments = ["-", "--context", str(context)]
        result = CliRunner().invoke(evaluate, arguments, input=template, standalone_mode=False)

    assert (result.return_value, result.exception) == (1, None)
    assert re.search(r"\b(expression|storage|namespace)\.[a-z.]+", result.output)
    assert len(result.output) < 20_000


def _ended(api: Any, template: str, rest: str) -> Iterator[tuple[str, str]]:
    """Yield the state and the reason of an execution of a flow that holds the template; nothing when it is refused."""
    try:
        api.store_flow(_flow(rest % json.dumps(template)))
        execution = api.services.engine.create(NewExecution("company.team", "hello"))
    except MainstemError:
        return
    ended = api.wait_for(execution.id, "FAILED", "SUCCESS", "WARNING")
    runs = api.services.store.read(lambda db: db.executions.runs(execution.id))
    yield ended["state"]["current"], " ".join(str(run.error) for run in runs if run.error)


PLACES = {
    "a task": "tasks: [{id: t, type: core.debug.Return, format: %s}]\n",
    "a condition": "tasks: [{id: i, type: core.flow.If, condition: %s, then: [{id: t, type: core.log.Log, "
    "message: x}]}]\n",
    "values of a loop": "tasks: [{id: l, type: core.flow.ForEach, values: %s, tasks: [{id: t, type: core.log.Log, "
    "message: x}]}]\n",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_task_that_holds_it_fails_with_the_reason(api: Any, bounded: Bounded, place: str) -> None:
    wrong, count = [], 0
    for template in TEMPLATES:
        with bounded():
            ended = list(_ended(api, template, PLACES[place]))
        count += len(ended)
        if any(state != "FAILED" or not reason for state, reason in ended):
            wrong.append((template[:100], ended))

    api.store_flow(_flow(FINE))
    fine = api.services.engine.create(NewExecution("company.team", "hello"))

    assert wrong == []
    assert count > len(TEMPLATES) / 2  # the others do not even become a flow
    assert api.wait_for(fine.id, "FAILED", "SUCCESS")["state"]["current"] == "SUCCESS"


HOOKED = """\
id: hello
namespace: company.team
inputs: [{id: text, type: STRING, required: false}]
tasks: [{id: back, type: core.debug.Return, format: "{{ trigger.body.text ?? inputs.text }}"}]
outputs: [{id: text, type: STRING, value: "{{ outputs.back.value }}"}]
triggers: [{id: hook, type: core.trigger.Webhook, key: s3cret, wait: true, returnOutputs: true}]
"""


def _short() -> list[str]:
    return ["{{ secret('X') }}", *(template for template in TEMPLATES if len(template) < 60_000)]


def test_a_webhook_body_is_never_rendered(api: Any, bounded: Bounded) -> None:
    api.store_flow(HOOKED)
    changed = []

    for template in _short():
        with bounded():
            answer = api.post(HOOK, token=None, json={"text": template}).json()
        if answer["outputs"] != {"text": template}:
            changed.append((template[:100], answer["state"]))

    assert changed == []


def test_inputs_and_labels_are_never_rendered(api: Any, bounded: Bounded) -> None:
    api.store_flow(HOOKED)
    changed = []

    for template in _short():
        labels = {"given": template} if len(template) < 200 else {}
        with bounded():
            execution = api.services.engine.create(
                NewExecution("company.team", "hello", inputs={"text": template}, labels=labels)
            )
            ended = api.wait_for(execution.id, "FAILED", "SUCCESS")
        found = {label["key"]: label["value"] for label in ended["labels"]}
        if ended["outputs"] != {"text": template} or not labels.items() <= found.items():
            changed.append((template[:100], ended["state"]["current"], found))

    assert changed == []
