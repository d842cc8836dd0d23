"""What can be said about a template without rendering it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from runner.errors import ExpressionError
from runner.expressions.lexer import TemplateSyntaxError, position_of
from runner.expressions.limits import DEFAULT_LIMITS
from runner.expressions.nodes import Arguments, Filter, Literal, Macro, Name, Node, Test
from runner.expressions.nodes import Call as CallNode
from runner.expressions.registry import FILTERS, FUNCTIONS, TESTS, Builtin, bind, suggestion
from runner.expressions.statements import bound_names, parse

_TABLES: Final[dict[str, dict[str, Builtin]]] = {"filter": FILTERS, "function": FUNCTIONS, "test": TESTS}
_TITLES: Final = {"filter": "Filter", "function": "Function or Macro", "test": "Test"}


@dataclass(frozen=True, slots=True)
class Call:
    """A use of a filter, function or test (`kind`), with its constant positional arguments.

    Line and column count from 1, inside the template.
    """

    kind: str
    name: str
    line: int
    column: int
    literals: tuple[object, ...] = ()


class Finding(NamedTuple):
    """A fault in a template; line and column count from 1, inside the template."""

    line: int
    column: int
    code: str
    message: str
    hint: str | None = None


def names_in(source: str) -> set[str]:
    """Return the names of the variables that `source` reads and does not bind itself.

    Raises:
        ExpressionError: `expression.syntax`, as `compile_template`.
    """
    if "{" not in source:
        return set()
    nodes = _nodes(source)
    return {node.name for node in nodes if isinstance(node, Name)} - bound_names(nodes)


def calls_in(source: str) -> Iterator[Call]:
    """Yield the uses of filters, functions, macros and tests in `source`, in no particular order."""
    if "{" not in source:
        return
    for node, kind, name, arguments in _invocations(_nodes(source)):
        line, column = position_of(source, node.position)
        literals = tuple(argument.value for argument in arguments.positional if isinstance(argument, Literal))
        yield Call(kind, name, line, column, literals)


def constant_calls(source: str, names: Collection[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the calls of the functions `names` with their arguments by name; for one that is no constant stands `...`.

    A template that cannot be parsed has no calls: what is wrong with it is told elsewhere.
    """
    if "{" not in source or not any(name in source for name in names):
        return
    try:
        nodes = _nodes(source)
    except ExpressionError:
        return
    for _, kind, name, arguments in _invocations(nodes):
        if kind == "function" and name in names:
            placed = zip(FUNCTIONS[name].parameters, arguments.positional, strict=False)
            given = {**dict(placed), **dict(arguments.named)}
            yield name, {key: node.value if isinstance(node, Literal) else ... for key, node in given.items()}


def check_template(source: str) -> list[Finding]:
    """Return the faults of `source`: its syntax, and filters, functions, tests and arguments that do not exist."""
    if "{" not in source:
        return []
    try:
        nodes = _nodes(source)
    except TemplateSyntaxError as error:
        return [Finding(error.line, error.column, error.code, error.bare_message, error.hint)]
    except ExpressionError as error:
        return [Finding(1, 1, error.code, error.message, error.hint)]
    macros = {node.name for node in nodes if isinstance(node, Macro)}
    found = []
    for node, kind, name, arguments in _invocations(nodes):
        if kind == "function" and name in macros:
            continue
        fault = _fault(kind, name, arguments)
        if fault is not None:
            found.append(Finding(*position_of(source, node.position), fault.code, fault.message, fault.hint))
    return sorted(found)


@lru_cache(maxsize=256)
def _nodes(source: str) -> tuple[Node, ...]:
    """Return all nodes of `source`, parsed and walked once: the checks of one file ask several times."""
    return tuple(parse(source, DEFAULT_LIMITS).walk())


def _fault(kind: str, name: str, arguments: Arguments) -> ExpressionError | None:
    table = _TABLES[kind]
    builtin = table.get(name)
    if builtin is None:
        message = f"{_TITLES[kind]} [{name}] does not exist"
        return ExpressionError(f"expression.{kind}.unknown", message, hint=suggestion(name, table))
    try:
        bind(builtin, len(arguments.positional), [key for key, _ in arguments.named])
    except ExpressionError as error:
        return error
    return None


def _invocations(nodes: Iterable[Node]) -> Iterator[tuple[Node, str, str, Arguments]]:
    for node in nodes:
        if isinstance(node, Filter):
            yield node, "filter", node.name, node.arguments
        elif isinstance(node, Test):
            yield node, "test", node.name, node.arguments
        elif isinstance(node, CallNode):
            yield node, "function", node.name, node.arguments
