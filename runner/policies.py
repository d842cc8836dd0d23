"""Which policy counts for the flows of a namespace, and what of a flow it refuses before the flow runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

from runner.errors import Problem, Severity, TaskError
from runner.flows.models import Flow, Task, TaskKind
from runner.flows.worker_groups import wanted_by
from runner.previews import base_of
from runner.rules import SETTINGS_FILE, PolicyRule, RepositoryRules
from runner.settings import RunnerPolicySettings, Settings
from runner.tasks.flow import WorkingDirectory
from task_runners.policy import Refusal, refusals
from task_runners.spec import Policy

GROUP_REFUSED: Final = "task.workerGroup.refused"
FORBIDDEN: Final = "flow.task.forbidden"
_SHARED: Final = 10_000
_HINT: Final = f"see `policies` in {SETTINGS_FILE}"


def policy_for(settings: Settings, namespace: str) -> Policy:
    """Return the policy of a namespace: of all that cover it, the one that names it most closely.

    A preview has that of the namespace that it is of, unless one names previews.
    """
    rule = _rule_for(settings, namespace)
    if rule is None:
        return Policy(allow_volumes=settings.docker_volumes, allow_privileged=settings.docker_privileged)
    return Policy(
        allow_volumes=rule.volumes,
        allow_privileged=rule.privileged,
        capabilities=rule.capabilities,
        runners=rule.runners,
        images=rule.images,
        registries=rule.registries,
        networks=rule.networks,
        docker_hosts=rule.docker_hosts,
        service_accounts=rule.service_accounts,
        secrets=rule.secrets,
        claims=rule.claims,
        csi_drivers=rule.csi_drivers,
        cluster_namespaces=rule.cluster_namespaces,
    )


def _rule_for(settings: Settings, namespace: str) -> RunnerPolicySettings | None:
    covering, base = _covering(settings, namespace), base_of(namespace)
    if base is not None and all(name == "*" for name, _ in covering):
        covering = _covering(settings, base)
    return max(covering, key=lambda each: (each[0] != "*", len(each[0])))[1] if covering else None


def _covering(settings: Settings, namespace: str) -> list[tuple[str, RunnerPolicySettings]]:
    """Return the rules that cover a namespace, each beside the name by which it does."""
    return [
        (name, rule)
        for rule in settings.runner_policies
        for name in rule.namespaces
        if name in {"*", namespace} or namespace.startswith(f"{name}.")
    ]


def tightened(policy: Policy, rules: Sequence[PolicyRule]) -> Policy:
    """Return a policy that allows what both the operator's and all `rules` of the repository allow."""
    return replace(
        policy,
        allow_volumes=policy.allow_volumes and all(rule.volumes is None for rule in rules),
        allow_privileged=policy.allow_privileged and all(rule.privileged is None for rule in rules),
        also=own_policies(policy, rules),
    )


def own_policies(policy: Policy, rules: Sequence[PolicyRule]) -> tuple[Policy, ...]:
    """Return what `rules` of a repository refuse and nothing else, as plans and runs judge it, each by itself.

    What the operator's `policy` gives every container is nothing that a flow asks for, so no rule forbids it.
    """
    return tuple(_alone(rule, policy.capabilities) for rule in rules)


def _alone(rule: PolicyRule, capabilities: tuple[str, ...]) -> Policy:
    return Policy(
        hint=_HINT,
        allow_volumes=rule.volumes is None,
        allow_privileged=rule.privileged is None,
        allow_other_networks=True,
        capabilities=capabilities,
        runners=rule.runners,
        images=rule.images,
        registries=rule.registries,
        networks=rule.networks,
        docker_hosts=("*",),
        service_accounts=_all_unless(rule.service_accounts),
        secrets=_all_unless(rule.secrets),
        claims=_all_unless(rule.claims),
        csi_drivers=_all_unless(rule.csi_drivers),
        cluster_namespaces=rule.cluster_namespaces,
    )


def _all_unless(listed: tuple[str, ...] | None) -> tuple[str, ...]:
    return ("*",) if listed is None else listed


def demand_task_allowed(rules: RepositoryRules, namespace: str, type_name: str) -> None:
    """Refuse a task that is about to start, and that the rules of its repository forbid by now.

    Raises:
        TaskError: `flow.task.forbidden`.
    """
    covering = rules.policies_for(base_of(namespace) or namespace) if rules.policies else ()
    if not all(rule.allows_task(type_name) for rule in covering):
        raise TaskError(FORBIDDEN, _not_allowed(type_name), hint=_HINT)


def demand_groups_allowed(settings: Settings, rules: RepositoryRules, namespace: str, tags: Sequence[str]) -> None:
    """Refuse a task that asks for worker groups which flows of its namespace may not use.

    Raises:
        TaskError: `task.workerGroup.refused`.
    """
    if not tags:
        return
    for rule in rules.policies_for(base_of(namespace) or namespace) if rules.policies else ():
        for message in _unlisted_groups(rule.worker_groups, tags):
            raise TaskError(GROUP_REFUSED, message, hint=_HINT)
    for message in _refused_groups(settings, namespace, tags):
        raise TaskError(GROUP_REFUSED, message, hint=Policy().hint)


def _refused_groups(settings: Settings, namespace: str, tags: Sequence[str]) -> Iterator[str]:
    rule = _rule_for(settings, namespace) if tags else None
    return _unlisted_groups(rule.worker_groups if rule is not None else None, tags)


