"""Which class a `type` in YAML stands for.

Classes are named as text and imported when a flow first uses them, so that a server that runs no HTTP task never
imports an HTTP client. Third parties add theirs through the entry points `mainstem.tasks`, `mainstem.triggers` and
`mainstem.conditions`; the name of the entry point is the type name.
"""

from __future__ import annotations

import difflib
import enum
import functools
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

from runner.errors import FlowError
from runner.flows.aliases import PREFIX, canonical
from runner.flows.models import Condition, Model, Task, Trigger
from runner.tasks.languages import LANGUAGES

__all__ = ["ABSENT", "BASES", "TypeKind", "canonical", "find", "full_name", "nearest", "short", "suggestion", "types"]


class TypeKind(enum.StrEnum):
    """What a `type` may name in a flow; the value is the first word of problem codes."""

    TASK = "task"
    TRIGGER = "trigger"
    CONDITION = "condition"


BASES: Mapping[TypeKind, type[Model]] = {
    TypeKind.TASK: Task,
    TypeKind.TRIGGER: Trigger,
    TypeKind.CONDITION: Condition,
}

_TASKS: Mapping[str, str] = {
    # family: the classes of `runner.tasks.<family>` that have the name of their type
    "debug": "Echo Return",
    "execution": "Assert Count Exit Fail Kill Labels PurgeExecutions Resume SetVariables UnsetVariables",
    "flow": (
        "AllowFailure Dag EachParallel EachSequential ForEach If Loop LoopUntil Parallel Pause Sequential Sleep "
        "Subflow Switch WorkingDirectory"
    ),
    "http": "Download Request",
    "kv": "Delete Get GetKeys PurgeKV Set",
    "log": "Fetch Log PurgeLogs",
    "metric": "Publish",
    "namespace": "DeleteFiles DownloadFiles UploadFiles",
    "output": "OutputValues",
    "state": "Delete Get Set",
    "storage": (
        "Concat DeduplicateItems Delete FilterItems LocalFiles PurgeCurrentExecutionFiles Reverse Size Split Write"
    ),
    "templating": "TemplatedTask",
    "trigger": "Toggle",
}
_GIT: Mapping[str, str] = {
    # As text like all the others: nothing here is imported from `sync` before a flow uses it.
    "clone": "Clone",
    "namespace_sync": "NamespaceSync TenantSync",
    "push": "Push",
    "push_server": "PushExecutionFiles PushFlows PushNamespaceFiles",
    "sync_files": "SyncNamespaceFiles",
    "sync_flows": "SyncFlow SyncFlows",
}
_CONDITIONS = (
    "DateTimeBetween DayWeek DayWeekInMonth ExecutionFlow ExecutionLabels ExecutionNamespace ExecutionOutputs "
    "ExecutionStatus Expression FlowCondition FlowNamespaceCondition HasRetryAttempt MultipleCondition Not Or "
    "PublicHoliday TimeBetween Weekend"
)
_OLD_SCRIPTS = "Bash Node Python"
_BUILT_IN: Mapping[TypeKind, Mapping[str, str]] = {
    TypeKind.TASK: {
        f"core.{family}.{name}": f"runner.tasks.{family}:{name}"
        for family, names in _TASKS.items()
        for name in names.split()
    }
    | {
        "core.flow.ForEachItem": "runner.tasks.for_each_item:ForEachItem",
        "core.flow.Template": "runner.tasks.template:Template",
    }
    | {
        f"scripts.{language.name}.{form}": f"runner.tasks.script_families:{language.class_prefix}{form}"
        for language in LANGUAGES.values()
        for form in ("Commands", "Script")
    }
    | {f"git.{name}": f"sync.tasks.{module}:{name}" for module, names in _GIT.items() for name in names.split()}
    | {f"io.kestra.core.tasks.scripts.{name}": f"runner.tasks.script_legacy:{name}" for name in _OLD_SCRIPTS.split()},
    TypeKind.TRIGGER: {
        "core.http.Trigger": "runner.tasks.http_trigger:Trigger",
        "core.trigger.Flow": "runner.triggers.models:FlowTrigger",
        "core.trigger.Schedule": "runner.triggers.models:Schedule",
        "core.trigger.ScheduleOnDates": "runner.triggers.models:ScheduleOnDates",
        "core.trigger.Webhook": "runner.triggers.models:Webhook",
    }
    | {
        f"scripts.{language.name}.{form}Trigger": f"runner.tasks.script_triggers:{language.class_prefix}{form}Trigger"
        for language in LANGUAGES.values()
        for form in ("Commands", "Script")
    },
    TypeKind.CONDITION: {
        f"core.condition.{name}": f"runner.triggers.conditions:{name}" for name in _CONDITIONS.split()
    },
}


