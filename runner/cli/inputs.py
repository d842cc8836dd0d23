"""The inputs that a user gives, against those that a flow declares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def demand_known(given: Iterable[str], declared: Sequence[str], flow: str) -> None:
    """Refuse inputs that the flow does not have; `a` and `a.b` name parts of one value.

    Raises:
        InvalidError: `input.unknown`, with the nearest name.
    """
    from runner.errors import InvalidError
    from runner.flows.spelling import did_you_mean

    for name in given:
        if not any(name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.") for each in declared):
            hint = did_you_mean(name, declared) or f"its inputs: {', '.join(declared) or 'none'}"
            raise InvalidError("input.unknown", f"{flow} has no input {name!r}", hint=hint)
