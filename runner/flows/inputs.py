"""From what a caller gave to the typed inputs of an execution, and from rendered values to a flow's typed outputs.

Inputs are resolved in the order of their declaration, what they depend on first. An input whose `dependsOn` does not
hold is left out: neither checked nor required. Nothing here does I/O: rendering, storing a file and encrypting a secret
are given as functions (language: Inputs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

from runner.errors import InvalidError, MainstemError
from runner.flows.casts import CastError, as_text, cast, check, invalid, listed, shown
from runner.flows.models import Input, Output

_MISSING: Final = object()
SECRET_MASK: Final = "******"  # noqa: S105 - a mask, not a password
"""What stands for the value of a SECRET wherever it is shown."""
_FILE_SCHEMES: Final = ("kestra://", "nsfile://")


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file that a caller sends: its name, and the bytes behind an open binary file."""

    name: str
    source: IO[bytes]


@dataclass(frozen=True, slots=True)
class InputValue:
    """What became of one declared input: its value, whether it counts, and what is wrong with it.

    `is_default` tells that the caller gave nothing. `error` is the sentence a caller would be refused with.
    """

    declared: Input
    value: Any = None
    enabled: bool = True
    is_default: bool = False
    error: InvalidError | None = None

    @property
    def is_known(self) -> bool:
        """Whether expressions may read it: it counts, and has a value or needs none."""
        return self.enabled and self.error is None and (self.value is not _MISSING or not self.declared.required)

    @property
    def known(self) -> Any:
        """What expressions read: its value, null without one."""
        return None if self.value is _MISSING else self.value

    def as_json(self) -> dict[str, Any]:
        """Return the API's shape of one entry of the answer to a validation."""
        shown = self.declared.model_dump(mode="json", by_alias=True, exclude_none=True)
        errors = [{"message": self.error.message}] if self.error else []
        return {
            "input": shown,
            "value": self.value,
            "enabled": self.enabled,
            "isDefault": self.is_default,
            "errors": errors,
        }


Render = Callable[[str, Mapping[str, Any]], Any]
RenderText = Callable[[str, Mapping[str, Any]], str]
StoreFile = Callable[[str, FileInput], str]
Encrypt = Callable[[str], Any]


def resolve_inputs(
    inputs: Sequence[Input],
    given: Mapping[str, Any],
    *,
    render: Render,
    render_text: RenderText,
    typed: bool = False,
    store_file: StoreFile | None = None,
    encrypt: Encrypt | None = None,
    missing_allowed: bool = False,
) -> dict[str, Any]:
    """Return the typed inputs, nested at the dots of their ids; inputs that are not declared are ignored.

    An optional input that nobody gave a value is null, so that expressions may ask for it.

    Args:
        inputs: the declarations.
        given: raw values by id (or nested maps): text, JSON values, `FileInput`.
        render: renders a template to its native value; its variables (`inputs`) add to those of the flow.
        render_text: the same, to text.
        typed: whether values come from a flow or task, where an encrypted secret may be passed on as it is.
        store_file: keeps an uploaded file under the id of its input and returns its URI; None refuses files.
        encrypt: turns the text of a SECRET into what is stored; None refuses secrets.
        missing_allowed: leaves required inputs without a value out instead of refusing (triggers without `inputs`).

    Raises:
        InvalidError: `input.invalid` for the first value that is refused.
    """
    resolver = _Resolver(inputs, given, render, render_text, store_file, encrypt, typed, missing_allowed)
    values: dict[str, Any] = {}
    for entry in resolver.entries():
        if entry.error is not None:
            raise entry.error
        if entry.is_known:
            values[entry.declared.id] = entry.known
    return nested(values)


def validate_inputs(
    inputs: Sequence[Input],
    given: Mapping[str, Any],
    *,
    render: Render,
    render_text: RenderText,
) -> list[InputValue]:
    """Return what would become of each input, in the order of declaration, without storing or encrypting anything."""
    resolver = _Resolver(
        inputs,
        given,
        render,
        render_text,
        lambda _, upload: upload.name,
        lambda _: SECRET_MASK,
        typed=True,
        lenient=False,
    )
    return [
        entry
        if entry.value is not _MISSING
        else InputValue(entry.declared, None, entry.enabled, entry.is_default, entry.error)
        for entry in resolver.entries()
    ]


