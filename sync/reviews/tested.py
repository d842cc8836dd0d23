"""What the tests of a change request say about its newest commit, in the colour of the commit's status. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from runner.reports.text import cut
from runner.store.records import ReviewCommand
from sync.forges.api import Check
from sync.reviews.commands import Verb, asked

FAILED: Final = "FAILED"
"""The state of a command whose tests ran and are not all good, or could not run."""

_RUNNING: Final = "RUNNING"
_MOST_SUMMARY: Final = 140
_NAME: Final = re.compile(r"^  - \*\*(.+?)\*\*", re.MULTILINE)
_ESCAPE: Final = re.compile(r"\\(.)")


def with_tests(check: Check, commands: Sequence[ReviewCommand], head: str, url: str | None) -> Check:
    """Return the status of a commit as its newest tests make it: red when they failed, undecided while they run.

    Args:
        check: what the plan alone says.
        commands: those on the change request, the oldest first.
        head: its newest commit.
        url: where the whole answer stands, for a status that leads nowhere yet.
    """
    told = [each for each in commands if _is_about(each, head)]
    if not told:
        return check
    newest = told[-1]
    if newest.state == _RUNNING:
        return replace(check, is_pending=check.is_good, summary=cut(f"tests run; {check.summary}", _MOST_SUMMARY))
    if newest.state != FAILED:
        return check
    answer = newest.answer or ""
    counts = answer.partition("\n")[0]
    names = [html.unescape(_ESCAPE.sub(r"\1", name)) for name in _NAME.findall(answer)]
    words = f"tests: {counts}: {names[0]}" if names else f"tests: {counts}"
    summary = words if check.is_good else f"{check.summary}; {words}"
    text = "\n".join([check.text, "### Tests", "", f"- {answer}"])
    return replace(check, is_good=False, summary=cut(summary, _MOST_SUMMARY), text=text, url=check.url or url)


def _is_about(command: ReviewCommand, head: str) -> bool:
    wanted = asked(command.line)
    if wanted is None or wanted.verb is not Verb.TEST:
        return False
    return command.state == _RUNNING or (command.commit == head and command.answer is not None)
