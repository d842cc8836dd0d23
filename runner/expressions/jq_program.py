"""Runs jq programs, with what would reach outside of the data or never end refused beforehand.

The library runs C code that cannot be interrupted. So the words that read the server's environment and files, and
those that loop without a bound that the data sets, are refused by name.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.limits import Limits, too_much
from runner.expressions.values import to_json, weigh

_WORD: Final = re.compile(r"[$@]?[A-Za-z_][A-Za-z0-9_]*")
_OUTSIDE: Final = frozenset(
    {
        "env", "$ENV", "$__prog_args", "$__loc__", "input", "inputs", "input_filename", "input_line_number", "debug",
        "stderr", "import", "include", "modulemeta", "get_search_list", "halt", "halt_error", "now",
    }
)  # fmt: skip
_ENDLESS: Final = frozenset({"def", "repeat", "while", "until", "recurse_down", "combinations"})
_RANGE: Final = re.compile(r"\brange\b")
_TIMES_NUMBER: Final = re.compile(r"\*\s*[0-9]{4,}|[0-9]{4,}\s*\*|e[0-9]", re.IGNORECASE)
_MAX_PROGRAM: Final = 4000
_MAX_RESULTS: Final = 100_000


@lru_cache(maxsize=1000)
def _compiled(program: str) -> Any:
    import jq  # type: ignore[import-not-found] # an extension module without type information

    _refuse(program)
    try:
        return jq.compile(program)
    except ValueError as error:
        reason = str(error).split("\n", 1)[0]
        raise ExpressionError("expression.value", f"the jq program {program!r} is invalid: {reason}") from None


def _refuse(program: str) -> None:
    if len(program) > _MAX_PROGRAM:
        raise too_much(f"a jq program has more than {_MAX_PROGRAM} characters")
    words = set(_WORD.findall(program))
    if refused := sorted(words & _OUTSIDE):
        raise ExpressionError(
            "expression.value", f"the jq program {program!r} uses `{refused[0]}`, which is not available"
        )
    if refused := sorted(words & _ENDLESS):
        raise ExpressionError(
            "expression.limit",
            f"the jq program {program!r} uses `{refused[0]}`, which may never end",
            hint="use a script task",
        )
    if len(_RANGE.findall(program)) > 1 or ("range" in words and _TIMES_NUMBER.search(program)):
        raise too_much(f"the jq program {program!r} may loop too often", hint="use a script task")


def run(program: str, value: Any, limits: Limits) -> list[Any]:
    """Return all results of `program` on `value`; text is read as JSON first.

    Raises:
        ExpressionError: `expression.value` when program or data are wrong, `expression.limit` when it may not end.
    """
    compiled = _compiled(program)
    text = value if isinstance(value, str) else to_json(value)
    if isinstance(value, str):
        text = _as_json(value)
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
