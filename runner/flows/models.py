"""The model of a flow: what every task, trigger and input has in common, and the flow itself.

The models hold templates as they were written; nothing is rendered here. All of them are frozen and refuse unknown
properties, so that a colleague's typing error is a finding with a line and not a silent default. Names in Python are
snake_case; the YAML names are camelCase and come from the alias generator.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny
from pydantic.alias_generators import to_camel

from runner.durations import Duration

TASK_ID = r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$"
FLOW_ID = r"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"
NAMESPACE = r"^[a-z0-9][a-z0-9._-]*$"

Template = str
"""A string that is rendered when it is used."""


class Model(BaseModel):
    """Base of everything that is read from YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel, arbitrary_types_allowed=True
    )


class TaskKind(enum.Enum):
    """Who carries a task out."""

    FLOWABLE = "flowable"  # decided inside `step`, holds other tasks
    INSTANT = "instant"  # runs inside `advance`, bounded, without I/O of its own
    RUNNABLE = "runnable"  # goes to a worker
    SUBFLOW = "subflow"  # creates executions and waits for them


class Retry(Model):
    """When a failed task is tried again (language: `retry`)."""

    type: Literal["constant", "exponential", "random"]
    interval: Duration | None = None
    max_interval: Duration | None = None
    min_interval: Duration | None = None
    delay_factor: float = 2.0
    max_attempts: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("maxAttempts", "maxAttempt", "max_attempts")
    )
    max_duration: Duration | None = None
    warning_on_retry: bool = False
    behavior: Literal["RETRY_FAILED_TASK", "CREATE_NEW_EXECUTION"] = "RETRY_FAILED_TASK"


class TaskCache(Model):
    """Whether the outputs of a successful run are taken again, and how long they are good for."""

    enabled: bool
    ttl: Duration | None = None


class Task(Model):
    """What all tasks have. A task type is a subclass; its YAML name is registered in `runner.flows.registry`."""

    kind: ClassVar[TaskKind] = TaskKind.RUNNABLE

    id: str = Field(pattern=TASK_ID, max_length=256)
    type: str
    description: str | None = None
    retry: Retry | None = None
    timeout: Duration | Template | None = None
    disabled: bool = False
    run_if: Template = Field(default="true", validation_alias=AliasChoices("runIf", "when", "run_if"))
    allow_failure: bool = False
    allow_warning: bool = False
    log_level: str | None = None
    log_to_file: bool = False
    worker_group: dict[str, Any] | None = None
    worker_selector: dict[str, Any] | None = None
    on_worker_loss: Literal["RESTART", "REATTACH", "FAIL"] | None = None
    task_cache: TaskCache | None = None
    version: str | None = None
    assets: Any = None

    def branches(self) -> Iterator[tuple[str, tuple[Task, ...]]]:
        """Yield the lists of tasks inside this one, by branch name; nothing for a leaf."""
        yield from ()

    def engine_branches(self) -> Iterator[tuple[str, tuple[Task, ...]]]:
        """Yield the lists of tasks that the engine runs inside this one; others than those written if it says so."""
        yield from self.branches()


Tasks = tuple[SerializeAsAny[Task], ...]


class Condition(Model):
    """A test of a trigger; pure, see `runner.triggers.conditions`."""

    type: str


class Trigger(Model):
    """What all triggers have."""

    id: str = Field(pattern=TASK_ID, max_length=256)
    type: str
    description: str | None = None
    conditions: tuple[SerializeAsAny[Condition], ...] = ()
    when: Template | None = None
    disabled: bool = False
    labels: Any = None
    inputs: dict[str, Any] | None = None
    stop_after: tuple[str, ...] = ()
    log_level: str | None = Field(default=None, validation_alias=AliasChoices("logLevel", "minLogLevel", "log_level"))
    log_to_file: bool = False
    worker_group: dict[str, Any] | None = None
    worker_selector: dict[str, Any] | None = None
    fail_on_trigger_error: bool = False
    allow_concurrent: bool = False


class DependsOn(Model):
    """The inputs, and the condition on them, under which an input counts."""

    inputs: tuple[str, ...] = ()
    condition: Template | None = None


class Input(Model):
    """A declared input; its type-specific properties are checked in `runner.flows.inputs`."""

    id: str = Field(pattern=r"^[a-zA-Z0-9][.a-zA-Z0-9_-]*$", validation_alias=AliasChoices("id", "name"))
    type: str
    required: bool = True
    defaults: Any = None
    prefill: Any = None
    description: str | None = None
    display_name: str | None = None
    depends_on: DependsOn | None = None
    validator: str | None = None
    min: Any = None
    max: Any = None
    after: str | None = None
    before: str | None = None
    values: tuple[Any, ...] | None = None
    options: tuple[Any, ...] | None = None
    expression: Template | None = None
    allow_custom_value: bool = False
    auto_select_first: bool = False
    is_radio: bool = False
    item_type: str | None = None
    extension: str | None = None
    allowed_file_extensions: tuple[str, ...] | None = None
    inputs: tuple[dict[str, Any], ...] | None = None


