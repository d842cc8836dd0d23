"""Cuts a template into text, prints and tags, and these into tokens.

The rules are those of Pebble 3.2: names have no hyphens, a backslash in a string stays unless it escapes the quote,
`}}` closes a print only outside brackets, `-` beside a delimiter eats the white space next to it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from runner.errors import ExpressionError
from runner.expressions.limits import Limits, too_much


class Kind(enum.Enum):
    """What a token is."""

    NAME = "name"
    NUMBER = "number"
    STRING = "string"
    TEMPLATE = "interpolated string"
    MARK = "mark"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression; `parts` holds texts and token lists of an interpolated string."""

    kind: Kind
    text: str
    position: int
    parts: tuple[str | tuple[Token, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a template: `text`, or the tokens of a `print` or `tag`."""

    kind: str
    position: int
    text: str = ""
    tokens: tuple[Token, ...] = ()


_OPEN = re.compile(r"\{[{%#]")
_SPACE = re.compile(r"\s+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[lL]?")
_MARK = re.compile(r"\?\?\?|\?\?|\.\.|==|!=|>=|<=|[-+*/%~|<>?:,.()\[\]{}=]")
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_RAW = re.compile(r"\{%-?\s*(raw|verbatim)\s*(-?)%\}")
_MAX_DIGITS: Final = 400


def position_of(source: str, offset: int) -> tuple[int, int]:
    """Return line and column of `offset`, both from 1."""
    return source.count("\n", 0, offset) + 1, offset - source.rfind("\n", 0, offset)


def syntax_error(source: str, offset: int, message: str, hint: str | None = None) -> ExpressionError:
    """Return a `TemplateSyntaxError`: the message carries line and column."""
    line, column = position_of(source, offset)
    return TemplateSyntaxError(line, column, message, hint)


class TemplateSyntaxError(ExpressionError):
    """A template that cannot be compiled, with the place where reading stopped."""

    line: int
    column: int

    def __init__(self, line: int, column: int, message: str, hint: str | None = None) -> None:
        super().__init__("expression.syntax", f"{message} (line {line}, column {column})", hint=hint)
        self.line = line
        self.column = column
        self.bare_message = message


def split(source: str, limits: Limits) -> list[Segment]:
    """Return the segments of `source` in order.

    Raises:
        ExpressionError: `expression.syntax` or, when the source is too long or too deep, `expression.limit`.
    """
    if len(source) > limits.source:
        raise too_much(f"a template of {len(source)} characters is longer than {limits.source}")
    return _Splitter(source, limits).run()


class _Splitter:
    """Walks over the source once."""

    def __init__(self, source: str, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.position = 0
        self.segments: list[Segment] = []
        self.trim_next = False

    def run(self) -> list[Segment]:
        while self.position < len(self.source):
            match = _OPEN.search(self.source, self.position)
            if match is None:
                self._text(len(self.source), trim_end=False)
                break
            raw = _RAW.match(self.source, match.start())
            # Kestra cuts `raw` out before Pebble sees the text, so a `-` there trims nothing; at `verbatim` it does.
            trims = self.source.startswith("-", match.end()) and not (raw and raw[1] == "raw")
            self._text(match.start(), trim_end=trims)
            if raw is not None:
                self._raw(raw)
            else:
                self._delimited(match)
        return self.segments

    def _text(self, end: int, *, trim_end: bool) -> None:
        text = self.source[self.position : end]
        if self.trim_next:
            text = text.lstrip()
        if trim_end:
            text = text.rstrip()
        if text:
            self.segments.append(Segment("text", self.position, text))
        self.trim_next = False
        self.position = end

    def _delimited(self, match: re.Match[str]) -> None:
        opener = match.group()
        if opener == "{#":
            self._comment(match.start())
            return
        start = match.end() + self.source.startswith("-", match.end())
        lexer = Lexer(self.source, start, self.limits)
        tokens = lexer.until("}}" if opener == "{{" else "%}", match.start())
        self.segments.append(Segment("print" if opener == "{{" else "tag", match.start(), tokens=tokens))
        self.position = lexer.position
        self.trim_next = lexer.trimmed

    def _comment(self, start: int) -> None:
        end = self.source.find("#}", start + 2)
        if end < 0:
            hint = "`{#` opens a comment; put such text between {% raw %} and {% endraw %}"
            raise syntax_error(self.source, start, "the comment is not closed with `#}`", hint)
        self.position = end + 2
        self.trim_next = self.source[end - 1] == "-"

    def _raw(self, opening: re.Match[str]) -> None:
        closing = re.compile(rf"\{{%(-?)\s*end{opening[1]}\s*(-?)%\}}").search(self.source, opening.end())
        if closing is None:
            raise syntax_error(self.source, opening.start(), f"`{opening[1]}` is not closed with `end{opening[1]}`")
        trims = opening[1] == "verbatim"
        self.position = opening.end()
        self.trim_next = trims and opening[2] == "-"
        self._text(closing.start(), trim_end=trims and closing[1] == "-")
        self.position = closing.end()
        self.trim_next = trims and closing[2] == "-"


class Lexer:
    """Reads tokens from `position` up to a closing delimiter."""

    def __init__(self, source: str, position: int, limits: Limits, depth: int = 0) -> None:
        self.source = source
        self.position = position
        self.limits = limits
        self.depth = depth
        self.trimmed = False

    def until(self, close: str, opened_at: int) -> tuple[Token, ...]:
        """Return the tokens before `close`, ended by a token of kind END, and step over `close`."""
        tokens: list[Token] = []
        brackets: list[str] = []
        while True:
            self._skip_space()
            if not brackets and self._at_close(close):
                return (*tokens, Token(Kind.END, close, self.position - len(close)))
            if self.position >= len(self.source):
                raise syntax_error(self.source, opened_at, f"`{close}` is missing")
            token = self._next()
            if token.kind is Kind.MARK:
                self._balance(token, brackets)
            tokens.append(token)

    def _skip_space(self) -> None:
        match = _SPACE.match(self.source, self.position)
        if match is not None:
            self.position = match.end()

    def _at_close(self, close: str) -> bool:
        if self.source.startswith(close, self.position):
            self.position += len(close)
            return True
        if self.source.startswith("-" + close, self.position):
            self.position += len(close) + 1
            self.trimmed = True
            return True
        return False

    def _balance(self, token: Token, brackets: list[str]) -> None:
        if token.text in _CLOSERS:
            brackets.append(_CLOSERS[token.text])
            if len(brackets) + self.depth > self.limits.nesting:
                raise too_much(f"brackets are nested deeper than {self.limits.nesting}")
        elif token.text in ")]}":
            if not brackets:
                raise syntax_error(self.source, token.position, f"`{token.text}` was never opened")
            expected = brackets.pop()
            if expected != token.text:
                raise syntax_error(self.source, token.position, f"expected `{expected}`, found `{token.text}`")

    def _next(self) -> Token:
        start = self.position
        character = self.source[start]
        if character in "\"'":
            return self._string(character)
        for kind, pattern in ((Kind.NAME, _NAME), (Kind.NUMBER, _NUMBER), (Kind.MARK, _MARK)):
            match = pattern.match(self.source, start)
            if match is not None:
                self.position = match.end()
                if kind is Kind.NUMBER and len(match.group()) > _MAX_DIGITS:
                    raise too_much(f"a number has more than {_MAX_DIGITS} digits")
                return Token(kind, match.group(), start)
        raise syntax_error(self.source, start, f"unexpected character `{character}`")

    def _string(self, quote: str) -> Token:
        start = self.position
        self.position += 1
        parts: list[str | tuple[Token, ...]] = []
        text_from = self.position
        while True:
            found = self._end_of_text(quote)
            text = self.source[text_from:found].replace("\\" + quote, quote)
            if self.source[found] == quote:
                self.position = found + 1
                if not parts:
                    return Token(Kind.STRING, text, start)
                return Token(Kind.TEMPLATE, "", start, (*parts, text))
            inner = Lexer(self.source, found + 2, self.limits, self.depth + 1)
            if inner.depth > self.limits.nesting:
                raise too_much(f"strings are nested deeper than {self.limits.nesting}")
            parts += [text, inner.until("}", found)]
            self.position = text_from = inner.position

    def _end_of_text(self, quote: str) -> int:
        at = self.position
        while True:
            end = self.source.find(quote, at)
            if end < 0:
                raise syntax_error(self.source, self.position - 1, f"the string has no closing {quote}")
            insert = self.source.find("#{", at, end) if quote == '"' else -1
            if insert >= 0:
                return insert
            if self.source[end - 1] != "\\" or end == self.position:
                return end
            at = end + 1
