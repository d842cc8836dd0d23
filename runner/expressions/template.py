"""Compiled templates, their cache, and rendering of texts and of whole structures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.emitter import Emitter
from runner.expressions.frame import Evaluate, Frame
from runner.expressions.limits import DEFAULT_LIMITS, KIBI, too_much
from runner.expressions.nodes import Literal, Node, Print, Root, Text
from runner.expressions.operators import add, checked_text
from runner.expressions.services import Scope
from runner.expressions.statements import bound_names, parse
from runner.expressions.values import class_name, is_list, is_number, to_text

_CACHED: Final = 10_000
_CACHED_LONG: Final = 200
_LONG: Final = 16 * KIBI
_RAW: Final = re.compile(r"\{%-?\s*raw\s*-?%\}(.*?)\{%-?\s*endraw\s*-?%\}", re.DOTALL)
# What our own filters may raise on odd values; each becomes an ExpressionError at the edge of a render.
_FAULTS: Final = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError, AttributeError)


class Template:
    """A compiled template; it holds no state of a render and may be used by any number of threads."""

    __slots__ = ("_binds", "_blocks", "_body", "_literal", "_macros", "_paths", "source")

    def __init__(self, source: str, root: Root | None) -> None:
        self.source = source
        self._literal = source if root is None else _plain_text(root)
        if root is None or self._literal is not None:
            return
        bound = bound_names(root.walk())
        emitter = Emitter(source, bound)
        self._binds = bool(bound)
        self._paths = emitter.paths(root.body)
        self._body = tuple(emitter.body(root.body))
        self._macros, self._blocks = emitter.macros, emitter.blocks

    def render(self, scope: Scope) -> str:
        """Return the text; values print as `to_text` says.

        Raises:
            UndefinedError: `expression.undefined`, naming what is missing and the line.
            ExpressionError: any other fault, among them `expression.limit`.
        """
        if self._literal is not None:
            return self._literal
        if scope.recursive:
            return render_until_stable(self.source, Frame(scope))
        return self._read(self._paths, scope) if self._paths is not None else self.render_in(Frame(scope))

    def _read(self, parts: tuple[str | Evaluate, ...], scope: Scope) -> str:
        texts: list[str] = []
        try:
            for part in parts:
                value = part if type(part) is str else part(scope)  # type: ignore[operator, arg-type] # see Emitter.paths
                texts.append(value if type(value) is str else to_text(value))
        except _FAULTS as error:
            raise self._fault(error) from error
        return checked_text("".join(texts), scope.limits)

    def _fault(self, error: BaseException) -> ExpressionError:
        if isinstance(error, RecursionError):
            return too_much("the expression is nested too deep")
        return ExpressionError("expression.value", f"cannot render `{self.source[:200]}`: {error}")

    def render_typed(self, scope: Scope) -> Any:
        """Return the native value of a template that is one expression; several parts must be addable.

        Text parts concatenate with text, numbers add to numbers; anything else is an error.
        """
        if self._literal is not None:
            return self._literal
        parts = self._parts(Frame(scope, typed=True))
        if not parts:
            return ""
        value = parts[0]
        for part in parts[1:]:
            if not (isinstance(value, str) and isinstance(part, str)) and not (is_number(value) and is_number(part)):
                raise ExpressionError("expression.type", f"Tried to add {class_name(part)} to {class_name(value)}")
            value = add(value, part, scope.limits)
        return value

    def render_in(self, frame: Frame) -> str:
        """Return the text, rendered in a frame that exists already."""
        return self._literal if self._literal is not None else "".join(self._parts(frame))

    def _parts(self, frame: Frame) -> list[Any]:
        if self._binds:
            frame.locals = [{}]
        if self._macros:
            frame.macros = dict(self._macros)
        if self._blocks:
            frame.blocks = {name: partial(block, frame) for name, block in self._blocks.items()}
        out: list[Any] = []
        try:
            for emit in self._body:
                emit(frame, out)
        except _FAULTS as error:
            raise self._fault(error) from error
        return out


def _plain_text(root: Root) -> str | None:
    """Return the text of a template in which nothing has to be computed, else None."""
    parts = [_constant_text(node) for node in root.body]
    return None if None in parts else "".join(part for part in parts if part is not None)


def _constant_text(node: Node) -> str | None:
    match node:
        case Text(text=text):
            return text
        case Print(expression=Literal(value=str() as text)):
            return text
    return None


def compile_template(source: str) -> Template:
    """Return the compiled `source`, from a cache of the last 10,000 (200 of those longer than 16 KiB).

    Raises:
        ExpressionError: `expression.syntax`, with line and column, or `expression.limit`.
    """
    if not ("{{" in source or "{%" in source or "{#" in source):
        return Template(source, None)  # JSON and scripts pass by here, each another one; they would fill the cache
    return _compiled(source) if len(source) <= _LONG else _compiled_long(source)


def _compile(source: str) -> Template:
    try:
        return Template(source, parse(source, DEFAULT_LIMITS))
    except RecursionError:
        raise too_much("the expression is nested too deep") from None


_compiled = lru_cache(maxsize=_CACHED)(_compile)
_compiled_long = lru_cache(maxsize=_CACHED_LONG)(_compile)


def render(source: str, scope: Scope) -> str:
    """Return `source` rendered to text in `scope`."""
    return compile_template(source).render(scope) if "{" in source else source


def render_typed(source: str, scope: Scope) -> Any:
    """Return the native value of `source` in `scope`."""
    return compile_template(source).render_typed(scope) if "{" in source else source


def render_deep(value: Any, scope: Scope) -> Any:
    """Return `value` with every string in it rendered to text, keys of maps too; other values are kept."""
    if isinstance(value, str):
        return render(value, scope)
    if isinstance(value, Mapping):
        return {render_deep(key, scope): render_deep(item, scope) for key, item in value.items()}
    if is_list(value):
        return [render_deep(item, scope) for item in value]
    return value


def render_again(value: Any, frame: Frame, *, recursive: bool) -> Any:
    """Return `value` with its strings rendered in the scope of `frame`, once or until nothing changes."""
    frame.tick()
    if isinstance(value, str):
        if "{" not in value:
            return value
        return render_until_stable(value, frame) if recursive else _once(value, frame)
    if isinstance(value, Mapping):
        return {
            render_again(key, frame, recursive=recursive): render_again(item, frame, recursive=recursive)
            for key, item in value.items()
        }
    if is_list(value):
        return [render_again(item, frame, recursive=recursive) for item in value]
    return value


def render_until_stable(source: str, frame: Frame) -> str:
    """Return `source` rendered again and again until it stays the same; raw parts come out untouched.

    Raises:
        ExpressionError: `expression.limit` after 100 passes.
    """
    raw_texts: list[str] = []
    text = source
    for _ in range(frame.limits.passes):
        frame.tick()
        protected = _RAW.sub(lambda match: _keep(match[1], raw_texts), text)
        rendered = _once(protected, frame)
        if rendered == text:
            break
        text = rendered
    else:
        raise too_much("Too many rendering attempts", hint="two variables refer to each other")
    for index, raw in enumerate(raw_texts):
        text = text.replace(_mark(index), raw)
    return text


def _keep(text: str, texts: list[str]) -> str:
    texts.append(text)
    return _mark(len(texts) - 1)


def _mark(index: int) -> str:
    return f"\x00raw:{index}\x00"


def _once(source: str, frame: Frame) -> str:
    child = Frame(frame.scope, parent=frame)
    if child.depth > child.limits.nesting:
        raise too_much(f"macros or renders are nested deeper than {child.limits.nesting}")
    return compile_template(source).render_in(child)
