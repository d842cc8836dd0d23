"""The repositories: that they can be reached, and that what is active is what their refs name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from runner.errors import MainstemError
from webhooks.checkup.finding import Finding, Patient, error, warning

if TYPE_CHECKING:
    from runner.store import Store
    from runner.store.records import Environment
    from sync.origins import Origins

_ADVICE: Final = {
    "PINNED": "when it may follow again: mainstem sync resume {name}",
    "DRIFTED": "see them: mainstem sync drift {name}; bring them back: add --heal",
    "QUARANTINED": "correct these files: mainstem plan -e {name}",
    "WAITING": "see its checks at the forge; its tests run on this server",
}


def check_repositories(patient: Patient) -> Iterator[Finding]:
    """Yield a finding for each environment, and one for owners that share a process runner."""
    from sync.origins import Origins

    store = patient.store
    if store is None:
        return
    environments: list[Environment] = store.read(lambda db: db.environments.all())
    origins = Origins(store, patient.settings, patient.home)
    try:
        for environment in environments:
            yield _environment(environment, origins)
            yield from _notes(environment, origins, store)
    finally:
        origins.close()
    for environment in environments:
        yield from _ledger(environment, store)
    yield from check_limits(store, datetime.now(UTC))
    if not environments:
        yield warning("repository", "no environment is declared yet", "`mainstem up` declares the hosted repository")
    yield from check_sharing(patient, environments)


def check_limits(store: Store, now: datetime) -> Iterator[Finding]:
    """Yield what forges said last of their limits: a warning where less than a tenth is left."""
    for limit in store.read(lambda db: db.forge_limits.all()):
        if limit.is_over(now):
            continue
        of = f" of {limit.allowed}" if limit.allowed is not None else ""
        ends = f", begins anew at {limit.resets_at:%H:%M} UTC" if limit.resets_at else ""
        told = f"{limit.repository}: {limit.remaining}{of} requests left at {limit.seen_at:%H:%M} UTC{ends}"
        if limit.is_low(now):
            yield warning("forge", told, "give this server a token of its own, or a longer interval between its looks")
        else:
            yield Finding("forge", told)


def _ledger(environment: Environment, store: Store) -> Iterator[Finding]:
    """Yield an error when a row of the environment's ledger is not as it was written."""
    broken = store.read(lambda db: db.revisions.broken(environment.name))
    if broken is not None:
        yield error(
            "ledger",
            f"{environment.name}: row {broken} breaks the chain: it, or the row before, was changed or taken out",
            "compare with a backup: mainstem sync history --json shows the rows with their digests",
        )


def _notes(environment: Environment, origins: Origins, store: Store) -> Iterator[Finding]:
    """Yield an error when the notes on commits say another history than the ledger does."""
    from sync.reports.noted import contradictions

    try:
        found = list(contradictions(store, origins.get(environment.repository), environment.name))
    except MainstemError:  # that it cannot be read is said elsewhere
        return
    if found:
        line, why = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield error(
            "ledger",
            f"{environment.name}: the note of row {line.row} on {line.commit[:7]} {why}{more}",
            f"one of both was changed: compare mainstem sync history {environment.name} with git log --notes=mainstem",
        )


def _environment(environment: Environment, origins: Origins) -> Finding:
    from sync.following import MOVED, Following

    name = environment.repository if environment.name == "default" else f"{environment.repository}/{environment.name}"
    ref = environment.following.removeprefix("refs/heads/")
    try:
        heads = origins.get(environment.repository).heads([environment.ref])
        # Only where it was refused is a tag that was moved no release; see `movedTags`.
        following = Following.of(environment, heads, follows_moved_tags=environment.state != "DETACHED")
    except MainstemError as problem:
        advice = problem.hint or "check its address and credentials; what is active stays active meanwhile"
        return error("repository", f"{name}: {problem.message}", advice)
    if environment.state == "HELD" and environment.held:
        return _held(environment, name, ref, environment.held)
    head = following.commit
    if following.code == MOVED:
        return warning("repository", f"{name}: {following.reason}", "tag anew, or set movedTags: follow")
    if head is None:
        advice = "push the flows to it, or name another ref in mainstem.yaml"
        return _empty(environment, name, ref) or error("repository", f"{name}: there is no {ref}", advice)
    return _deviation(environment, f"{name}: {ref} at {head[:7]}", head)


def _held(environment: Environment, name: str, ref: str, held: str) -> Finding:
    advice = f"look at it: mainstem sync status; accept it: mainstem sync run --allow-deletes {held[:7]}"
    return warning("repository", f"{name}: {ref} at {held[:7]} is held: {environment.message}", advice)


def _deviation(environment: Environment, where: str, head: str) -> Finding:
    active = (environment.active or "nothing")[:7]
    if environment.state == "DEGRADED":
        advice = "see why: mainstem sync history"
        return warning("repository", f"{where} is not activated, {active} stays active", advice)
    if environment.state in _ADVICE:
        advice = _ADVICE[environment.state].format(name=environment.name)
        return warning("repository", f"{where}, {environment.message}", advice)
    if head != environment.active:
        return warning("repository", f"{where}, active is {active}", "mainstem sync run")
    return Finding("repository", f"{where}, in sync")


def _empty(environment: Environment, name: str, ref: str) -> Finding | None:
    if environment.active is None:
        return Finding("repository", f"{name}: {ref} is empty, nothing has been pushed yet")
    return None


def check_sharing(patient: Patient, environments: list[Environment]) -> Iterator[Finding]:
    """Yield a warning when flows of several repositories run their bodies under one process runner."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for environment in environments:
        owners[environment.repository].append(environment.name)
    if len(owners) < 2 or patient.settings.default_task_runner != "process":
        return
    names = ", ".join(sorted(owners))
    accepted = " (accepted: processRunner.shared)" if patient.settings.process_runner.shared else ""
    yield warning(
        "isolation",
        f"bodies of flows of {len(owners)} repositories ({names}) "
        f"run on the process runner, which isolates failures, not people{accepted}",
        "give them the Docker runner by pluginDefaults, or one repository for people who trust each other",
    )
