"""Tasks that hand values on."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from runner.plugin import Context, InstantTask, Outputs


class OutputValues(InstantTask):
    """Render `values` (texts inside maps and lists too) and return them as the output `values`."""

    values: dict[str, Any] = Field(default_factory=dict)

    def run(self, ctx: Context) -> Outputs:
        """Return `values`."""
        return {"values": ctx.render_deep(self.values)}
