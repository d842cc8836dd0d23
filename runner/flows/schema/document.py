"""The whole schema, in draft 7: the newest draft that yaml-language-server and the editors on it read in full."""

from __future__ import annotations

from typing import Any

from runner import __version__
from runner.errors import FlowError, NotFoundError
from runner.flows import registry
from runner.flows.models import NAMESPACE, Flow, PluginDefault
from runner.flows.registry import TypeKind
from runner.flows.schema.definitions import Definitions
from runner.flows.schema.texts import of_fields
from runner.flows.schema.values import Schema
from runner.flows.spelling import nearest
from task_runners.errors import TaskRunnerError
from task_runners.registry import canonical_name, runner_class, runner_names

_DRAFT = "http://json-schema.org/draft-07/schema#"


def flow_schema() -> dict[str, Any]:
    """Return the schema of a flow file, with all types that are registered in this installation."""
    found: dict[str, Schema] = {}
    strict, defaulted = Definitions(found).model(Flow), Definitions(found, defaulted=True).model(Flow)
    return {
        "$schema": _DRAFT,
        "title": "Mainstem flow",
        "description": f"A flow, as Mainstem {__version__} reads it.",
        "if": {"anyOf": [{"required": ["pluginDefaults"]}, {"required": ["taskDefaults"]}]},
        "then": defaulted,
        "else": strict,
        "definitions": dict(sorted(found.items())),
    }


def defaults_schema() -> dict[str, Any]:
    """Return the schema of a file of plugin defaults and variables, `_defaults.yaml`."""
    found: dict[str, Schema] = {}
    listed = Definitions(found).model(PluginDefault)
    return {
        "$schema": _DRAFT,
        "title": "Mainstem plugin defaults",
        "description": f"What flows of a namespace and of those below it get, as Mainstem {__version__} reads them.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "namespace": {"type": "string", "pattern": NAMESPACE},
            "description": {"type": "string"},
            "pluginDefaults": {"type": "array", "items": listed},
            "variables": {"type": "object"},
        },
        "definitions": dict(sorted(found.items())),
    }


def repository_schema() -> dict[str, Any]:
    """Return the schema of `.mainstem.yaml`, what a repository says of itself."""
    from runner import rules

    texts = of_fields(rules)
    made = rules.RepositoryRules.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions = made.pop("$defs")
    for name, part in {"RepositoryRules": made, **definitions}.items():
        aliases = {field.alias: key for key, field in getattr(rules, name).model_fields.items()}
        for alias, schema in part["properties"].items():
            schema["description"] = texts[name, aliases[alias]]
    about = f"What a repository says of itself, as Mainstem {__version__} reads it."
    return {"$schema": _DRAFT, **made, "title": "Mainstem repository", "description": about, "definitions": definitions}


def suite_schema() -> dict[str, Any]:
    """Return the schema of a file of flow tests."""
    from runner.flowtests.models import Suite

    found: dict[str, Schema] = {}
    suite = Definitions(found).model(Suite)
    about = f"Tests of a flow, as Mainstem {__version__} runs them."
    return {
        "$schema": _DRAFT,
        "title": "Mainstem flow tests",
        "description": about,
        "allOf": [suite],
        "definitions": dict(sorted(found.items())),
    }


def type_schema(name: str) -> dict[str, Any]:
    """Return the schema of one task, trigger, condition or task runner; `name` is any spelling of its type.

    Raises:
        NotFoundError: `schema.type.unknown`.
    """
    kind, short = _found(name)
    found: dict[str, Schema] = {}
    schema = Definitions(found).of_type(kind, short)
    return {"$schema": _DRAFT, "title": short, **schema, "definitions": dict(sorted(found.items()))}


def _found(name: str) -> tuple[TypeKind | None, str]:
    for kind in TypeKind:
        try:
            if registry.find(kind, name) is not None:
                return kind, registry.short(name) if registry.short(name) in registry.types(kind) else name
        except FlowError:
            continue  # a plugin that cannot be imported has no properties to show
    try:
        runner_class(name)
    except (TaskRunnerError, ImportError):
        known = [*runner_names(), *(short for kind in TypeKind for short in registry.types(kind))]
        found = nearest(registry.short(name), known)
        hint = f"did you mean {found!r}?" if found else None
        raise NotFoundError("schema.type.unknown", f"no type named {name!r}", hint=hint) from None
    return None, canonical_name(name)
