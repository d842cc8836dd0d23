"""Turns the statements of a template into closures that append to its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from runner.errors import ExpressionError
from runner.expressions.compiler import Compiler
from runner.expressions.frame import Emit, Evaluate, Frame
from runner.expressions.nodes import Block, FilterBlock, For, If, Macro, Name, Node, Print, Set, Text
from runner.expressions.operators import condition
from runner.expressions.registry import nearest
from runner.expressions.values import is_list, kind_of, to_text

MacroCall = Callable[[Frame, list[Any], dict[str, Any]], str]


class Emitter(Compiler):
    """Compiles statements; collects the macros and blocks that it meets."""

    def __init__(self, source: str, bound: frozenset[str]) -> None:
        super().__init__(source, bound)
        self.macros: dict[str, MacroCall] = {}
        self.blocks: dict[str, Callable[[Frame], str]] = {}

    def body(self, nodes: tuple[Node, ...]) -> list[Emit]:
        """Return the closures of `nodes` in order."""
        return [emit for node in nodes if (emit := self.statement(node)) is not None]

    def paths(self, nodes: tuple[Node, ...]) -> tuple[str | Evaluate, ...] | None:
        """Return the texts and readers of a template made only of text and of variables, else None.

        Such readers look at `variables` alone, so that a scope will do where others need a frame; most templates of
        real flows are of this kind.
        """
        parts: list[str | Evaluate] = []
        for node in nodes:
            if isinstance(node, Text):
                parts.append(node.text)
            elif isinstance(node, Print) and self.is_path(node.expression):
                parts.append(self.compile(node.expression))
            else:
                return None
        return tuple(parts)

    def statement(self, node: Node) -> Emit | None:
        """Return the closure of one statement; None for a macro, which prints nothing where it stands."""
        if isinstance(node, Macro):
            self.macros[node.name] = self._macro(node)
            return None
        return self._statements[type(node)](self, node)

    def _if(self, node: If) -> Emit:
        branches = [(self.compile(test), self.body(body)) for test, body in node.branches]
        otherwise = self.body(node.otherwise)

        def emit(frame: Frame, out: list[Any]) -> None:
            for test, body in branches:
                if condition(test(frame)):
                    _run(body, frame, out)
                    return
            _run(otherwise, frame, out)

        return emit

    def _for(self, node: For) -> Emit:
        iterable, body, otherwise = self.compile(node.iterable), self.body(node.body), self.body(node.otherwise)
        variable = node.variable
        needs_loop = any(isinstance(child, Name) and child.name == "loop" for child in node.walk())

        def emit(frame: Frame, out: list[Any]) -> None:
            items = _iterate(iterable(frame))
            if items is None:
                return
            if not items:
                _run(otherwise, frame, out)
                return
            last = len(items) - 1
            names: dict[str, Any] = {}
            assert frame.locals is not None  # a template with loops starts with a stack of names
            frame.locals.append(names)
            for index, item in enumerate(items):
                frame.tick()
                names.clear()
                names[variable] = item
                if needs_loop:
                    names["loop"] = {
                        "index": index, "length": last + 1, "revindex": last - index,
                        "first": index == 0, "last": index == last,
                    }  # fmt: skip
                _run(body, frame, out)
            frame.locals.pop()

        return emit

    def _set(self, node: Set) -> Emit:
        name, evaluate = node.name, self.compile(node.expression)

        def emit(frame: Frame, _out: list[Any]) -> None:
            frame.assign(name, evaluate(frame))

        return emit

    def _block(self, node: Block) -> Emit:
        body = self.body(node.body)
        self.blocks[node.name] = lambda frame: _capture(body, frame)
        return lambda frame, out: _run(body, frame, out)

    def _filter_block(self, node: FilterBlock) -> Emit:
        body, evaluate, variable = self.body(node.body), self.compile(node.expression), node.variable

        def emit(frame: Frame, out: list[Any]) -> None:
            text = _capture(body, frame)
            assert frame.locals is not None  # this statement binds a name itself
            frame.locals.append({variable: text})
            out.append(frame.take(to_text(evaluate(frame))))
            frame.locals.pop()

        return emit

    def _macro(self, node: Macro) -> MacroCall:
        body, name = self.body(node.body), node.name
        parameters = [parameter for parameter, _ in node.parameters]
        defaults = {key: self.compile(value) for key, value in node.parameters if value is not None}

        def call(frame: Frame, positional: list[Any], named: dict[str, Any]) -> str:
            values = _macro_arguments(name, parameters, positional, named)
            frame.enter()
            outer, variables = frame.locals, frame.variables
            for parameter in parameters:
                if parameter not in values:
                    values[parameter] = defaults[parameter](frame) if parameter in defaults else None
            # A macro sees its arguments and nothing of the place where it is called.
            frame.locals, frame.variables = [values], {}
            try:
                return _capture(body, frame)
            finally:
                frame.locals, frame.variables = outer, variables
                frame.leave()

        return call

    def _text(self, node: Text) -> Emit:
        text = node.text

        def emit(frame: Frame, out: list[Any]) -> None:
            out.append(frame.take(text))

        return emit

    def _print(self, node: Print) -> Emit:
        evaluate = self.compile(node.expression)

        def emit(frame: Frame, out: list[Any]) -> None:
            value = evaluate(frame)
            if type(value) is not str:
                if frame.typed:
                    out.append(value)
                    return
                value = to_text(value)
            out.append(frame.take(value))

        return emit

    # Each function takes its own kind of node, which a table cannot say to the type checker.
    _statements: ClassVar[dict[type[Node], Callable[[Emitter, Any], Emit]]] = {
        Text: _text,
        Print: _print,
        If: _if,
        For: _for,
        Set: _set,
        Block: _block,
        FilterBlock: _filter_block,
    }


def _run(body: list[Emit], frame: Frame, out: list[Any]) -> None:
    for emit in body:
        emit(frame, out)


def _capture(body: list[Emit], frame: Frame) -> str:
    out: list[str] = []
    typed, frame.typed = frame.typed, False
    try:
        _run(body, frame, out)
    finally:
        frame.typed = typed
    return "".join(out)


def _iterate(value: Any) -> list[Any] | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return [{"key": key, "value": item} for key, item in value.items()]
    if is_list(value):
        return value if type(value) is list else list(value)
    raise ExpressionError("expression.type", f"Not an iterable object: {kind_of(value)} cannot be looped over")


def _macro_arguments(name: str, parameters: list[str], positional: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    if len(positional) > len(parameters):
        raise ExpressionError(
            "expression.argument",
            f"The macro '{name}' takes at most {len(parameters)} arguments, not {len(positional)}",
        )
    for key in named:
        if key not in parameters:
            raise ExpressionError(
                "expression.argument", f"The macro '{name}' has no argument '{key}'", hint=nearest(key, parameters)
            )
    return {**dict(zip(parameters, positional, strict=False)), **named}
