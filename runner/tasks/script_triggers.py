"""Start an execution when a script ends in a certain way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import Field, create_model

from runner.errors import TaskError
from runner.expressions import to_json
from runner.expressions.regex import compile_pattern
from runner.flows.models import Template
from runner.plugin import Context
from runner.tasks.script import Commands, ScriptTask
from runner.tasks.script_families import script_class
from runner.triggers.polling import Look, PollingTrigger

_END: Final = "Trigger"
_EXIT: Final = re.compile(r"exit\s+(\d{1,3})", re.IGNORECASE)


class ScriptTrigger(PollingTrigger):
    """Runs a script every `interval`, and starts an execution when it meets `exitCondition`.

    The condition is `exit N`, an exit code, or a pattern that is looked for in what the script printed as outputs. With
    `edge` (the default) only the change counts: a script that goes on meeting it starts nothing more. `trigger` has
    `timestamp`, `condition`, `exitCode` and `vars`.
    """

    task: ClassVar[type[ScriptTask]]

    exit_condition: str = "exit 0"
    edge: bool = True
    task_runner: dict[str, Any] | None = None
    container_image: Template | None = None
    before_commands: Any = None
    interpreter: Any = None
    fail_fast: Any = True
    env: Any = None
    input_files: Any = None
    namespace_files: Any = None
    commands: Any = None
    script: Any = None

    def look(self, ctx: Context, memory: Mapping[str, Any]) -> Look:
        """Run the script once."""
        outputs = self._outputs(ctx)
        meets = self._meets(outputs)
        is_new = meets and not (self.edge and memory.get("met"))
        remembered = {"met": meets}
        if not is_new:
            return Look(None, remembered)
        found = {
            "timestamp": ctx.execution.created_at.isoformat(),
            "condition": self.exit_condition,
            "exitCode": outputs.get("exitCode"),
            "vars": outputs.get("vars") or {},
        }
        return Look(found, remembered)

    def _outputs(self, ctx: Context) -> Mapping[str, Any]:
        known = self.task.model_fields
        given = {name: getattr(self, name) for name in self.model_fields_set if name in known}
        task = self.task.model_validate({**given, "id": self.id, "type": self.type})
        try:
            return task.run(ctx).outputs
        except TaskError as error:
            if "exitCode" not in error.outputs:
                raise
            return error.outputs

    def _meets(self, outputs: Mapping[str, Any]) -> bool:
        code = _EXIT.fullmatch(self.exit_condition.strip())
        if code is not None:
            return outputs.get("exitCode") == int(code[1])
        return bool(compile_pattern(self.exit_condition).search(to_json(outputs.get("vars") or {})))


class _CommandsTrigger(ScriptTrigger):
    commands: Any = Field()


class _ScriptTrigger(ScriptTrigger):
    script: Any = Field()


_made: Final[dict[str, type[ScriptTrigger]]] = {}


def __getattr__(name: str) -> Any:
    """Return the class of the trigger that runs a task: `RubyScriptTrigger` is that of `RubyScript`."""
    if not name.endswith(_END):
        raise AttributeError(name)
    return _made.get(name) or _made.setdefault(name, _make(name, script_class(name.removesuffix(_END))))


def _make(name: str, task: type[ScriptTask]) -> type[ScriptTrigger]:
    base: type[ScriptTrigger] = _CommandsTrigger if issubclass(task, Commands) else _ScriptTrigger
    known = {*ScriptTask.model_fields, "commands", "script"}
    own: dict[str, Any] = {name: (Any, field.default) for name, field in task.model_fields.items() if name not in known}
    own["task"] = (ClassVar[type[ScriptTask]], task)
    text = f"Start an execution when a script ends as `exitCondition` says. {task.__doc__}"
    return create_model(name, __base__=base, __module__=__name__, __doc__=text, **own)
