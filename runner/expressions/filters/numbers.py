"""Filters on numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.limits import too_much
from runner.expressions.registry import filter_
from runner.expressions.values import class_name as java_class
from runner.expressions.values import is_number, kind_of

_MAX_DIGITS: Final = 400
_MAX_EXPONENT: Final = 1000
_INT: Final = range(-(2**31), 2**31)
_LONG: Final = range(-(2**63), 2**63)


@filter_("abs")
def absolute(value: Any) -> Any:
    """Return the number without its sign.

    Example:
        {{ -7 | abs }} -> 7
    """
    if not is_number(value):
        raise ExpressionError("expression.type", f"The 'abs' filter expects a number, not {kind_of(value)}")
    return abs(value)


@filter_()
def number(value: Any, type: str | None = None) -> Any:  # noqa: A002 - the name used in templates
    """Return the number that a string holds; `type` is INT FLOAT LONG DOUBLE BIGDECIMAL or BIGINTEGER.

    Without `type` the form decides: digits (also hexadecimal) give an integer, others a decimal.

    Example:
        {{ ('12.5' | number) + 1 }} {{ '0xff' | number }} {{ '7' | number('DOUBLE') }} -> 13.5 255 7.0
    """
    if not isinstance(value, str):
        raise ExpressionError(
            "expression.type", f"'number' filter can only be applied to String. Actual type was: {java_class(value)}"
        )
    read = _READERS.get(type.upper() if isinstance(type, str) else None)
    if read is None:
        raise ExpressionError("expression.argument", f"The 'number' filter has no type {type!r}")
    text = value.strip()
    if len(text) > _MAX_DIGITS:
        raise too_much(f"a number has more than {_MAX_DIGITS} digits")
    try:
        return read(text)
    except (ValueError, InvalidOperation, OverflowError):
        raise ExpressionError(
            "expression.value", f"{value!r} is not a number{f' of type {type}' if type else ''}"
        ) from None


def _integer(text: str) -> int:
    digits = text.lstrip("+-").lower()
    if digits.startswith(("0x", "#")):
        return int(text.lower().replace("#", "0x", 1), 16)
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _within(allowed: range) -> Callable[[str], int]:
    def read(text: str) -> int:
        found = _integer(text)
        if found not in allowed:
            raise ValueError(text)
        return found

    return read


def _float(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text.rstrip("fFdD") if not text.lower().startswith(("inf", "nan")) else text)


def _decimal(text: str) -> Decimal:
    found = Decimal(text)
    if not found.is_finite() or abs(found.adjusted()) > _MAX_EXPONENT or "_" in text:
        raise InvalidOperation
    return found


def _infer(text: str) -> int | float:
    try:
        return _integer(text.rstrip("lL") if not text.lower().startswith(("0x", "-0x")) else text)
    except ValueError:
        return _float(text)


_READERS: Final[dict[str | None, Callable[[str], Any]]] = {
    None: _infer,
    "INT": _within(_INT),
    "LONG": _within(_LONG),
    "FLOAT": _float,
    "DOUBLE": _float,
    "BIGDECIMAL": _decimal,
    "BIGINTEGER": _integer,
}


@filter_("numberFormat")
def number_format(value: Any, format: str) -> str:  # noqa: A002 - the name used in templates
    """Return the number in a Java DecimalFormat pattern of `# 0 . , % E` with text around it.

    Example:
        {{ 3.14159 | numberFormat('#.##') }} {{ 1234567 | numberFormat('#,##0.00') }} -> 3.14 1,234,567.00
    """
    if not is_number(value):
        raise ExpressionError("expression.type", f"The 'numberFormat' filter expects a number, not {kind_of(value)}")
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite() or abs(exact.adjusted()) > _MAX_EXPONENT:
        raise ExpressionError("expression.value", "this number cannot be formatted")
    negative_pattern = format.partition(";")[2] if exact < 0 else ""
    pattern = negative_pattern or format.partition(";")[0]
    text = _formatted(abs(exact), pattern)
    return text if negative_pattern or exact >= 0 else f"-{text}"


def _formatted(exact: Decimal, pattern: str) -> str:
    marks = [index for index, character in enumerate(pattern) if character in "#0.,"]
    if not marks:
        raise ExpressionError("expression.argument", f"{pattern!r} is no number format")
    prefix, core, suffix = pattern[: marks[0]], pattern[marks[0] : marks[-1] + 1], pattern[marks[-1] + 1 :]
    if "%" in prefix + suffix:
        exact *= 100
    core, _, exponent_pattern = core.partition("E")
    digits = _scientific(exact, core, len(exponent_pattern)) if exponent_pattern else _plain(exact, core)
    return prefix + digits + suffix


def _scientific(exact: Decimal, core: str, exponent_digits: int) -> str:
    """Return mantissa and exponent; with more `#` and `0` before the point than `0`, exponents are their multiples."""
    whole, _, fraction = core.partition(".")
    least, most = max(whole.count("0"), 1), len(whole)
    exact = Context(prec=least + len(fraction), rounding=ROUND_HALF_EVEN).plus(exact)
    exponent = exact.adjusted() - least + 1 if exact else 0
    if exact and most > least:
        exponent = exact.adjusted() // most * most
        core = "0." + "#" * (least + len(fraction))
    power = str(abs(exponent)).rjust(exponent_digits, "0")
    return f"{_plain(exact.scaleb(-exponent), core)}E{'-' if exponent < 0 else ''}{power}"


def _plain(exact: Decimal, core: str) -> str:
    whole_pattern, _, fraction_pattern = core.partition(".")
    size = len(fraction_pattern)
    digits = f"{exact.quantize(Decimal(1).scaleb(-size), rounding=ROUND_HALF_EVEN, context=_wide(exact, size)):f}"
    whole, _, fraction = digits.partition(".")
    least = fraction_pattern.count("0")
    while len(fraction) > least and fraction.endswith("0"):
        fraction = fraction[:-1]
    whole = whole.lstrip("0").rjust(whole_pattern.count("0"), "0")
    if "," in whole_pattern:
        whole = _grouped(whole, len(whole_pattern) - whole_pattern.rindex(",") - 1)
    return (whole or ("" if fraction else "0")) + (f".{fraction}" if fraction else "")


def _wide(exact: Decimal, size: int) -> Context:
    return Context(prec=max(exact.adjusted(), 0) + size + len("123"))


def _grouped(digits: str, size: int) -> str:
    if size < 1:
        return digits
    groups = []
    while len(digits) > size:
        digits, group = digits[:-size], digits[-size:]
        groups.append(group)
    return ",".join([digits, *reversed(groups)])


@filter_("className")
def class_name(value: Any) -> str:
    """Return the Java class that Kestra would hold the value in.

    Example:
        {{ 'a' | className }} {{ 1 | className }} -> java.lang.String java.lang.Integer
    """
    return java_class(value)
