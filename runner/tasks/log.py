"""Tasks that write to the log."""

from __future__ import annotations

from typing import Any

from runner.errors import TaskError
from runner.plugin import Context, InstantTask, Outputs


class Log(InstantTask):
    """Write one log line for each message.

    `message` is a text or a list of texts; `level` is TRACE, DEBUG, INFO (the default), WARN or ERROR.
    """

    message: Any
    level: str = "INFO"

    def run(self, ctx: Context) -> Outputs:
        """Write the lines; there are no outputs."""
        level = ctx.render(self.level)
        for message in self._messages():
            ctx.log(level, ctx.render(message))
        return {}

    def _messages(self) -> list[str]:
        if isinstance(self.message, str):
            return [self.message]
        if isinstance(self.message, list | tuple):
            return list(self.message)
        raise TaskError("task.message.invalid", f"Invalid message type '{type(self.message).__name__}'")
