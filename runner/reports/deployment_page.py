"""The page of one deployment, and the list of the last ones: what became of a commit in an environment, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from runner.reports.details import CommitNote
from runner.reports.run_page import fitting, table
from runner.reports.text import code, cut, fenced, inline, moment, seconds, unbroken
from runner.reports.values import Mask, clean
from runner.store.records import Revision

_MOST_CHANGES: Final = 200
_MOST_PROBLEMS: Final = 50
_LONGEST_LINE: Final = 300
_LONGEST_NAME: Final = 1_000
_SIGNS: Final = {"added": "+", "removed": "-", "quarantined": "!"}
_MARKS: Final = {
    "ACTIVE": "✓",
    "UNCHANGED": "✓",
    "QUARANTINED": "!",
    "INVALID": "✗",
    "HELD": "!",
    "PINNED": "!",
    "WAITING": "!",
    "UNCHECKED": "✗",
}
_STANDS: Final = {
    "ACTIVE": "is active",
    "UNCHANGED": "is active, and changed no flow",
    "QUARANTINED": "is active but for the files in quarantine",
    "INVALID": "is not active: its files have errors",
    "HELD": "is not active: it waits for consent to what it deletes",
    "PINNED": "is not active: the environment is pinned",
    "WAITING": "is not active yet: its checks are not green",
    "UNCHECKED": "is not active: its checks are not green",
}
_SWITCHED: Final = frozenset({"ACTIVE", "UNCHANGED", "QUARANTINED"})

LineUrl = Callable[[str, int], str | None]
"""A file and a line -> where the forge shows it."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A row of the ledger with what its page links to."""

    row: Revision
    commit: CommitNote
    compare_url: str | None = None
    line_url: LineUrl = lambda _file, _line: None

    @property
    def name(self) -> str:
        """Return the name of the page's file, without its ending."""
        return deployment_name(self.row)


def deployment_name(row: Revision) -> str:
    """Return the name of a deployment's page, without its ending; by name they stand in order of time."""
    return f"{row.at.astimezone(UTC):%Y%m%d-%H%M%S}-{row.id:06}-{row.commit[:7]}"


def deployment_page(deployment: Deployment, mask: Mask) -> str:
    """Return the Markdown of a deployment; text of others is masked and only text. Less than half a megabyte."""
    row = deployment.row
    blocks = [
        f"# {code(row.environment)} at {code(row.commit[:7])}",
        _headline(deployment, mask),
        f"Reason: {inline(clean(row.reason, mask))}" if row.reason else "",
        _links(deployment),
        *_problems(deployment, mask),
        *_changes(row.changes, mask),
        f"Row {row.id} of the ledger, SHA-256 {code(row.digest or 'none')}",
    ]
    return "\n\n".join(fitting(block for block in blocks if block)) + "\n"


def deployments_page(environment: str, rows: Sequence[Revision], pages: Collection[str], mask: Mask) -> str:
    """Return the list of an environment's last deployments, the newest first; `pages` are the names of those kept."""
    cells = [
        (
            _linked(row, pages),
            unbroken(f"{_MARKS.get(row.result, '·')} {row.result}"),
            inline(row.action),
            code(row.commit[:7]),
            str(row.flows_changed),
            inline(clean(row.actor or "", mask), 60),
            inline(clean(row.reason or row.message or "", mask), 100),
        )
        for row in rows
    ]
    head = ("when", "result", "action", "commit", "flows changed", "by", "reason")
    return f"# Deployments of {inline(environment)}\n\n{table(head, cells)}\n\n[The environment](../README.md)\n"


def _linked(row: Revision, pages: Collection[str]) -> str:
    name = deployment_name(row)
    return f"[{moment(row.at)}]({name}.md)" if name in pages else moment(row.at)


def _headline(deployment: Deployment, mask: Mask) -> str:
    row = deployment.row
    name = f"{row.commit[:7]} {_STANDS.get(row.result, row.result.lower())}"
    facts = [
        f"**{_MARKS.get(row.result, '·')} {inline(name)}**",
        _commit(deployment.commit, mask),
        f"{_counted(row)} in {seconds(row.seconds)}",
        f"{inline(row.action)} by {inline(clean(row.actor or 'nobody', mask), 60)}",
        _delivery(row, mask),
        moment(row.at),
    ]
    return "> " + " · ".join(fact for fact in facts if fact)


