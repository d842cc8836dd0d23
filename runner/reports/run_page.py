"""The page of one run, in Markdown as a forge shows it: what failed comes first, then everything else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from runner.executions.models import ACTOR, Attempt, TaskRun
from runner.reports.details import LAST_LINES, RunDetails
from runner.reports.gantt import MOST_BARS, gantt
from runner.reports.rows import holders
from runner.reports.text import (
    MARKS,
    MOST_VALUE_CHARS,
    WORDS,
    code,
    cut,
    fenced,
    inline,
    moment,
    path_name,
    seconds,
    size,
    unbroken,
)
from runner.reports.trend import trend
from runner.reports.values import Mask, clean, masked, shown, without_secrets

_MOST_FAILURES: Final = 10
_MOST_TASKS: Final = 200
_MOST_CHANGES: Final = 20
_LONGEST_LINE: Final = 500
_MOST_BYTES: Final = 450_000  # forges do not render files beyond half a megabyte
_MOST_VALUES_CHARS: Final = 20_000
_EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [])
_SYSTEM_LABEL: Final = "system."
_APP_EXIT: Final = "APP_EXIT"  # says no more than that there is an exit code
_TIMES_AS_LONG: Final = 3
# Bars that an even number of backslashes stands before, none in most cases: these would end a cell.
_BAR: Final = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_ESCAPED_BAR: Final = r"\1\\|"


def run_page(details: RunDetails, mask: Mask) -> str:
    """Return the Markdown of a run, in less than half a megabyte. All is masked, and text of others is only text."""
    labels = {name: text for name, text in details.execution.labels.items() if not name.startswith(_SYSTEM_LABEL)}
    blocks = [
        f"# {code(f'{details.row.namespace}.{details.row.flow}')}",
        _headline(details, mask),
        _links(details),
        *_failures(details, mask),
        _footnotes(details, mask),
        _before(details),
        *_diagram(details, mask),
        *_tasks(details, mask),
        *_values("Inputs", without_secrets(details.execution.inputs, details.secret_inputs, mask)),
        *_values("Outputs", masked(details.execution.outputs, mask)),
        *_values("Labels", masked(labels, mask)),
        *_task_outputs(details, mask),
        *_artifacts(details, mask),
    ]
    return "\n\n".join(fitting(block for block in blocks if block)) + "\n"


def fitting(blocks: Iterable[str]) -> Iterator[str]:
    """Yield blocks as long as there is room for them, then where the rest stands."""
    left = _MOST_BYTES
    for block in blocks:
        left -= len(block.encode("utf-8", "replace")) + 2
        if left < 0:
            yield "The page would be too long for a forge: the rest stands in the JSON."
            return
        yield block


def _links(details: RunDetails) -> str:
    row = details.row
    flow = f"{'../' * row.stem.count('/')}flows/{row.namespace}/{row.flow}/README.md"
    live = f" · [on the server]({details.page_url})" if details.page_url else ""
    return f"Run {code(row.id)} · [all runs of the flow]({flow}) · [as JSON]({path_name(row.id)}.json){live}"


def _headline(details: RunDetails, mask: Mask) -> str:
    row, execution = details.row, details.execution
    name = inline(f"{row.namespace}.{row.flow}")
    facts = [
        f"**{MARKS.get(row.state, '·')} {name} {WORDS.get(row.state, row.state.value.lower())}**{_took(details)}",
        _trigger(details),
        _revision(details, mask),
    ]
    if row.environment:
        facts.append(f"environment {inline(row.environment)}")
    facts.append(moment(execution.started_at or execution.created_at))
    return "> " + " · ".join(fact for fact in facts if fact)


def _took(details: RunDetails) -> str:
    took, usual = details.row.seconds, details.median_s
    if took is None:
        return ""
    text = f" in {seconds(took)}"
    return f"{text} ({_compared(took / usual)} its last 20, {seconds(usual)} in the middle)" if usual else text


def _compared(ratio: float) -> str:
    percent = round((ratio - 1) * 100)
    if percent == 0:
        return "as long as"
    if ratio >= _TIMES_AS_LONG:
        return f"{ratio:.3g} times as long as"
    return f"{abs(percent)} % {'slower' if percent > 0 else 'faster'} than"


def _trigger(details: RunDetails) -> str:
    execution = details.execution
    trigger = execution.trigger
    if trigger is None:
        return f"started by {inline(execution.labels.get(ACTOR) or 'hand or by the API', 60)}"
    kind = inline(trigger.type.rpartition(".")[2].lower())
    return f"{kind} {code(trigger.id)}" + (
        f" of {moment(execution.schedule_date)}" if execution.schedule_date is not None else ""
    )


def _revision(details: RunDetails, mask: Mask) -> str:
    note = details.commit
    if note is None:
        return f"revision {details.row.revision}"
    sha = code(note.id[:7])
    text = f"revision {details.row.revision}, commit " + (f"[{sha}]({note.url})" if note.url else sha)
    if note.subject:
        text += f" “{inline(clean(note.subject, mask), 100)}”"
    return text + (f" by {inline(clean(note.author, mask), 60)}" if note.author else "")


def _failures(details: RunDetails, mask: Mask) -> Iterator[str]:
    failed = details.failed_runs
    if details.execution.error and not failed:
        yield f"The run ended with: {inline(clean(details.execution.error, mask))}"
    for run in failed[:_MOST_FAILURES]:
        yield _failure(details, run, mask)
        lines = details.logs.get(run.id, ())[-LAST_LINES:]
        if lines:
            text = "\n".join(
                f"{entry.timestamp:%H:%M:%S} {entry.level:<5} {cut(clean(entry.message, mask), _LONGEST_LINE)}"
                for entry in lines
            )
            yield fenced(text)
    if len(failed) > _MOST_FAILURES:
        yield f"{len(failed) - _MOST_FAILURES} more tasks failed; the table names them."


def _failure(details: RunDetails, run: TaskRun, mask: Mask) -> str:
    attempts = details.attempts_of(run)
    last = attempts[-1] if attempts else None
    count = max(run.attempts, len(attempts), 1)
    within = " / ".join(_task_name(each, mask) for each in holders(run, details.runs))
    place = f"**{_task_name(run, mask)}**" + (f" in {within}" if within else "")
    text = f"{place} failed after {count} attempt{'s' if count > 1 else ''}"
    causes = list(_causes(run, last, mask))
    runner = details.runner_of(run)
    if runner:
        causes.append(f"{inline(runner)} runner")
    return text + (f": {', '.join(causes)}" if causes else "")


def _causes(run: TaskRun, last: Attempt | None, mask: Mask) -> Iterator[str]:
    exit_code = last.exit_code if last else None
    if exit_code is not None:
        yield f"exit code {exit_code}"
    if last and last.failure_reason and not (exit_code is not None and last.failure_reason == _APP_EXIT):
        yield inline(last.failure_reason)
    message = run.error or (last.message if last else None)
    if message and not (exit_code is not None and message.endswith(f"exit code {exit_code}")):
        yield inline(clean(message, mask))


def _task_name(run: TaskRun, mask: Mask) -> str:
    return inline(run.task_id) + (f" \\[{inline(clean(run.value, mask), 60)}\\]" if run.value else "")


def _footnotes(details: RunDetails, mask: Mask) -> str:
    failed = details.failed_runs
    until = f" --until {failed[0].task_id}" if failed else ""
    notes = [f"Repeat it: {code(f'mainstem run --from-execution {details.row.id}{until}')}"]
    if not details.row.is_good:
        good = details.good
        notes.append(f"last good run {moment(good.end)} {code(good.id)}" if good else "no good run before this one")
        notes.append(_since(details, mask))
    elif details.is_first_of_revision:
        notes.append("the first run of this revision")
        notes.append(_since(details, mask))
    return " · ".join(note for note in notes if note)


def _before(details: RunDetails) -> str:
    text = trend(details.recent)
    return f"The {len(details.recent)} runs before it, the newest last: {text}" if text else ""


def _since(details: RunDetails, mask: Mask) -> str:
    good = details.good
    if good is None:
        return ""
    parts = [code(clean(change, mask), 120) for change in details.changes[:_MOST_CHANGES]]
    if len(details.changes) > _MOST_CHANGES:
        parts.append(f"{len(details.changes) - _MOST_CHANGES} more")
    if good.commit and details.row.commit and good.commit != details.row.commit:
        span = code(f"{good.commit[:7]}..{details.row.commit[:7]}")
        parts.append(f"commits [{span}]({details.compare_url})" if details.compare_url else f"commits {span}")
    return f"changed since: {', '.join(parts)}" if parts else "nothing of the flow changed since"


def _diagram(details: RunDetails, mask: Mask) -> Iterator[str]:
    text, left_out = gantt(details.runs, details.row.end, mask)
    if text:
        yield "## Timeline"
        yield f"```mermaid\n{text}\n```"
    if left_out:
        yield f"The {MOST_BARS} longest task runs of {left_out + MOST_BARS}."


def _tasks(details: RunDetails, mask: Mask) -> Iterator[str]:
    if not details.runs:
        return
    rows = [_task_row(details, run, mask) for run in details.runs[:_MOST_TASKS]]
    yield "## Tasks"
    yield table(("task", "state", "attempts", "runner", "start", "duration", "exit code"), rows)
    if len(details.runs) > _MOST_TASKS:
        yield f"{len(details.runs) - _MOST_TASKS} more task runs stand in the JSON."


def _task_row(details: RunDetails, run: TaskRun, mask: Mask) -> tuple[str, ...]:
    attempts = details.attempts_of(run)
    exit_code = attempts[-1].exit_code if attempts else None
    took = (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else None
    return (
        code(run.task_id) + (f" {code(clean(run.value, mask), 60)}" if run.value else ""),
        unbroken(f"{MARKS.get(run.state, '·')} {run.state.value}"),
        str(max(run.attempts, len(attempts)) or ""),
        inline(details.runner_of(run) or ""),
        _clock(run.started_at),
        unbroken(seconds(took)),
        "" if exit_code is None else str(exit_code),
    )


def _clock(at: datetime | None) -> str:
    return f"{at:%H:%M:%S}" if at else ""


def _values(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values under a heading, all together no longer than many values of the greatest length."""
    left = _MOST_VALUES_CHARS
    for number, (name, value) in enumerate(values.items()):
        if number == 0:
            yield f"## {title}"
        text = shown(value)
        left -= len(text) + len(name)
        if left < 0:
            yield f"{len(values) - number} more stand in the JSON."
            return
        is_short = len(text) <= 100 and "\n" not in text
        yield f"{code(name)}: {code(text)}" if is_short else f"{code(name)}:\n\n{fenced(text)}"


def _task_outputs(details: RunDetails, mask: Mask) -> Iterator[str]:
    """Yield the outputs of the tasks, all together no longer than one value may be; what is empty is left out."""
    left = MOST_VALUE_CHARS
    lines = []
    for run in details.runs:
        outputs = {key: value for key, value in details.outputs.get(run.id, {}).items() if value not in _EMPTY}
        if outputs and left > 0:
            name = f"{run.task_id}{f'[{run.value}]' if run.value else ''}"
            text = cut(clean(f"{name}: {shown(masked(outputs, mask))}", mask), left)
            left -= len(text)
            lines.append(text)
    if lines:
        yield "## Outputs of tasks"
        yield fenced("\n".join(lines))


def _artifacts(details: RunDetails, mask: Mask) -> Iterator[str]:
    if details.artifacts:
        rows = [
            (code(each.task), code(clean(each.name, mask)), size(each.size), code(each.sha256 or "not read: too large"))
            for each in details.artifacts
        ]
        yield "## Artifacts"
        yield table(("task", "file", "size", "sha256"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table of cells that are safe already but for the bars in spans of code."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(_BAR.sub(_ESCAPED_BAR, cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)
