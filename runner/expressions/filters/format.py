"""The filter `format`: Java's `String.format`, as far as it speaks of text and numbers."""

from __future__ import annotations

import re
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.limits import too_much
from runner.expressions.registry import filter_
from runner.expressions.values import is_integer, is_number, kind_of, to_text

_FIELD: Final = re.compile(r"%(?:(\d+)\$)?([-+ 0,]*)(\d*)(?:\.(\d+))?([A-Za-z%])|%")
_MOST_DIGITS: Final = 100


@filter_("format")
def format_(frame: Frame, value: Any, *arguments: Any) -> str:
    """Return the text with `%s`, `%d`, `%x`, `%o`, `%c`, `%b`, `%f` and `%e` filled in, as Java's `String.format` does.

    Example:
        {{ '%s has %05d, %.2f %%' | format('it', 42, 1.005) }} -> it has 00042, 1.00 %
    """
    places = iter(range(len(arguments)))

    def fill(match: re.Match[str]) -> str:
        frame.tick()
        letter = match[5]
        if letter in {"%", "n"}:
            return "%" if letter == "%" else "\n"
        place = int(match[1]) - 1 if match[1] else next(places, -1)
        if letter is None or not 0 <= place < len(arguments):
            raise ExpressionError("expression.argument", f"The 'format' filter has no argument for {match[0]!r}")
        if int(match[3] or 0) > frame.limits.text or int(match[4] or 0) > _MOST_DIGITS:
            raise too_much(f"a text has more than {frame.limits.text} characters")
        return _filled(match, letter, arguments[place])

    return _FIELD.sub(fill, to_text(value))


def _filled(match: re.Match[str], letter: str, value: Any) -> str:
    flags, width, precision = match[2], match[3], match[4]
    text = _converted(letter.lower(), value, flags, None if precision is None else int(precision))
    text = text.upper() if letter.isupper() else text
    if "-" in flags:
        return text.ljust(int(width or 0))
    if "0" in flags and is_number(value):
        return text.zfill(int(width or 0))
    return text.rjust(int(width or 0))


def _converted(letter: str, value: Any, flags: str, precision: int | None) -> str:
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if letter == "s":
        return ("null" if value is None else to_text(value))[:precision]
    if letter == "b":
        return str(value if isinstance(value, bool) else value is not None).lower()
    if letter == "c" and isinstance(value, str) and len(value) == 1:
        return value
    if letter in "dxo" and is_integer(value):
        return format(value, f"{sign}{',' if ',' in flags and letter == 'd' else ''}{letter}")
    if letter in "fe" and is_number(value):
        return format(value, f"{sign}{',' if ',' in flags else ''}.{6 if precision is None else precision}{letter}")
    raise ExpressionError("expression.argument", f"The 'format' filter cannot write {kind_of(value)} as %{letter}")
