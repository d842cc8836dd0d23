"""Turns the tree of an expression into Python closures: what can be decided once is decided before the first render."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from runner.errors import ExpressionError, UndefinedError
from runner.expressions import operators
from runner.expressions.frame import Evaluate, Frame
from runner.expressions.lexer import position_of
from runner.expressions.limits import Limits
from runner.expressions.nodes import (
    Arguments,
    Binary,
    Call,
    Coalesce,
    Concat,
    Filter,
    Items,
    Literal,
    Logic,
    Member,
    Name,
    Node,
    Pairs,
    Ternary,
    Test,
    Unary,
)
from runner.expressions.registry import (
    FILTERS,
    FUNCTIONS,
    TESTS,
    TYPE_NAMES,
    Builtin,
    accepts,
    bind,
    nearest,
    suggestion,
)
from runner.expressions.values import MISSING, Deferred, is_list, kind_of, settled, to_text, weigh

_SHOWN_SOURCE: Final = 500
_HYPHENS: Final = re.compile(r"\.(\w+(?:-\w+)+)")
_PLAIN: Final = frozenset({str, dict, int, list, bool, type(None)})  # what is surely no `Deferred`
_Binary = Callable[[Any, Any, Limits], Any]
_DATE_PARTS: Final[dict[str, Callable[[datetime], Any]]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: f"{moment:%B}".upper(),
    "monthValue": lambda moment: moment.month,
    "dayOfMonth": lambda moment: moment.day,
    "dayOfYear": lambda moment: moment.timetuple().tm_yday,
    "dayOfWeek": lambda moment: f"{moment:%A}".upper(),
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
    "nano": lambda moment: moment.microsecond * 1000,
}


def member(value: Any, key: Any) -> Any:
    """Return the part `key` of a map, list or date, or MISSING.

    Nothing else has parts, except a text that is a JSON object or array: the bodies of HTTP answers are texts, and
    flows write both `fromJson(outputs.call.body).id` and `outputs.call.body.id`.
    """
    if isinstance(value, Mapping):
        return _map_member(value, key)
    if isinstance(value, str):
        inner = _parsed(value)
        return MISSING if inner is None else member(inner, key)
    if isinstance(value, datetime):
        part = _DATE_PARTS.get(key) if isinstance(key, str) else None
        return part(value) if part else MISSING
    if not is_list(value):
        return MISSING
    if isinstance(key, str) and key.isdecimal() and len(key) < len("9999999999"):
        key = int(key)
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(value):
        return MISSING
    return value[key] if hasattr(value, "__getitem__") else list(value)[key]


def _parsed(text: str) -> Any:
    """Return what a text of JSON holds if that has parts, else None."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _map_member(value: Mapping[Any, Any], key: Any) -> Any:
    if isinstance(key, (Mapping, list)):
        return MISSING
    try:
        return value[key]
    except KeyError:
        pass
    if isinstance(key, str) or key is None:
        return MISSING
    try:
        return value[to_text(key)]  # JSON has no other keys than strings
    except KeyError:
        return MISSING


