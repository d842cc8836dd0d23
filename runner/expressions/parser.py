"""Reads expressions by precedence climbing.

Precedences are Pebble's: unary 500, `.. ?? ???` 120, `~` 110, `|` 100, `* / %` 60, `+ -` 40, comparisons 30,
`is contains in` 20, `and` 15, `or` 10, the ternary last. All binary operators associate to the left.
"""

from __future__ import annotations

from typing import Final

from runner.errors import ExpressionError
from runner.expressions.lexer import Kind, Token, syntax_error
from runner.expressions.limits import Limits, too_much
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

_UNARY: Final = 500
_PRECEDENCE: Final = {
    "..": 120, "??": 120, "???": 120,
    "~": 110,
    "|": 100,
    "*": 60, "/": 60, "%": 60,
    "+": 40, "-": 40,
    "==": 30, "equals": 30, "!=": 30, ">": 30, "<": 30, ">=": 30, "<=": 30,
    "is": 20, "is not": 20, "contains": 20, "in": 20, "isIn": 20, "not in": 20,
    "and": 15,
    "or": 10,
}  # fmt: skip
_SYNONYMS: Final = {"equals": "==", "isIn": "in"}
_WORDS: Final = frozenset({"is", "contains", "in", "isIn", "equals", "and", "or", "not"})
_CONSTANTS: Final = {"true": True, "TRUE": True, "false": False, "FALSE": False, "null": None, "none": None,
                     "NULL": None, "NONE": None}  # fmt: skip