def cast_outputs(
    outputs: Sequence[Output], rendered: Mapping[str, Any], *, encrypt: Encrypt | None = None
) -> dict[str, Any]:
    """Return the typed outputs of a flow, nested at the dots of their ids; null stays null.

    Raises:
        InvalidError: `output.invalid`, naming the output whose value does not fit its type.
    """
    values: dict[str, Any] = {}
    for declared in outputs:
        raw = rendered.get(declared.id)
        try:
            value = None if raw is None else cast(declared.type, raw)
            values[declared.id] = _encrypted(value, encrypt) if declared.type == "SECRET" and value else value
        except CastError as error:
            raise InvalidError(
                "output.invalid", f"Invalid output for `{declared.id}`, {error}, but received `{shown(raw)}`"
            ) from None
    return nested(values)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"a.b": 1}` as `{"a": {"b": 1}}`.

    Raises:
        InvalidError: `input.id.conflict` when one key is both a value and a map of others.
    """
    tree: dict[str, Any] = {}
    branches: set[str] = set()
    for key, value in flat.items():
        *path, leaf = key.split(".")
        node = tree
        for depth, part in enumerate(path, start=1):
            name = ".".join(path[:depth])
            if part in node and name not in branches:
                raise _conflict(name)
            branches.add(name)
            node = node.setdefault(part, {})
        if leaf in node:
            raise _conflict(key)
        node[leaf] = value
    return tree


def _conflict(key: str) -> InvalidError:
    return InvalidError(
        "input.id.conflict", f"Conflict at key: {key}", hint="an input cannot be both a value and a prefix of others"
    )


def _encrypted(text: str, encrypt: Encrypt | None) -> Any:
    if encrypt is None:
        raise CastError("Unable to use a `SECRET` input/output as encryption is not configured")
    return encrypt(text)


def _lookup(given: Mapping[str, Any], key: str) -> Any:
    """Return what was given for `key`, flat or nested, or `_MISSING`; null counts as nothing given."""
    if key in given:
        return _MISSING if given[key] is None else given[key]
    node: Any = given
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return _MISSING
        node = node[part]
    return _MISSING if node is None else node


@dataclass(slots=True)
class _Resolver:
    """The resolution of one set of inputs; remembers what is resolved, and plain secrets for expressions."""

    inputs: Sequence[Input]
    given: Mapping[str, Any]
    render: Render
    render_text: RenderText
    store_file: StoreFile | None
    encrypt: Encrypt | None
    typed: bool
    lenient: bool
    done: dict[str, InputValue] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def entries(self) -> list[InputValue]:
        """Return one entry per declaration, in their order."""
        return [self.entry(declared) for declared in self.inputs]

    def entry(self, declared: Input) -> InputValue:
        """Return the entry of one input, resolving what it depends on first."""
        if declared.id in self.done:
            return self.done[declared.id]
        if declared.id in self.open:
            raise InvalidError("input.dependency.cycle", f"Cycle dependency detected for input with id {declared.id}")
        self.open.add(declared.id)
        entry = self.resolve(declared)
        self.done[declared.id] = entry
        if entry.is_known:
            self.plain.setdefault(declared.id, entry.known)
        return entry

    def resolve(self, declared: Input) -> InputValue:
        """Return the value of one input, or why it has none."""
        raw = _lookup(self.given, declared.id)
        is_default = raw is _MISSING
        try:
            if not self.is_enabled(declared):
                return InputValue(declared, None if is_default else _shown(declared, raw), enabled=False)
            if is_default:
                raw = self.default(declared)
            if raw is _MISSING:
                if declared.required and not self.lenient:
                    raise CastError("missing required input")
                return InputValue(declared, _MISSING, is_default=True)
            return InputValue(declared, self.value(declared, raw), is_default=is_default)
        except (CastError, MainstemError) as error:
            received = None if raw is _MISSING else _shown(declared, raw)
            reason = error.message if isinstance(error, MainstemError) else str(error)
            refusal = invalid(f"input for `{declared.id}`", reason, received)
            return InputValue(declared, received, is_default=is_default, error=refusal)

    def is_enabled(self, declared: Input) -> bool:
        """Return whether everything that the input depends on is enabled and its condition is exactly true."""
        needed = declared.depends_on
        if needed is None:
            return True
        known = {other.id: other for other in self.inputs}
        for name in needed.inputs:
            if name not in known:
                raise InvalidError(
                    "input.dependency.missing",
                    f"Input with id '{declared.id}' depends on a non-existent input '{name}'.",
                )
            if not self.entry(known[name]).enabled:
                return False
        if needed.condition is None:
            return True
        return self.render(needed.condition, self.scope(declared)) in (True, "true")

    def scope(self, declared: Input) -> dict[str, Any]:
        """Return the variables that expressions of this input see: the inputs it depends on."""
        names = self.dependencies(declared)
        return {"inputs": nested({name: self.plain.get(name) for name in names})}

    def dependencies(self, declared: Input) -> list[str]:
        """Return the ids of everything this input depends on, directly or not."""
        known = {other.id: other for other in self.inputs}
        names: list[str] = []
        queue = list(declared.depends_on.inputs) if declared.depends_on else []
        while queue:
            name = queue.pop(0)
            if name in names or name not in known:
                continue
            names.append(name)
            deeper = known[name].depends_on
            queue.extend(deeper.inputs if deeper else ())
        return names

    def default(self, declared: Input) -> Any:
        """Return the default value, its expressions rendered, or `_MISSING`."""
        if declared.defaults is not None:
            return self.rendered(declared.defaults, self.scope(declared))
        if declared.auto_select_first and declared.type in {"SELECT", "ENUM", "MULTISELECT"}:
            choices = self.choices(declared)
            if choices:
                return [choices[0]] if declared.type == "MULTISELECT" else choices[0]
        return _MISSING

    def rendered(self, value: Any, scope: Mapping[str, Any]) -> Any:
        """Return a default with the expressions in it rendered."""
        if isinstance(value, str):
            return self.render_text(value, scope) if "{" in value else value
        if isinstance(value, Mapping):
            return {key: self.rendered(item, scope) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.rendered(item, scope) for item in value]
        return value

    def choices(self, declared: Input) -> list[Any] | None:
        """Return what may be selected, from the list or the expression; None when nothing limits it."""
        if declared.expression is not None:
            return self.choices_of_expression(declared)
        values = declared.values if declared.values is not None else declared.options
        if values is None:
            return None
        return [item["value"] if isinstance(item, Mapping) and "value" in item else item for item in values]

    def choices_of_expression(self, declared: Input) -> list[Any]:
        """Return the list that `expression` renders to."""
        assert declared.expression is not None
        try:
            result = self.render(declared.expression, self.scope(declared))
        except MainstemError as error:
            raise CastError(f"Cannot render 'expression'. Cause: {error.message}") from None
        if isinstance(result, str):
            with contextlib.suppress(CastError):  # the sentence below shows the text, which says more
                result = cast("JSON", result)
        if not isinstance(result, Sequence) or isinstance(result, str | bytes):
            raise CastError(f"Invalid expression result. Expected a list of strings, but received {shown(result)}")
        return list(result)

    def value(self, declared: Input, raw: Any) -> Any:
        """Return the cast and checked value that is stored."""
        if isinstance(raw, FileInput) and declared.type != "FILE":
            raise CastError("a value is expected, no file")
        match declared.type:
            case "FILE":
                return self.file(declared, raw)
            case "SECRET":
                return self.secret(declared, raw)
            case "SELECT" | "ENUM":
                text = as_text(raw)
                self.check_selection(declared, [text])
                return text
            case "MULTISELECT":
                items = cast("MULTISELECT", raw, declared.item_type)
                self.check_selection(declared, items)
                return items
            case _:
                value = cast(declared.type, raw, declared.item_type)
                check(declared, value)
                return value

    def check_selection(self, declared: Input, selected: Sequence[Any]) -> None:
        """Refuse what is not among the choices, where custom values are not allowed."""
        if declared.allow_custom_value or (declared.type != "MULTISELECT" and not declared.required):
            return
        choices = self.choices(declared)
        if choices is None:
            return
        known = {as_text(choice) for choice in choices}
        if any(as_text(item) not in known for item in selected):
            raise CastError(f"it must match the values `{listed(choices)}`")

    def file(self, declared: Input, raw: Any) -> str:
        """Return the URI of a file: stored now when it was uploaded, else the internal URI that was given."""
        name = raw.name if isinstance(raw, FileInput) else as_text(raw)
        allowed = declared.allowed_file_extensions
        if allowed and not name.lower().endswith(tuple(extension.lower() for extension in allowed)):
            raise CastError(f"it must be a file of the types `{listed(allowed)}`")
        if isinstance(raw, FileInput):
            if self.store_file is None:
                raise CastError("files cannot be sent here")
            return self.store_file(declared.id, raw)
        if not name.startswith(_FILE_SCHEMES):
            raise CastError("Expected an uploaded file, a `kestra://` or an `nsfile://` URI")
        return name

    def secret(self, declared: Input, raw: Any) -> Any:
        """Return the encrypted text; what is encrypted already is passed on between flows."""
        if self.typed and isinstance(raw, Mapping):
            return dict(raw)
        text = as_text(raw)
        check(declared, text)
        self.plain[declared.id] = text
        return _encrypted(text, self.encrypt)


def _shown(declared: Input, raw: Any) -> Any:
    """Return what may be shown of a raw value."""
    if declared.type == "SECRET":
        return SECRET_MASK
    return raw.name if isinstance(raw, FileInput) else raw
