"""Text of Amazon Ion, as far as Kestra writes and reads it: JSON's values plus symbols, comments and timestamps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.values import float_text, is_list, to_text

_SYMBOL: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_SPACE: Final = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_TIMESTAMP: Final = re.compile(
    r"\d{4}(?:-\d{2}(?:-\d{2})?)?T?(?:\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?"
)
_NUMBER: Final = re.compile(r"-?(?:0x[0-9a-fA-F]+|0b[01]+|\d[\d_]*(?:\.[\d_]*)?(?:[eEdD][+-]?\d+)?)")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LONG_STRING: Final = re.compile(r"'''((?:[^'\\]|\\.|'(?!''))*)'''", re.DOTALL)
_QUOTED: Final = re.compile(r"'((?:[^'\\]|\\.)*)'")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(\n|.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""}
_RESERVED: Final = frozenset({"null", "true", "false", "nan"})
_MAX_DEPTH: Final = 100
_MAX_DIGITS: Final = 400
_MAX_EXPONENT: Final = 1000


def to_ion(value: Any) -> str:
    """Return `value` as compact Ion text."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_field(to_text(key))}:{to_ion(item)}" for key, item in value.items()) + "}"
    if is_list(value):
        return "[" + ",".join(to_ion(item) for item in value) + "]"
    return _ion_scalar(value)


def _ion_scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else to_text(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, float):
        return _ion_float(value)
    return str(value) if isinstance(value, (int, Decimal)) else json.dumps(to_text(value), ensure_ascii=False)


def _ion_float(number: float) -> str:
    text = float_text(number)
    if text in {"NaN", "Infinity", "-Infinity"}:
        return {"NaN": "nan", "Infinity": "+inf", "-Infinity": "-inf"}[text]
    return text.replace("E", "e") if "E" in text else f"{text}e0"


def _field(name: str) -> str:
    if _SYMBOL.fullmatch(name) and name not in _RESERVED:
        return name
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def from_ion(text: str) -> list[Any]:
    """Return the values at the top level of Ion text.

    Raises:
        ExpressionError: `expression.value` with the place where reading stopped.
    """
    return _Reader(text).all()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def all(self) -> list[Any]:
        values: list[Any] = []
        self._skip()
        while self.at < len(self.text):
            if not self.text.startswith("$ion_", self.at):
                values.append(self._value())
            else:
                self._match(re.compile(r"\$ion_\w+"))
            self._skip()
        return values

    def _fail(self, message: str) -> ExpressionError:
        return ExpressionError("expression.value", f"Invalid ion at character {self.at + 1}: {message}")

    def _skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def _value(self) -> Any:
        self._skip()
        while self._annotation():
            self._skip()
        here = self.text[self.at : self.at + 1]
        if here in {"{", "[", "("}:
            return self._container(here)
        if here == '"' or self.text.startswith("'''", self.at):
            return self._text()
        if here == "'":
            match = self._match(_QUOTED)
            if match is None:
                raise self._fail("the symbol is not closed")
            return _unescape(match[1])
        return self._scalar()

    def _annotation(self) -> bool:
        match = re.compile(r"(?:[A-Za-z_$][A-Za-z0-9_$]*|'(?:[^'\\]|\\.)*')\s*::").match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match is not None

    def _text(self) -> str:
        match = self._match(_STRING)
        if match is not None:
            return _unescape(match[1])
        pieces: list[str] = []
        while (match := self._match(_LONG_STRING)) is not None:
            pieces.append(_unescape(match[1]))
            self._skip()
        if not pieces:
            raise self._fail("the string is not closed")
        return "".join(pieces)

    def _scalar(self) -> Any:
        for word, constant in (("+inf", float("inf")), ("-inf", float("-inf"))):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return constant
        for pattern, convert in ((_TIMESTAMP, _timestamp), (_NUMBER, _number)):
            match = pattern.match(self.text, self.at)
            if match is not None and (convert is _number or "T" in match[0] or match[0].count("-") > 1):
                self.at = match.end()
                return convert(match[0])
        match = self._match(_SYMBOL)
        if match is None:
            raise self._fail("a value is expected")
        if match[0] == "null":
            self._match(re.compile(r"\.\w+"))
            return None
        return {"true": True, "false": False, "nan": float("nan")}.get(match[0], match[0])

    def _container(self, opener: str) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._fail("it is nested too deep")
        self.at += 1
        found = self._struct() if opener == "{" else self._sequence("]" if opener == "[" else ")")
        self.depth -= 1
        return found

    def _sequence(self, close: str) -> list[Any]:
        items: list[Any] = []
        while True:
            self._skip()
            if self.text.startswith(close, self.at):
                self.at += 1
                return items
            items.append(self._value())
            self._separator(close, required=close == "]")

    def _struct(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while True:
            self._skip()
            if self.text.startswith("}", self.at):
                self.at += 1
                return fields
            name = self._name()
            self._skip()
            if not self.text.startswith(":", self.at):
                raise self._fail("`:` is expected")
            self.at += 1
            fields[name] = self._value()
            self._separator("}", required=True)

    def _name(self) -> str:
        if self.text.startswith(('"', "'''"), self.at):
            return self._text()
        match = self._match(_QUOTED)
        if match is not None:
            return _unescape(match[1])
        match = self._match(_SYMBOL)
        if match is None:
            raise self._fail("the name of a field is expected")
        return match[0]

    def _separator(self, close: str, *, required: bool) -> None:
        self._skip()
        if self.text.startswith(",", self.at):
            self.at += 1
        elif required and not self.text.startswith(close, self.at):
            raise self._fail(f"`,` or `{close}` is expected")


def _unescape(text: str) -> str:
    def put(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code:
            return chr(int(code, 16))
        return _ESCAPES.get(match[4], match[4])

    try:
        return _ESCAPE.sub(put, text)
    except (ValueError, OverflowError):
        raise ExpressionError("expression.value", "Invalid ion: no such character") from None


def _number(text: str) -> int | float:
    digits = text.replace("_", "")
    if len(digits) > _MAX_DIGITS:
        raise ExpressionError("expression.value", "Invalid ion: a number has too many digits")
    if "x" in digits or "b" in digits[:3]:
        return int(digits, 0)
    if digits.lstrip("-").isdigit():
        return int(digits)
    return float(digits.lower().replace("d", "e"))


def _timestamp(text: str) -> str:
    return text.removesuffix("T")
