"""How a ref that servers write to begins anew: what it holds stays, and the history before it can be collected."""

from __future__ import annotations

import logging
from typing import Any

from sync.repository import GitRepository
from sync.sources import FetchError, Source

log = logging.getLogger(__name__)


def restarted(source: Source, ref: str, head: str, commit: str) -> str | None:
    """Move a ref from `head` to what `commit` holds without its history, and return what it names then.

    None where the server keeps histories, or somebody was faster.

    Raises:
        FetchError: the repository cannot be reached.
    """
    orphan = _without_parents(source.repository, commit)
    try:
        return orphan if source.push(ref, head, orphan) else None
    except FetchError as error:
        if error.code != "repository.push.refused":
            raise
        log.info("the history of the reports stays", extra={"ref": ref, "reason": str(error)})
        return None


def _without_parents(repository: GitRepository, commit: str) -> str:
    """Return a commit with the tree of `commit` and no history."""
    store: Any = repository.raw.object_store
    orphan = store[commit.encode()].copy()
    orphan.parents = []
    repository.add([orphan])
    return str(orphan.id.decode())
