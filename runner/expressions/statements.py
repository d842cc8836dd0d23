"""Reads the tags of a template: `block filter for if macro set`; `raw` and `verbatim` are the lexer's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Final

from runner.expressions.lexer import Kind, Segment, Token, split, syntax_error
from runner.expressions.limits import Limits, too_much
from runner.expressions.nodes import (
    Arguments,
    Block,
    Filter,
    FilterBlock,
    For,
    If,
    Literal,
    Macro,
    Name,
    Node,
    Print,
    Root,
    Set,
    Text,
)
from runner.expressions.parser import ExpressionParser

TAGS: Final = ("block", "filter", "for", "if", "macro", "raw", "set", "verbatim")
_REMOVED: Final = frozenset(
    {"autoescape", "cache", "embed", "extends", "flush", "from", "import", "include", "parallel"}
)
_BODY_NAME: Final = "(body)"  # no template can write this name


def parse(source: str, limits: Limits) -> Root:
    """Return the tree of `source`.

    Raises:
        ExpressionError: `expression.syntax` with line and column, or `expression.limit`.
    """
    return _TemplateParser(source, split(source, limits), limits).root()


class _TemplateParser:
    """Walks over the segments once."""

    def __init__(self, source: str, segments: list[Segment], limits: Limits) -> None:
        self.source = source
        self.segments = segments
        self.limits = limits
        self.at = 0
        self.depth = 0

    def root(self) -> Root:
        body, _ = self._body((), None)
        return Root(0, body)

    def _body(self, ends: tuple[str, ...], opened: Segment | None) -> tuple[tuple[Node, ...], ExpressionParser]:
        """Return the nodes up to a tag named in `ends`, and that tag, its name already read."""
        self.depth += 1
        if self.depth > self.limits.nesting:
            raise too_much(f"tags are nested deeper than {self.limits.nesting}")
        nodes: list[Node] = []
        while self.at < len(self.segments):
            segment = self.segments[self.at]
            self.at += 1
            if segment.kind == "text":
                nodes.append(Text(segment.position, segment.text))
                continue
            parser = ExpressionParser(self.source, segment.tokens, self.limits, self.depth)
            if segment.kind == "print":
                nodes.append(Print(segment.position, parser.expression()))
                parser.finish()
                continue
            name = parser.expect_name("the name of a tag")
            if name in ends:
                self.depth -= 1
                return tuple(nodes), parser
            nodes.append(self._tag(name, segment, parser, ends))
        if opened is not None:
            raise syntax_error(self.source, opened.position, f"the tag is not closed with `{{% {ends[-1]} %}}`")
        return tuple(nodes), ExpressionParser(self.source, (Token(Kind.END, "", len(self.source)),), self.limits)

    def _tag(self, name: str, segment: Segment, parser: ExpressionParser, ends: tuple[str, ...]) -> Node:
        readers: dict[str, Callable[[Segment, ExpressionParser], Node]] = {
            "block": self._block,
            "filter": self._filter,
            "for": self._for,
            "if": self._if,
            "macro": self._macro,
            "set": self._set,
        }
        if name in readers:
            return readers[name](segment, parser)
        hint = f"tags are {', '.join(TAGS)}"
        if name.startswith("end") or name in {"else", "elseif", "elif"}:
            hint = f"`{ends[-1]}` is expected here" if ends else "no tag is open here"
        elif name in _REMOVED:
            hint = "templates of flows stand alone"
        elif near := get_close_matches(name, TAGS, 1):
            hint = f"did you mean `{near[0]}`?"
        raise syntax_error(self.source, segment.position, f"unexpected tag `{name}`", hint)

    def _close(self, ends: tuple[str, ...], opened: Segment) -> tuple[Node, ...]:
        body, parser = self._body(ends, opened)
        if parser.token.kind is Kind.NAME:  # `endblock name` repeats the name of its block
            parser.advance()
        parser.finish()
        return body

    def _if(self, segment: Segment, parser: ExpressionParser) -> Node:
        branches: list[tuple[Node, tuple[Node, ...]]] = []
        otherwise: tuple[Node, ...] = ()
        condition = parser.expression()
        parser.finish()
        while True:
            body, closing = self._body(("elseif", "elif", "else", "endif"), segment)
            branches.append((condition, body))
            name = closing.tokens[0].text
            if name in {"elseif", "elif"}:
                condition = closing.expression()
                closing.finish()
                continue
            closing.finish()
            if name == "else":
                otherwise = self._close(("endif",), segment)
            return If(segment.position, tuple(branches), otherwise)

    def _for(self, segment: Segment, parser: ExpressionParser) -> Node:
        variable = parser.expect_name("the name of the loop's variable")
        if not parser.is_word("in"):
            raise parser.fail(parser.token, "`in`")
        parser.advance()
        iterable = parser.expression()
        parser.finish()
        body, closing = self._body(("else", "endfor"), segment)
        closing.finish()
        otherwise = self._close(("endfor",), segment) if closing.tokens[0].text == "else" else ()
        return For(segment.position, variable, iterable, body, otherwise)

    def _set(self, segment: Segment, parser: ExpressionParser) -> Node:
        name = parser.expect_name("the name of a variable")
        parser.expect("=")
        expression = parser.expression()
        parser.finish()
        return Set(segment.position, name, expression)

    def _block(self, segment: Segment, parser: ExpressionParser) -> Node:
        token = parser.advance()
        if token.kind not in {Kind.NAME, Kind.STRING}:
            raise parser.fail(token, "the name of the block")
        parser.finish()
        return Block(segment.position, token.text, self._close(("endblock",), segment))

    def _macro(self, segment: Segment, parser: ExpressionParser) -> Node:
        name = parser.expect_name("the name of the macro")
        parser.expect("(")
        parameters: list[tuple[str, Node | None]] = []
        while not parser.is_mark(")"):
            parameter = parser.expect_name("the name of a parameter")
            parameters.append((parameter, parser.expression() if parser.accept("=") else None))
            if not parser.accept(","):
                break
        parser.expect(")")
        parser.finish()
        return Macro(segment.position, name, tuple(parameters), self._close(("endmacro",), segment))

    def _filter(self, segment: Segment, parser: ExpressionParser) -> Node:
        expression: Node = Name(segment.position, _BODY_NAME)
        while True:
            position = parser.token.position
            name = parser.expect_name("the name of a filter")
            arguments = parser.arguments() if parser.is_mark("(") else Arguments(position)
            expression = Filter(position, expression, name, arguments)
            if not parser.accept("|"):
                break
        parser.finish()
        return FilterBlock(segment.position, _BODY_NAME, expression, self._close(("endfilter",), segment))


def is_plain_text(root: Root) -> bool:
    """Return whether nothing in the template has to be computed."""
    return all(isinstance(node, Text) for node in root.body)


def bound_names(nodes: Iterable[Node]) -> frozenset[str]:
    """Return the names that the template of these nodes, all that it has, gives values to itself."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Set):
            names.add(node.name)
        elif isinstance(node, For):
            names |= {node.variable, "loop"}
        elif isinstance(node, Macro):
            names |= {parameter for parameter, _ in node.parameters}
        elif isinstance(node, FilterBlock):
            names.add(node.variable)
    return frozenset(names)


def constant(node: Node) -> bool:
    """Return whether `node` is a literal."""
    return isinstance(node, Literal)
