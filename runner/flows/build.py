"""From a tree of plain values to the models of a flow, with every problem and its place.

The tree is walked along the annotations of the models. A map where a task, trigger or condition belongs is built
into an instance of the class that its `type` names, innermost first; the model around it then receives instances.
So each model is validated once, on its own, and what pydantic reports is relative to a path that we know. Where
building fails, a stand-in takes the place, so that the model around it can still report its own problems.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.durations import parse_duration
from runner.errors import FlowError, InvalidError, MainstemError, Problem
from runner.flows import registry
from runner.flows.annotations import admits_none, arms
from runner.flows.models import Condition, Flow, Input, Model, Output, Task, Trigger
from runner.flows.positions import Mark, Path, Positions
from runner.flows.registry import TypeKind
from runner.flows.remains import stand_in, tolerant
from runner.flows.spelling import did_you_mean

M = TypeVar("M", bound=Model)

_KINDS: Mapping[type[Model], TypeKind] = {
    Task: TypeKind.TASK,
    Trigger: TypeKind.TRIGGER,
    Condition: TypeKind.CONDITION,
}
_WORDS: Mapping[type[Model], str] = {
    Task: "task",
    Trigger: "trigger",
    Condition: "condition",
    Input: "input",
    Output: "output",
}
# Where tasks of a type that we do not know are likely to stand, so that their problems are reported as well.
_BRANCHES = ("tasks", "then", "else", "errors", "finally", "defaults")

_REFUSED = {
    "FORM": "a form holds other inputs: give it `inputs`, a list",
    "REUSABLE_INPUTS": "there are no sets of inputs that flows share; write the inputs here, as the `inputs` of a FORM",
}
"""What to write in the place of input types that Kestra 2.0 has."""


class Builder:
    """Builds models and gathers problems.

    `strict` refuses unknown properties (a flow that is being saved); otherwise they are ignored (a stored flow that
    a newer version may have written). `paths` tells where each model that was built stands, `faulty` which properties
    were refused and left out of which model (both by `id()` of the model).
    """

    def __init__(self, positions: Positions, *, file: str | None = None, strict: bool = True) -> None:
        self.problems: list[Problem] = []
        self.paths: dict[int, Path] = {}
        self.faulty: dict[int, set[str]] = {}
        self._positions = positions
        self._file = file
        self._strict = strict
        self._keep_alive: list[Model] = []

    def flow(self, tree: Mapping[str, Any]) -> Flow:
        """Return the flow; where there are problems, what is left of it, good for further checks only."""
        return self.document(Flow, tree, "flow")

    def document(self, cls: type[M], tree: Mapping[str, Any], word: str) -> M:
        """Return a document of another kind as its model; `word` begins the codes of its problems."""
        return cast("M", self._model(cls, tree, (), word))

    def _model(self, cls: type[Model], raw: Mapping[str, Any], path: Path, word: str) -> Model:
        fields = field_names(cls)
        values: dict[str, Any] = {}
        for key, value in raw.items():
            name = fields.get(key)
            if name is None:
                values[key] = value
                continue
            field = cls.model_fields[name]
            if value is None and not field.is_required() and not admits_none(field.annotation):
                continue  # `errors:` with nothing after it means that there are none
            values[key] = self._value(field.annotation, value, (*path, key), word)
        if issubclass(cls, Input) and isinstance(values.get("type"), str):
            values["type"] = self._input_type(values["type"], path)
        try:
            built = cls.model_validate(values, by_alias=True, by_name=False, extra=None if self._strict else "ignore")
        except ValidationError as error:
            self._report_all(error, cls, path, word)
            return self._remains(cls, values, path, _refused(error))
        except MainstemError as error:  # raised by a model's own validator, with a code of its own
            self._add(error.code, error.message, self._positions.at(path), error.hint)
        except Exception as error:  # noqa: BLE001 - a plugin's validator may raise anything, and a commit holds more flows
            self._add(f"{word}.property.invalid", f"{cls.__name__} cannot be read: {error}", self._positions.at(path))
        else:
            return self._placed(built, path)
        return self._stand_in(cls, raw, path)

    def _placed(self, built: Model, path: Path, faulty: Iterable[str] = ()) -> Model:
        self.paths[id(built)] = path
        self._keep_alive.append(built)
        if faulty:
            self.faulty[id(built)] = set(faulty)
        return built

    def _remains(self, cls: type[Model], values: Mapping[str, Any], path: Path, faulty: set[str]) -> Model:
        """Return the model without what was refused, so that the rest of it is checked as well."""
        kept = {key: value for key, value in values.items() if key not in faulty}
        try:
            built = tolerant(cls).model_validate(kept, by_alias=True, by_name=False, extra="ignore")
        except Exception:  # noqa: BLE001 - a validator of the whole model; nothing is left to look at
            return self._stand_in(cls, values, path)
        return self._placed(built, path, faulty)

    def _typed(self, kind: TypeKind, raw: Any, path: Path) -> Any:
        if not isinstance(raw, dict):
            article = "a map with `id` and `type`" if kind is not TypeKind.CONDITION else "a map with `type`"
            self._add(f"{kind}.property.invalid", f"{article} is expected here", self._positions.at(path))
            return self._stand_in(registry.BASES[kind], raw, path)
        name = raw.get("type")
        if not isinstance(name, str):
            self._add(f"{kind}.property.missing", f"a {kind} needs a `type`", self._positions.at(path))
            return self._stand_in(registry.BASES[kind], raw, path)
        try:
            cls = registry.find(kind, name)
        except FlowError as error:
            self._add(error.code, error.message, self._positions.at((*path, "type")), error.hint)
            return self._stand_in(registry.BASES[kind], raw, path)
        if cls is None:
            self._add(
                f"{kind}.type.unknown",
                f"no {kind} type named {name!r}",
                self._positions.at((*path, "type")),
                registry.suggestion(kind, name),
            )
            return self._of_unknown_type(kind, raw, path)
        return self._model(cls, raw, path, kind.value)

    def _of_unknown_type(self, kind: TypeKind, raw: dict[str, Any], path: Path) -> Model:
        """Return what all types of a kind have in common of a map whose own type nobody knows, looked at as usual."""
        base = registry.BASES[kind]
        for branch in _BRANCHES if kind is TypeKind.TASK else ():
            if isinstance(tasks := raw.get(branch), list):
                self._value(tuple[Task, ...], tasks, (*path, branch), "task")
        built = self._model(base, {key: raw[key] for key in raw if key in field_names(base)}, path, kind.value)
        self.faulty.setdefault(id(built), set()).add("type")
        return built

    def _stand_in(self, cls: type[Model], raw: Any, path: Path) -> Model:
        given = raw if isinstance(raw, Mapping) else {}
        named = {key: given[key] for key in ("id", "type") if isinstance(given.get(key), str)}
        try:
            built = stand_in(cls, named)
        except Exception:  # noqa: BLE001 - a plugin may make a class of which there is no other
            built = stand_in(next((base for base in _KINDS if issubclass(cls, base)), Model), named)
        return self._placed(built, path, {"type"})

    def _value(self, annotation: Any, raw: Any, path: Path, word: str) -> Any:  # noqa: PLR0911 - one line a shape
        alternatives = arms(annotation)
        if isinstance(raw, dict):
            models = [arm for arm in alternatives if isinstance(arm, type) and issubclass(arm, Model)]
            if len(models) == 1:
                return self._map(models[0], raw, path, word)
            maps = [arm for arm in alternatives if get_origin(arm) is dict]
            if maps:
                inner = get_args(maps[0])[1]
                return {key: self._value(inner, value, (*path, key), word) for key, value in raw.items()}
            return raw
        if isinstance(raw, list):
            lists = [get_args(arm)[0] for arm in alternatives if get_origin(arm) in {tuple, list} and get_args(arm)]
            if lists:
                return [self._value(lists[0], value, (*path, index), word) for index, value in enumerate(raw)]
            return raw
        polymorphic = [arm for arm in alternatives if isinstance(arm, type) and arm in _KINDS]
        if polymorphic and raw is not None:
            return self._typed(_KINDS[polymorphic[0]], raw, path)
        is_text = isinstance(raw, str) or (isinstance(raw, bool) and bool not in alternatives)
        if is_text and dt.timedelta in alternatives and "{" not in str(raw):
            return self._duration(str(raw), path, word)
        return _scalar(alternatives, raw)

    def _map(self, cls: type[Model], raw: dict[str, Any], path: Path, word: str) -> Any:
        if cls in _KINDS:
            return self._typed(_KINDS[cls], raw, path)
        inner_word = _WORDS.get(cls, word)
        return self._model(cls, raw, path, inner_word)

    def _input_type(self, name: str, path: Path) -> str:
        from runner.flows.casts import INPUT_TYPES

        if name.upper() not in INPUT_TYPES:
            hint = (
                _REFUSED.get(name.upper())
                or did_you_mean(name, INPUT_TYPES)
                or "there are " + ", ".join(sorted(INPUT_TYPES))
            )
            self._add("input.type.unknown", f"Invalid type: {name}", self._positions.at((*path, "type")), hint)
        return name.upper()

    def _duration(self, raw: str, path: Path, word: str) -> Any:
        try:
            return parse_duration(raw)
        except InvalidError as error:
            self._add(
                f"{word}.property.invalid", f"`{path[-1]}`: {error.message}", self._positions.at(path), error.hint
            )
            return dt.timedelta(0)

    def _report_all(self, error: ValidationError, cls: type[Model], path: Path, word: str) -> None:
        seen: set[tuple[Any, Mark, str]] = set()
        for detail in error.errors(include_url=False):
            problem = self._problem(detail, cls, path, word)
            same = (detail["loc"][:1], Mark(problem.line or 0, problem.column or 0), problem.code)
            # A union reports once for each of its arms; the first is enough.
            if same not in seen or detail["type"] == "value_error":
                self.problems.append(problem)
            seen.add(same)

    def _problem(self, detail: ErrorDetails, cls: type[Model], path: Path, word: str) -> Problem:
        loc = detail["loc"]
        where = (*path, *loc)
        name = ".".join(str(part) for part in loc[:1])
        fault, message, hint = "invalid", detail["msg"], None
        mark = self._positions.at(where)
        if detail["type"] == "extra_forbidden":
            fault = "unknown"
            message = f'Unrecognized field "{name}" (class {_class_name(cls, word)}), not marked as ignorable'
            hint = did_you_mean(name, field_names(cls)) or "known properties: " + ", ".join(sorted(_aliases(cls)))
            mark = self._positions.key(where)
        elif detail["type"] == "missing":
            lack = "empty" if _is_filled_list(cls, name) else "null"
            fault, message, hint = "missing", f"{name}: must not be {lack}", f"the property `{name}` is required"
            mark = self._positions.at(path)
        elif detail["type"] == "value_error":
            message = message.removeprefix("Value error, ")
        elif detail["type"] == "string_pattern_mismatch":
            pattern = detail["ctx"]["pattern"].removesuffix("$")
            message = f'{name}: must match "{pattern}", but is {_shown(detail["input"])}'
        elif detail["type"] == "too_short" and detail["ctx"].get("min_length") == 1:
            message = f"{name}: must not be empty"
        elif detail["type"] == "greater_than":
            message = f"{name}: must be greater than {detail['ctx']['gt']}, but is {_shown(detail['input'])}"
        elif where[-2:-1] == ("labels",):
            message = f"Unsupported type for key: {where[-1]}, a label is a text, a number or a boolean"
        else:
            message = message.replace("Input should", f"`{name}` should", 1)
            message = message.replace("tuple", "list").replace("Tuple", f"`{name}`").replace("dictionary", "map")
            message += f", but is {_shown(detail['input'])}" if not detail["type"].startswith("too_") else ""
        return Problem(f"{word}.property.{fault}", message, file=self._file, line=mark[0], column=mark[1], hint=hint)

    def _add(self, code: str, message: str, mark: Mark, hint: str | None = None) -> None:
        self.problems.append(Problem(code, message, file=self._file, line=mark.line, column=mark.column, hint=hint))


def _is_filled_list(cls: type[Model], name: str) -> bool:
    """Return whether a property is a list that must hold something."""
    field = next((field for key, field in cls.model_fields.items() if name in {key, field.alias}), None)
    if field is None or get_origin(field.annotation) is not tuple:
        return False
    return any(getattr(part, "min_length", None) for part in field.metadata)


def _refused(error: ValidationError) -> set[str]:
    """Return the names of the properties that an error is about."""
    return {str(detail["loc"][0]) for detail in error.errors(include_url=False) if detail["loc"]}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _class_name(cls: type[Model], word: str) -> str:
    for kind in TypeKind:
        if word == kind.value and issubclass(cls, registry.BASES[kind]):
            return registry.full_name(kind, cls) or cls.__name__
    return cls.__name__


@functools.cache
def field_names(cls: type[BaseModel]) -> Mapping[str, str]:
    """Return the field of `cls` for each name that it may have in YAML."""
    cls.model_rebuild()  # a class may name one that is defined below it; its fields are known after this only
    names: dict[str, str] = {}
    for field_name, field in cls.model_fields.items():
        alias = field.validation_alias or field.alias or field_name
        for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
            if isinstance(choice, str):
                names[choice] = field_name
    return names


@functools.cache
def task_fields(cls: type[Model]) -> frozenset[str]:
    """Return the names of the fields of `cls` that hold tasks, directly or inside lists and models."""
    return frozenset(name for name, field in cls.model_fields.items() if _holds_task(field.annotation))


def _holds_task(annotation: Any) -> bool:
    for arm in arms(annotation):
        inner = (
            [part for part in get_args(arm) if part is not Ellipsis] if get_origin(arm) in {tuple, list, dict} else []
        )
        if any(_holds_task(part) for part in inner):
            return True
        if isinstance(arm, type) and issubclass(arm, Model) and (issubclass(arm, Task) or task_fields(arm)):
            return True
    return False


def _aliases(cls: type[Model]) -> list[str]:
    return [name for name, field in field_names(cls).items() if name == (cls.model_fields[field].alias or name)]


def _scalar(admitted: tuple[Any, ...], raw: Any) -> Any:
    """Turn a scalar into what the field takes, where Jackson would: numbers and booleans to text, enum case."""
    if raw is None or Any in admitted:
        return raw
    if isinstance(raw, str):
        return _known_word(admitted, raw)
    if isinstance(raw, bool):
        # As text it stands for itself where text is taken, and is refused where a number is.
        return raw if bool in admitted else str(raw).lower()
    if isinstance(raw, int | float) and str in admitted and not {int, float, dt.timedelta}.intersection(admitted):
        return str(raw)
    return raw


def _known_word(admitted: tuple[Any, ...], raw: str) -> Any:
    for arm in admitted:
        words: list[Any] = []
        if get_origin(arm) is Literal:
            words = list(get_args(arm))
        elif isinstance(arm, type) and issubclass(arm, enum.Enum):
            words = [member.value for member in arm]
        for word in words:
            if isinstance(word, str) and word.lower() == raw.lower():
                return word
    return raw
