"""A plan as a reviewer reads it: one line for the status, sentences beside lines, one comment. Pure.

What stands in a change request is somebody else's text, perhaps that of a fork: nothing of it may become a mention, a
link or HTML in a comment that carries our name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from runner.errors import Problem
from runner.reports.run_page import table
from runner.reports.text import code, cut, inline
from runner.rules import SETTINGS_FILE
from sync.dashboards import DashboardChange
from sync.forges.api import Annotation, Check
from sync.plan import Change, ChangeKind, Plan
from sync.seeds import Seeding
from sync.signatures.verdict import CommitSignature

MARKER: Final = "[mainstem-review]: #"
"""The first line of our comment. A definition that nobody refers to: no forge shows it."""

_MOST_ROWS: Final = 100
_MOST_PROBLEMS: Final = 50
_MOST_DIFFERENCES: Final = 10
_WORDS: Final = {
    ChangeKind.ADDED: "added",
    ChangeKind.CHANGED: "changed",
    ChangeKind.MOVED: "moved",
    ChangeKind.RENAMED: "renamed",
    ChangeKind.REMOVED: "removed",
    ChangeKind.QUARANTINED: "quarantined",
}
# What takes something away, or does not come, must not be overlooked.
_OPEN: Final = frozenset({ChangeKind.REMOVED, ChangeKind.QUARANTINED})
_LATER: Final = (
    "What the repository says of itself changes: folders and what is forbidden count for this commit already, "
    "what is allowed anew from the next commit on."
)
_FOLD: Final = "<details>"
_CLOSED: Final = "\n\n</details>"
CUT: Final = "\n\n… the rest is cut: see `mainstem plan`."
"""What stands at the end of a plan that is too long for its forge."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a change request comes to in one environment. `url` leads to the whole plan, None without pages."""

    environment: str
    plan: Plan
    url: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether merging it would be activated as it stands."""
        return self.plan.is_whole and self.plan.held is None


def summary(plan: Plan) -> str:
    """Return what a plan comes to, in one line of at most 140 characters."""
    if plan.errors:
        first = plan.errors[0]
        count = len(plan.errors)
        return cut(f"{count} problem{'s' if count > 1 else ''}: {place(first)} {first.message}", 140)
    if plan.quarantined:
        return cut(f"{len(plan.quarantined)} in quarantine: {_quarantined(plan)}; {counts(plan)}", 140)
    if plan.held:
        return cut(f"it would be held: {plan.held}", 140)
    return counts(plan)


def counts(plan: Plan) -> str:
    """Return how many flows are added, changed, moved, renamed, removed."""
    found = plan.counts
    parts = [f"{found[kind]} {word}" for kind, word in _WORDS.items() if found[kind]]
    if plan.sown:
        parts.append(f"{len(plan.sown)} key{'s' if len(plan.sown) > 1 else ''} written or removed")
    if plan.dashboard_changes:
        count = len(plan.dashboard_changes)
        parts.append(f"{count} dashboard{'s' if count > 1 else ''} changed")
    if plan.files_changed:
        parts.append(f"{plan.files_changed} namespace file{'s' if plan.files_changed > 1 else ''} changed")
    return ", ".join(parts) or "nothing changes"


def check_of(reviewed: Reviewed) -> Check:
    """Return the status of the head commit, with a sentence beside each line that has a problem."""
    plan = reviewed.plan
    return Check(
        name=f"mainstem/{reviewed.environment}",
        is_good=reviewed.is_good,
        summary=summary(plan),
        text="\n".join(section(reviewed)),
        url=reviewed.url,
        annotations=tuple(
            Annotation(each.file, each.line or 1, f"{each.sentence} [{each.code}]") for each in plan.faults if each.file
        ),
    )


def comment_of(
    reviews: Sequence[Reviewed], head: str, remarks: Iterable[str], most: int, answers: Iterable[str] = ()
) -> str:
    """Return our comment on a change request whose newest commit is `head`; at most `most` characters.

    `answers` are lines about commands, in Markdown.
    """
    parts = [MARKER, ""]
    for reviewed in reviews:
        parts += [*section(reviewed), ""]
    parts += [f"> {inline(remark)}" for remark in remarks]
    end = f"\n\n<sub>Mainstem, commit {head[:12]}; this comment follows the newest commit.</sub>"
    told = within("\n".join(["\n", *answers]).rstrip(), most // 2, "\n\n… the rest is cut.")
    return within("\n".join(parts), most - len(told) - len(end), CUT) + told + end


def within(text: str, most: int, cut_off: str) -> str:
    """Return a text of at most `most` characters, cut at the end of a line where it is longer."""
    if len(text) <= most:
        return text
    kept = text[: most - len(_CLOSED) - len(cut_off)].rsplit("\n", 1)[0]
    # What follows must not be folded away with the flows that the cut goes through.
    is_open = kept.rfind(f"\n{_FOLD}") > kept.rfind(_CLOSED)
    return kept + (_CLOSED if is_open else "") + cut_off


def section(reviewed: Reviewed) -> list[str]:
    """Return the lines about one environment: problems and removals in the open, the rest folded."""
    plan = reviewed.plan
    mark = "✓" if reviewed.is_good else "✗"
    lines = [f"### {mark} {code(reviewed.environment)}: {inline(_headline(plan))}", ""]
    lines += _signed(plan.signature)
    lines += _problems(plan.problems)
    if plan.held:
        lines += [f"It would be held after the merge: {inline(plan.held)}. Somebody must allow the deletions then.", ""]
    told = [change for change in plan.changes if change.kind in _OPEN]
    lines += [f"- **{_WORDS[change.kind]}** {_flow(change)}{_note(change)}" for change in told[:_MOST_ROWS]]
    lines += [f"- **{SETTINGS_FILE}** {code(line)}" for line in plan.rules_changed[:_MOST_ROWS]]
    lines += [""] if told or plan.rules_changed else []
    lines += [f"{_LATER}\n"] if plan.rules_changed else []
    lines += _folded([change for change in plan.changes if change.kind not in _OPEN])
    lines += _keys(plan.seedings)
    lines += _dashboards(plan.dashboard_changes)
    lines += [f"Must be green after the merge: {', '.join(map(code, plan.required))}.", ""] if plan.required else []
    lines += ["The tests of its flows must pass after the merge.", ""] if plan.tests else []
    lines += [f"Not looked up here: {', '.join(map(code, plan.unchecked[:_MOST_ROWS]))}.", ""] if plan.unchecked else []
    if reviewed.url:
        lines += [f"[The whole plan]({reviewed.url})", ""]
    return lines


def _signed(signature: CommitSignature | None) -> list[str]:
    if signature is None or not signature.is_good:  # what is wrong with it is among the problems
        return []
    return [f"Signed by {code(signature.signer or '-')} ({signature.kind} {code(signature.fingerprint or '-')}).", ""]


def _headline(plan: Plan) -> str:
    count = len(plan.errors)
    return f"{count} problem{'s' if count > 1 else ''}, not valid" if count else counts(plan)


def _quarantined(plan: Plan) -> str:
    return ", ".join(change.title for change in plan.quarantined)


def _problems(problems: Sequence[Problem]) -> Iterator[str]:
    if not problems:
        return
    rows = [
        (code(place(each)), f"{inline(each.message)} ({code(each.code)})", inline(each.hint or ""))
        for each in problems[:_MOST_PROBLEMS]
    ]
    if len(problems) > _MOST_PROBLEMS:
        rows.append(("", f"and {len(problems) - _MOST_PROBLEMS} more", ""))
    yield from (table(("where", "what", "what to do"), rows), "")


def place(problem: Problem) -> str:
    """Return `file:line:column`, as much of it as is known; a dash for nothing."""
    return ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part) or "-"


def _folded(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    found = Counter(_WORDS[change.kind] for change in changes)
    what = ", ".join(f"{count} {word}" for word, count in found.items())
    rows = [(_flow(change), _WORDS[change.kind], "<br>".join(_remarks(change))) for change in changes[:_MOST_ROWS]]
    if len(changes) > _MOST_ROWS:
        rows.append((f"and {len(changes) - _MOST_ROWS} more", "", ""))
    yield from (f"{_FOLD}<summary>{what}</summary>", "", table(("flow", "", "what"), rows) + _CLOSED, "")


def _keys(seedings: Sequence[Seeding]) -> Iterator[str]:
    return _rows_of("key", [(each.name, each.kind.value, each.note) for each in seedings])


def _dashboards(changes: Sequence[DashboardChange]) -> Iterator[str]:
    return _rows_of("dashboard", [(each.id, each.kind.value, each.note) for each in changes])


def _rows_of(what: str, named: Sequence[tuple[str, str, str | None]]) -> Iterator[str]:
    if not named:
        return
    rows = [(code(name), word, code(note) if note else "") for name, word, note in named[:_MOST_ROWS]]
    if len(named) > _MOST_ROWS:
        rows.append((f"and {len(named) - _MOST_ROWS} more", "", ""))
    count = f"{len(named)} {what}{'s' if len(named) > 1 else ''}"
    yield from (f"{_FOLD}<summary>{count}</summary>", "", table((what, "", "what"), rows) + _CLOSED, "")


def _remarks(change: Change) -> Iterator[str]:
    yield from (code(line) for line in change.diff[:_MOST_DIFFERENCES])
    if len(change.diff) > _MOST_DIFFERENCES:
        yield f"and {len(change.diff) - _MOST_DIFFERENCES} more"
    if change.note:
        yield inline(change.note)


def _flow(change: Change) -> str:
    return code(f"{change.namespace}.{change.flow_id}")


def _note(change: Change) -> str:
    return f": {inline(change.note)}" if change.note else ""
