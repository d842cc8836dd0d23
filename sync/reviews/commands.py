"""Commands in comments on change requests: what they ask for, and which commit they can have meant. Pure.

A forge does not say which commit somebody saw who wrote "approve". So a command counts for the commit that our own
comment was about when it was written; what was pushed after that is nobody's approval.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.reports.text import code
from runner.store.records import Review, ReviewCommand

if TYPE_CHECKING:
    from sync.forges.api import Remark

_WHOLE: Final = frozenset({40, 64})
_SHA: Final = re.compile(r"[0-9a-f]{12,64}")
_SHOWN: Final = 5
_SHORT: Final = 12
AUTOMATIC: Final = "auto:"
"""Begins the `comment` of a command that nobody wrote: tests of a commit whose author may push anyway."""


class Verb(enum.StrEnum):
    """What a command asks for."""

    PLAN = "plan"
    TEST = "test"
    PREVIEW = "preview"
    APPROVE = "approve"


RUNS: Final = frozenset({Verb.TEST, Verb.PREVIEW})
"""Commands that run code of the change request, or let others run it."""
HELP: Final = (
    f"Commands: {', '.join(code(f'/mainstem {verb}') for verb in Verb)}, as the first line of a new comment;"
    " a commit may follow."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command; `sha` is the commit that it names, None for the one that our comment is about."""

    verb: Verb
    sha: str | None = None


def asked(line: str) -> Asked | None:
    """Return what the first line of a comment asks for, None when there is no such command."""
    _, *words = line.lower().split()
    if not 1 <= len(words) <= 2 or words[0] not in set(Verb):
        return None
    if len(words) == 1:
        return Asked(Verb(words[0]))
    return Asked(Verb(words[0]), words[1]) if _SHA.fullmatch(words[1]) else None


def unbound(asked: Asked, command: ReviewCommand, remark: Remark, review: Review, head: str) -> str | None:
    """Return why a command cannot have meant `head`, the newest commit; None when it did.

    Args:
        asked: the command itself.
        command: as it was received.
        remark: the comment as the forge has it; its time is the forge's.
        review: what our own comment was about before this look.
        head: the newest commit, by its full id.
    """
    if asked.verb is Verb.PLAN:
        return None
    if asked.sha is not None and not head.startswith(asked.sha):
        return f"it names another commit than {code(head[:_SHORT])}, the newest"
    if asked.sha is not None and len(asked.sha) in _WHOLE:
        return None
    if review.head != head or command.told != head:
        return f"{code(head[:_SHORT])} was pushed since: look at it, then comment again"
    if review.head_at is None or remark.created_at <= review.head_at:
        return f"it was written before this comment was about {code(head[:_SHORT])}: comment again"
    return None


def is_approved(commands: Iterable[ReviewCommand], head: str) -> bool:
    """Return whether one of the commands on a change request approved this very commit."""
    return any(
        each.commit == head and (found := asked(each.line)) is not None and found.verb is Verb.APPROVE
        for each in commands
    )


def answers(commands: Sequence[ReviewCommand], head: str) -> Iterator[str]:
    """Yield the lines of our comment about the newest commands, the oldest first, and the help where it is wanted."""
    told = [each for each in commands if each.answer is not None or each.state == "RUNNING"]
    for each in told[-_SHOWN:]:
        who = "" if each.comment.startswith(AUTOMATIC) else f" by {code(each.name, 60)}"
        yield f"- {code(each.line, 80)}{who}: {each.answer or 'running'}{_age(each, head)}"
    if any(asked(each.line) is None for each in told):
        yield f"\n{HELP}"


def _age(command: ReviewCommand, head: str) -> str:
    is_old = command.commit is not None and command.commit != head
    return f" (of {code((command.commit or '')[:_SHORT])}, newer commits came since)" if is_old else ""
