"""A plan as lines of text, for the answer of a push, the command line and logs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from runner.errors import Problem
from runner.rules import SETTINGS_FILE
from runner.store.records import Pin
from sync.dashboards import DashboardChange, DashboardChangeKind
from sync.plan import Change, ChangeKind, Plan, change_of
from sync.seeds import Seeding, SeedingKind

MAX_CHANGES: Final = 50
MAX_PROBLEMS: Final = 20
_MAX_DIFF: Final = 3
_MOST_NAMED: Final = 10
_SIGNS: Final = {
    ChangeKind.ADDED: ("+", "new"),
    ChangeKind.CHANGED: ("~", "changed"),
    ChangeKind.MOVED: ("~", "moved"),
    ChangeKind.RENAMED: ("~", "renamed"),
    ChangeKind.REMOVED: ("-", "removed"),
    ChangeKind.QUARANTINED: ("!", "quarantined"),
}
_WORD_WIDTH: Final = 7
_MOST_WIDTH: Final = 48
_SEED_SIGNS: Final = {
    SeedingKind.ADDED: ("+", "new"),
    SeedingKind.CHANGED: ("~", "changed"),
    SeedingKind.REMOVED: ("-", "removed"),
    SeedingKind.KEPT: (".", "kept"),
}

_DASHBOARD_SIGNS: Final = {
    DashboardChangeKind.ADDED: ("+", "new"),
    DashboardChangeKind.CHANGED: ("~", "changed"),
    DashboardChangeKind.REMOVED: ("-", "removed"),
}


def short(commit: str | None) -> str:
    """Return the first seven digits of a commit id."""
    return (commit or "nothing")[:7]


def branch(ref: str) -> str:
    """Return the name that people use for a ref."""
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan as `+ ~ - =` lines under a heading."""
    where = f"{branch(plan.followed or plan.ref)}, {plan.path.strip('/') or '.'}/"
    return [f"Mainstem plan for environment {plan.environment} ({where})", *body_lines(plan)]


def body_lines(plan: Plan) -> list[str]:
    """Return the plan as `+ ~ - =` lines, with who signed it after a `*`."""
    lines = change_lines(plan.changes)
    if plan.unchanged or not plan.changes:
        lines.append(f"  = {plan.unchanged} unchanged")
    lines += seeding_lines(plan.seedings)
    lines += dashboard_lines(plan.dashboard_changes)
    if plan.files_changed:
        lines.append(f"  ~ {plan.files_changed} namespace file{'s' if plan.files_changed > 1 else ''} changed")
    lines += [f"  ! {SETTINGS_FILE}  {line}" for line in plan.rules_changed]
    if plan.signature is not None and plan.signature.is_good:
        lines.append(f"  * {plan.signature.line}")
    if plan.required:
        lines.append(f"  ? must be green first: {', '.join(plan.required)}")
    if plan.tests:
        lines.append("  ? must pass first: the tests of its flows")
    if plan.unchecked:
        lines.append(f"  ? not looked up: {', '.join(plan.unchecked)}")
    if plan.rewritten:
        lines.append(f"  ! history was rewritten: {short(plan.base)} is no ancestor of {short(plan.commit)}")
    return lines


def change_lines(changes: Sequence[Change]) -> list[str]:
    """Return one line per change, in columns; what exceeds the limit is counted."""
    shown = changes[:MAX_CHANGES]
    width = _width(f"{change.namespace}.{change.flow_id}" for change in shown)
    lines = []
    for change in shown:
        sign, word = _SIGNS[change.kind]
        name = f"{change.namespace}.{change.flow_id}"
        lines.append(f"  {sign} {name:<{width}}  {word:<{_WORD_WIDTH}}  {_remark(change)}".rstrip())
    if len(changes) > len(shown):
        lines.append(f"    and {len(changes) - len(shown)} more")
    return lines