# Types of Kestra's core, script and git plugins that flows may name and that do not exist here yet.
ABSENT: Mapping[TypeKind, frozenset[str]] = {
    TypeKind.TASK: frozenset(
        {
            "core.flow.Approval",
            "git.PushDashboards",
            "git.Sync",
            "git.SyncDashboards",
        }
    ),
    TypeKind.TRIGGER: frozenset(),
    TypeKind.CONDITION: frozenset(),
}


def short(name: str) -> str:
    """Return the form of a type name that our documents show: `core.log.Log`."""
    return canonical(name).removeprefix(PREFIX)


def types(kind: TypeKind) -> list[str]:
    """Return the short names of all types of `kind`, sorted."""
    return sorted(_places(kind))


@functools.lru_cache(maxsize=4096)
def find(kind: TypeKind, name: str) -> type[Model] | None:
    """Return the class that `name`, in any accepted spelling, stands for; None when there is none.

    Raises:
        FlowError: `task.type.broken` (`trigger` ..., `condition` ...) when an installed plugin cannot be imported.
    """
    place = _places(kind).get(short(name)) or _places(kind).get(name)
    if place is None:
        return None
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise FlowError(f"{kind}.type.broken", f"the {kind} type {name!r} cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, BASES[kind])):
        raise FlowError(f"{kind}.type.broken", f"{place}, which stands for {name!r}, is no {kind} type")
    return found


def suggestion(kind: TypeKind, name: str) -> str | None:
    """Return a hint for the unknown type `name`: what was meant, or that it is not there yet."""
    if short(name) in ABSENT[kind]:
        return "this type of Kestra is not there yet; docs/compatibility.md lists those that are"
    found = nearest(kind, name)
    return f"did you mean {found!r}?" if found else None


def full_name(kind: TypeKind, cls: type[Model]) -> str | None:
    """Return the full name under which `cls` is registered, None when it is not."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((canonical(name) for name, known in _places(kind).items() if known == place), None)


def nearest(kind: TypeKind, name: str) -> str | None:
    """Return the known type name that looks most like `name`, spelled as `name` is (with or without the prefix)."""
    wanted = short(name).lower()
    last = wanted.rpartition(".")[2]
    by_text = {candidate.lower(): candidate for candidate in types(kind)}
    # The last word decides: within a family all names look alike. A right last word makes up for a wrong family.
    match = [
        text
        for text in difflib.get_close_matches(wanted, by_text, n=5, cutoff=0.7)
        if difflib.SequenceMatcher(None, last, text.rpartition(".")[2]).ratio() >= 0.6
    ] or [text for text in by_text if text.rpartition(".")[2] == last]
    if not match:
        return None
    found = by_text[match[0]]
    return PREFIX + found if name.startswith("io.kestra.") else found


@functools.cache
def _places(kind: TypeKind) -> Mapping[str, str]:
    places = dict(_BUILT_IN[kind])
    for entry in entry_points(group=f"mainstem.{kind}s"):
        places.setdefault(entry.name, entry.value)
    return places
