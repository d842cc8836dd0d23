"""The syntax tree of a template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

_LEAVES: Final = frozenset({"int", "str", "bool", "Any"})
"""What no node hides in; the types of fields are texts here."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression or a statement; `position` is its offset in the source."""

    position: int

    def children(self) -> Iterator[Node]:
        """Yield the nodes directly below, in the order of the source."""
        for name in _names(type(self)):  # type: ignore[arg-type]  # a class has a hash whatever its instances have
            yield from _nodes_in(getattr(self, name))

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            if _names(type(node)):  # type: ignore[arg-type]  # see above
                stack.extend(reversed(list(node.children())))


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a kind of node that may hold others: looking a class over costs more than a walk."""
    return tuple(field.name for field in fields(kind) if field.type not in _LEAVES)


def _nodes_in(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _nodes_in(item)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`target.key` or `target[key]`."""

    target: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A list literal."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pairs(Node):
    """A map literal."""

    pairs: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`not x`, `-x`, `+x`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Two operands that are both needed."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`and`, `or`: the right operand is read only when the left one does not decide."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Concat(Node):
    """`a ~ b ~ c`, or the parts of an interpolated string."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Coalesce(Node):
    """`a ?? b` (undefined or null) or, when `keeps_null`, `a ??? b` (undefined only)."""

    left: Node
    right: Node
    keeps_null: bool


@dataclass(frozen=True, slots=True)
class Ternary(Node):
    """`condition ? chosen : other`."""

    condition: Node
    chosen: Node
    other: Node


@dataclass(frozen=True, slots=True)
class Arguments(Node):
    """The arguments of a call, in the order written."""

    positional: tuple[Node, ...] = ()
    named: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True, slots=True)
class Filter(Node):
    """`target | name(arguments)`."""

    target: Node
    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Test(Node):
    """`target is name` or `target is not name`."""

    target: Node
    name: str
    negated: bool
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`name(arguments)`: a function or a macro."""

    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Text outside delimiters."""

    text: str


@dataclass(frozen=True, slots=True)
class Print(Node):
    """`{{ expression }}`."""

    expression: Node


@dataclass(frozen=True, slots=True)
class If(Node):
    """The branches in order, and what stands after `else`."""

    branches: tuple[tuple[Node, tuple[Node, ...]], ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class For(Node):
    """A loop; `otherwise` is used when there is nothing to iterate over."""

    variable: str
    iterable: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Set(Node):
    """`{% set name = expression %}`."""

    name: str
    expression: Node


@dataclass(frozen=True, slots=True)
class Block(Node):
    """A named part that is printed where it stands and again by `block(name)`."""

    name: str
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """A reusable part; parameters without a default are null when not given."""

    name: str
    parameters: tuple[tuple[str, Node | None], ...]
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class FilterBlock(Node):
    """`{% filter a | b %}`: `expression` filters the body, which it reads under the name `variable`."""

    variable: str
    expression: Node
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Root(Node):
    """A whole template."""

    body: tuple[Node, ...]
