"""What becomes of one flow of Kestra here. Pure: a document in, a verdict with its reasons out."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.errors import FlowError, Problem, Severity
from runner.flows.aliases import canonical
from runner.flows.loader import examine
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.flows.positions import Path, Positions
from runner.flows.task_templates import FOLDER as TEMPLATES
from runner.flows.task_templates import TYPE as TEMPLATE
from runner.tasks.script import ScriptTask
from sync.kestra.documents import Source

_SECRET = re.compile(r"""\bsecret\(\s*(?:key\s*=\s*)?['"]([\w.-]+)['"]""")
_TYPE = re.compile(r"named '([^']+)'")
_NAME = re.compile(r"^(?:Filter|Test|Function or Macro) \[(\w+)\] does not exist")
_PROPERTY = re.compile(r'Unrecognized field "([^"]+)"|^([\w.-]+): must |^`([^`]+)`')
# What the Enterprise Edition reads and we accept without effect.
_IGNORED = ("quotas", "policyRefs", "assets", "version")


class Verdict(enum.StrEnum):
    """What becomes of a document."""

    UNCHANGED = "runs unchanged"
    NOTE = "runs with a note"
    NOT_YET = "not yet"
    NO_FLOW = "no flow"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a flow does not run, or what is to be known of one that does.

    `kind` is one of `type property expression yaml other note`; `subject` is the name of the type or property.
    """

    kind: str
    line: int | None
    subject: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict on one document."""

    source: Source
    verdict: Verdict
    name: str
    reasons: tuple[Reason, ...] = ()
    secrets: frozenset[str] = field(default_factory=frozenset)


def assess(source: Source) -> Assessment:
    """Return what becomes of a document."""
    try:
        document, _ = examine(source.text, file=source.file)
    except FlowError as error:
        return Assessment(source, Verdict.NOT_YET, source.file, tuple(map(_reason, error.problems)))
    tree = document.value
    if not isinstance(tree, dict) or not _is_flow(tree):
        return Assessment(source, Verdict.NO_FLOW, source.file, (), frozenset())
    parsed = parse_flow(source.text, file=source.file, namespace=source.namespace)
    reasons = [_reason(problem) for problem in parsed.problems if problem.severity is Severity.ERROR]
    verdict = Verdict.NOT_YET
    if not reasons:
        reasons = [_note(problem) for problem in parsed.problems]
        reasons += _notes(tree, document.positions, parsed.flow)
        verdict = Verdict.NOTE if reasons else Verdict.UNCHANGED
    name = f"{tree.get('namespace') or source.namespace or '?'}.{tree.get('id') or '?'}"
    return Assessment(source, verdict, name, tuple(reasons), frozenset(_SECRET.findall(source.text)))


def _is_flow(tree: Mapping[str, Any]) -> bool:
    """Return whether a document is a flow; Kestra keeps apps, dashboards and tests in YAML too."""
    return "tasks" in tree or ("namespace" in tree and "testCases" not in tree and "type" not in tree)


def _reason(problem: Problem) -> Reason:
    parts = problem.code.split(".")
    found = next((hit for form in (_TYPE, _NAME, _PROPERTY) if (hit := form.search(problem.message))), None)
    subject = next((group for group in found.groups() if group), "") if found else ""
    kind = next((word for word in ("type", "property", "expression", "yaml") if word in parts[:2]), "other")
    if kind == "type":
        subject = canonical(subject) if "." in subject else subject
    return Reason(kind, problem.line, subject or problem.code, problem.message, problem.hint)


def _note(problem: Problem) -> Reason:
    return Reason("note", problem.line, problem.code, problem.message, problem.hint)


def _notes(tree: dict[str, Any], positions: Positions, flow: Flow | None) -> Iterator[Reason]:
    """Yield what is done otherwise here, or not at all, in a flow that is valid."""
    for path, holder in _typed(tree):
        for name in _IGNORED:
            if name in holder:
                line = positions.key((*path, name)).line
                yield Reason("note", line, name, f"`{name}` belongs to the Enterprise Edition and has no effect here")
        retry = holder.get("retry")
        if isinstance(retry, dict) and str(retry.get("type")).lower() == "exponential":
            line = positions.key((*path, "retry")).line
            message = "the waits of an exponential retry grow as documented; Kestra's first one is zero"
            yield Reason("note", line, "retry", message)
        if canonical(str(holder.get("type"))) == TEMPLATE:
            name = f"{holder.get('namespace')}.{holder.get('templateId')}"
            message = f"the template {name} is to be a file in a folder `{TEMPLATES}` of the repository"
            yield Reason("note", positions.at(path).line, "Template", message)
    if flow is not None:
        yield from _scripts(tree, positions, flow)


def _scripts(tree: dict[str, Any], positions: Positions, flow: Flow) -> Iterator[Reason]:
    tasks = {task.id: task for task in flow.all_tasks() if isinstance(task, ScriptTask) and task.task_runner is None}
    if not tasks:
        return
    place = next((path for path, holder in _typed(tree) if holder.get("id") in tasks), ())
    images = sorted({str(task.container_image) for task in tasks.values() if task.container_image})
    counts = f" and counts {', '.join(images)} only with the Docker runner" if images else ""
    names = ", ".join(sorted(tasks))
    message = f"{names}: Kestra runs a script without a task runner in Docker; here `defaultTaskRunner` decides{counts}"
    hint = "set it to scripts.runner.docker.Docker to keep that"
    yield Reason("note", positions.at(place).line, "taskRunner", message, hint)


def _typed(value: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the flow itself and everything in it that has a type, with its path."""
    if isinstance(value, dict):
        if not path or isinstance(value.get("type"), str):
            yield path, value
        for key, item in value.items():
            yield from _typed(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _typed(item, (*path, index))
