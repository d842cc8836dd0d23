"""What the operators do, with Java's arithmetic: integer division, signs of remainders, numbers equal across types."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.limits import Limits, too_much
from runner.expressions.values import is_list, is_number, kind_of, to_text, weigh


def type_error(symbol: str, left: Any, right: Any) -> ExpressionError:
    """Return the error for operands that an operator does not take."""
    return ExpressionError("expression.type", f"Could not perform `{symbol}` on {kind_of(left)} and {kind_of(right)}")


def condition(value: Any, *, null: bool | None = None) -> bool:
    """Return whether `value` counts as true where a template decides.

    Booleans, numbers other than zero and non-empty strings ("false" is one) do. Null gives `null`, or an error when
    that is None; lists and maps are an error.
    """
    if value is True or value is False:
        return bool(value)
    if isinstance(value, str):
        return value != ""
    if is_number(value):
        return bool(value != 0)
    if value is None and null is not None:
        return null
    raise ExpressionError(
        "expression.type", f"Unsupported value type: {kind_of(value)} cannot be used as a condition",
        hint="compare it, or use a test: `x is empty`",
    )  # fmt: skip


def equals(left: Any, right: Any) -> bool:
    """Return `left == right`: numbers by value across types, a boolean never equals a number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, float) and isinstance(right, Decimal):
        return Decimal(repr(left)) == right
    if isinstance(left, Decimal) and isinstance(right, float):
        return left == Decimal(repr(right))
    try:
        return bool(left == right)
    except TypeError:  # dates with and without a zone
        return False


def compare(symbol: str, left: Any, right: Any) -> bool:
    """Return the result of `< > <= >=`: numbers, and since Kestra 2.0 strings and dates; null is never in order."""
    if left is None or right is None:
        return False
    comparable = (
        (is_number(left) and is_number(right))
        or (isinstance(left, str) and isinstance(right, str))
        or (isinstance(left, date) and isinstance(right, date))
    )
    if not comparable:
        raise ExpressionError(
            "expression.type",
            f"invalid operands for mathematical comparison [{symbol}]: {kind_of(left)} and {kind_of(right)}",
        )
    try:
        return bool(_ORDER[symbol](left, right))
    except TypeError:
        raise type_error(symbol, left, right) from None


_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


def add(left: Any, right: Any, limits: Limits) -> Any:
    """Return `left + right`: text when either is text, a longer list when the left one is a list, else the sum."""
    if isinstance(left, str) or isinstance(right, str):
        return checked_text(_java_text(left) + _java_text(right), limits)
    if is_list(left):
        return weigh([*left, *right] if is_list(right) else [*left, right], limits)
    return arithmetic("+", left, right, limits)


def subtract(left: Any, right: Any, limits: Limits) -> Any:
    """Return `left - right`; from a list, the elements of `right` (or `right` itself) are removed."""
    if is_list(left):
        removed = list(right) if is_list(right) else [right]
        return [item for item in left if not any(equals(item, other) for other in removed)]
    return arithmetic("-", left, right, limits)


def arithmetic(symbol: str, left: Any, right: Any, limits: Limits) -> Any:
    """Return the result of `+ - * / %` on two numbers; the wider type wins (integer, float, decimal)."""
    if not (is_number(left) and is_number(right)):
        raise type_error(symbol, left, right)
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        left, right = _decimal(left), _decimal(right)
    elif isinstance(left, int) and isinstance(right, int):
        return _bounded(_INTEGERS[symbol](left, right), limits)
    try:
        return _NUMBERS[symbol](left, right)
    except ZeroDivisionError:
        return _divided_by_zero(left)
    except ArithmeticError as error:
        raise ExpressionError("expression.value", f"`{left} {symbol} {right}` has no result") from error


def _divided_by_zero(left: Any) -> float:
    if isinstance(left, Decimal):
        raise ExpressionError("expression.value", "division by zero")
    return float("nan") if left == 0 or left != left else float("inf") * (1 if left > 0 else -1)  # noqa: PLR0124 - NaN


def _decimal(number: Any) -> Decimal:
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _bounded(number: int, limits: Limits) -> int:
    if number.bit_length() > limits.integer_bits:
        raise too_much(f"a number has more than {limits.integer_bits} bits")
    return number


def _quotient(left: int, right: int) -> int:
    if right == 0:
        raise ExpressionError("expression.value", "division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    return left - _quotient(left, right) * right


def _float_remainder(left: Any, right: Any) -> Any:
    if isinstance(left, Decimal):
        return left % right
    import math

    return math.fmod(left, right) if right else float("nan")


_INTEGERS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _quotient, "%": _remainder,
}  # fmt: skip
_NUMBERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": _float_remainder,
}  # fmt: skip


def negate(value: Any) -> Any:
    """Return `-value`."""
    if not is_number(value):
        raise ExpressionError("expression.type", f"Could not negate {kind_of(value)}")
    return -value


def contains(container: Any, item: Any) -> bool:
    """Return `container contains item`: an element (or each of a list), a key, a part of a text; null has nothing."""
    if container is None:
        return False
    if isinstance(container, str):
        return to_text(item) in container
    if isinstance(container, Mapping):
        return item in container if not (is_list(item) or isinstance(item, Mapping)) else False
    if is_list(container):
        wanted = list(item) if is_list(item) else [item]
        return all(any(equals(element, one) for element in container) for one in wanted)
    raise ExpressionError(
        "expression.type",
        f"the `contains` operator can only be used on strings, lists and maps, not {kind_of(container)}",
    )


def is_in(item: Any, container: Any) -> bool:
    """Return `item in container`."""
    return False if item is None and not is_list(container) else contains(container, item)


def span(start: Any, end: Any, limits: Limits, step: Any = 1) -> list[Any]:
    """Return the integers, or the letters, from `start` to `end` inclusive.

    Raises:
        ExpressionError: `expression.limit` when there are more than `limits.items`.
    """
    letters = isinstance(start, str) and isinstance(end, str) and len(start) == len(end) == 1
    first, last = (ord(start), ord(end)) if letters else (start, end)
    for number in (first, last, step):
        if not isinstance(number, int) or isinstance(number, bool):
            raise ExpressionError(
                "expression.type", f"a range needs integers or single letters, not {kind_of(start)} and {kind_of(end)}"
            )
    if step == 0:
        raise ExpressionError("expression.value", "the increment of a range must not be 0")
    numbers = range(first, last + (1 if step > 0 else -1), step)
    # `len()` of a range raises OverflowError above the size of a pointer; this does not.
    if (numbers.stop - numbers.start) // numbers.step > limits.items:
        raise too_much(f"a range has more than {limits.items} elements")
    return [chr(number) for number in numbers] if letters else list(numbers)


def concatenate(values: list[Any], limits: Limits) -> str:
    """Return the texts of `values` one after the other; null adds nothing."""
    texts: list[str] = []
    size = 0
    for value in values:
        text = value if type(value) is str else to_text(value)
        size += len(text)
        if size > limits.text:
            raise too_much(f"a text has more than {limits.text} characters")
        texts.append(text)
    return "".join(texts)


def checked_text(text: str, limits: Limits) -> str:
    """Return `text` if it is not too long."""
    if len(text) > limits.text:
        raise too_much(f"a text has more than {limits.text} characters")
    return text


def _java_text(value: Any) -> str:
    return "null" if value is None else to_text(value)


def is_aware(moment: Any) -> bool:
    """Return whether `moment` is a date with a time zone."""
    return isinstance(moment, datetime) and moment.tzinfo is not None
