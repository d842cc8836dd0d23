"""What a file of flow tests holds; the shape is Kestra's, with a few fixtures more."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from runner.flows.models import FLOW_ID, NAMESPACE, Model, Template

CASE_TYPE = "io.kestra.core.tests.flow.UnitTest"


class TaskFixture(Model):
    """A task that is not run: what it gives instead. `value` names the one loop value that this is for."""

    id: str
    value: Any = None
    description: str | None = None
    state: Literal["SUCCESS", "WARNING", "FAILED", "SKIPPED"] = "SUCCESS"
    outputs: dict[str, Any] = Field(default_factory=dict)


class TriggerFixture(Model):
    """What started the execution, and what its expressions see as `trigger`."""

    id: str
    type: str = ""
    variables: dict[str, Any] = Field(default_factory=dict)


class Fixtures(Model):
    """What a case begins with.

    `files` are texts by name: `files['name']` is the address of one, and the namespace has them all as files of its
    own. `kv` and `secrets` are keys of the flow's namespace; nothing else is known of either, but for secrets of the
    environment.
    """

    inputs: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    kv: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)
    tasks: tuple[TaskFixture, ...] = ()
    trigger: TriggerFixture | None = None


class Assertion(Model):
    """A value of the ended execution, and what must be true of it; several operators must all hold.

    Beside what expressions always see there are `state` (the execution's) and `logs` (one line `LEVEL task: message`
    each); with `taskId` they are those of this task.
    """

    value: Any = None
    task_id: str | None = None
    description: str | None = None
    error_message: Template | None = None
    equal_to: Any = Field(default=None, validation_alias=AliasChoices("equalTo", "equalsTo"))
    not_equal_to: Any = None
    contains: Any = None
    not_contains: Any = None
    starts_with: Any = None
    ends_with: Any = None
    matches: Any = None
    greater_than: Any = None
    greater_than_or_equal_to: Any = None
    less_than: Any = None
    less_than_or_equal_to: Any = None
    in_: Any = Field(default=None, alias="in")
    not_in: Any = None
    is_null: bool | None = None
    is_not_null: bool | None = None


class Case(Model):
    """One execution of the flow, and what must come of it.

    Without `expectedState` it must end well, as SUCCESS or WARNING.
    """

    id: str = Field(min_length=1)
    type: str = CASE_TYPE
    description: str | None = None
    disabled: bool = False
    fixtures: Fixtures = Fixtures()
    assertions: tuple[Assertion, ...] = ()
    expected_state: Literal["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "SKIPPED"] | None = None


class Suite(Model):
    """The tests of one flow."""

    id: str = Field(min_length=1)
    namespace: str = Field(pattern=NAMESPACE)
    flow_id: str = Field(pattern=FLOW_ID)
    description: str | None = None
    disabled: bool = False
    test_cases: tuple[Case, ...] = Field(min_length=1)