def seeding_lines(seedings: Sequence[Seeding]) -> list[str]:
    """Return one line per key, in columns; what exceeds the limit is counted."""
    return _columns([(*_SEED_SIGNS[each.kind], each.name, each.note or "") for each in seedings], "keys")


def dashboard_lines(changes: Sequence[DashboardChange]) -> list[str]:
    """Return one line per dashboard, in columns; what exceeds the limit is counted."""
    rows = [(*_DASHBOARD_SIGNS[change.kind], change.name, change.note or "") for change in changes]
    return _columns(rows, "dashboards")


def _columns(rows: Sequence[tuple[str, str, str, str]], what: str) -> list[str]:
    """Return rows of sign, word, name and note as lines; what exceeds the limit is counted."""
    shown = rows[:MAX_CHANGES]
    width = _width(name for _, _, name, _ in shown)
    lines = [f"  {sign} {name:<{width}}  {word:<{_WORD_WIDTH}}  {note}".rstrip() for sign, word, name, note in shown]
    if len(rows) > len(shown):
        lines.append(f"    and {len(rows) - len(shown)} more {what}")
    return lines


def _width(names: Iterable[str]) -> int:
    """Return how wide a column of names is; one that is longer than the widest column stands out alone."""
    return max((len(name) for name in names if len(name) <= _MOST_WIDTH), default=0)


def _remark(change: Change) -> str:
    parts = list(change.diff[:_MAX_DIFF])
    if len(change.diff) > _MAX_DIFF:
        parts.append(f"and {len(change.diff) - _MAX_DIFF} more")
    return "; ".join([*parts, *([change.note] if change.note else [])])


def problem_lines(problems: Sequence[Problem], frame: Callable[[Problem], Iterable[str]]) -> list[str]:
    """Return the problems, each as the lines that `frame` makes of it; what exceeds the limit is counted."""
    lines = [line for problem in problems[:MAX_PROBLEMS] for line in frame(problem)]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"and {len(problems) - MAX_PROBLEMS} more problems")
    return lines


def invalid_line(plan: Plan) -> str:
    """Return the sentence for a revision that is not activated."""
    count = len(plan.errors)
    stays = f" {short(plan.base)} stays active." if plan.base else " Nothing is active yet."
    return f"revision {short(plan.commit)} not activated: {count} problem{'s' if count != 1 else ''}.{stays}"


def quarantine_line(names: Sequence[str]) -> str:
    """Return which files are left out, by the titles of their changes, for a state or an answer."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"in quarantine, as the file has errors: {shown}{more}"


def quarantined_in(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the titles of what is in quarantine among changes as the ledger has them."""
    return [change_of(row).title for row in rows if row["kind"] == ChangeKind.QUARANTINED]


def held_lines(plan: Plan) -> list[str]:
    """Return why the deletion guard holds a revision, and the command that lets it pass."""
    return [
        f"revision {short(plan.commit)} is held: {plan.held}. {short(plan.base)} stays active.",
        f"allow it with: mainstem sync run --allow-deletes {plan.commit[:12]}",
    ]


def pinned_line(pin: Pin) -> str:
    """Return where an environment was put, by whom, why, and until when."""
    until = f" until {pin.until:%Y-%m-%d %H:%M} UTC" if pin.until else ""
    return f"pinned to {short(pin.commit)}{until} by {pin.actor}: {pin.reason}"


def pinned_lines(plan: Plan, pin: Pin) -> list[str]:
    """Return why a revision waits, and the command that lets the environment follow its ref again."""
    return [
        f"revision {short(plan.commit)} waits: environment {plan.environment} is {pinned_line(pin)}",
        f"let it follow again with: mainstem sync resume {plan.environment}",
    ]


def active_line(plan: Plan, seconds: float) -> str:
    """Return the sentence for a revision that is active now, with or without some of its files."""
    apart = f", {len(plan.quarantined)} in quarantine" if plan.quarantined else ""
    return f"revision {short(plan.commit)} active in {seconds * 1000:.0f} ms{apart}"
