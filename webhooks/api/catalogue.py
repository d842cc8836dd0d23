"""What flows may be made of: types of tasks and triggers, schemas, inputs, functions and filters."""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import Any, Final

import runner
from runner.access import Permission
from runner.errors import NotFoundError
from runner.expressions.registry import FILTERS, FUNCTIONS
from runner.flows.casts import INPUT_TYPES
from runner.flows.registry import TypeKind, find, short, types
from runner.flows.schema import flow_schema, suite_schema, type_schema
from webhooks.answers.instance import DOCUMENTATION, FUNCTION, INPUT_TYPE, PLUGIN
from webhooks.call import Call, page_of
from webhooks.filters import in_order
from webhooks.parameters import flag, paging
from webhooks.routes import Endpoint
from webhooks.schemas import MAP, TEXT, listed, page

BASE: Final = "/api/v1/plugins"
_SIZE: Final = 1_000
_PREFIX: Final = "io.kestra.plugin."
_LISTS: Final = {
    TypeKind.TASK: "tasks",
    TypeKind.TRIGGER: "triggers",
    TypeKind.CONDITION: "conditions",
}


def plugins(call: Call) -> dict[str, Any]:
    """Answer with a page of groups of types, `core.log` for example, each with its tasks and triggers."""
    pages = call.paging()
    rows = in_order(_groups(), pages.sort, {"name": itemgetter("name"), "group": itemgetter("group")})
    return page_of(rows[pages.offset : pages.offset + pages.size], len(rows))


def subgroups(_call: Call) -> list[dict[str, Any]]:
    """Answer with all groups of types."""
    return _groups()


def triggers(_call: Call) -> dict[str, Any]:
    """Answer with the groups that have triggers."""
    rows = [row for row in _groups() if row["triggers"]]
    return page_of(rows, len(rows))


def _groups() -> list[dict[str, Any]]:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: {name: [] for name in _LISTS.values()})
    for kind, name in _LISTS.items():
        for each in types(kind):
            found[each.rpartition(".")[0]][name].append(f"{_PREFIX}{each}")
    return [
        {"name": group, "title": group, "group": f"{_PREFIX}{group}", "version": runner.__version__, **lists}
        for group, lists in sorted(found.items())
    ]


def documentation(call: Call) -> dict[str, Any]:
    """Answer with the text and the schema of one type."""
    name = call.path("cls")
    for kind in TypeKind:
        cls = find(kind, name)
        if cls is not None:
            properties = type_schema(name)
            text = (cls.__doc__ or "").strip()
            return {"markdown": f"# {short(name)}\n\n{text}\n", "schema": {"properties": properties, "outputs": {}}}
    raise NotFoundError("schema.type.unknown", f"there is no type {name[:200]!r}")


def schema(call: Call) -> dict[str, Any]:
    """Answer with the JSON Schema of flows (`flow`) or of files of flow tests (`testsuites`)."""
    name = call.path("type").lower()
    if name == "flow":
        return flow_schema()
    if name == "testsuites":
        return suite_schema()
    raise NotFoundError("schema.type.unknown", f"there is no schema of {name[:40]!r}", hint="ask for flow, testsuites")


def properties(call: Call) -> dict[str, Any]:
    """Answer with the properties of that schema alone."""
    whole = schema(call)
    place = whole["allOf"][0] if "allOf" in whole else whole["else"]
    found: dict[str, Any] = whole["definitions"][place["$ref"].rpartition("/")[2]].get("properties", {})
    return found


def inputs(_call: Call) -> list[dict[str, str]]:
    """Answer with the types of inputs."""
    return [{"type": name, "cls": f"io.kestra.core.models.flows.input.{_camel(name)}Input"} for name in _input_types()]


def input_type(call: Call) -> dict[str, Any]:
    """Answer with one type of input."""
    name = call.path("type").upper()
    if name not in INPUT_TYPES:
        raise NotFoundError("schema.type.unknown", f"there is no type of input {name[:40]!r}")
    return {"markdown": f"# {name}\n", "schema": {"properties": {}, "type": name}}


def _input_types() -> list[str]:
    return sorted(INPUT_TYPES)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def filters(_call: Call) -> list[str]:
    """Answer with the names of all filters of expressions."""
    return sorted(FILTERS)


def functions(_call: Call) -> list[dict[str, Any]]:
    """Answer with all functions of expressions and their arguments."""
    return [
        {"name": name, "arguments": [{"name": each, "defaultValue": None} for each in builtin.parameters]}
        for name, builtin in sorted(FUNCTIONS.items())
    ]


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag, groups = Permission.CONFIG_READ, "catalogue", "Groups that have triggers"
    text_of = "The text and schema of a type"
    every = (flag("all", "Not looked at: all properties are always there."),)
    shape = (
        flag("arrayOf", "Not looked at."),
        flag("includeCatalog", "Not looked at: all types are always there."),
    )
    return [
        Endpoint(
            "GET", BASE, read, plugins, "A page of groups of types", tag, query=paging(_SIZE), answer=page(PLUGIN)
        ),
        Endpoint("GET", BASE + "/groups/subgroups", read, subgroups, "All groups of types", tag, answer=listed(PLUGIN)),
        Endpoint("GET", BASE + "/triggers", read, triggers, groups, tag, answer=page(PLUGIN)),
        Endpoint(
            "GET",
            BASE + "/schemas/{type}",
            read,
            schema,
            "The JSON Schema of flows or their tests",
            tag,
            query=shape,
            answer=MAP,
        ),
        Endpoint(
            "GET", BASE + "/properties/{type}", read, properties, "The properties of that schema", tag, answer=MAP
        ),
        Endpoint("GET", BASE + "/inputs", read, inputs, "Types of inputs", tag, answer=listed(INPUT_TYPE)),
        Endpoint("GET", BASE + "/inputs/{type}", read, input_type, "One type of input", tag, answer=DOCUMENTATION),
        Endpoint("GET", BASE + "/{cls}", read, documentation, text_of, tag, query=every, answer=DOCUMENTATION),
        Endpoint("GET", "/api/v1/pebble/filters", read, filters, "Filters of expressions", tag, answer=listed(TEXT)),
        Endpoint(
            "GET", "/api/v1/pebble/functions", read, functions, "Functions of expressions", tag, answer=listed(FUNCTION)
        ),
    ]
