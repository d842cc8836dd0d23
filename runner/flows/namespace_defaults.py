"""Files `_defaults.yaml`: plugin defaults and variables of a namespace and of all below it.

A file holds `pluginDefaults`, as a flow does, and `variables`, which expressions see as `namespace`. It may name its
`namespace`; else its folder gives it, and the top folder stands for all namespaces. Of several defaults that match,
those of the flow come first, then those of the nearest namespace (see `runner.flows.plugin_defaults`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runner.errors import FlowError, Problem, Severity
from runner.flows import dialect
from runner.flows.build import Builder
from runner.flows.check import Places, check_flow
from runner.flows.inherited import Inherited, Templates, as_text, merged
from runner.flows.loader import Document, examine
from runner.flows.models import NAMESPACE
from runner.flows.plugin_defaults import Default, defaults_of
from runner.flows.task_templates import TemplateFile, gathered, meant
from runner.flows.templates import TemplateCheck

NAMES: Final = ("_defaults.yaml", "_defaults.yml")
EVERY: Final = ""
"""Stands for all namespaces."""

_KEYS: Final = frozenset({"namespace", "description", "pluginDefaults", "variables"})
_STATED: Final = re.compile(r"^namespace:[ \t]*['\"]?([A-Za-z0-9._-]+)", re.MULTILINE)
_MOST_BYTES: Final = 1 << 20
_MOST_VARIABLES: Final = 64 << 10  # bytes as JSON: each revision of each flow below keeps them
# What makes a flow of the defaults, so that they are checked as those of flows are.
_AROUND: Final[Mapping[str, Any]] = {
    "id": "defaults",
    "namespace": "defaults",
    "tasks": [{"id": "none", "type": "core.log.Log", "message": ""}],
}


@dataclass(frozen=True, slots=True)
class DefaultsFile:
    """A file as it was read: no defaults and no variables when a problem is an error."""

    file: str
    namespace: str
    defaults: tuple[Default, ...] = ()
    problems: tuple[Problem, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None


@dataclass(frozen=True, slots=True)
class NamespaceDefaults:
    """What files say about a tree of namespaces, by the namespace that each is for.

    `templates` are for all of them (see `runner.flows.task_templates`); None when nobody has looked for any.
    """

    by_namespace: Mapping[str, DefaultsFile] = field(default_factory=dict)
    templates: Templates | None = None
    # What namespaces get apart from templates: a plan asks for each of thousands of flows, which have few namespaces.
    _given: dict[str, tuple[Inherited, str | None]] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, files: Iterable[DefaultsFile]) -> tuple[NamespaceDefaults, list[Problem]]:
        """Return what files say, and their problems; of two files for one namespace the first counts."""
        found: dict[str, DefaultsFile] = {}
        problems: list[Problem] = []
        for each in files:
            problems += each.problems
            if each.namespace in found:
                text = f"{found[each.namespace].file} has the defaults of this namespace already"
                problems.append(Problem("defaults.file.duplicate", text, file=each.file, line=1, column=1))
            found.setdefault(each.namespace, each)
        return cls(found), problems

    @classmethod
    def only(cls, inherited: Inherited) -> NamespaceDefaults:
        """Return what gives every namespace the same."""
        every = DefaultsFile("", EVERY, inherited.defaults, variables=inherited.variables)
        return cls({EVERY: every}, inherited.templates)

    def with_templates(self, files: Iterable[TemplateFile]) -> tuple[NamespaceDefaults, list[Problem]]:
        """Return this with the templates of files, and the problems of these."""
        templates, problems = gathered(files)
        return replace(self, templates=templates), problems

    def line(self, namespace: str) -> list[DefaultsFile]:
        """Return the files for a namespace and those around it, the nearest first."""
        parts = namespace.split(".") if namespace else []
        names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)] + [EVERY]
        return [self.by_namespace[name] for name in names if name in self.by_namespace]

    def around(self, namespace: str, source: str | bytes) -> Inherited:
        """Return what a flow of a namespace gets; `source` tells which templates it can mean."""
        inherited, _ = self._got(namespace)
        if self.templates is None:
            return inherited
        text = source if isinstance(source, str) else source.decode("utf-8", "replace")
        return replace(inherited, templates=meant(self.templates, text))

    def text(self, namespace: str, source: str | bytes) -> str | None:
        """Return what a flow gets as text to be stored with it, None when it is nothing."""
        if not self.templates:
            return self._got(namespace)[1]
        inherited = self.around(namespace, source)
        return as_text(inherited) if inherited.templates else self._got(namespace)[1]

    def _got(self, namespace: str) -> tuple[Inherited, str | None]:
        found = self._given.get(namespace)
        if found is None:
            line = self.line(namespace)
            defaults = tuple(default for each in line for default in each.defaults)
            inherited = Inherited(defaults, merged(each.variables for each in reversed(line)))
            found = self._given[namespace] = (inherited, as_text(inherited))
        return found


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
    problems += [*_shape(document, tree, file), *_variables(document, tree, file)]
    place = tree["namespace"] if isinstance(tree.get("namespace"), str) else place
    problems += _checked(source, document, tree, file)
    said = tuple(dict.fromkeys(problems))
    if any(problem.severity is Severity.ERROR for problem in said):
        return DefaultsFile(file, place, problems=said)
    found = tuple(Default(each.type, each.values, each.forced) for each in defaults_of(tree))
    return DefaultsFile(file, place, found, said, tree.get("variables") or {}, tree.get("description"))


def _shape(document: Document, tree: Mapping[str, Any], file: str) -> list[Problem]:
    named = tree.get("namespace")
    is_named = named is None or (isinstance(named, str) and re.match(NAMESPACE, named))
    is_told = isinstance(tree.get("description"), str | None)
    if tree and isinstance(tree.get("pluginDefaults", []), list) and is_named and is_told and not set(tree) - _KEYS:
        return []
    mark = document.positions.at(())
    text = "a file of defaults is a map with `pluginDefaults` (a list), `variables`, `namespace`, `description`"
    return [Problem("defaults.file.invalid", text, file=file, line=mark.line, column=mark.column)]


def _variables(document: Document, tree: Mapping[str, Any], file: str) -> list[Problem]:
    found = tree.get("variables")
    if found is None:
        return []
    if not isinstance(found, dict):
        text = "`variables` of a namespace are a map of names and values"
    elif len(json.dumps(found, ensure_ascii=False).encode()) > _MOST_VARIABLES:
        text = f"the variables of a namespace are more than {_MOST_VARIABLES:,} bytes"
    else:
        return []
    mark = document.positions.at(("variables",))
    return [Problem("defaults.variables.invalid", text, file=file, line=mark.line, column=mark.column)]


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
