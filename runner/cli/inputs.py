"""The inputs that a user gives, against those that a flow declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


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


def demand_sent(texts: Mapping[str, str], files: Iterable[str]) -> None:
    """Refuse a path where a file is asked for: a server cannot read it, and one letter is missing to send it.

    `texts` are the inputs that are given as they are, `files` the inputs that are files.

    Raises:
        InvalidError: `input.invalid`, with what sends the file.
    """
    from runner.errors import InvalidError

    for name in files:
        if name in texts and "://" not in texts[name]:
            message = f"Invalid input for `{name}`, a file is expected, but received `{texts[name]}`"
            raise InvalidError("input.invalid", message, hint=f"send the file with -i {name}=@{texts[name]}")
