"""Keys and secrets of git on their way into the store: what a plan says of them, and what activating it does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from runner.errors import Problem, Severity
from runner.flows.seeds import Seed
from runner.secrets.sealed import SealedSecret
from runner.store.records import Environment, KeyValue, StoredSecret
from sync.plan import Plan
from sync.seeds import Place, Row, Seeding, SeedingKind, Seeds, Wanted, decided
from sync.sifting import owns

if TYPE_CHECKING:  # plans of a laptop load no database
    from runner.store.session import Session

UNKNOWN: Final = "the keys and secrets that git wants"


@dataclass(frozen=True, slots=True)
class Ground:
    """The keys and secrets of the store that a decision looks at."""

    rows: Mapping[Place, Row]

    @classmethod
    def of(cls, db: Session, seeds: Seeds, environment: str, now: datetime) -> Ground:
        """Return what there is of `seeds`, and of what commits of the environment wrote before."""
        return cls(_rows(db, seeds, environment, now))

    @classmethod
    def of_git(cls, db: Session, environment: str, now: datetime) -> Ground:
        """Return what commits of the environment wrote before, which stands in git: all that a stranger may hear of."""
        return cls(_rows(db, Seeds(), environment, now))

    @classmethod
    def without_store(cls, seeds: Seeds, environment: str, now: datetime) -> Ground:
        """Return what there would be after a commit that wants `seeds`."""
        return cls({place: _row_of(seed, environment, now) for place, seed in seeds.by_place.items()})

    def owners(self, environment: str) -> dict[Place, str | None]:
        """Return which other environments hold keys and secrets."""
        return {place: row.origin for place, row in self.rows.items() if row.origin not in {None, environment}}


def with_seeds(
    plan: Plan, environment: Environment, seeds: Seeds, ground: Ground, wrong: Collection[Problem] = ()
) -> Plan:
    """Return the plan with what becomes of keys and secrets, and with why the environment may not have some.

    `wrong` are the problems of their files: where one is an error, nothing can be said of what comes and goes.
    """
    plan = plan.with_problems(wrong)
    if any(problem.severity is Severity.ERROR for problem in wrong):
        return plan
    refused = dict(_refused(environment, seeds, ground.owners(environment.name)))
    # Of what belongs to others nothing is said: a plan shows what stands there now.
    seedings = tuple(each for each in decided(seeds, ground.rows, environment.name) if each.place not in refused)
    return replace(plan.with_problems(refused.values()), seeds=seeds, seedings=seedings)


def _refused(
    environment: Environment, seeds: Seeds, owners: Mapping[Place, str | None]
) -> Iterator[tuple[Place, Problem]]:
    for place, seed in seeds.by_place.items():
        if not owns(environment, seed.namespace):
            text = f"environment {environment.name} may put nothing into namespace {seed.namespace!r}"
            hint = f"it owns: {', '.join(environment.namespaces)}"
            yield place, Problem("seed.namespace.foreign", text, file=seed.file, line=seed.line, hint=hint)
        elif place in owners:
            text = f"{seed.key!r} of {seed.namespace} belongs to environment {owners[place]}"
            hint = "one key has one owner"
            yield place, Problem("seed.key.owned", text, file=seed.file, line=seed.line, hint=hint)


def without_seeds(plan: Plan) -> Plan:
    """Return the plan of a commit whose files cannot be read any more: keys and secrets stay as they are."""
    return replace(plan, unchecked=(*plan.unchecked, UNKNOWN))


def sow(db: Session, seeds: Seeds, environment: str, now: datetime) -> list[Seeding]:
    """Write and remove as `decided` says, within the transaction; return what was done."""
    done = decided(seeds, _rows(db, seeds, environment, now), environment)
    for each in done:
        if each.kind is SeedingKind.REMOVED:
            (db.kv if each.what == "kv" else db.secrets).delete(each.namespace, each.key)
        elif each.seed is not None:
            _write(db, _row_of(each.seed, environment, now))
    return done


def _write(db: Session, row: Row) -> None:
    if isinstance(row, KeyValue):
        db.kv.put(row)
    else:
        assert row.sealed, "a plan that opened no secrets is for reading only"
        db.secrets.put(row)


def _rows(db: Session, seeds: Seeds, environment: str, now: datetime) -> dict[Place, Row]:
    found: dict[Place, Row] = {("kv", row.namespace, row.key): row for row in db.kv.of_origin(environment, now)}
    found |= {("secret", row.namespace, row.key): row for row in db.secrets.of_origin(environment)}
    environments = {each.name for each in db.environments.all()}
    for place in seeds.by_place.keys() - found.keys():
        what, namespace, key = place
        row = db.kv.get(namespace, key, now) if what == "kv" else db.secrets.get(namespace, key)
        # What an environment that is no more has left is nobody's, as if it were not there.
        if row is not None and (row.origin is None or row.origin in environments):
            found[place] = row
    return found


def _row_of(seed: Wanted, environment: str, now: datetime) -> Row:
    """Return what the store has once a commit of `environment` has written it."""
    return _key_value(seed, environment, now) if isinstance(seed, Seed) else _secret(seed, environment, now)


def _key_value(seed: Seed, environment: str, now: datetime) -> KeyValue:
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


def _secret(seed: SealedSecret, environment: str, now: datetime) -> StoredSecret:
    sealed, about = seed.sealed or "", f"of {seed.file}"
    return StoredSecret(seed.namespace, seed.key, sealed, now, about, origin=environment, mark=seed.mark)