class ExpressionParser:
    """Reads the tokens of one print or tag."""

    def __init__(self, source: str, tokens: tuple[Token, ...], limits: Limits, depth: int = 0) -> None:
        self.source = source
        self.tokens = tokens
        self.limits = limits
        self.depth = depth
        self.at = 0

    @property
    def token(self) -> Token:
        """The token that is read next."""
        return self.tokens[self.at]

    def fail(self, token: Token, expected: str, hint: str | None = None) -> ExpressionError:
        """Return the error for a token that does not fit."""
        found = (
            "the end" if token.kind is Kind.END else f"`{self.source[token.position : token.position + 20].split()[0]}`"
        )
        return syntax_error(self.source, token.position, f"expected {expected}, found {found}", hint)

    def advance(self) -> Token:
        """Return the present token and go to the next."""
        token = self.token
        if token.kind is not Kind.END:
            self.at += 1
        return token

    def is_mark(self, *marks: str) -> bool:
        """Return whether the present token is one of `marks`."""
        return self.token.kind is Kind.MARK and self.token.text in marks

    def is_word(self, *words: str) -> bool:
        """Return whether the present token is one of the names `words`."""
        return self.token.kind is Kind.NAME and self.token.text in words

    def accept(self, mark: str) -> bool:
        """Step over `mark` if it stands here."""
        if self.is_mark(mark):
            self.at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        """Step over `mark`, which has to stand here."""
        if not self.accept(mark):
            raise self.fail(self.token, f"`{mark}`")

    def expect_name(self, what: str) -> str:
        """Return the name that has to stand here."""
        token = self.advance()
        if token.kind is not Kind.NAME:
            raise self.fail(token, what)
        return token.text

    def finish(self) -> None:
        """Refuse anything before the closing delimiter."""
        if self.token.kind is not Kind.END:
            hint = None
            if self.is_mark(".", "["):
                hint = "put the filter into parentheses before you take a part of its result: `(x | first).name`"
            raise self.fail(self.token, f"`{self.tokens[-1].text}`", hint)

    def expression(self, precedence: int = 0) -> Node:
        """Return the expression that starts here, as far as operators bind at least as tightly as `precedence`."""
        self.depth += 1
        if self.depth > self.limits.nesting:
            raise too_much(f"an expression is nested deeper than {self.limits.nesting}")
        node = self._operand()
        links = 0
        while (operator := self._operator()) is not None and _PRECEDENCE[operator] >= precedence:
            # A chain of n operators is a tree n deep, which is walked recursively.
            links += operator != "~"
            if self.depth + links > self.limits.nesting:
                raise too_much(f"an expression has more than {self.limits.nesting} operators in a row")
            node = self._binary(node, operator)
        if precedence == 0 and self.is_mark("?"):
            node = self._ternary(node)
        self.depth -= 1
        return node

    def _operator(self) -> str | None:
        token = self.token
        if token.kind is Kind.MARK:
            return token.text if token.text in _PRECEDENCE else None
        if token.kind is not Kind.NAME or token.text not in _WORDS:
            return None
        following = self.tokens[self.at + 1]
        pair = f"{token.text} {following.text}" if following.kind is Kind.NAME else ""
        if pair in {"is not", "not in"}:
            return pair
        return None if token.text == "not" else token.text

    def _binary(self, left: Node, operator: str) -> Node:
        position = self.token.position
        self.at += 2 if " " in operator else 1
        if operator == "|":
            return Filter(position, left, *self._invocation("the name of a filter"))
        if operator in {"is", "is not"}:
            name, arguments = self._invocation("the name of a test")
            return Test(position, left, name, operator == "is not", arguments)
        return self._joined(position, operator, left, self.expression(_PRECEDENCE[operator] + 1))

    def _joined(self, position: int, operator: str, left: Node, right: Node) -> Node:
        if operator in {"??", "???"}:
            return Coalesce(position, left, right, keeps_null=operator == "???")
        if operator in {"and", "or"}:
            return Logic(position, operator, left, right)
        if operator == "~":
            # A long chain is one node: concatenation is associative, and building it pairwise would be quadratic.
            return Concat(position, (*left.items, right) if isinstance(left, Concat) else (left, right))
        if operator == "not in":
            return Unary(position, "not", Binary(position, "in", left, right))
        return Binary(position, _SYNONYMS.get(operator, operator), left, right)

    def _ternary(self, condition: Node) -> Node:
        position = self.advance().position
        chosen = self.expression()
        self.expect(":")
        return Ternary(position, condition, chosen, self.expression())

    def _invocation(self, what: str) -> tuple[str, Arguments]:
        position = self.token.position
        name = self.expect_name(what)
        return name, self.arguments() if self.is_mark("(") else Arguments(position)

    def _operand(self) -> Node:
        token = self.token
        if self.is_word("not") or self.is_mark("-", "+"):
            self.at += 1
            operand = self.expression(_UNARY)
            return Unary(token.position, token.text, operand)
        return self._postfix(self._primary())

    def _primary(self) -> Node:
        token = self.advance()
        if token.kind is Kind.NUMBER:
            return Literal(token.position, _number(token.text))
        if token.kind is Kind.STRING:
            return Literal(token.position, token.text)
        if token.kind is Kind.TEMPLATE:
            return self._interpolated(token)
        return self._named(token) if token.kind is Kind.NAME else self._bracketed(token)

    def _bracketed(self, token: Token) -> Node:
        opener = token.text if token.kind is Kind.MARK else ""
        if opener == "(":
            inner = self.expression()
            self.expect(")")
            return inner
        if opener == "[":
            return self._list(token)
        if opener == "{":
            return self._map(token)
        raise self.fail(token, "an expression")

    def _named(self, token: Token) -> Node:
        if token.text in _CONSTANTS:
            return Literal(token.position, _CONSTANTS[token.text])
        if self.is_mark("("):
            return Call(token.position, token.text, self.arguments())
        if token.text in _WORDS:
            raise self.fail(token, "an expression")
        return Name(token.position, token.text)

    def _interpolated(self, token: Token) -> Node:
        items: list[Node] = []
        for part in token.parts:
            if isinstance(part, str):
                items.append(Literal(token.position, part))
                continue
            inner = ExpressionParser(self.source, part, self.limits, self.depth)
            items.append(inner.expression())
            inner.finish()
        return Concat(token.position, tuple(items))

    def _postfix(self, node: Node) -> Node:
        links = 0
        while self.is_mark(".", "["):
            links += 1
            if links > self.limits.nesting:
                raise too_much(f"a path has more than {self.limits.nesting} parts")
            token = self.advance()
            if token.text == "[":
                key = self.expression()
                self.expect("]")
            else:
                name = self.token
                key = Literal(name.position, self.expect_name("the name of an attribute"))
                if self.is_mark("("):
                    hint = "values have no methods; use a filter: `x | lower`"
                    raise syntax_error(self.source, name.position, f"`.{name.text}()` is a method call", hint)
            node = Member(token.position, node, key)
        return node

    def _list(self, token: Token) -> Node:
        items: list[Node] = []
        while not self.is_mark("]"):
            items.append(self.expression())
            if not self.accept(","):
                break
        self.expect("]")
        return Items(token.position, tuple(items))

    def _map(self, token: Token) -> Node:
        pairs: list[tuple[Node, Node]] = []
        while not self.is_mark("}"):
            key = self.expression()
            self.expect(":")
            pairs.append((key, self.expression()))
            if not self.accept(","):
                break
        self.expect("}")
        return Pairs(token.position, tuple(pairs))

    def arguments(self) -> Arguments:
        """Return the arguments in parentheses that start here; named ones follow the positional ones."""
        position = self.token.position
        self.expect("(")
        positional: list[Node] = []
        named: list[tuple[str, Node]] = []
        while not self.is_mark(")"):
            following = self.tokens[self.at + 1] if self.token.kind is Kind.NAME else self.token
            if following.kind is Kind.MARK and following.text == "=":
                name = self.advance().text
                self.at += 1
                named.append((name, self.expression()))
            elif named:
                raise self.fail(self.token, "a named argument")
            else:
                positional.append(self.expression())
            if not self.accept(","):
                break
        self.expect(")")
        return Arguments(position, tuple(positional), tuple(named))


def _number(text: str) -> int | float:
    digits = text.rstrip("lL")
    return int(digits) if digits.isdigit() else float(digits)
