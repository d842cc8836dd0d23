"""How large, deep and slow an expression may become before it is stopped.

Everything here guards against exhaustion, not against curiosity: an expression cannot reach anything but its
variables and the services of its scope, so the only harm left is to fill the memory or to keep a thread busy.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.errors import ExpressionError

KIBI = 1024
MEBI = 1024 * KIBI


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one render.

    Sizes count characters, `items` counts the nodes of a list or map with everything in it, `seconds` is the CPU time
    that one `render` call may take with all its nested renders. The clock is read between steps (loop turns, filter and
    function calls), each of which is bounded by the sizes; no thread and no signal is needed.
    """

    source: int = 128 * KIBI
    nesting: int = 100
    text: int = MEBI
    items: int = 100_000
    seconds: float = 0.5
    passes: int = 100
    integer_bits: int = 4096


DEFAULT_LIMITS = Limits()


def too_much(message: str, hint: str | None = None) -> ExpressionError:
    """Return the error that says which limit was passed."""
    return ExpressionError("expression.limit", message, hint=hint)