class Compiler:
    """Compiles the expressions of one template; `bound` are the names that the template itself may bind."""

    def __init__(self, source: str, bound: frozenset[str]) -> None:
        self.source = source
        self.bound = bound

    def compile(self, node: Node) -> Evaluate:
        """Return the closure that evaluates `node` in a frame."""
        return self._table[type(node)](self, node)

    def quiet(self, node: Node) -> Evaluate:
        """Return a closure that gives MISSING where `node` names something undefined, at any depth."""
        if isinstance(node, (Name, Member)):
            reader = self._reader(node)
            if reader is not None:
                return reader
        evaluate = self.compile(node)

        def quietly(frame: Frame) -> Any:
            try:
                return evaluate(frame)
            except UndefinedError:
                return MISSING

        return quietly

    def undefined(self, node: Node, name: Any, known: Any) -> UndefinedError:
        """Return the error for `name`, which is none of `known`."""
        shown = self.source if len(self.source) <= _SHOWN_SOURCE else self.source[:_SHOWN_SOURCE] + "…"
        line, column = position_of(self.source, node.position)
        text = to_text(name)
        hyphens = _HYPHENS.match(self.source, node.position)
        hint = nearest(
            text, known.names() if isinstance(known, Deferred) else known if isinstance(known, Mapping) else ()
        )
        if hyphens is not None:
            hint = f"a name with hyphens needs brackets: ['{hyphens[1]}']"
        error = UndefinedError(
            "expression.undefined",
            f"Unable to find `{text}` used in the expression `{shown}` at line {line}",
            hint=hint or "give a default with `??`, or test it with `is defined`",
        )
        error.line, error.column = line, column
        return error

    # -- names and paths

    def is_path(self, node: Node) -> bool:
        """Return whether `node` is `a` or `a.b['c']`, read from the variables of the scope."""
        while isinstance(node, Member) and isinstance(node.key, Literal):
            node = node.target
        return isinstance(node, Name) and node.name not in self.bound

    def _lookup(self, name: str) -> Evaluate:
        """Return a closure that reads a variable, or MISSING."""
        if name not in self.bound:

            def read(frame: Frame) -> Any:
                try:
                    return frame.variables[name]
                except KeyError:
                    return MISSING

            return read

        def search(frame: Frame) -> Any:
            for names in reversed(frame.locals or ()):
                if name in names:
                    return names[name]
            return frame.variables.get(name, MISSING)

        return search

    def _name(self, node: Name, *, is_last: bool = True) -> Evaluate:
        """Return a closure that reads a name; the last of a path is handed on as a whole (`Deferred`)."""
        read, name = self._lookup(node.name), node.name

        def evaluate(frame: Frame) -> Any:
            value = read(frame)
            if is_last and type(value) not in _PLAIN:
                value = settled(value)
            if value is MISSING:
                raise self.undefined(node, name, frame.variables)
            return value

        return evaluate

    def _inner(self, node: Node) -> Evaluate:
        """Return a closure for the target of a longer path, of which only a part is read."""
        if isinstance(node, Name):
            return self._name(node, is_last=False)
        return self._member(node, is_last=False) if isinstance(node, Member) else self.compile(node)

    def _reader(self, node: Node) -> Evaluate | None:
        """Return a closure for a path of names and literals that gives MISSING instead of raising, if it is one."""
        keys: list[Any] = []
        while isinstance(node, Member) and isinstance(node.key, Literal):
            keys.append(node.key.value)
            node = node.target
        if not isinstance(node, Name):
            return None
        root, path = self._lookup(node.name), tuple(reversed(keys))

        def read(frame: Frame) -> Any:
            value = root(frame)
            for key in path:
                value = member(value, key)
                if value is MISSING:
                    break
            return settled(value)

        return read

    def _member(self, node: Member, *, is_last: bool = True) -> Evaluate:
        plain = self._plain_path(node, is_last=is_last)
        if plain is not None:
            return plain
        target, key = self._inner(node.target), self.compile(node.key)

        return lambda frame: self._part(node, target(frame), key(frame), is_last=is_last)

    def _part(self, node: Member, owner: Any, key: Any, *, is_last: bool) -> Any:
        value = member(owner, key)
        if is_last and type(value) not in _PLAIN:
            value = settled(value)
        if value is MISSING:
            raise self.undefined(node, key, owner)
        return value

    def _plain_path(self, node: Member, *, is_last: bool) -> Evaluate | None:
        """Return a closure for `a.b.c` that looks into dictionaries, and a slower way where something else comes."""
        chain: list[Member] = []
        walker: Node = node
        while isinstance(walker, Member) and isinstance(walker.key, Literal) and type(walker.key.value) is str:
            chain.append(walker)
            walker = walker.target
        if not isinstance(walker, Name) or walker.name in self.bound:
            return None
        chain.reverse()
        root = self._name(walker, is_last=False)
        name, keys = walker.name, tuple(step.key.value for step in chain if isinstance(step.key, Literal))

        def slowly(frame: Frame) -> Any:
            value = root(frame)
            for step, key in zip(chain, keys, strict=True):
                value = self._part(step, value, key, is_last=is_last and step is node)
            return value

        def evaluate(frame: Frame) -> Any:
            try:
                value = frame.variables[name]
                for key in keys:
                    if type(value) is not dict:
                        return slowly(frame)
                    value = value[key]
            except KeyError:
                return slowly(frame)
            return value

        return evaluate

    # -- literals

    def _literal(self, node: Literal) -> Evaluate:
        value = node.value
        return lambda _frame: value

    def _items(self, node: Items) -> Evaluate:
        items = [self.compile(item) for item in node.items]
        return lambda frame: weigh([item(frame) for item in items], frame.limits)

    def _pairs(self, node: Pairs) -> Evaluate:
        pairs = [(self.compile(key), self.compile(value)) for key, value in node.pairs]

        def evaluate(frame: Frame) -> Any:
            return weigh({_key(key(frame)): value(frame) for key, value in pairs}, frame.limits)

        return evaluate

    # -- operators

    def _unary(self, node: Unary) -> Evaluate:
        operand = self.compile(node.operand)
        if node.operator == "not":
            return lambda frame: not operators.condition(operand(frame))
        if node.operator == "-":
            return lambda frame: operators.negate(operand(frame))
        return lambda frame: operators.arithmetic("+", 0, operand(frame), frame.limits)

    def _binary(self, node: Binary) -> Evaluate:
        left, right, operate = self.compile(node.left), self.compile(node.right), _OPERATORS[node.operator]
        return lambda frame: operate(left(frame), right(frame), frame.limits)

    def _logic(self, node: Logic) -> Evaluate:
        left, right, decide = self.compile(node.left), self.compile(node.right), operators.condition
        if node.operator == "and":
            return lambda frame: decide(left(frame)) and decide(right(frame))
        return lambda frame: decide(left(frame)) or decide(right(frame))

    def _concat(self, node: Concat) -> Evaluate:
        items = [self.compile(item) for item in node.items]
        return lambda frame: operators.concatenate([item(frame) for item in items], frame.limits)

    def _coalesce(self, node: Coalesce) -> Evaluate:
        left, right, keeps_null = self.quiet(node.left), self.compile(node.right), node.keeps_null

        def evaluate(frame: Frame) -> Any:
            value = left(frame)
            return right(frame) if value is MISSING or (value is None and not keeps_null) else value

        return evaluate

    def _ternary(self, node: Ternary) -> Evaluate:
        decide, chosen, other = self.compile(node.condition), self.compile(node.chosen), self.compile(node.other)
        return lambda frame: chosen(frame) if operators.condition(decide(frame), null=False) else other(frame)

    # -- calls

    def arguments(self, builtin: Builtin, arguments: Arguments) -> list[Evaluate | None]:
        """Return closures for the parameters of `builtin` in order, ended before the first trailing default."""
        given = [self.compile(node) for node in arguments.positional]
        given += [self.compile(node) for _, node in arguments.named]
        chosen = bind(builtin, len(arguments.positional), [name for name, _ in arguments.named])
        values: list[Evaluate | None] = [
            None if index is None else _checked(builtin, place, given[index]) for place, index in enumerate(chosen)
        ]
        while values and values[-1] is None:
            values.pop()
        if builtin.variadic:
            values += given[len(builtin.parameters) : len(arguments.positional)]
        return values

    def _invoke(self, builtin: Builtin, arguments: Arguments) -> Callable[..., Any]:
        """Return `call(frame, *first)` that evaluates the arguments and calls the builtin."""
        try:
            values = self.arguments(builtin, arguments)
        except ExpressionError as error:
            return _raising(error)  # only a call that is really made fails
        call = builtin.call
        names = _python_names(builtin)
        ordered = [value for value in values if value is not None]
        if len(ordered) == len(values):
            if builtin.takes_frame:
                return lambda frame, *first: call(frame, *first, *[value(frame) for value in ordered])
            return lambda frame, *first: call(*first, *[value(frame) for value in ordered])
        named = [(name, value) for name, value in zip(names, values, strict=False) if value is not None]
        if builtin.takes_frame:
            return lambda frame, *first: call(frame, *first, **{name: value(frame) for name, value in named})
        return lambda frame, *first: call(*first, **{name: value(frame) for name, value in named})

    def _filter(self, node: Filter) -> Evaluate:
        builtin = FILTERS.get(node.name)
        if builtin is None:
            return _raising(
                ExpressionError(
                    "expression.filter.unknown",
                    f"Filter [{node.name}] does not exist",
                    hint=suggestion(node.name, FILTERS),
                )
            )
        target = self.quiet(node.target) if node.name == "default" else self.compile(node.target)
        invoke, takes_null = self._invoke(builtin, node.arguments), builtin.takes_null

        def evaluate(frame: Frame) -> Any:
            frame.tick()
            value = target(frame)
            if value is None and not takes_null:
                return None
            result = invoke(frame, value)
            return operators.checked_text(result, frame.limits) if type(result) is str else result

        return evaluate

    def _test(self, node: Test) -> Evaluate:
        builtin = TESTS.get(node.name)
        if builtin is None:
            return _raising(
                ExpressionError(
                    "expression.test.unknown", f"Test [{node.name}] does not exist", hint=suggestion(node.name, TESTS)
                )
            )
        target = self.quiet(node.target) if node.name == "defined" else self.compile(node.target)
        invoke, negated = self._invoke(builtin, node.arguments), node.negated
        return lambda frame: bool(invoke(frame, target(frame))) is not negated

    def _call(self, node: Call) -> Evaluate:
        builtin = FUNCTIONS.get(node.name)
        function = self._invoke(builtin, node.arguments) if builtin is not None else None
        positional = [self.compile(argument) for argument in node.arguments.positional]
        named = [(name, self.compile(argument)) for name, argument in node.arguments.named]
        name = node.name

        def evaluate(frame: Frame) -> Any:
            frame.tick()
            macro = frame.macros.get(name) if frame.macros else None
            if macro is not None:
                return macro(frame, [value(frame) for value in positional], {key: value(frame) for key, value in named})
            if function is None or (frame.scope.recursive and name in {"render", "renderOnce"}):
                raise ExpressionError(
                    "expression.function.unknown",
                    f"Function or Macro [{name}] does not exist",
                    hint=suggestion(name, [*FUNCTIONS, *(frame.macros or ())]),
                )
            result = function(frame)
            return operators.checked_text(result, frame.limits) if type(result) is str else result

        return evaluate

    # Each function takes its own kind of node, which a table cannot say to the type checker.
    _table: ClassVar[dict[type[Node], Callable[[Compiler, Any], Evaluate]]] = {
        Literal: _literal,
        Name: _name,
        Member: _member,
        Items: _items,
        Pairs: _pairs,
        Unary: _unary,
        Binary: _binary,
        Logic: _logic,
        Concat: _concat,
        Coalesce: _coalesce,
        Ternary: _ternary,
        Filter: _filter,
        Test: _test,
        Call: _call,
    }


