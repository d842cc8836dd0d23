"""Tasks on triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.context import host_of, own_namespace, store_of
from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Template
from runner.plugin import Context, Outputs, Task
from runner.triggers.control import switched

if TYPE_CHECKING:
    from runner.store import Session


class Toggle(Task):
    """Switch a trigger on (`enabled: true`) or off. That is a state of the server and changes no file.

    The trigger is one of this flow, or of `flowId` in `namespace` (the flow's own, or one below it).
    """

    trigger: Template
    enabled: Any = False
    namespace: Any = None
    flow_id: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Switch the trigger; there are no outputs."""
        namespace = own_namespace(ctx, ctx.render(self.namespace))
        flow_id = ctx.render(self.flow_id) or ctx.flow.id
        trigger_id = ctx.render(self.trigger)
        disabled = not is_truthy(ctx.render(self.enabled))
        now = host_of(ctx).clock()

        def change(db: Session) -> bool:
            row = db.triggers.get(namespace, flow_id, trigger_id)
            if row is not None:
                db.triggers.put(switched(row, now, disabled=disabled))
            return row is not None

        if not store_of(ctx).write(change):
            raise TaskError("trigger.missing", f"no trigger {trigger_id!r} in the flow {namespace}.{flow_id}")
        return {}
