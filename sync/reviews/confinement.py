"""How the server confines the tests of a change request: what of its settings counts in their process.

Those settings go there that say where and as whom code may run, and what it may reach; nothing that is secret does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runner.rules import RepositoryRules
from runner.settings import RunnerPolicySettings, Settings
from runner.store import Store
from runner.store.records import Environment
from task_runners.policy import OWN_NETWORKS
from task_runners.registry import canonical_name

_KEPT: Final = frozenset(
    {"allow_private_addresses", "default_task_runner", "git_max_mib", "process_runner", "runner_policies"}
)
_ISOLATED: Final = ("docker", "kubernetes")


@dataclass(frozen=True, slots=True)
class Confinement:
    """What counts in the process of tests.

    `settings` is the content of its settings file, `repositories` how many have flows on the server, `uid` the user
    under which bodies run (None: that of the server), `rules` what the repository forbids itself where it is active.
    """

    settings: Mapping[str, Any]
    repositories: int = 1
    uid: int | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)


def confinement_of(settings: Settings, store: Store, repository: str, *, is_fork: bool) -> Confinement:
    """Return how the tests of a change request of a repository are confined.

    When the server is root their bodies run as a user of the repository's own, which is none of a namespace.
    """
    kept = settings.model_copy(update=_of_fork(settings)) if is_fork else settings
    return Confinement(
        settings=kept.model_dump(mode="json", by_alias=True, include=set(_KEPT)),
        repositories=len(store.read(lambda db: db.environments.active_repositories())),
        uid=_uid(settings, store, repository) if os.geteuid() == 0 else None,
        rules=_rules(store.read(lambda db: db.environments.of_repository(repository))),
    )


def _rules(environments: Iterable[Environment]) -> Mapping[str, Any]:
    """Return what the active commits of environments forbid, together; what is proposed has no say in it."""
    said = [RepositoryRules.of_json(each.rules) for each in environments]
    return RepositoryRules(policies=tuple(rule for each in said for rule in each.policies)).as_json()


def _of_fork(settings: Settings) -> dict[str, Any]:
    """Return what counts instead for the code of a fork: containers alone, and nothing of the host in them."""
    rules = (*settings.runner_policies, RunnerPolicySettings())  # the first of equals counts
    default = canonical_name(settings.default_task_runner)
    isolated = {canonical_name(name) for name in _ISOLATED}
    return {
        "runner_policies": tuple(map(_narrowed, rules)),
        "default_task_runner": settings.default_task_runner if default in isolated else _ISOLATED[0],
    }


def _narrowed(rule: RunnerPolicySettings) -> RunnerPolicySettings:
    allowed = None if rule.runners is None else {canonical_name(name) for name in rule.runners}
    runners = tuple(name for name in _ISOLATED if allowed is None or canonical_name(name) in allowed)
    networks = None if rule.networks is None else tuple(name for name in rule.networks if name in OWN_NETWORKS)
    nothing_more = dict.fromkeys(("docker_hosts", "service_accounts", "secrets", "claims", "csi_drivers"))
    alone = {"runners": runners, "networks": networks, "volumes": False, "privileged": False, "capabilities": ()}
    return rule.model_copy(update={**nothing_more, **alone})


def _uid(settings: Settings, store: Store, repository: str) -> int:
    # No namespace has a slash in its name.
    number = store.write(lambda db: db.uids.allocate(f"reviews/{repository}"))
    return settings.process_runner.uid_base + number
