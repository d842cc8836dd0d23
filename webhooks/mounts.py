"""The applications that stand beside the API: hosted git at `/git`, the receivers of deliveries at `/hooks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.access import Permission
from sync.hosted import HostedRepository
from webhooks.assembly import utc_now
from webhooks.hosted_git import HostedGit
from webhooks.receivers import Receivers
from webhooks.routes import Mounted

if TYPE_CHECKING:
    from webhooks.assembly import Parts


def mounts(parts: Parts) -> tuple[Mounted, ...]:
    """Return what a server of this kind has beside the API."""
    hooks = receivers(parts, parts.look_at)
    return (hosted_git(parts), hooks) if parts.settings.is_embedded else (hooks,)


def hosted_git(parts: Parts) -> Mounted:
    """Return the hosted repository at `/git`."""
    hosted = HostedRepository(parts.sync)
    return Mounted("/git", HostedGit(hosted, parts.access), Permission.OWN_PROOF)


def receivers(parts: Parts, request: Callable[[str, str], None]) -> Mounted:
    """Return the receivers of webhook deliveries at `/hooks`.

    Args:
        parts: their store and the secrets of their repositories are used.
        request: asks for a look at a repository soon, with who caused it; it is called on the event loop.
    """
    app = Receivers(parts.store, parts.sync.credentials, request, clock=utc_now)
    return Mounted("/hooks", app, Permission.OWN_PROOF, deliveries=app.counts)
