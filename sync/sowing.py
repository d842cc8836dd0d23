"""Keys of git on their way into the store: what a plan says of them, and what activating it does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from runner.errors import Problem
from runner.store.records import Environment, KeyValue
from runner.store.session import Session
from sync.plan import Plan
from sync.seeds import Place, Seeding, SeedingKind, Seeds, decided, row_of
from sync.sifting import owns

UNKNOWN: Final = "the keys that git wants"


@dataclass(frozen=True, slots=True)
class Ground:
    """The keys of the store that a decision looks at, and the names of all environments."""

    rows: Mapping[Place, KeyValue]
    environments: Collection[str] = ()

    @classmethod
    def of(cls, db: Session, seeds: Seeds, environment: str, now: datetime) -> Ground:
        """Return what there is of `seeds`, and of what commits of the environment wrote before."""
        names = [each.name for each in db.environments.all()]
        return cls(_rows(db, seeds, environment, now), names)

    @classmethod
    def without_store(cls, seeds: Seeds, environment: str, now: datetime) -> Ground:
        """Return what there would be after a commit that wants `seeds`."""
        return cls({place: row_of(seed, environment, now) for place, seed in seeds.by_place.items()})

    def owners(self, environment: str) -> dict[Place, str]:
        """Return which other environments hold keys; what one that is no more has left belongs to nobody."""
        others = set(self.environments) - {environment}
        return {place: row.origin for place, row in self.rows.items() if row.origin in others and row.origin}


def with_seeds(plan: Plan, environment: Environment, seeds: Seeds, ground: Ground) -> Plan:
    """Return the plan with what becomes of keys, and with why the environment may not have some."""
    refused = _refused(environment, seeds, ground.owners(environment.name))
    seedings = tuple(decided(seeds, ground.rows, environment.name))
    return replace(plan.with_problems(refused), seeds=seeds, seedings=seedings)


def _refused(environment: Environment, seeds: Seeds, owners: Mapping[Place, str]) -> Iterator[Problem]:
    for place, seed in seeds.by_place.items():
        if not owns(environment, seed.namespace):
            text = f"environment {environment.name} may not hold keys of namespace {seed.namespace!r}"
            hint = f"it owns: {', '.join(environment.namespaces)}"
            yield Problem("seed.namespace.foreign", text, file=seed.file, line=seed.line, hint=hint)
        elif place in owners:
            text = f"the key {seed.key!r} of {seed.namespace} belongs to environment {owners[place]}"
            yield Problem("seed.key.owned", text, file=seed.file, line=seed.line, hint="one key has one owner")


def without_seeds(plan: Plan) -> Plan:
    """Return the plan of a commit whose keys cannot be read any more: all of them stay as they are."""
    return replace(plan, unchecked=(*plan.unchecked, UNKNOWN))


def sow(db: Session, seeds: Seeds, environment: str, now: datetime) -> list[Seeding]:
    """Write and remove keys as `decided` says, within the transaction; return what was done."""
    done = decided(seeds, _rows(db, seeds, environment, now), environment)
    for each in done:
        if each.kind is SeedingKind.REMOVED:
            db.kv.delete(each.namespace, each.key)
        elif each.seed is not None:
            db.kv.put(row_of(each.seed, environment, now))
    return done


def _rows(db: Session, seeds: Seeds, environment: str, now: datetime) -> dict[Place, KeyValue]:
    found = {(row.namespace, row.key): row for row in db.kv.of_origin(environment, now)}
    for place in seeds.by_place.keys() - found.keys():
        row = db.kv.get(*place, now)
        if row is not None:
            found[place] = row
    return found
