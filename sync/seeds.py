"""What git puts into the store: which keys and secrets a commit wants, and what becomes of those that are there.

A key belongs to git while a commit wrote it last. Git creates keys, and changes and removes its own; one that was
written at run time stays, unless the file says `overwrite: true`. So it is with secrets and those that people set.
The same decision is shown by a plan and made again in the transaction that activates it, since flows may write in
between.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runner.errors import InvalidError, Problem
from runner.flows.seeds import Seed, SeedFile, is_seeds, parse_seeds
from runner.previews import preview_of
from runner.secrets.file import around
from runner.secrets.sealed import Seal, SealedFile, SealedSecret, parse_sealed
from runner.store.records import KeyValue, StoredSecret
from sync.layout import FlowPlace, Layout, seed_place

Place = tuple[str, str, str]
"""`kv` or `secret`, a namespace and a key."""

Wanted = Seed | SealedSecret
Row = KeyValue | StoredSecret

_KEPT: Final = {
    "kv": "written at run time; `overwrite: true` would replace it",
    "secret": "set on the server, which wins over git",
}
_REPLACED: Final = "replaces what was written at run time"


class SeedingKind(enum.StrEnum):
    """What happens to a key or secret. One that is kept was written at run time, and is not what git says."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Seeding:
    """A key or secret that a plan touches. `note` says what changes; long values are not shown, secrets never."""

    kind: SeedingKind
    what: str
    namespace: str
    key: str
    file: str | None = None
    note: str | None = None
    seed: Wanted | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> Place:
        """Return where it stands."""
        return (self.what, self.namespace, self.key)

    @property
    def name(self) -> str:
        """Return how a plan calls it."""
        return f"{self.what} {self.namespace}.{self.key}"

    def as_json(self) -> dict[str, Any]:
        """Return the row as the API shows it."""
        return {
            "kind": self.kind.value,
            "what": self.what,
            "namespace": self.namespace,
            "key": self.key,
            "path": self.file,
            "note": self.note,
        }


def seeding_of(row: Mapping[str, Any]) -> Seeding:
    """Return what `Seeding.as_json` made a row of, without the value."""
    return Seeding(SeedingKind(row["kind"]), row["what"], row["namespace"], row["key"], row["path"], row["note"])


@dataclass(frozen=True, slots=True)
class Seeds:
    """The keys and secrets that a commit wants, each once."""

    by_place: Mapping[Place, Wanted] = field(default_factory=dict)

    @classmethod
    def of(cls, wanted: Iterable[Wanted]) -> tuple[Seeds, list[Problem]]:
        """Return what files want, and a problem for each key that stands in two of them."""
        found: dict[Place, Wanted] = {}
        problems: list[Problem] = []
        for seed in wanted:
            first = found.setdefault((seed.what, seed.namespace, seed.key), seed)
            if first is not seed:
                text = f"{first.file} has {seed.key!r} of {seed.namespace} already"
                problems.append(Problem("seed.key.duplicate", text, file=seed.file, line=seed.line))
        return cls(found), problems

    def in_preview(self, number: int, spaces: Collection[str]) -> Seeds:
        """Return the keys that flows of `spaces` see, for the preview of a change request. It gets no secrets."""
        seen = {place for space in spaces for place in around(space)}
        moved = [
            replace(seed, namespace=preview_of(number, seed.namespace))
            for seed in self.by_place.values()
            if isinstance(seed, Seed) and seed.namespace in seen
        ]
        return Seeds({(seed.what, seed.namespace, seed.key): seed for seed in moved})

    def has(self, what: str, namespace: str, key: str) -> bool:
        """Whether a namespace sees the key or secret."""
        name = key.upper() if what == "secret" else key
        return any((what, place, name) in self.by_place for place in around(namespace))


def gathered_seeds(
    paths: Iterable[str], layout: Layout, read: Callable[[str], bytes], seal: Seal | None = None
) -> tuple[Seeds, list[Problem]]:
    """Return what the files of keys and secrets among `paths` want, and what is wrong with them.

    Without a `seal` no secret is opened.
    """
    places = {path: place for path in paths if (place := seed_place(path, layout))}
    files = [_file(path, places[path], read, seal) for path in sorted(places)]
    seeds, problems = Seeds.of(seed for file in files for seed in _of(file))
    return seeds, [*(problem for file in files for problem in file.problems), *problems]


def _of(file: SeedFile | SealedFile) -> Iterable[Wanted]:
    return file.seeds if isinstance(file, SeedFile) else file.secrets


def _file(path: str, place: FlowPlace, read: Callable[[str], bytes], seal: Seal | None) -> SeedFile | SealedFile:
    try:
        if is_seeds(path):
            return parse_seeds(read(path), file=path, namespace=place.namespace)
        return parse_sealed(read(path), file=path, namespace=place.namespace, seal=seal)
    except InvalidError as error:
        return SealedFile(path, problems=(Problem(error.code, error.message, file=path),))


# ---------------------------------------------------------------- decisions


def decided(seeds: Seeds, stand: Mapping[Place, Row], environment: str) -> list[Seeding]:
    """Return what becomes of keys and secrets, in their order; `stand` is what there is of them and of git's own."""
    found = [_wanted(seed, stand.get(place), environment) for place, seed in seeds.by_place.items()]
    found += [
        Seeding(SeedingKind.REMOVED, *place)
        for place, row in stand.items()
        if row.origin == environment and place not in seeds.by_place
    ]
    return sorted((each for each in found if each is not None), key=lambda each: (each.what, each.namespace, each.key))


def _wanted(seed: Wanted, row: Any, environment: str) -> Seeding | None:
    place = (seed.what, seed.namespace, seed.key, seed.file)
    if row is None:
        return Seeding(SeedingKind.ADDED, *place, seed.kind, seed)
    is_same, is_ours = seed.is_said_by(row), row.origin == environment
    if is_same and (is_ours or not seed.overwrite):
        return None
    if is_ours or seed.overwrite:
        # A plan is read by all who see the repository: it shows what git said before, not what runs have written.
        note = seed.difference_to(row) if is_ours else _REPLACED
        return Seeding(SeedingKind.CHANGED, *place, note, seed)
    return Seeding(SeedingKind.KEPT, *place, _KEPT[seed.what])
