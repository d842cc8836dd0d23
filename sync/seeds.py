"""What git puts into the key-value store: which keys a commit wants, and what becomes of those that are there.

A key belongs to git while a commit wrote it last. Git creates keys, and changes and removes its own; one that was
written at run time stays, unless the file says `overwrite: true`. The same decision is shown by a plan and made again
in the transaction that activates it, since flows may write in between.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from runner.errors import InvalidError, Problem
from runner.flows.seeds import Seed, SeedFile, parse_seeds
from runner.previews import preview_of
from runner.secrets.file import around
from runner.store.records import KeyValue
from sync.layout import FlowPlace, Layout, seed_place

Place = tuple[str, str]
"""A namespace and a key."""

_LONGEST_SHOWN: Final = 40


class SeedingKind(enum.StrEnum):
    """What happens to a key. One that is kept was written at run time, and is not what git says."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Seeding:
    """One key that a plan touches. `note` says what changes; long values are not shown."""

    kind: SeedingKind
    namespace: str
    key: str
    file: str | None = None
    note: str | None = None
    seed: Seed | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Return how a plan calls it."""
        return f"kv {self.namespace}.{self.key}"

    def as_json(self) -> dict[str, Any]:
        """Return the row as the API shows it."""
        return {
            "kind": self.kind.value,
            "namespace": self.namespace,
            "key": self.key,
            "path": self.file,
            "note": self.note,
        }


def seeding_of(row: Mapping[str, Any]) -> Seeding:
    """Return what `Seeding.as_json` made a row of, without the value."""
    return Seeding(SeedingKind(row["kind"]), row["namespace"], row["key"], row["path"], row["note"])


@dataclass(frozen=True, slots=True)
class Seeds:
    """The keys that a commit wants, each once."""

    by_place: Mapping[Place, Seed] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[SeedFile]) -> tuple[Seeds, list[Problem]]:
        """Return what files want, and their problems; a key that stands in two files is one."""
        found: dict[Place, Seed] = {}
        problems: list[Problem] = []
        for file in files:
            problems += file.problems
            for seed in file.seeds:
                first = found.setdefault((seed.namespace, seed.key), seed)
                if first is not seed:
                    text = f"{first.file} has the key {seed.key!r} of {seed.namespace} already"
                    problems.append(Problem("seed.key.duplicate", text, file=seed.file, line=seed.line))
        return cls(found), problems

    def in_preview(self, number: int, spaces: Collection[str]) -> Seeds:
        """Return those that flows of `spaces` see, for the preview of a change request."""
        seen = {place for space in spaces for place in around(space)}
        moved = [
            replace(seed, namespace=preview_of(number, seed.namespace))
            for seed in self.by_place.values()
            if seed.namespace in seen
        ]
        return Seeds({(seed.namespace, seed.key): seed for seed in moved})

    def has(self, namespace: str, key: str) -> bool:
        """Whether a namespace sees the key."""
        return any((place, key) in self.by_place for place in around(namespace))


def gathered_seeds(paths: Iterable[str], layout: Layout, read: Callable[[str], bytes]) -> tuple[Seeds, list[Problem]]:
    """Return what the files of keys among `paths` want, and what is wrong with them."""
    places = {path: place for path in paths if (place := seed_place(path, layout))}
    return Seeds.of(_seed_file(path, places[path], read) for path in sorted(places))


def _seed_file(path: str, place: FlowPlace, read: Callable[[str], bytes]) -> SeedFile:
    try:
        return parse_seeds(read(path), file=path, namespace=place.namespace)
    except InvalidError as error:
        return SeedFile(path, place.namespace, problems=(Problem(error.code, error.message, file=path),))


# ---------------------------------------------------------------- decisions


def decided(seeds: Seeds, stand: Mapping[Place, KeyValue], environment: str) -> list[Seeding]:
    """Return what becomes of keys, by namespace and key, where `stand` is what there is of them and of git's own."""
    found = [_wanted(seed, stand.get(place), environment) for place, seed in seeds.by_place.items()]
    found += [
        Seeding(SeedingKind.REMOVED, row.namespace, row.key)
        for place, row in stand.items()
        if row.origin == environment and place not in seeds.by_place
    ]
    return sorted((each for each in found if each is not None), key=lambda each: (each.namespace, each.key))


def _wanted(seed: Seed, row: KeyValue | None, environment: str) -> Seeding | None:
    place = (seed.namespace, seed.key, seed.file)
    if row is None:
        return Seeding(SeedingKind.ADDED, *place, seed.kind, seed)
    is_same, is_ours = _says_the_same(seed, row), row.origin == environment
    if is_same and (is_ours or not seed.overwrite):
        return None
    if is_ours or seed.overwrite:
        return Seeding(SeedingKind.CHANGED, *place, _difference(seed, row), seed)
    return Seeding(SeedingKind.KEPT, *place, "written at run time; `overwrite: true` would replace it")


def _says_the_same(seed: Seed, row: KeyValue) -> bool:
    ttl = row.expires_at - row.updated_at if row.expires_at else None
    said = (seed.kind, json.dumps(seed.value, sort_keys=True), seed.description, seed.ttl)
    return said == (row.kind, json.dumps(row.value, sort_keys=True), row.description, ttl)


def _difference(seed: Seed, row: KeyValue) -> str:
    kinds = seed.kind if seed.kind == row.kind else f"{row.kind} -> {seed.kind}"
    before, after = (json.dumps(value, ensure_ascii=False) for value in (row.value, seed.value))
    if before == after or max(len(before), len(after)) > _LONGEST_SHOWN:
        return kinds
    return f"{kinds} {before} -> {after}"


def row_of(seed: Seed, environment: str, now: datetime) -> KeyValue:
    """Return the key as the store has it once a commit of `environment` has written it."""
    return KeyValue(
        namespace=seed.namespace,
        key=seed.key,
        kind=seed.kind,
        value=seed.value,
        created_at=now,
        updated_at=now,
        expires_at=now + seed.ttl if seed.ttl else None,
        description=seed.description,
        origin=environment,
    )
