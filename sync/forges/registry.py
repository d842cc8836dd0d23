"""Which forge a repository's kind means: ours, and those of installed packages."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from sync.forges.base import Forge
from sync.forges.bitbucket import Bitbucket
from sync.forges.generic import Generic
from sync.forges.gitea import Gitea
from sync.forges.github import GitHub
from sync.forges.gitlab import GitLab

log = logging.getLogger(__name__)

GROUP: Final = "mainstem.forges"
_OURS: Final[MappingProxyType[str, Callable[[], Forge]]] = MappingProxyType(
    {
        "bitbucket": Bitbucket,
        "forgejo": Gitea,
        "generic": Generic,
        "gitea": Gitea,
        "github": GitHub,
        "gitlab": GitLab,
    }
)


@functools.cache
def forge_of(kind: str) -> Forge | None:
    """Return the forge of a repository's kind; None when there is none, as for the hosted repository.

    A package may add kinds by the entry-point group `mainstem.forges`; it cannot replace ours.
    """
    if kind in _OURS:
        return _OURS[kind]()
    for entry in entry_points(group=GROUP, name=kind):
        try:
            made = entry.load()()
        except Exception:  # code of others must not end a request; without its forge nothing is accepted
            log.exception("a forge of another package cannot be loaded", extra={"entry_point": entry.value})
            continue
        if isinstance(made, Forge):
            return made
        log.error("an entry point is no forge", extra={"entry_point": entry.value})
    return None


def kinds() -> list[str]:
    """Return all kinds of repositories that can send webhooks here, sorted."""
    return sorted({*_OURS, *(entry.name for entry in entry_points(group=GROUP))})
