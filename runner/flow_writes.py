"""Writes of flows by tasks: all flows come from git, so each is a commit to the environment that owns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from runner.errors import AccessError

if TYPE_CHECKING:
    from runner.flows.inherited import Inherited
    from runner.store.records import FlowVersion


class FlowWriter(Protocol):
    """Commits flows, valid and active before it returns."""

    def inherited(self, namespace: str, source: str) -> Inherited:
        """Return what a flow of a namespace gets from the files around it."""

    def write(
        self, sources: Sequence[str], *, actor: str, removing: Sequence[tuple[str, str]] = ()
    ) -> list[FlowVersion]:
        """Write flows, and remove others by namespace and id, all in one commit; return the active versions written.

        Raises:
            MainstemError: the flows are not valid, nobody owns them, or the repository refuses; nothing is committed.
        """


class NoFlowWriter:
    """No flow can be written: what runs has no server behind it."""

    def inherited(self, namespace: str, source: str) -> Inherited:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        from runner.flows.inherited import Inherited

        return Inherited()

    def write(
        self,
        sources: Sequence[str],  # noqa: ARG002 - the protocol's
        *,
        actor: str,  # noqa: ARG002 - named as the port names it
        removing: Sequence[tuple[str, str]] = (),  # noqa: ARG002 - named as the port names it
    ) -> list[FlowVersion]:
        """Raise `AccessError` `flow.writes.absent`."""
        raise AccessError(
            "flow.writes.absent",
            "flows cannot be written: nothing here has a repository of flows",
            hint="push this flow to a server, which commits what its tasks write",
        )
