"""From the text of a flow to the flow, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import FlowError, Problem, Severity
from runner.flows import dialect, plugin_defaults, registry, task_templates
from runner.flows.build import Builder, field_names
from runner.flows.check import Places, check_flow
from runner.flows.check_defaults import default_problems
from runner.flows.inherited import Inherited
from runner.flows.loader import examine
from runner.flows.models import Flow, PluginDefault
from runner.flows.positions import Positions
from runner.flows.registry import TypeKind
from runner.flows.templates import TemplateCheck

__all__ = ["Parsed", "holds_tests", "parse_flow"]

_NOTHING = Inherited()


def holds_tests(tree: Any) -> bool:
    """Return whether a document is a suite of tests; such may follow a flow in its file."""
    return isinstance(tree, dict) and ("testCases" in tree or ("flowId" in tree and "tasks" not in tree))


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of a source: the flow when no problem is an error, and all problems in the order of their lines."""

    flow: Flow | None
    problems: tuple[Problem, ...]

    def require(self) -> Flow:
        """Return the flow. Raises `FlowError` with all problems when there is none."""
        if self.flow is not None:
            return self.flow
        first = next((problem for problem in self.problems if problem.severity is Severity.ERROR), self.problems[0])
        raise FlowError(first.code, first.message, hint=first.hint, problems=self.problems)


def parse_flow(
    source: str | bytes,
    *,
    file: str | None = None,
    namespace: str | None = None,
    strict: bool = True,
    inherited: Inherited = _NOTHING,
) -> Parsed:
    """Parse and check one flow.

    Args:
        source: YAML text with one document; tests of the flow may follow it.
        file: the name for problems.
        namespace: the namespace of a flow that names none (from the folder where the file lies).
        strict: whether unknown properties are errors and all checks run; False for stored flows, which passed once.
        inherited: what the files around give it.
    """
    try:
        document, problems = examine(source, file=file, companion=holds_tests)
    except FlowError as error:
        return Parsed(None, error.problems)
    if not isinstance(document.value, dict):
        mark = document.positions.at(())
        message = "a flow is a map with `id`, `namespace` and `tasks`"
        problems.append(Problem("flow.document.invalid", message, file=file, line=mark.line, column=mark.column))
        return Parsed(None, _sorted(problems))
    positions = document.positions
    tree, moved = dialect.rewrite(document.value)
    positions.moves.append(moved)
    if namespace is not None:
        tree.setdefault("namespace", namespace)
    defaults = [*plugin_defaults.defaults_of(tree), *inherited.defaults]
    tree, moved = plugin_defaults.inject(tree, defaults, _known_names)
    positions.moves.append(moved)
    tree, refused = task_templates.inlined(
        tree, inherited.templates or {}, lambda values: plugin_defaults.inject(values, defaults, _known_names)[0]
    )
    builder = Builder(positions, file=file, strict=strict)
    flow = builder.flow(tree)
    problems += builder.problems
    if strict:
        problems += [_refused(each, positions, file) for each in refused if inherited.templates is not None]
        text = source.decode() if isinstance(source, bytes) else source
        problems += TemplateCheck(text, positions, file).problems(tree, frozenset(inherited.variables))
        problems += default_problems(tree, positions, file)
        problems += check_flow(flow, Places(positions, builder.paths, builder.faulty, file))
    is_valid = all(problem.severity is not Severity.ERROR for problem in problems)
    outer = [PluginDefault(type=each.type, values=dict(each.values), forced=each.forced) for each in inherited.defaults]
    return Parsed(flow.inside(inherited.variables, outer) if is_valid else None, _sorted(problems))


def _refused(refusal: task_templates.Refusal, positions: Positions, file: str | None) -> Problem:
    mark = positions.at(refusal.path)
    return Problem(refusal.code, refusal.message, file=file, line=mark.line, column=mark.column, hint=refusal.hint)


def _known_names(name: str) -> frozenset[str] | None:
    for kind in TypeKind:
        try:
            cls = registry.find(kind, name)
        except FlowError:
            return None  # reported where the type is used
        if cls is not None:
            return frozenset(field_names(cls))
    return None


def _sorted(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    def place(problem: Problem) -> tuple[Any, ...]:
        return (problem.line or 0, problem.column or 0, problem.code, problem.message)

    return tuple(sorted(dict.fromkeys(problems), key=place))
