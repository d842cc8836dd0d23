"""Tasks to look at what expressions give."""

from __future__ import annotations

import time
from typing import Any

from runner.plugin import Context, InstantTask, Outputs


class Return(InstantTask):
    """Render `format` and return it as the output `value` (a text). Metrics: `length`, `duration`."""

    format: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return `value`, null without a format."""
        started = time.perf_counter()
        value = None if self.format is None else ctx.render(self.format)
        ctx.metric("counter", "length", len(value or ""))
        ctx.metric("timer", "duration", time.perf_counter() - started)
        return {"value": value}


class Echo(InstantTask):
    """Write `format` to the log (deprecated: use `log.Log`)."""

    format: Any = None
    level: str = "INFO"

    def run(self, ctx: Context) -> Outputs:
        """Write the line; there are no outputs."""
        ctx.log(ctx.render(self.level), ctx.render(self.format))
        return {}
