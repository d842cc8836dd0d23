"""The applications of an embedded server that stand beside the API: hosted git and, below `/hooks`, the receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.access import Permission
from sync.hosted import HostedRepository
from webhooks.hosted_git import HostedGit
from webhooks.routes import Mounted

if TYPE_CHECKING:
    from webhooks.assembly import Parts


def hosted_git(parts: Parts) -> Mounted:
    """Return the hosted repository at `/git`."""
    hosted = HostedRepository(parts.sync)
    return Mounted("/git", HostedGit(hosted, parts.access), Permission.OWN_PROOF)
