"""Which API a repository's kind has."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runner.store.records import Repository

if TYPE_CHECKING:
    from sync.forges.api import ForgeApi

_PLACES: Final = MappingProxyType(
    {
        "bitbucket": ("sync.forges.bitbucket_api", "BitbucketApi"),
        "forgejo": ("sync.forges.gitea_api", "GiteaApi"),
        "gitea": ("sync.forges.gitea_api", "GiteaApi"),
        "github": ("sync.forges.github_api", "GitHubApi"),
        "gitlab": ("sync.forges.gitlab_api", "GitLabApi"),
    }
)


def api_of(repository: Repository) -> ForgeApi | None:
    """Return the API of a repository at its forge, to be closed by the caller; None for kinds that have none.

    None without a token too: nobody may write there unnamed.
    """
    from importlib import import_module

    place = _PLACES.get(repository.kind)
    if place is None or not (repository.api_token or repository.password):
        return None
    made: ForgeApi = getattr(import_module(place[0]), place[1])(repository)
    return made