def _commit(note: CommitNote, mask: Mask) -> str:
    subject = f"“{inline(clean(note.subject, mask), 100)}”" if note.subject else ""
    return subject + (f" by {inline(clean(note.author, mask), 60)}" if note.author else "")


def _delivery(row: Revision, mask: Mask) -> str:
    """Return which webhook delivery told of the commit, and who caused it at the forge."""
    if row.delivery is None:
        return ""
    sender = f" of {inline(clean(row.sender, mask), 60)}" if row.sender else ""
    return f"delivery {code(cut(clean(row.delivery, mask), 80))}{sender}"


def _counted(row: Revision) -> str:
    errors = sum(each.get("severity") == "error" for each in row.problems)
    problems = f"{errors} problem{'s' if errors != 1 else ''}, " if errors else ""
    return f"{problems}{row.flows_changed} flow{'s' if row.flows_changed != 1 else ''} changed"


def _links(deployment: Deployment) -> str:
    row = deployment.row
    sha = code(row.commit[:7])
    parts = [f"commit [{sha}]({deployment.commit.url})" if deployment.commit.url else f"commit {sha}"]
    if row.previous and row.previous != row.commit:
        before = code(row.previous[:7])
        word = "in place of" if row.result in _SWITCHED else "active stays"
        parts.append(f"{word} {before}")
        if deployment.compare_url:
            parts.append(f"[what lies between]({deployment.compare_url})")
    return " · ".join([*parts, "[all deployments](README.md)"])


def _problems(deployment: Deployment, mask: Mask) -> Iterator[str]:
    problems = deployment.row.problems
    if problems:
        yield "## Problems"
        yield "\n".join(f"- {_problem(each, deployment.line_url, mask)}" for each in problems[:_MOST_PROBLEMS])
    if len(problems) > _MOST_PROBLEMS:
        yield f"{len(problems) - _MOST_PROBLEMS} more."


def _problem(problem: Mapping[str, Any], line_url: LineUrl, mask: Mask) -> str:
    file, line = problem.get("file"), problem.get("line")
    place = clean(":".join(str(part) for part in (file, line, problem.get("column")) if part), mask)
    # A masked name in a link would be there in clear.
    url = line_url(file, line or 1) if file and len(file) <= _LONGEST_NAME and mask(file) == file else None
    shown = f"[{code(place)}]({url})" if url else code(place)
    hint = inline(clean(problem.get("hint") or "", mask))
    text = f"{inline(clean(problem['message'], mask))} ({code(problem['code'])})"
    return f"{shown} {text}{f'; {hint}' if hint else ''}".strip()


def _changes(changes: Sequence[Mapping[str, Any]], mask: Mask) -> Iterator[str]:
    if not changes:
        return
    yield "## Flows"
    rows = [
        (
            unbroken(f"{_SIGNS.get(each['kind'], '~')} {each['kind']}"),
            code(clean(f"{each['namespace']}.{each['flowId']}", mask)),
            code(clean(each.get("path") or "", mask)),
            inline(clean(each.get("note") or "", mask)),
        )
        for each in changes[:_MOST_CHANGES]
    ]
    yield table(("change", "flow", "file", "note"), rows)
    if len(changes) > _MOST_CHANGES:
        yield f"{len(changes) - _MOST_CHANGES} more."
    lines = [
        cut(clean(f"{each['namespace']}.{each['flowId']}: {line}", mask), _LONGEST_LINE)
        for each in changes[:_MOST_CHANGES]
        for line in each.get("diff") or ()
    ]
    if lines:
        yield "## What changed in them"
        more = [f"and {len(lines) - _MOST_CHANGES} more"] if len(lines) > _MOST_CHANGES else []
        yield fenced("\n".join([*lines[:_MOST_CHANGES], *more]))
