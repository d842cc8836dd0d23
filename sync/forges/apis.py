"""Which API a repository's kind has."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from runner.store.records import Repository

if TYPE_CHECKING:
    from sync.forges.api import ForgeApi
    from sync.remote import Tokens

_PLACES: Final = MappingProxyType(
    {
        "bitbucket": ("sync.forges.bitbucket_api", "BitbucketApi"),
        "forgejo": ("sync.forges.gitea_api", "GiteaApi"),
        "gitea": ("sync.forges.gitea_api", "GiteaApi"),
        "github": ("sync.forges.github_api", "GitHubApi"),
        "gitlab": ("sync.forges.gitlab_api", "GitLabApi"),
    }
)


def api_of(repository: Repository, tokens: Tokens | None = None) -> ForgeApi | None:
    """Return the API of a repository at its forge, to be closed by the caller; None for kinds that have none.

    None without a token too: nobody may write there unnamed. `tokens` gives them where they hold for a while only.
    """
    from importlib import import_module

    place = _PLACES.get(repository.kind)
    if place is None or not (tokens or repository.api_token or repository.password):
        return None
    made: ForgeApi = getattr(import_module(place[0]), place[1])(repository, tokens=tokens)
    return made
