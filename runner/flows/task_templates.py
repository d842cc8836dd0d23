"""Templates: lists of tasks that flows share, one in each YAML file of a folder `_templates`.

Templates go the way of plugin defaults (`runner.flows.inherited`): what a flow uses is stored with each of its
versions, and a template that changes is a change of the flows that use it. `inlined` puts the tasks where they are
named, before the models are built; nothing behind it knows of templates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from runner.errors import FlowError, Problem, Severity
from runner.flows import dialect
from runner.flows.aliases import canonical
from runner.flows.build import Builder
from runner.flows.check import Places, check_flow
from runner.flows.finding import find_cycle
from runner.flows.inherited import TemplateName, Templates
from runner.flows.loader import MAX_DEPTH, MAX_NODES, Document, examine
from runner.flows.positions import Mark, Path
from runner.flows.spelling import did_you_mean
from runner.flows.templates import TemplateCheck

FOLDER: Final = "_templates"
TYPE: Final = canonical("core.flow.Template")

_FILLED: Final = ("tasks", "errors", "finally")
_KEYS: Final = frozenset({"id", "namespace", "description", *_FILLED})
_OF_EXPORTS: Final = frozenset({"deleted", "tenantId"})
"""What a server of Kestra writes beside them."""

_UNKNOWN: Final = ("expression.inputs.unknown", "expression.outputs.unknown")
"""Not known of a template by itself: the flow that uses it has these."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A file as it was read: without a name when a problem is an error. `uses` are the templates that it names.

    `values` are its `tasks`, `errors` and `finally`.
    """

    file: str
    name: TemplateName | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    uses: tuple[tuple[TemplateName, Mark], ...] = ()
    problems: tuple[Problem, ...] = ()


class Refusal(NamedTuple):
    """Why a task got no tasks of a template; `path` is that of the task."""

    path: Path
    code: str
    message: str
    hint: str | None = None


def is_template(path: str) -> bool:
    """Whether a path, with slashes, is that of a file in a folder of templates."""
    return FOLDER in path.split("/")[:-1]


# -------------------------------------------------------------------- files


def parse_template(source: bytes, *, file: str, namespace: str | None) -> TemplateFile:
    """Parse and check a template that stands in a folder of `namespace` (None: at the top)."""
    try:
        document, problems = examine(source, file=file)
    except FlowError as error:
        return TemplateFile(file, problems=error.problems)
    tree, moved = dialect.rewrite(document.value) if isinstance(document.value, dict) else ({}, {})
    document.positions.moves.append(moved)
    if namespace is not None:
        tree.setdefault("namespace", namespace)
    name, found = None, _shape(document, tree, file)
    if not found:
        name, found = _checked(source, document, tree, file)
    problems += found
    uses = tuple((name, document.positions.at(path)) for path, name in _named(tree, ()))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return TemplateFile(file, uses=uses, problems=tuple(problems))
    values = {key: tree[key] for key in _FILLED if tree.get(key)}
    return TemplateFile(file, name, values, uses, tuple(problems))


def _shape(document: Document, tree: Mapping[str, Any], file: str) -> list[Problem]:
    strange = sorted(set(tree) - _KEYS - _OF_EXPORTS)
    if tree and not strange:
        return []
    mark = document.positions.key((strange[0],)) if strange else document.positions.at(())
    text = "a template is a map with `id`, `namespace` and `tasks`, `errors` and `finally` perhaps"
    told = f"{text}; a flow has `{strange[0]}`, and stands in no folder `{FOLDER}`" if strange else text
    return [Problem("template.file.invalid", told, file=file, line=mark.line, column=mark.column)]


def _checked(
    source: bytes, document: Document, tree: Mapping[str, Any], file: str
) -> tuple[TemplateName, list[Problem]]:
    flow_tree = {key: value for key, value in tree.items() if key in _KEYS}
    builder = Builder(document.positions, file=file, strict=True)
    flow = builder.flow(flow_tree)
    found = [
        *builder.problems,
        *TemplateCheck(source.decode("utf-8", "replace"), document.positions, file).problems(flow_tree),
        *check_flow(flow, Places(document.positions, builder.paths, builder.faulty, file)),
    ]
    problems = [problem for problem in dict.fromkeys(found) if problem.code not in _UNKNOWN]
    return TemplateName(flow.namespace, flow.id), problems


def gathered(files: Iterable[TemplateFile]) -> tuple[Templates, list[Problem]]:
    """Return the templates of files, and all that is wrong with them, alone and with one another."""
    files = list(files)
    problems = [problem for each in files for problem in each.problems]
    standing: dict[TemplateName, TemplateFile] = {}
    for each in files:
        if each.name in standing:
            text = f"{standing[each.name].file} holds the template {_shown(each.name)} already"
            problems.append(Problem("template.file.duplicate", text, file=each.file, line=1, column=1))
        elif each.name is not None:
            standing[each.name] = each
    problems += _between(standing)
    return {name: each.values for name, each in standing.items()}, problems


def _between(standing: Mapping[TemplateName, TemplateFile]) -> Iterator[Problem]:
    for each in standing.values():
        for name, mark in each.uses:
            if name not in standing:
                text, hint = _missing(name, standing)
                yield Problem("template.missing", text, file=each.file, line=mark.line, column=mark.column, hint=hint)
    needs = {_shown(name): [_shown(used) for used, _ in each.uses] for name, each in standing.items()}
    cycle = find_cycle({name: [used for used in uses if used in needs] for name, uses in needs.items()})
    if cycle:
        first = next(each for name, each in standing.items() if _shown(name) == cycle[0])
        text = f"templates use one another in a circle: {', '.join(cycle)}"
        yield Problem("template.cycle", text, file=first.file, line=1, column=1)


def meant(templates: Templates, source: str) -> dict[TemplateName, Mapping[str, Any]]:
    """Return the templates that a flow with this source can mean, and those that they can mean.

    Both names of a template stand in what uses it. That is all that is asked, so that nothing has to be parsed: a
    template more costs a needless revision of the flow at most.
    """
    found: set[TemplateName] = set()
    texts = [source]
    while texts:
        text = texts.pop()
        if "templateId" not in text:
            continue
        named = [name for name in templates if name not in found and all(part in text for part in name)]
        found.update(named)
        texts += [json.dumps(templates[name], ensure_ascii=False) for name in named]
    return {name: values for name, values in templates.items() if name in found}


# -------------------------------------------------------------------- into a flow


def inlined(
    tree: dict[str, Any], templates: Templates, fill: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[dict[str, Any], list[Refusal]]:
    """Return a flow with the tasks of templates where it names them, and which of them there are not.

    `fill` gives the tasks of a template the plugin defaults of the flow.
    """
    inlining = _Inlining(templates, fill)
    walked = {key: value if key == "pluginDefaults" else inlining.walk(value, (key,)) for key, value in tree.items()}
    return walked, inlining.refused


@dataclass(slots=True)
class _Inlining:
    known: Templates
    fill: Callable[[dict[str, Any]], dict[str, Any]]
    refused: list[Refusal] = field(default_factory=list)
    nodes: int = 0

    def walk(self, value: Any, path: Path, within: tuple[TemplateName, ...] = ()) -> Any:
        if isinstance(value, list):
            return [self.walk(item, (*path, index), within) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        name = _name(value)
        if name is None:
            return {key: self.walk(item, (*path, key), within) for key, item in value.items()}
        return {**value, **self._tasks(value, name, path, within)}

    def _tasks(
        self, task: Mapping[str, Any], name: TemplateName, path: Path, within: tuple[TemplateName, ...]
    ) -> dict[str, Any]:
        reason = self._refusal(task, name, path, within)
        if reason is not None:
            self.refused.append(reason)
            return {}
        values = self.fill(dict(self.known[name]))
        return {key: self.walk(item, (*path, key), (*within, name)) for key, item in values.items()}

    def _refusal(
        self, task: Mapping[str, Any], name: TemplateName, path: Path, within: tuple[TemplateName, ...]
    ) -> Refusal | None:
        if name not in self.known:
            return Refusal((*path, "templateId"), "template.missing", *_missing(name, self.known))
        own = next((key for key in _FILLED if task.get(key)), None)
        if own is not None:
            text = f"`{own}` of a Template task are those of the template {_shown(name)}"
            return Refusal((*path, own), "template.tasks.own", text)
        if name in within:
            text = f"templates use one another in a circle: {', '.join(map(_shown, (*within, name)))}"
            return Refusal(path, "template.cycle", text)
        self.nodes += _size(self.known[name])
        if self.nodes > MAX_NODES or len(path) + _depth(self.known[name]) > MAX_DEPTH:
            text = (
                f"with its templates the flow has more than {MAX_NODES} values, or is nested more than {MAX_DEPTH} deep"
            )
            return Refusal(path, "template.large", text)
        return None


def _name(value: Mapping[str, Any]) -> TemplateName | None:
    """Return the template that a map names, None when it is no Template task, or a refused one."""
    kind, namespace, template_id = value.get("type"), value.get("namespace"), value.get("templateId")
    is_task = isinstance(kind, str) and canonical(kind) == TYPE
    both = isinstance(namespace, str | int) and isinstance(template_id, str | int)
    return TemplateName(str(namespace), str(template_id)) if is_task and both else None


def _named(value: Any, path: Path) -> Iterator[tuple[Path, TemplateName]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    name = _name(value) if isinstance(value, dict) else None
    if name is not None:
        yield (*path, "templateId"), name
    for key, item in items:
        yield from _named(item, (*path, key))


def _depth(value: Any) -> int:
    items: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, items), default=-1)


def _size(value: Any) -> int:
    items: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, items))


def _missing(name: TemplateName, known: Iterable[TemplateName]) -> tuple[str, str]:
    hint = did_you_mean(_shown(name), [_shown(each) for each in known])
    return absent(
        *name
    ), hint or f"templates are files in folders `{FOLDER}` of the repository, {{id, namespace, tasks}}"


def absent(namespace: str, template_id: str) -> str:
    """Return what is said of a template that is not there, in the words of Kestra."""
    return f"Can't find flow template '{namespace}.{template_id}'"


def _shown(name: TemplateName | None) -> str:
    return ".".join(name or ())
