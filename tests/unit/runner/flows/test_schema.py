"""The JSON Schema of flows: valid itself, as strict as `validate` on properties, told in full."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.errors import NotFoundError
from runner.flows import models, registry
from runner.flows.aliases import canonical, spellings
from runner.flows.build import field_names
from runner.flows.loader import load_value
from runner.flows.parse import parse_flow
from runner.flows.registry import TypeKind
from runner.flows.schema import flow_schema, suite_schema, texts, type_schema
from runner.flowtests import models as tests
from task_runners.registry import canonical_name, runner_names
from task_runners.registry import spellings as runner_spellings
from tests.rich_flow import RICH, changed, paths

FLOWS = Path(__file__).parents[4] / "examples" / "flows"
EXAMPLES = sorted(path for path in FLOWS.rglob("*.yaml") if path.parent.name not in {"tests", "_dashboards"})
GOOD: dict[str, Any] = {
    "id": "a",
    "namespace": "company",
    "tasks": [
        {"id": "say", "type": "core.log.Log", "message": "hi"},
        {
            "id": "outer",
            "type": "io.kestra.plugin.core.flow.Parallel",
            "tasks": [{"id": "nap", "type": "core.flow.Sleep", "duration": "PT1S", "retry": {"type": "constant"}}],
        },
        {
            "id": "run",
            "type": "scripts.shell.Commands",
            "commands": ["ls"],
            "taskRunner": {"type": "core.runner.Process"},
        },
    ],
    "triggers": [
        {
            "id": "daily",
            "type": "core.trigger.Schedule",
            "cron": "@daily",
            "conditions": [{"type": "core.condition.Not", "conditions": [{"type": "core.condition.Weekend"}]}],
        }
    ],
}


@pytest.fixture(scope="module")
def validator() -> Any:
    remembering = jsonschema.validators.extend(jsonschema.Draft7Validator, {"allOf": _all_of_once()})
    return remembering(flow_schema())


def _all_of_once() -> Callable[..., Iterator[Any]]:
    """Return `allOf` as the draft has it, but what passed a schema is not held against it again.

    Thousands of flows here differ from each other in one place, and each task is held against the schema of each type.
    """
    passed: set[tuple[int, str]] = set()
    all_of = jsonschema.Draft7Validator.VALIDATORS["allOf"]

    def once(validator: Any, parts: Any, instance: Any, schema: Any) -> Iterator[Any]:
        key = (id(parts), repr(instance))  # parts of one schema, which lives as long as its validator
        if key not in passed:
            is_good = True
            for error in all_of(validator, parts, instance, schema):
                is_good = False
                yield error
            if is_good:
                passed.add(key)

    return once


def _changed(path: str, value: Any, *, name: str | None = None) -> dict[str, Any]:
    """Return the good flow with `value` at `path`; None removes it, `name` gives the property another name."""
    changed = holder = copy.deepcopy(GOOD)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for key in way:
        holder = holder[key]  # type: ignore[index] # lists and maps in turn
    if value is None:
        del holder[last]  # type: ignore[arg-type] # a key of a map
    else:
        holder[name or last] = value  # type: ignore[index] # as above
    return changed


def _told(validator: Any, flow: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the place and sentence of each error, inside alternatives too."""

    def leaves(error: Any) -> Iterator[Any]:
        yield error
        for inner in error.context:
            yield from leaves(inner)

    found = [leaf for error in validator.iter_errors(flow) for leaf in leaves(error)]
    return [(".".join(map(str, error.absolute_path)), error.message) for error in found]


def test_the_schema_is_a_schema_of_its_draft() -> None:
    schema = flow_schema()

    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_every_reference_leads_somewhere() -> None:
    schema = flow_schema()

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in set(references(schema)):
        found: Any = schema
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found is not None, reference


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_flows_pass(validator: Any, path: Path) -> None:
    validator.validate(load_value(path.read_bytes()))


def test_the_good_flow_passes(validator: Any) -> None:
    assert _told(validator, GOOD) == []