def _unlisted_groups(patterns: Sequence[str] | None, tags: Sequence[str]) -> Iterator[str]:
    """Yield why each group is refused that none of the patterns names; without patterns all are allowed."""
    for tag in tags if patterns is not None else ():
        if not any(fnmatchcase(tag, pattern) for pattern in patterns or ()):
            yield f"flows of this namespace may not use the worker group {tag!r}"


def _not_allowed(type_name: str) -> str:
    return f"flows of this namespace may not use the task {type_name}"


class Demand(NamedTuple):
    """What a task asks of a task runner, as far as it stands in the file: its type, its properties, an image.

    Without a `runner` the task takes the default.
    """

    runner: str | None
    properties: Mapping[str, Any]
    image: str | None

    def refused(self, policy: Policy, default_runner: str) -> Iterator[Refusal]:
        """Yield what `policy` refuses whatever expressions give."""
        runner = self.runner or default_runner
        found = refusals(policy, runner, self.properties or {"type": runner}, self.image)
        return filter(attrgetter("is_certain"), found)


class TaskUse(NamedTuple):
    """What policies ask of a task; no demand where it has no task runner, or an expression chooses it."""

    task_id: str
    type: str
    demand: Demand | None
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task, flow: Flow) -> TaskUse:
        """Return what policies ask of a task."""
        demand, groups = _demand(task), _groups(task, flow)
        is_plain = demand is None and not groups
        return _plain_use(task.id, task.type) if is_plain else cls(task.id, task.type, demand, groups)


def _groups(task: Task, flow: Flow) -> tuple[str, ...]:
    """Return the worker groups of a task; those of one that is not valid are judged when it runs."""
    try:
        return (
            wanted_by(task, flow).tags if task.kind is TaskKind.RUNNABLE or isinstance(task, WorkingDirectory) else ()
        )
    except TaskError:
        return ()


@lru_cache(maxsize=_SHARED)
def _plain_use(task_id: str, type_name: str) -> TaskUse:
    """Return what policies ask of a task without a runner: one object for the many flows that have such a task."""
    return TaskUse(task_id, type_name, None)


class FlowUse(NamedTuple):
    """What policies ask of a flow, its tasks in the order of `Flow.all_tasks`."""

    namespace: str
    id: str
    tasks: tuple[TaskUse, ...]

    @classmethod
    def of(cls, flow: Flow) -> FlowUse:
        """Return what policies ask of a flow."""
        return cls(flow.namespace, flow.id, tuple(TaskUse.of(task, flow) for task in flow.all_tasks()))


def _demand(task: Task) -> Demand | None:
    # Asked of the class: most tasks have no runner, and to ask an instance for what it lacks is slow.
    if "task_runner" not in type(task).model_fields:
        return None
    given = getattr(task, "task_runner", None)
    spec = given if isinstance(given, Mapping) else {}
    image, name = getattr(task, "container_image", None), spec.get("type")
    if isinstance(given, Mapping) and (not isinstance(name, str) or "{{" in name):
        return None
    return Demand(name, spec, image if isinstance(image, str) else None)


def rule_problems(
    settings: Settings, rules: Sequence[PolicyRule], located: Iterable[tuple[str, FlowUse]]
) -> Iterator[Problem]:
    """Yield an error for each task that uses what the repository forbids itself, by the file of its flow.

    What an expression chooses is refused when the task runs.
    """
    for path, flow in located:
        covering = [rule for rule in rules if rule.covers(base_of(flow.namespace) or flow.namespace)]
        if not covering:
            continue
        policies = own_policies(policy_for(settings, flow.namespace), covering)
        for task in flow.tasks:
            for code, message in dict.fromkeys(_forbidden(covering, policies, task, settings.default_task_runner)):
                text = f"task {task.task_id!r} of {flow.namespace}.{flow.id}: {message}"
                yield Problem(code, text, file=path, hint=_HINT)


def _forbidden(
    rules: Sequence[PolicyRule], policies: Sequence[Policy], task: TaskUse, default_runner: str
) -> Iterator[tuple[str, str]]:
    for rule, policy in zip(rules, policies, strict=True):
        if not rule.allows_task(task.type):
            yield FORBIDDEN, _not_allowed(task.type)
        yield from ((GROUP_REFUSED, message) for message in _unlisted_groups(rule.worker_groups, task.groups))
        if task.demand is not None:
            yield from ((each.code, each.message) for each in task.demand.refused(policy, default_runner))


def policy_problems(settings: Settings, located: Iterable[tuple[str, FlowUse]]) -> Iterator[Problem]:
    """Yield a warning for each task that will fail because the policy of its namespace refuses what it asks for."""
    policies: dict[str, Policy] = {}
    for path, flow in located:
        for task in flow.tasks:
            for code, why in _refused(settings, policies, flow.namespace, task):
                message = f"task {task.task_id!r} of {flow.namespace}.{flow.id} will fail: {why}"
                yield Problem(code, message, Severity.WARNING, file=path)


def _refused(
    settings: Settings, policies: dict[str, Policy], namespace: str, task: TaskUse
) -> Iterator[tuple[str, str]]:
    yield from ((GROUP_REFUSED, message) for message in _refused_groups(settings, namespace, task.groups))
    if task.demand is not None:
        if namespace not in policies:
            policies[namespace] = policy_for(settings, namespace)
        for refusal in task.demand.refused(policies[namespace], settings.default_task_runner):
            yield refusal.code, refusal.message