class Output(Model):
    """A declared output of a flow, rendered when the execution ends."""

    id: str = Field(pattern=r"^[a-zA-Z0-9][.a-zA-Z0-9_-]*$")
    type: str
    value: Any = None
    description: str | None = None
    display_name: str | None = None
    required: bool = True


class Concurrency(Model):
    """How many executions of a flow may run at once, and what happens to one more."""

    limit: int = Field(gt=0)
    behavior: Literal["QUEUE", "CANCEL", "FAIL"] = "QUEUE"


class PluginDefault(Model):
    """Values for every map whose `type` starts with this one."""

    type: str
    values: dict[str, Any] = Field(default_factory=dict)
    forced: bool = False


class Sla(Model):
    """A promise about an execution, and what happens when it is broken."""

    id: str
    type: Literal["MAX_DURATION", "EXECUTION_ASSERTION"]
    behavior: Literal["FAIL", "CANCEL", "NONE"]
    duration: timedelta | str | None = None
    assertion: Template | None = Field(default=None, alias="assert")
    labels: Any = None


class Check(Model):
    """A test before an execution is created."""

    when: Template = Field(validation_alias=AliasChoices("when", "condition"))
    message: str
    style: str = "INFO"
    behavior: Literal["BLOCK_EXECUTION", "FAIL_EXECUTION", "CREATE_EXECUTION"] = "BLOCK_EXECUTION"


class Listener(Model):
    """Tasks that run after the end of an execution when all conditions hold (deprecated in Kestra)."""

    tasks: Tasks
    conditions: tuple[SerializeAsAny[Condition], ...] = ()
    description: str | None = None


class Flow(Model):
    """A flow at one revision."""

    id: str = Field(pattern=FLOW_ID, min_length=1, max_length=100)
    namespace: str = Field(pattern=NAMESPACE, min_length=1, max_length=150)
    tasks: Tasks = Field(min_length=1)
    revision: int = 0
    description: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    variables: dict[str, Any] = Field(default_factory=dict)
    errors: Tasks = ()
    finally_: Tasks = Field(default=(), alias="finally")
    after_execution: Tasks = ()
    listeners: tuple[Listener, ...] = ()
    triggers: tuple[SerializeAsAny[Trigger], ...] = ()
    outputs: tuple[Output, ...] = ()
    plugin_defaults: tuple[PluginDefault, ...] = Field(
        default=(), validation_alias=AliasChoices("pluginDefaults", "taskDefaults", "plugin_defaults")
    )
    concurrency: Concurrency | None = None
    retry: Retry | None = None
    sla: tuple[Sla, ...] = ()
    checks: tuple[Check, ...] = ()
    disabled: bool = False
    draft: bool = False
    worker_group: dict[str, Any] | None = None
    worker_selector: dict[str, Any] | None = None
    quotas: Any = None
    policy_refs: Any = None
    extend: Any = None
    _surroundings: dict[str, Any] = PrivateAttr(default_factory=dict)
    _outer_defaults: tuple[PluginDefault, ...] = PrivateAttr(default=())

    @property
    def namespace_variables(self) -> Mapping[str, Any]:
        """Return the variables of its namespaces, which are no part of its own text."""
        return self._surroundings

    @property
    def all_defaults(self) -> tuple[PluginDefault, ...]:
        """Return its own plugin defaults, then those of its namespaces, the nearest first.

        All are filled in already, but for what is known only when the flow runs: the type of a task runner.
        """
        return (*self.plugin_defaults, *self._outer_defaults)

    def inside(self, variables: Mapping[str, Any], defaults: Iterable[PluginDefault] = ()) -> Flow:
        """Return the flow with the variables and the plugin defaults of its namespaces."""
        found = self.model_copy()
        found._surroundings = dict(variables)  # noqa: SLF001 - of its own kind
        found._outer_defaults = tuple(defaults)  # noqa: SLF001 - the same
        return found

    def all_tasks(self) -> Iterator[Task]:
        """Yield every task of the flow, containers before what they hold."""
        top = [*self.tasks, *self.errors, *self.finally_, *self.after_execution]
        for listener in self.listeners:
            top.extend(listener.tasks)
        for task in top:
            yield from walk(task)


def walk(task: Task) -> Iterator[Task]:
    """Yield `task` and everything inside it, containers first."""
    yield task
    for _, tasks in task.branches():
        for child in tasks:
            yield from walk(child)
