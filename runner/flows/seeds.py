"""Files `_kv.yaml`: what git puts into the key-value store of a namespace.

A file stands in the folder of its namespace and maps keys to values. A map that has `value` says more of it:

    rate: 0.07
    limits: {small: 10, large: 500}
    holiday: {value: "2026-12-24", type: DATE, description: nobody works, ttl: P30D, overwrite: true}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import orjson

from runner.durations import parse_duration
from runner.errors import FlowError, InvalidError, Problem, Severity
from runner.flows.loader import Document, examine
from runner.flows.models import NAMESPACE
from runner.flows.spelling import did_you_mean
from runner.key_values import checked_key, typed_value
from runner.store.records import KeyValue

NAMES: Final = ("_kv.yaml", "_kv.yml")
MOST_SEEDS: Final = 1_000
"""Keys of one file."""

_OPTIONS: Final = ("value", "type", "ttl", "description", "overwrite")
_LONGEST_DESCRIPTION: Final = 1_000
_LONGEST_SHOWN: Final = 40
_LONGEST_TTL: Final = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class Seed:
    """A key as git wants it. With `overwrite` it also takes the place of what was written at run time."""

    namespace: str
    key: str
    kind: str
    value: Any
    file: str
    line: int
    ttl: timedelta | None = None
    description: str | None = None
    overwrite: bool = False

    what = "kv"

    def is_said_by(self, row: KeyValue) -> bool:
        """Whether the store has what git says."""
        ttl = row.expires_at - row.updated_at if row.expires_at else None
        said = (self.kind, _as_json(self.value), self.description, self.ttl)
        return said == (row.kind, _as_json(row.value), row.description, ttl)

    def difference_to(self, row: KeyValue) -> str:
        """Return how type and value change; a long value is not shown."""
        kinds = self.kind if self.kind == row.kind else f"{row.kind} -> {self.kind}"
        before, after = _as_json(row.value), _as_json(self.value)
        if before == after or max(len(before), len(after)) > _LONGEST_SHOWN:
            return kinds
        return f"{kinds} {before} -> {after}"


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A file as it was read: no seeds when a problem is an error."""

    file: str
    namespace: str | None
    seeds: tuple[Seed, ...] = ()
    problems: tuple[Problem, ...] = ()


def is_seeds(path: str) -> bool:
    """Whether a path, with slashes, is that of a file of seeds."""
    return path.rpartition("/")[2] in NAMES


def parse_seeds(source: bytes, *, file: str, namespace: str | None) -> SeedFile:
    """Parse and check a file of seeds that stands in a folder of `namespace` (None: in that of no namespace)."""
    try:
        document, problems = examine(source, file=file)
    except FlowError as error:
        return SeedFile(file, namespace, problems=error.problems)
    reading = _Reading(document, file, namespace or "")
    problems += reading.of_file(namespace)
    seeds = tuple(reading.seeds()) if not problems else ()
    problems += reading.problems
    is_sound = not any(problem.severity is Severity.ERROR for problem in problems)
    return SeedFile(file, namespace, seeds if is_sound else (), tuple(problems))


class _Reading:
    """The keys of one document, and what is wrong with them."""

    def __init__(self, document: Document, file: str, namespace: str) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._file = file
        self._namespace = namespace

    def of_file(self, namespace: str | None) -> list[Problem]:
        """Return what is wrong with the file as a whole."""
        found = self._document.value
        if namespace is None or not re.match(NAMESPACE, namespace):
            text = "the file stands in the folder of no namespace, so nobody could read its keys"
            return [self._problem((), "seed.namespace.missing", text, "move it, to flows/NAMESPACE/_kv.yaml say")]
        if not isinstance(found, dict):
            return [self._problem((), "seed.file.invalid", "a file of keys is a map of keys and values", "rate: 0.07")]
        if len(found) > MOST_SEEDS:
            return [self._problem((), "seed.file.invalid", f"the file has {len(found)} keys, more than {MOST_SEEDS:,}")]
        return []

    def seeds(self) -> Iterator[Seed]:
        """Yield the keys that are sound; the others go to `problems`."""
        for key, said in self._document.value.items():
            try:
                yield self._seed(str(key), said)
            except InvalidError as error:
                self.problems.append(self._problem((key,), error.code, f"{key}: {error.message}", error.hint))

    def _seed(self, key: str, said: Any) -> Seed:
        options = said if isinstance(said, dict) and "value" in said else {"value": said}
        _check_options(options)
        if options["value"] is None:
            raise InvalidError("kv.value.invalid", "null is no value", hint="take the key out of the file instead")
        kind, value = typed_value(options["value"], options.get("type"))
        _check_kept(value)
        return Seed(
            namespace=self._namespace,
            key=checked_key(key),
            kind=kind,
            value=value,
            file=self._file,
            line=self._document.positions.key((key,)).line,
            ttl=_ttl(options.get("ttl")),
            description=_prose(options.get("description")),
            overwrite=options.get("overwrite", False),
        )

    def _problem(self, path: tuple[str, ...], code: str, text: str, hint: str | None = None) -> Problem:
        mark = self._document.positions.key(path) if path else self._document.positions.at(path)
        return Problem(code, text, file=self._file, line=mark.line, column=mark.column, hint=hint)


def _check_options(options: Mapping[str, Any]) -> None:
    unknown = next((name for name in options if name not in _OPTIONS), None)
    if unknown is not None:
        hint = did_you_mean(str(unknown), _OPTIONS) or "JSON that has a `value` of its own goes below `value`"
        raise InvalidError("seed.option.invalid", f"beside `value` nothing is called {unknown!r}", hint=hint)
    if not isinstance(options.get("type", ""), str):
        raise InvalidError("seed.option.invalid", "`type` is the name of a type")
    if not isinstance(options.get("overwrite", False), bool):
        raise InvalidError("seed.option.invalid", "`overwrite` is true or false")
    description = options.get("description")
    if not isinstance(description, str | None) or len(description or "") > _LONGEST_DESCRIPTION:
        raise InvalidError(
            "seed.option.invalid", f"`description` is a text of up to {_LONGEST_DESCRIPTION:,} characters"
        )


def _check_kept(value: Any) -> None:
    """Demand a value that the store keeps as it is: another one would be written anew with every revision."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        message = f"the store cannot keep it as it is: {str(error)[:100]}"
        raise InvalidError("kv.value.invalid", message, hint="put a number of more than 64 bits in quotes") from None


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _prose(text: str | None) -> str | None:
    """Return a text as the store keeps it."""
    return text.replace("\0", "\ufffd") if text is not None else None


def _ttl(text: Any) -> timedelta | None:
    if text is None:
        return None
    ttl = parse_duration(str(text))
    if ttl <= timedelta(0):
        raise InvalidError("kv.ttl.invalid", f"ttl {text!r} is not a time to come")
    if ttl > _LONGEST_TTL:
        raise InvalidError("kv.ttl.invalid", f"ttl {text!r} is longer than a hundred years", hint="leave it out")
    return ttl