@pytest.mark.parametrize(
    ("flow", "place", "sentence"),
    [
        (_changed("task", []), "", "'task' was unexpected"),
        (_changed("id", None), "", "'id' is a required property"),
        (_changed("id", "my#flow"), "id", "'my#flow' does not match"),
        (_changed("tasks", []), "tasks", "[] should be non-empty"),
        (_changed("tasks.0.message", "hi", name="mesage"), "tasks.0", "'mesage' was unexpected"),
        (_changed("tasks.0.message", None), "tasks.0", "'message' is a required property"),
        (_changed("tasks.0.type", "core.log.Lgo"), "tasks.0.type", "'core.log.Lgo' is not one of"),
        (_changed("tasks.0.type", None), "tasks.0", "'type' is a required property"),
        (_changed("tasks.0.disabled", "perhaps"), "tasks.0.disabled", "'perhaps' is not of type 'boolean'"),
        (_changed("tasks.0.timeout", "5 minutes"), "tasks.0.timeout", "'5 minutes' does not match"),
        (_changed("tasks.1.tasks.0.duration", "soon"), "tasks.1.tasks.0.duration", "'soon' does not match"),
        (_changed("tasks.1.tasks.0.x", 1), "tasks.1.tasks.0", "'x' was unexpected"),
        (_changed("tasks.1.tasks.0.retry.type", "often"), "tasks.1.tasks.0.retry.type", "'often' is not one of"),
        (_changed("tasks.2.taskRunner.type", "core.runner.Proces"), "tasks.2.taskRunner.type", "is not one of"),
        (_changed("tasks.2.taskRunner.image", "alpine"), "tasks.2.taskRunner", "'image' was unexpected"),
        (_changed("triggers.0.cron", None), "triggers.0", "'cron' is a required property"),
        (_changed("triggers.0.conditions.0.conditions.0.typ", 1), "triggers.0.conditions.0.conditions.0", "'typ' was"),
        (_changed("inputs", [{"id": "x", "type": "STRNG"}]), "inputs.0.type", "'STRNG' is not one of"),
        (_changed("inputs", [{"type": "STRING"}]), "inputs.0", "'id' is a required property"),
        (_changed("labels", {"a": {"b": 1}}), "labels.a", "is not of type"),
        (_changed("concurrency", {"limit": 0}), "concurrency.limit", "0 is less than or equal to the minimum of 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_told_at_its_property(validator: Any, flow: dict[str, Any], place: str, sentence: str) -> None:
    told = _told(validator, flow)

    assert any(where == place and sentence in what for where, what in told), told


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("namespace", None),  # the folder gives it
        ("labels", [{"key": "a", "value": 1}]),
        ("inputs", [{"name": "x", "type": "int", "defaults": 5}]),
        ("revision", 4),
        ("tasks.0.when", "{{ inputs.x }}"),
        ("tasks.0.run_if", "{{ inputs.x }}"),
        ("tasks.0.timeout", "{{ inputs.wait }}"),
        ("tasks.0.disabled", "yes"),
        ("tasks.0.message", ["a", "b"]),
        ("tasks.1.concurrent", "4"),
        ("tasks.2.taskRunner", {"type": "docker", "pullPolicy": "{{ vars.policy }}", "memory": {"memory": "1G"}}),
        ("retry", {"type": "CONSTANT", "interval": "pt5s", "maxAttempt": 3}),
    ],
)
def test_every_form_that_is_read_is_accepted(validator: Any, path: str, value: Any) -> None:
    flow = _changed(path, value)

    assert _told(validator, flow) == []


def test_a_section_may_be_empty(validator: Any) -> None:
    assert _told(validator, {**GOOD, "errors": None, "triggers": None, "labels": None}) == []


def test_properties_that_a_plugin_default_gives_need_not_stand_in_the_task(validator: Any) -> None:
    flow = _changed("tasks.0.message", None)
    flow["pluginDefaults"] = [{"type": "core.log.Log", "values": {"message": "hi"}}]

    misspelt = copy.deepcopy(flow)
    misspelt["tasks"][1]["tasks"][0]["duraton"] = "PT1S"

    assert _told(validator, flow) == []
    assert ("tasks.1.tasks.0", "Additional properties are not allowed ('duraton' was unexpected)") in _told(
        validator, misspelt
    )


@pytest.mark.parametrize("kind", TypeKind)
def test_every_spelling_of_a_type_is_accepted(validator: Any, kind: TypeKind) -> None:
    wrong = []
    for name in registry.types(kind):
        for spelling in spellings(name):
            thing = {"id": "x", "type": spelling, "no-such": 1}
            place = {"task": "tasks.0", "trigger": "triggers.0", "condition": "triggers.0.conditions.0"}[kind.value]
            told = _told(validator, _changed(place, thing))
            if any(where == f"{place}.type" for where, _ in told) or not any("'no-such'" in what for _, what in told):
                wrong.append(spelling)

    assert wrong == []


def test_spellings_lead_back_to_their_type() -> None:
    for kind in TypeKind:
        for name in registry.types(kind):
            assert spellings(name)[0] == registry.short(name)
            assert {canonical(spelling) for spelling in spellings(name)} == {canonical(name)}
    for name in runner_names():
        assert {canonical_name(spelling) for spelling in runner_spellings(name)} == {name}
    assert "io.kestra.core.tasks.flows.WaitFor" in spellings("core.flow.LoopUntil")
    assert "io.kestra.core.models.conditions.types.VariableCondition" in spellings("core.condition.Expression")


def _misspelt(value: Any) -> Iterator[Any]:
    """Yield copies of a tree in which one property has a letter too many."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if isinstance(key, str):
            yield {f"{name}x" if name == key else name: item for name, item in value.items()}
        for inner in _misspelt(value[key]):
            changed = copy.copy(value)
            changed[key] = inner
            yield changed


def test_what_validate_calls_an_unknown_property_the_schema_refuses(validator: Any) -> None:
    import yaml

    unnoticed = []
    for flow in _misspelt(GOOD):
        codes = [problem.code for problem in parse_flow(yaml.safe_dump(flow, sort_keys=False)).problems]
        if any(code.endswith((".property.unknown", ".property.missing")) for code in codes) and validator.is_valid(
            flow
        ):
            unnoticed.append((flow, codes))

    assert unnoticed == []


# Where the schema is stricter on purpose: what is read without effect should not be written.
STRICTER = {("sla", 0, "labels"), ("tasks", 5, "docker")}


@pytest.mark.parametrize("new", ["gone", None, 5, "x", [], {}, {"x": 1}, True, "PT5S", "{{ x }}"], ids=str)
def test_what_validate_takes_the_schema_takes_whatever_part_of_a_flow_is_changed(validator: Any, new: Any) -> None:
    tree = load_value(RICH)
    refused = []

    for path in paths(tree):
        text = changed(tree, path, new)
        if path[:3] not in STRICTER and parse_flow(text).flow is not None and not validator.is_valid(load_value(text)):
            refused.append(path)

    assert refused == []


SHARED = (
    models.Flow, models.Task, models.Trigger, models.Condition, models.Input, models.DependsOn, models.Output,
    tests.Suite, tests.Case, tests.Fixtures, tests.TaskFixture, tests.TriggerFixture, tests.Assertion,
    models.Retry, models.Concurrency, models.PluginDefault, models.Sla, models.Check, models.Listener,
)  # fmt: skip


@pytest.mark.parametrize("cls", SHARED, ids=lambda cls: cls.__name__)
def test_every_property_of_the_language_is_described(cls: type[models.Model]) -> None:
    missing = [name for name, field in field_names(cls).items() if not texts.of_property(cls, field, name)]

    assert missing == []


def test_no_text_describes_a_property_that_is_not_there() -> None:
    schema = flow_schema()["definitions"] | suite_schema()["definitions"]

    stray = [
        f"{name}.{word}"
        for name, words in texts.shared().items()
        for word in words
        if word not in schema.get(name, schema.get(f"core.trigger.{name}", {})).get("properties", {})
        and name != "Condition"
    ]

    assert stray == []


def test_a_type_and_its_properties_carry_what_their_docstring_says() -> None:
    log = flow_schema()["definitions"]["core.log.Log"]

    assert log["description"].startswith("Write one log line for each message.")
    assert log["properties"]["message"]["description"] == "`message` is a text or a list of texts;"
    assert log["properties"]["level"]["default"] == "INFO"


def test_tests_of_flows_have_a_schema_too() -> None:
    schema = suite_schema()
    validator = jsonschema.Draft7Validator(schema)
    suites = [path for path in FLOWS.rglob("*.yaml") if path.parent.name == "tests"]

    jsonschema.Draft7Validator.check_schema(schema)
    assert suites
    for path in suites:
        validator.validate(load_value(path.read_bytes()))
    suite = {"id": "s", "namespace": "x", "flowId": "a", "testCases": [{"id": "one", "assertion": []}]}
    assert _told(validator, suite) == [
        ("testCases.0", "Additional properties are not allowed ('assertion' was unexpected)")
    ]


def test_one_type_alone_is_a_schema_too() -> None:
    schema = type_schema("io.kestra.plugin.core.flow.Parallel")

    validator = jsonschema.Draft7Validator(schema)
    assert schema["title"] == "core.flow.Parallel"
    assert validator.is_valid(GOOD["tasks"][1])
    assert not validator.is_valid({"type": "core.flow.Parallel"})
    assert type_schema("docker")["title"] == "scripts.runner.docker.Docker"
    with pytest.raises(NotFoundError) as caught:
        type_schema("core.log.Lgo")
    assert caught.value.hint == "did you mean 'core.log.Log'?"
