"""Files `_defaults.yaml`: plugin defaults of a namespace and of all below it.

A file holds `pluginDefaults`, as a flow does, and may name its `namespace`; else its folder gives it, and the top
folder stands for all namespaces. Of several defaults that match, those of the flow come first, then those of the
nearest namespace (see `runner.flows.plugin_defaults`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runner.errors import FlowError, Problem, Severity
from runner.flows import dialect
from runner.flows.build import Builder
from runner.flows.check import Places, check_flow
from runner.flows.loader import Document, examine
from runner.flows.models import NAMESPACE
from runner.flows.plugin_defaults import Default, defaults_of
from runner.flows.templates import TemplateCheck

NAMES: Final = ("_defaults.yaml", "_defaults.yml")
EVERY: Final = ""
"""Stands for all namespaces."""

_KEYS: Final = frozenset({"namespace", "pluginDefaults"})
_STATED: Final = re.compile(r"^namespace:[ \t]*['\"]?([A-Za-z0-9._-]+)", re.MULTILINE)
_MOST_BYTES: Final = 1 << 20
# What makes a flow of the defaults, so that they are checked as those of flows are.
_AROUND: Final[Mapping[str, Any]] = {
    "id": "defaults",
    "namespace": "defaults",
    "tasks": [{"id": "none", "type": "core.log.Log", "message": ""}],
}


@dataclass(frozen=True, slots=True)
class DefaultsFile:
    """A file as it was read: no defaults when a problem is an error."""

    file: str
    namespace: str
    defaults: tuple[Default, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceDefaults:
    """The defaults of a tree of namespaces, by the namespace that each is for."""

    by_namespace: Mapping[str, tuple[Default, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[DefaultsFile]) -> tuple[NamespaceDefaults, list[Problem]]:
        """Return the defaults of files, and their problems; two files for one namespace are one."""
        found: dict[str, DefaultsFile] = {}
        problems: list[Problem] = []
        for each in files:
            problems += each.problems
            if each.namespace in found:
                text = f"{found[each.namespace].file} has the defaults of this namespace already"
                problems.append(Problem("defaults.file.duplicate", text, file=each.file, line=1, column=1))
            found.setdefault(each.namespace, each)
        return cls({name: each.defaults for name, each in found.items() if each.defaults}), problems

    def around(self, namespace: str) -> tuple[Default, ...]:
        """Return the defaults that flows of a namespace get, the nearest first."""
        parts = namespace.split(".") if namespace else []
        names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)] + [EVERY]
        return tuple(default for name in names for default in self.by_namespace.get(name, ()))

    def text(self, namespace: str) -> str | None:
        """Return the defaults of a namespace as text to be stored with its flows, None when there are none."""
        return as_text(self.around(namespace))


def as_text(defaults: Sequence[Default]) -> str | None:
    """Return defaults as text, None for none; `from_text` reads it."""
    rows = [{"type": each.type, "values": each.values, "forced": each.forced} for each in defaults]
    return json.dumps(rows, ensure_ascii=False, sort_keys=True) if rows else None


def from_text(text: str | None) -> tuple[Default, ...]:
    """Return the defaults that `as_text` wrote."""
    return tuple(Default(row["type"], row["values"], row["forced"]) for row in json.loads(text)) if text else ()


def stated_namespace(content: bytes) -> str | None:
    """Return the `namespace:` that a file states at its top level, read without parsing it."""
    found = _STATED.search(content[:_MOST_BYTES].decode("utf-8", "replace"))
    return found.group(1) if found else None


def is_defaults(path: str) -> bool:
    """Whether a path, with slashes, is that of a file of defaults."""
    return path.rpartition("/")[2] in NAMES


def parse_defaults(source: bytes, *, file: str, namespace: str | None) -> DefaultsFile:
    """Parse and check a file of defaults that stands in a folder of `namespace` (None: at the top)."""
    place = namespace or EVERY
    try:
        document, problems = examine(source, file=file)
    except FlowError as error:
        return DefaultsFile(file, place, problems=error.problems)
    tree, moved = dialect.rewrite(document.value) if isinstance(document.value, dict) else ({}, {})
    document.positions.moves.append(moved)
    problems += _shape(document, tree, file)
    place = tree["namespace"] if isinstance(tree.get("namespace"), str) else place
    problems += _checked(source, document, tree, file)
    is_valid = all(problem.severity is not Severity.ERROR for problem in problems)
    found = tuple(Default(each.type, each.values, each.forced) for each in defaults_of(tree)) if is_valid else ()
    return DefaultsFile(file, place, found, tuple(dict.fromkeys(problems)))


def _shape(document: Document, tree: Mapping[str, Any], file: str) -> list[Problem]:
    named = tree.get("namespace")
    is_named = named is None or (isinstance(named, str) and re.match(NAMESPACE, named))
    if isinstance(tree.get("pluginDefaults"), list) and is_named and not set(tree) - _KEYS:
        return []
    mark = document.positions.at(())
    text = "a file of defaults is a map with the list `pluginDefaults`, and a `namespace` perhaps"
    return [Problem("defaults.file.invalid", text, file=file, line=mark.line, column=mark.column)]


def _checked(source: bytes, document: Document, tree: Mapping[str, Any], file: str) -> list[Problem]:
    if not isinstance(tree.get("pluginDefaults"), list):
        return []
    flow_tree = {**_AROUND, "pluginDefaults": tree["pluginDefaults"]}
    builder = Builder(document.positions, file=file, strict=True)
    flow = builder.flow(flow_tree)
    return [
        *builder.problems,
        *TemplateCheck(source.decode("utf-8", "replace"), document.positions, file).problems(flow_tree),
        *check_flow(flow, Places(document.positions, builder.paths, builder.faulty, file)),
    ]