def _checked(builtin: Builtin, place: int, evaluate: Evaluate) -> Evaluate:
    """Return `evaluate` with its result compared to the type of the parameter at `place`."""
    annotation = builtin.types[place]
    plain = annotation.removesuffix(" | None")
    if plain not in TYPE_NAMES:
        return evaluate

    def checked(frame: Frame) -> Any:
        value = evaluate(frame)
        if not accepts(annotation, value):
            raise ExpressionError(
                "expression.argument",
                f"The '{builtin.name}' {builtin.kind} expects an argument '{builtin.parameters[place]}'"
                f" with type {TYPE_NAMES[plain]}.",
                hint=f"it got {kind_of(value)}",
            )
        return value

    return checked


def _python_names(builtin: Builtin) -> list[str]:
    import inspect

    skipped = int(builtin.takes_frame) + int(builtin.kind != "function")
    return list(inspect.signature(builtin.call).parameters)[skipped:]


def _raising(error: ExpressionError) -> Callable[..., Any]:
    def fail(*_arguments: Any) -> Any:
        raise type(error)(error.code, error.message, hint=error.hint)

    return fail


def _key(key: Any) -> Any:
    if isinstance(key, (Mapping, list)):
        raise ExpressionError("expression.type", "a map or a list cannot be the key of a map")
    return key


_OPERATORS: Final[dict[str, _Binary]] = {
    "+": operators.add,
    "-": operators.subtract,
    "*": lambda left, right, limits: operators.arithmetic("*", left, right, limits),
    "/": lambda left, right, limits: operators.arithmetic("/", left, right, limits),
    "%": lambda left, right, limits: operators.arithmetic("%", left, right, limits),
    "==": lambda left, right, _limits: operators.equals(left, right),
    "!=": lambda left, right, _limits: not operators.equals(left, right),
    "<": lambda left, right, _limits: operators.compare("<", left, right),
    ">": lambda left, right, _limits: operators.compare(">", left, right),
    "<=": lambda left, right, _limits: operators.compare("<=", left, right),
    ">=": lambda left, right, _limits: operators.compare(">=", left, right),
    "contains": lambda left, right, _limits: operators.contains(left, right),
    "in": lambda left, right, _limits: operators.is_in(left, right),
    "..": operators.span,
}
