"""The spellings of a type name that flows of all Kestra versions use.

The canonical spelling is the full one of Kestra 1.x, `io.kestra.plugin.core.log.Log`. Accepted are also the form
without `io.kestra.plugin.`, the packages of versions before 0.17 and the names that were renamed since.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

PREFIX = "io.kestra.plugin."

_OLD_PACKAGES: Mapping[str, str] = {
    "io.kestra.core.tasks.flows.": "core.flow.",
    "io.kestra.core.tasks.log.": "core.log.",
    "io.kestra.core.tasks.debugs.": "core.debug.",
    "io.kestra.core.tasks.executions.": "core.execution.",
    "io.kestra.core.tasks.states.": "core.state.",
    "io.kestra.core.tasks.storages.": "core.storage.",
    "io.kestra.core.tasks.templating.": "core.templating.",
    "io.kestra.core.tasks.trigger.": "core.trigger.",
    "io.kestra.core.models.triggers.types.": "core.trigger.",
    "io.kestra.core.models.conditions.types.": "core.condition.",
    "io.kestra.plugin.fs.http.": "core.http.",
    "fs.http.": "core.http.",
}

_RENAMED: Mapping[str, str] = {
    "core.condition.Variable": "core.condition.Expression",
    "core.execution.Counts": "core.execution.Count",
    "core.flow.Flow": "core.flow.Subflow",
    "core.flow.WaitFor": "core.flow.LoopUntil",
    "core.flow.Worker": "core.flow.WorkingDirectory",
    "core.storage.Purge": "core.execution.PurgeExecutions",
    "core.storage.PurgeExecution": "core.storage.PurgeCurrentExecutionFiles",
}

_SUCCESSORS: Mapping[str, str] = {
    "core.debug.Echo": "core.log.Log",
    "core.flow.EachParallel": "core.flow.ForEach",
    "core.flow.EachSequential": "core.flow.ForEach",
    "core.flow.Template": "core.flow.Subflow",
    "core.state.Delete": "core.kv.Delete",
    "core.state.Get": "core.kv.Get",
    "core.state.Set": "core.kv.Set",
    "io.kestra.core.tasks.scripts.Bash": "scripts.shell.Commands",
    "io.kestra.core.tasks.scripts.Node": "scripts.node.Commands",
    "io.kestra.core.tasks.scripts.Python": "scripts.python.Commands",
}

_KEEP_SUFFIX = frozenset({"FlowCondition", "FlowNamespaceCondition", "MultipleCondition"})


@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Return the full name of the type that `name` spells; a name of somebody else's type comes back as it is."""
    spelled = name
    for old, new in _OLD_PACKAGES.items():
        if spelled.startswith(old):
            spelled = new + spelled.removeprefix(old)
            break
    spelled = spelled.removeprefix(PREFIX)
    if spelled.startswith("core.condition."):
        word = spelled.removeprefix("core.condition.")
        if word.endswith("Condition") and word not in _KEEP_SUFFIX and word != "Condition":
            spelled = "core.condition." + word.removesuffix("Condition")
    spelled = _RENAMED.get(spelled, spelled)
    return spelled if f"{spelled}.".startswith("io.kestra.") else PREFIX + spelled


def successor(name: str) -> str | None:
    """Return the full name that should stand in place of a deprecated type or spelling; None for a current one."""
    full = canonical(name)
    short = full.removeprefix(PREFIX)
    if short in _SUCCESSORS:
        return PREFIX + _SUCCESSORS[short]
    return None if name in {full, short} else full


def spellings(name: str) -> list[str]:
    """Return every accepted spelling of the type `name`: the short form, the full one, then the older ones."""
    full = canonical(name)
    short = full.removeprefix(PREFIX)
    words = [short, *(old for old, new in _RENAMED.items() if new == short)]
    words += [f"{word}Condition" for word in words if word.startswith("core.condition.") and word[-9:] != "Condition"]
    found = [short, full, *words, *(PREFIX + word for word in words)]
    for old, new in _OLD_PACKAGES.items():
        found += [old + word.removeprefix(new) for word in words if word.startswith(new)]
    return [word for word in dict.fromkeys(found) if canonical(word) == full]
