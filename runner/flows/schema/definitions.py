"""The JSON Schema of models: their properties, and the choice of a class by `type`."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from runner.errors import MainstemError
from runner.flows import registry
from runner.flows.aliases import spellings
from runner.flows.annotations import arms
from runner.flows.build import field_names
from runner.flows.models import Flow, Input, Model
from runner.flows.registry import TypeKind
from runner.flows.schema import texts
from runner.flows.schema.values import LABELS, TEMPLATE, TEXT, Schema, any_of, constrained, in_any_case, scalar, spelled
from task_runners import registry as runners
from task_runners.base import TaskRunner

RUNNER = "taskRunner"
_BY_BASE: Mapping[type[Model], TypeKind] = {cls: kind for kind, cls in registry.BASES.items()}


class Definitions:
    """Gathers the definitions that schemas refer to.

    With `defaulted`, no property of a task, trigger or condition is required but `id` and `type`: what a plugin
    default may give need not stand there.
    """

    def __init__(self, found: dict[str, Schema], *, defaulted: bool = False) -> None:
        self.found = found
        self._suffix = "-defaulted" if defaulted else ""
        self._defaulted = defaulted
        self._owners: dict[str, type[BaseModel]] = {}

    # ---------------------------------------------------------------- the choice by type

    def choice(self, kind: TypeKind) -> Schema:
        """Return the schema of any task, trigger or condition."""
        name = kind.value + self._suffix
        if name not in self.found:
            self.found[name] = {}  # it is referred to from within
            self.found[name] = self._choice({short: spellings(short) for short in self._loadable(kind)}, kind)
        return _ref(name)

    def runner(self) -> Schema:
        """Return the schema of any task runner."""
        if RUNNER not in self.found:
            names = {name: runners.spellings(name) for name in runners.runner_names() if _loads(name)}
            self.found[RUNNER] = self._choice(names, None)
        return _ref(RUNNER)

    def of_type(self, kind: TypeKind | None, name: str) -> Schema:
        """Return the schema of one type; `kind` None means a task runner."""
        cls: type[BaseModel] | None = runners.runner_class(name) if kind is None else registry.find(kind, name)
        assert cls is not None, "the caller names a known type"
        return {"allOf": [self.model(cls, name), *self._required(cls)]}

    def _choice(self, names: Mapping[str, list[str]], kind: TypeKind | None) -> Schema:
        older = [spelling for known in names.values() for spelling in known[1:]]
        others = [*([spelled(older)] if older else []), *([TEMPLATE] if kind is None else [])]
        return {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {
                    "description": texts.TYPE,
                    "anyOf": [
                        {"enum": list(names), "enumDescriptions": [self._summary(kind, name) for name in names]},
                        *others,
                    ],
                }
            },
            "allOf": [
                {"if": {"required": ["type"], "properties": {"type": spelled(known)}}, "then": self.of_type(kind, name)}
                for name, known in names.items()
            ],
        }

    def _loadable(self, kind: TypeKind) -> Iterator[str]:
        for name in registry.types(kind):
            try:
                found = registry.find(kind, name)
            except MainstemError:
                continue  # a plugin that cannot be imported; `validate` says so where it is used
            if found is not None:
                yield name

    def _summary(self, kind: TypeKind | None, name: str) -> str:
        return texts.summary(runners.runner_class(name) if kind is None else registry.find(kind, name))

    def _required(self, cls: type[BaseModel]) -> list[Schema]:
        """Return what says that properties are required, one part for each that has several names."""
        by_field: dict[str, list[str]] = {}
        for alias, name in field_names(cls).items():
            if cls.model_fields[name].is_required():
                by_field.setdefault(name, []).append(alias)
        if self._defaulted and issubclass(cls, tuple(_BY_BASE)):
            by_field = {name: known for name, known in by_field.items() if name in {"id", "type"}}
        if cls is Flow:
            by_field.pop("namespace")  # the folder may give it
        single = [known[0] for known in by_field.values() if len(known) == 1]
        several = [{"anyOf": [{"required": [name]} for name in known]} for known in by_field.values() if len(known) > 1]
        return [{"required": single}, *several] if single else several

    # ---------------------------------------------------------------- models

    def model(self, cls: type[BaseModel], short: str | None = None) -> Schema:
        """Return a reference to the schema of a model; `short` is the type name of a registered one."""
        name = short or cls.__name__
        if self._owners.setdefault(name, cls) is not cls:
            name = f"{cls.__module__.rpartition('.')[2]}.{name}"
        name += self._suffix if _holds_choice(cls) else ""
        if name not in self.found:
            self.found[name] = {}  # it may refer to itself
            self.found[name] = (
                self._properties(cls) if short else {**self._properties(cls), **_all(self._required(cls))}
            )
        return _ref(name)

    def _properties(self, cls: type[BaseModel]) -> Schema:
        properties = {alias: self._property(cls, field, alias) for alias, field in field_names(cls).items()}
        about = {"type": "object", "description": texts.description(cls)}
        return {**about, "properties": properties, "additionalProperties": False}

    def _property(self, cls: type[BaseModel], name: str, alias: str) -> Schema:
        owner = _declaring(cls, name)
        if owner is not cls:
            return {"$ref": f"{self.model(owner)['$ref']}/properties/{alias}"}
        field = cls.model_fields[name]
        special = self._special(cls, name)
        schema = self._annotated(cls, field) if special is None else special
        if not field.is_required():
            schema = any_of([schema, {"type": "null"}])  # `errors:` with nothing after it means that there are none
        if "$ref" in schema:
            schema = {"allOf": [schema]}  # draft 7 reads nothing beside a reference
        told = {"description": texts.of_property(cls, name, alias), "default": _default(field)}
        if "_" in alias:
            told["doNotSuggest"] = True  # Python's spelling is accepted, but no editor need offer it
        return {**{key: value for key, value in told.items() if value is not None}, **schema}

    def _special(self, cls: type[BaseModel], name: str) -> Schema | None:
        if name == "labels":
            return LABELS
        if name == "task_runner":
            return self.runner()
        if name == "type" and issubclass(cls, TaskRunner):
            return TEXT  # which ones, the choice says
        if (cls, name) == (Input, "type"):
            from runner.flows.casts import INPUT_TYPES

            known = sorted({*INPUT_TYPES, "FORM"})
            return {"anyOf": [{"enum": known}, in_any_case(known)]}
        return {} if (cls, name) == (Flow, "revision") else None

    def _annotated(self, cls: type[BaseModel], field: FieldInfo) -> Schema:
        schema = constrained(self.value(field.annotation), field.metadata)
        if issubclass(cls, Model):
            return schema
        # The properties of a task runner are rendered as a whole, so a template may stand for any of them.
        return any_of([schema, TEXT if _is_read(field.annotation, field.metadata) else TEMPLATE])

    def value(self, annotation: Any) -> Schema:
        """Return the schema of what an annotation admits."""
        alternatives = arms(annotation)
        or_text = str in alternatives
        # Text beside a duration means a template only.
        counted = [arm for arm in alternatives if arm is not str or dt.timedelta not in alternatives]
        return any_of(self._arm(arm, or_text=or_text) for arm in counted)

    def _arm(self, arm: Any, *, or_text: bool) -> Schema:
        origin, inner = get_origin(arm), [part for part in get_args(arm) if part is not Ellipsis]
        if origin in {tuple, list, set, frozenset}:
            return {"type": "array", "items": self.value(inner[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.value(inner[1])}
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            kind = next((kind for base, kind in _BY_BASE.items() if arm is base), None)
            return self.model(arm) if kind is None else self.choice(kind)
        return scalar(arm, or_text=or_text)


def _declaring(cls: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the class that declares a field for the last time, so that it is described once for all below it."""
    return next(base for base in cls.__mro__ if name in inspect.get_annotations(base))


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _all(parts: Iterable[Schema]) -> Schema:
    several = [part for part in parts if set(part) != {"required"}]
    required = next((part for part in parts if set(part) == {"required"}), {})
    return {**required, **({"allOf": several} if several else {})}


def _holds_choice(cls: type[BaseModel]) -> bool:
    return any(_reaches_choice(field.annotation) for field in cls.model_fields.values())


def _reaches_choice(annotation: Any) -> bool:
    for arm in arms(annotation):
        if any(_reaches_choice(part) for part in get_args(arm) if part is not Ellipsis and not isinstance(part, str)):
            return True
        if isinstance(arm, type) and issubclass(arm, BaseModel) and (arm in _BY_BASE or _holds_choice(arm)):
            return True
    return False


def _loads(runner: str) -> bool:
    try:
        runners.runner_class(runner)
    except (MainstemError, ImportError):
        return False  # its vendor library is not installed
    return True


def _is_read(annotation: Any, metadata: Iterable[Any] = ()) -> bool:
    """Return whether a function of the model reads the value, such as `512MB` for a number."""
    return any(isinstance(item, BeforeValidator) for item in metadata) or any(
        _is_read(part, getattr(part, "__metadata__", ())) for part in get_args(annotation)
    )


def _default(field: FieldInfo) -> Any:
    """Return the default of a field as JSON; None when there is none to speak of."""
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    if default in (None, (), [], {}) or isinstance(default, BaseModel):
        return None
    return to_jsonable_python(default)
