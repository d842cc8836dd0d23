"""Runs jq programs, with what would reach outside of the data or never end refused beforehand.

The library runs C code under the interpreter's lock, and nothing can interrupt it. So words that read the environment
and the files of the server are refused, and so are those that loop without a bound that the data sets; `range` and the
multiplication of text get their bounds from a prelude. What is left may still be slow: a program that combines large
arrays with each other costs what it costs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.limits import Limits, too_much
from runner.expressions.values import to_json, weigh

_OUTSIDE: Final = frozenset(
    {
        "env", "$ENV", "$__prog_args", "input", "inputs", "input_filename", "debug", "stderr", "import", "include",
        "modulemeta", "get_search_list", "halt", "halt_error",
    }
)  # fmt: skip
_ENDLESS: Final = frozenset({"def", "repeat", "while", "until", "combinations"})
_WORD: Final = re.compile(r"[$@]?[A-Za-z_][A-Za-z0-9_]*")
_PATH_RECURSION: Final = re.compile(r"\brecurse\s*\((?!\s*[.\w\[\]?\"]+\s*\))")
_LARGE_INDEX: Final = re.compile(r"\[\s*[0-9.]*(?:[0-9]{7,}|[eE]\+?[0-9])")
_MAX_PROGRAM: Final = 4000
_MAX_RESULTS: Final = 100_000
_PRELUDE: Final = (
    "def __range($a;$b;$c): range($a;$b;$c);"
    " def __bounded($a;$b;$c): if (($b-$a)/(if $c==0 then 1 else $c end)) > 100000"
    ' then error("range is longer than 100000") else __range($a;$b;$c) end;'
    " def range($n): __bounded(0;$n;1); def range($a;$b): __bounded($a;$b;1); def range($a;$b;$c): __bounded($a;$b;$c);"
    ' def __times($a;$b): $a*$b; def _multiply($a;$b): if (($a|type)=="string" and ($a|length)*$b > 1000000) or'
    ' (($b|type)=="string" and ($b|length)*$a > 1000000) then error("the text is longer than 1000000")'
    " else __times($a;$b) end; "
)


@lru_cache(maxsize=1000)
def _compiled(program: str) -> Any:
    import jq  # type: ignore[import-not-found] # an extension module without type information

    _refuse(program)
    bounded = f"{_PRELUDE}{program}" if "*" in program or "range" in program else program
    try:
        return jq.compile(bounded)
    except ValueError as error:
        reason = str(error).split("\n", 1)[0]
        raise ExpressionError("expression.value", f"the jq program {program!r} is invalid: {reason}") from None


def _refuse(program: str) -> None:
    if len(program) > _MAX_PROGRAM:
        raise too_much(f"a jq program has more than {_MAX_PROGRAM} characters")
    words = list(_words(program))
    for word in words:
        if word in _OUTSIDE:
            raise ExpressionError(
                "expression.value", f"the jq program {program!r} uses `{word}`, which is not available"
            )
        if word in _ENDLESS:
            raise too_much(f"the jq program {program!r} uses `{word}`, which may never end", hint="use a script task")
    if words.count("range") > 1 or _PATH_RECURSION.search(program) or _LARGE_INDEX.search(program):
        raise too_much(f"the jq program {program!r} may loop too often", hint="use a script task")


def _words(program: str) -> Iterator[str]:
    """Yield the words that are neither in a string, nor a field (`.env`), nor the key of an object (`env: 1`)."""
    at = 0
    brackets = 0
    interpolations: list[int] = []
    while at < len(program):
        character = program[at]
        if character == '"' or (character == ")" and interpolations and interpolations[-1] == brackets):
            if character == ")":
                brackets = interpolations.pop() - 1
            at, opened = _end_of_text(program, at + 1)
            if opened:
                brackets += 1
                interpolations.append(brackets)
            continue
        if character == "#":
            raise ExpressionError(
                "expression.value", f"the jq program {program!r} has a comment, which is not supported"
            )
        brackets += (character == "(") - (character == ")")
        match = _WORD.match(program, at)
        if match is None:
            at += 1
            continue
        is_key = re.match(r"\s*:(?!:)", program[match.end() :]) is not None
        if not (program[at - 1 : at] == "." or (is_key and not match[0].startswith("$"))):
            yield match[0]
        at = match.end()


def _end_of_text(program: str, at: int) -> tuple[int, bool]:
    r"""Return where the string that continues at `at` ends, and whether that is an interpolation `\(`."""
    while at < len(program):
        if program[at] == "\\":
            if program[at + 1 : at + 2] == "(":
                return at + 2, True
            at += 2
        elif program[at] == '"':
            return at + 1, False
        else:
            at += 1
    return at, False


def run(program: str, value: Any, limits: Limits) -> list[Any]:
    """Return all results of `program` on `value`; text is read as JSON first.

    Raises:
        ExpressionError: `expression.value` when program or data are wrong, `expression.limit` when it may not end.
    """
    compiled = _compiled(program)
    text = _as_json(value) if isinstance(value, str) else to_json(value)
    results: list[Any] = []
    try:
        for result in compiled.input_text(text):
            results.append(result)
            if len(results) > _MAX_RESULTS:
                raise too_much(f"a jq program has more than {_MAX_RESULTS} results")
    except ValueError as error:
        raise ExpressionError("expression.value", f"jq {program!r} failed: {error}") from None
    return list(weigh(results, limits))


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text
