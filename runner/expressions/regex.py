"""Regular expressions that flow authors write, run by RE2 in linear time.

RE2 has no look-around and no back-references. Java's syntax is otherwise nearly the same; `$1` and `${name}` in
replacements are translated here.
"""

from __future__ import annotations

import re as own_patterns
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.limits import too_much

_MAX_PATTERN: Final = 2000
_MEMORY: Final = 8 << 20  # bytes, as RE2 has it by itself
_GROUP: Final = own_patterns.compile(r"\\(.)|\$(?:(\d)|\{([A-Za-z][A-Za-z0-9]*)\})", own_patterns.DOTALL)


@lru_cache(maxsize=1000)
def compile_pattern(pattern: str, memory: int = _MEMORY) -> Any:
    """Return the compiled `pattern`, which takes no more than `memory` bytes.

    Raises:
        ExpressionError: `expression.regex` when it is no pattern, needs more memory, or what RE2 refuses.
    """
    import re2  # type: ignore[import-untyped] # the wheel has no type information

    if len(pattern) > _MAX_PATTERN:
        raise too_much(f"a pattern has more than {_MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    try:
        return re2.compile(pattern.replace("(?<", "(?P<") if _has_names(pattern) else pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ExpressionError(
            "expression.regex",
            f"the pattern {pattern!r} cannot be used: {reason}",
            hint="look-ahead, look-behind and back-references are not supported",
        ) from None


def _has_names(pattern: str) -> bool:
    return (
        own_patterns.search(r"\(\?<[A-Za-z]", pattern) is not None and "(?<=" not in pattern and "(?<!" not in pattern
    )


def replace_all(frame: Frame, text: str, pattern: str, replacement: str) -> str:
    """Return `text` with each match replaced as Java's `replaceAll` does (`$1` is the first group)."""
    pieces: list[str] = []
    end = size = 0
    template = _parse_replacement(replacement)
    for match in finditer(frame, pattern, text):
        filled = "".join(part if isinstance(part, str) else _group(match, part[0]) for part in template)
        size += match.start() - end + len(filled)
        if size > frame.limits.text:
            raise too_much(f"a text has more than {frame.limits.text} characters")
        pieces += [text[end : match.start()], filled]
        end = match.end()
    return "".join([*pieces, text[end:]])


def finditer(frame: Frame, pattern: str, text: str) -> Iterator[Any]:
    """Yield the matches of `pattern` in `text`."""
    for match in compile_pattern(pattern).finditer(text):
        frame.tick()
        yield match


def _group(match: Any, name: int | str) -> str:
    try:
        return match.group(name) or ""
    except (IndexError, KeyError):
        raise ExpressionError("expression.regex", f"the pattern has no group {name}") from None


def _parse_replacement(replacement: str) -> list[str | tuple[int | str]]:
    parts: list[str | tuple[int | str]] = []
    end = 0
    for match in _GROUP.finditer(replacement):
        parts.append(replacement[end : match.start()])
        escaped, number, name = match.groups()
        parts.append(escaped if escaped is not None else (int(number) if number else name,))
        end = match.end()
    return [*parts, replacement[end:]]


def split(frame: Frame, text: str, pattern: str, limit: int | None = None) -> list[str]:
    """Return the parts of `text` between matches, as Java's `String.split`: trailing empty ones go without a limit."""
    parts: list[str] = []
    end = 0
    for match in finditer(frame, pattern, text):
        if limit is not None and limit > 0 and len(parts) == limit - 1:
            break
        if match.end() == 0 or (match.start() == match.end() == len(text)):
            continue  # Java yields no empty part for a match without length at either end
        parts.append(text[end : match.start()])
        end = match.end()
    parts.append(text[end:])
    if not limit:
        while len(parts) > 1 and not parts[-1]:
            parts.pop()
    return parts
