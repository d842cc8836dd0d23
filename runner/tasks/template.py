"""The task that runs the tasks of a template; how those come into a flow is in `runner.flows.task_templates`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runner.tasks.flow import Block


class Template(Block):
    """Run the tasks of a template, a list of tasks that flows share as a file in a folder `_templates`.

    They belong to the flow: `tasks`, `errors` and `finally` are those of the file, filled in when the flow is read.
    They see what is handed to them as `parent.outputs.args`, and the flow's inputs, variables and outputs besides.
    Outputs: `args`.
    """

    namespace: str
    template_id: str
    args: dict[str, Any] = Field(default_factory=dict)
