"""Which policy counts for the flows of a namespace, and what of a flow it refuses before the flow runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from runner.errors import Problem, Severity
from runner.flows.models import Flow
from runner.previews import base_of
from runner.settings import RunnerPolicySettings, Settings
from task_runners.policy import refusals
from task_runners.spec import Policy


def policy_for(settings: Settings, namespace: str) -> Policy:
    """Return the policy of a namespace: of all that cover it, the one that names it most closely.

    A preview has that of the namespace that it is of, unless one names previews.
    """
    covering, base = _covering(settings, namespace), base_of(namespace)
    if base is not None and all(name == "*" for name, _ in covering):
        covering = _covering(settings, base)
    if not covering:
        return Policy(allow_volumes=settings.docker_volumes, allow_privileged=settings.docker_privileged)
    rule = max(covering, key=lambda each: len(each[0]))[1]
    return Policy(
        allow_volumes=rule.volumes,
        allow_privileged=rule.privileged,
        allow_host_network=False,
        capabilities=rule.capabilities,
        runners=rule.runners,
        images=rule.images,
        registries=rule.registries,
        networks=rule.networks,
        service_accounts=rule.service_accounts,
    )


def _covering(settings: Settings, namespace: str) -> list[tuple[str, RunnerPolicySettings]]:
    """Return the rules that cover a namespace, each beside the name by which it does."""
    return [
        (name, rule)
        for rule in settings.runner_policies
        for name in rule.namespaces
        if name in {"*", namespace} or namespace.startswith(f"{name}.")
    ]


def policy_problems(settings: Settings, located: Sequence[tuple[str, Flow]]) -> Iterator[Problem]:
    """Yield a warning for each task that will fail because the policy of its namespace refuses what it asks for."""
    policies: dict[str, Policy] = {}
    for path, flow in located:
        for task in flow.all_tasks():
            # Asked of the class: most tasks have no runner, and to ask an instance for what it lacks is slow.
            if "task_runner" not in type(task).model_fields:
                continue
            given = getattr(task, "task_runner", None)
            spec = given if isinstance(given, Mapping) else {"type": settings.default_task_runner}
            image = getattr(task, "container_image", None)
            name = spec.get("type")
            if not isinstance(name, str) or "{{" in name:
                continue
            if flow.namespace not in policies:
                policies[flow.namespace] = policy_for(settings, flow.namespace)
            found = refusals(policies[flow.namespace], name, spec, image if isinstance(image, str) else None)
            for refusal in filter(attrgetter("is_certain"), found):
                message = f"task {task.id!r} of {flow.namespace}.{flow.id} will fail: {refusal.message}"
                yield Problem(refusal.code, message, Severity.WARNING, file=path)
