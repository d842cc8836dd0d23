"""The tables of filters, functions and tests, and how arguments find their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from runner.errors import ExpressionError
from runner.expressions.values import is_integer, is_list

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Builtin:
    """A filter, function or test.

    `parameters` are the names used in templates, without the value that a filter or test is applied to; the first
    `required` of them have no default. `types` are their annotations, in the order of `parameters`. With `variadic`,
    any number of positional arguments is taken.
    """

    name: str
    kind: str
    call: Callable[..., Any]
    parameters: tuple[str, ...]
    required: int
    variadic: bool
    takes_frame: bool
    takes_null: bool
    types: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def documentation(self) -> str:
        """The docstring, without indentation."""
        return inspect.getdoc(self.call) or ""


_CHECKED: Final[dict[str, Callable[[Any], bool]]] = {
    "str": lambda value: isinstance(value, str),
    "int": is_integer,
    "list[str]": lambda value: is_list(value) and all(isinstance(item, str) for item in value),
}
TYPE_NAMES: Final = {"str": "string", "int": "integer", "list[str]": "list of strings"}
FILTERS: Final[dict[str, Builtin]] = {}
FUNCTIONS: Final[dict[str, Builtin]] = {}
TESTS: Final[dict[str, Builtin]] = {}


def _camel(name: str) -> str:
    if "_" not in name:
        return name
    first, *rest = name.strip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def _describe(kind: str, call: Callable[..., Any], names: Sequence[str], *, nulls: bool) -> Builtin:
    parameters = list(inspect.signature(call).parameters.values())
    takes_frame = bool(parameters) and parameters[0].name == "frame"
    own = parameters[int(takes_frame) + int(kind != "function") :]
    plain = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
    return Builtin(
        name=names[0],
        kind=kind,
        call=call,
        parameters=tuple(_camel(parameter.name) for parameter in plain),
        required=sum(parameter.default is inspect.Parameter.empty for parameter in plain),
        variadic=len(plain) != len(own),
        takes_frame=takes_frame,
        takes_null=nulls,
        types=tuple(str(parameter.annotation) for parameter in plain),
        aliases=tuple(names[1:]),
    )


def _register(
    table: dict[str, Builtin], kind: str, names: tuple[str, ...], *, nulls: bool
) -> Callable[[_Function], _Function]:
    def keep(call: _Function) -> _Function:
        builtin = _describe(kind, call, names or (_camel(call.__name__),), nulls=nulls)
        for name in (builtin.name, *builtin.aliases):
            assert name not in table, f"{kind} {name} is registered twice"
            table[name] = builtin
        return call

    return keep


def filter_(*names: str, nulls: bool = False) -> Callable[[_Function], _Function]:
    """Register a filter under `names` (or its own name in camel case); null passes through unless `nulls`."""
    return _register(FILTERS, "filter", names, nulls=nulls)


def function(*names: str) -> Callable[[_Function], _Function]:
    """Register a function under `names` (or its own name in camel case)."""
    return _register(FUNCTIONS, "function", names, nulls=True)


def test_(*names: str) -> Callable[[_Function], _Function]:
    """Register a test under `names` (or its own name in camel case)."""
    return _register(TESTS, "test", names, nulls=True)


def accepts(annotation: str, value: Any) -> bool:
    """Return whether an argument fits a parameter; only text and integers are checked, the rest by the builtin."""
    if value is None:
        return "None" in annotation or annotation not in _CHECKED
    expected = _CHECKED.get(annotation.removesuffix(" | None"))
    return expected is None or expected(value)


# Words of other template languages that people write by habit, and what Kestra has in its paid edition only.
_HABITS: Final = {
    "appLink": "this function belongs to Kestra's Enterprise Edition",
    "credential": "this function belongs to Kestra's Enterprise Edition",
    "dateFormat": "did you mean `date`?",
    "secrets": "did you mean `secret`?",
    "ternary": "did you mean `? :`?",
    "tojson": "did you mean `toJson`?",
    "truncate": "did you mean `abbreviate`?",
}


def suggestion(name: str, known: Iterable[object]) -> str | None:
    """Return what to write instead of a filter, function or test that does not exist, if that can be guessed."""
    return _HABITS.get(name) or nearest(name, known)


def nearest(name: str, known: Iterable[object]) -> str | None:
    """Return a hint with the known name that looks most like `name`, if any does."""
    close = get_close_matches(name, [other for other in known if isinstance(other, str)], n=1)
    return f"did you mean `{close[0]}`?" if close else None


def bind(builtin: Builtin, positional: int, named: Sequence[str]) -> list[int | None]:
    """Return, for each parameter, the index of its argument (positional ones first), None for the default.

    Raises:
        ExpressionError: `expression.argument` when an argument is unknown, given twice, missing or too many.
    """
    parameters = builtin.parameters
    title = f"The '{builtin.name}' {builtin.kind}"
    if positional > len(parameters) and not builtin.variadic:
        raise ExpressionError(
            "expression.argument", f"{title} takes at most {len(parameters)} arguments, not {positional}"
        )
    chosen: list[int | None] = [index if index < positional else None for index in range(len(parameters))]
    for offset, written in enumerate(named):
        name = (
            written if written in parameters else _camel(written)
        )  # Pebble's own are `replace_pairs`, ours replacePairs
        if name not in parameters:
            raise ExpressionError(
                "expression.argument",
                f"{title} has no argument '{written}'",
                hint=nearest(written, parameters) or (f"it has {', '.join(parameters)}" if parameters else None),
            )
        if chosen[parameters.index(name)] is not None:
            raise ExpressionError("expression.argument", f"{title} got the argument '{name}' twice")
        chosen[parameters.index(name)] = positional + offset
    for name, index in zip(parameters[: builtin.required], chosen, strict=False):
        if index is None:
            raise ExpressionError("expression.argument", f"{title} expects an argument '{name}'.")
    return chosen
