"""What a file that is no YAML should be told: the place where the mistake was made, and what to do about it.

The parser says what it could not read, which is seldom what went wrong: it names a colon where a text lacks quotes, and
the end of the file where a quote was opened. What it says is kept; the place moves, and a hint says what is usual.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from runner.errors import Problem
from runner.flows.positions import Mark

EXPRESSION_HINT: Final = 'put an expression in quotes: "{{ … }}"'
"""For `key: {{ … }}`, which is a map whose key is a map."""
_QUOTES: Final = "put the text in quotes"
_SPACES: Final = "indent with plain spaces"
_INDENT: Final = "look at the indentation: the keys of one map, and the dashes of one list, stand in the same column"
_HINTS: Final = (
    ("found a tab character", _SPACES),
    ("found unknown escape character", "write `\\\\` for a backslash, or put the text in single quotes"),
    ("did not find expected '-' indicator", _INDENT),
    ("block sequence entries are not allowed", "begin a list in the line below its key"),
    ("could not find expected ':'", "a line of a map is `key: value`"),
    ("did not find expected ',' or", "a comma is missing before this, or the bracket around it is not closed"),
)
_CONFLICT: Final = re.compile(r"^(?:<{7} |>{7} )", re.MULTILINE)
_WIDE_SPACE: Final = re.compile("^ *[\u00a0\u2000-\u200b\u202f\u3000]")
_TWO_VALUES: Final = re.compile(r"[^\s#:][^:]*:\s+\S")
_MARKS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def syntax_problem(error: yaml.YAMLError, text: str, file: str | None) -> Problem:
    """Return the problem `yaml.syntax.invalid` of `text`, which the parser refused with `error`."""
    mark, message, hint = _unreadable(error, text) if isinstance(error, yaml.reader.ReaderError) else _misread(error)
    if found := _CONFLICT.search(text):
        mark, message, hint = _at(text, found.start()), "a conflict of git that nobody resolved", None
    elif wide := _wide_space(error, text, mark):
        mark, character = wide
        hint = f"the line begins with U+{ord(character):04X}, which looks like a space and is none: {_SPACES}"
    elif hint is None:
        hint = _hint(message, mark, text)
    return Problem("yaml.syntax.invalid", message, file=file, line=mark.line, column=mark.column, hint=hint)


def encoding_problem(error: UnicodeError, source: str | bytes, file: str | None) -> Problem:
    """Return the problem `yaml.encoding.invalid` of `source`, at the first byte that is not UTF-8."""
    mark, message = Mark(1, 1), "the file is not UTF-8 text"
    if isinstance(source, bytes) and isinstance(error, UnicodeDecodeError):
        encoding = _MARKS.get(source[:2])
        message += f" but {encoding}" if encoding else f": the byte 0x{source[error.start]:02X} begins no character"
        mark = Mark(1, 1) if encoding else _at(source[: error.start].decode(), error.start)
    return Problem(
        "yaml.encoding.invalid", message, file=file, line=mark.line, column=mark.column, hint="save it as UTF-8"
    )


def _at(text: str, offset: int) -> Mark:
    offset = min(offset, len(text))
    return Mark(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _wide_space(error: yaml.YAMLError, text: str, mark: Mark) -> tuple[Mark, str] | None:
    """Return a foreign space that a line begins with, where it can be what the parser stumbled over.

    That is in the line of the mark, in the one above, and where the parser began to read what it did not understand;
    further up such spaces may be part of a text.
    """
    lines = text.split("\n")
    begun = error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    for number in (mark.line, mark.line - 1, begun.line + 1 if begun else 0):
        found = _WIDE_SPACE.match(lines[number - 1]) if 0 < number <= len(lines) else None
        if found:
            return Mark(number, found.end()), found[0][-1]
    return None


def _unreadable(error: yaml.reader.ReaderError, text: str) -> tuple[Mark, str, None]:
    # `position` counts bytes for some faults and characters for others: look the character up instead.
    character = error.character if isinstance(error.character, str) else chr(error.character)
    return (
        _at(text, max(text.find(character), 0)),
        f"the character U+{ord(character[0]):04X} is not allowed in YAML",
        None,
    )


def _misread(error: yaml.YAMLError) -> tuple[Mark, str, str | None]:
    if not isinstance(error, yaml.MarkedYAMLError):
        return Mark(1, 1), "this is no YAML", None
    place, hint = error.problem_mark or error.context_mark, None
    if error.problem == "found unexpected end of stream" and error.context_mark is not None:
        place, hint = error.context_mark, "the quote that opens here is not closed"
    message = " ".join(part for part in (error.problem, error.context) if part) or "this is no YAML"
    return (Mark(1, 1) if place is None else Mark(place.line + 1, place.column + 1)), message, hint


def _hint(message: str, mark: Mark, text: str) -> str | None:
    """Return what to do about the message of the parser; it points to `mark`, None where nothing is usual."""
    lines = text.split("\n", mark.line)
    line = lines[mark.line - 1] if len(lines) >= mark.line else ""
    before, here = line[: mark.column - 1], line[mark.column - 1 : mark.column]
    if message.startswith("found character that cannot start any token"):
        return _SPACES if here == "\t" else f"{_QUOTES}: a plain one cannot begin with `{here}`"
    if message.startswith("mapping values are not allowed"):
        return f"{_QUOTES}: it holds `: `" if _TWO_VALUES.match(before.lstrip(" -")) else _INDENT
    if message.startswith("did not find expected key"):
        return _INDENT if not before.strip() else f"{_QUOTES}, all of it"
    return next((hint for start, hint in _HINTS if message.startswith(start)), None)
