"""What an environment is to be at: the commit of its ref, of a pattern that of the newest one, or why it stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runner.store.records import Environment
from sync.plan_text import branch, short
from sync.refs import fits, is_older, is_pattern, newest

_TAGS: Final = "refs/tags/"
MISSING: Final = "repository.ref.missing"
MOVED: Final = "environment.tag.moved"


@dataclass(frozen=True, slots=True)
class Following:
    """The ref that an environment follows now with the commit that it names, or what keeps it from following.

    `ref` is None where the environment follows a ref by its name. `code` and `reason` say why it stays where it is.
    """

    commit: str | None
    ref: str | None = None
    code: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, environment: Environment, heads: Mapping[str, str], *, follows_moved_tags: bool = False) -> Following:
        """Return what an environment follows among the `heads` of its repository.

        What was followed once is neither left for something older nor, if it is a tag, followed to another commit:
        somebody has taken it back or put something else in its place, and that is no release.
        """
        if not is_pattern(environment.ref):
            commit = heads.get(environment.ref)
            return cls(commit) if commit else cls(None, code=MISSING, reason=_nothing(environment, environment.ref))
        found, before = newest(environment.ref, heads), environment.followed
        if before is not None and not fits(environment.ref, before):
            before = None  # the settings name another pattern by now
        if before is not None and (found is None or is_older(environment.ref, found, before)):
            return cls(None, code=MISSING, reason=_nothing(environment, before))
        if found is None:
            return cls(None, code=MISSING, reason=_nothing(environment, environment.ref))
        commit = heads[found]
        is_moved = found == before and commit != environment.followed_commit and found.startswith(_TAGS)
        if is_moved and not follows_moved_tags:
            return cls(None, found, MOVED, _moved(environment, found, commit))
        return cls(commit, found)


def _nothing(environment: Environment, ref: str) -> str:
    if environment.active is None:
        return f"nothing fits {ref} yet" if is_pattern(ref) else f"{ref} has no commit yet"
    return f"{ref} is gone; {short(environment.active)} stays active"


def _moved(environment: Environment, ref: str, commit: str) -> str:
    before, stays = short(environment.followed_commit), short(environment.active)
    return f"the tag {branch(ref)} was moved from {before} to {short(commit)}; {stays} stays active"
