"""What the store is told of a flow that becomes active: little enough to hold for thousands of flows at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.flows.models import Flow, Trigger


@dataclass(frozen=True, slots=True)
class FlowHead:
    """The name of a flow, whether it may start, its labels and its triggers; without tasks."""

    namespace: str
    id: str
    disabled: bool
    draft: bool
    labels: Mapping[str, str]
    triggers: tuple[Trigger, ...]

    @classmethod
    def of(cls, flow: Flow) -> FlowHead:
        """Return the head of a flow."""
        return cls(flow.namespace, flow.id, flow.disabled, flow.draft, flow.labels, flow.triggers)
