"""What stands beside the API: hosted git at `/git`, receivers of deliveries at `/hooks`, jobs' files at `/staging`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.access import Permission
from runner.stage import PATH, Grants
from sync.hosted import HostedRepository
from webhooks.assembly import utc_now
from webhooks.hosted_git import HostedGit
from webhooks.receivers import Receivers
from webhooks.routes import Mounted
from webhooks.staging import Staging

if TYPE_CHECKING:
    from webhooks.assembly import Parts


def mounts(parts: Parts) -> tuple[Mounted, ...]:
    """Return what a server of this kind has beside the API."""
    hooks = receivers(parts, parts.look_at)
    beside = (hooks, *staging(parts))
    return (hosted_git(parts), *beside) if parts.settings.is_embedded else beside


def staging(parts: Parts) -> tuple[Mounted, ...]:
    """Return what gives and takes the files of jobs that run elsewhere, at `/staging`."""
    host = parts.host
    if host.encryption is None:
        return ()
    grants = Grants(host.encryption.derived("staging"))
    return (Mounted(PATH, Staging(grants, parts.store, host.storage, clock=utc_now), Permission.OWN_PROOF),)


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
