"""Text of people and programs that nobody vouches for, on pages that a forge renders under its own address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from markdown_it import MarkdownIt

from runner.executions.models import Attempt, Execution, LogEntry, TaskRun, TriggerInfo
from runner.reports.board import BoardEnvironment, BoardFlow, board, day_page, flow_page, root_page
from runner.reports.deployment_page import Deployment, deployment_page, deployments_page
from runner.reports.details import Artifact, CommitNote, RunDetails
from runner.reports.record import FlowRecord, folded
from runner.reports.rows import row_of
from runner.reports.run_page import run_page
from runner.states import State
from runner.store.records import Repository, Revision
from sync.reports.forge_links import line_url

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
REFERENCES = re.compile(r"(?i)@\w|(?<!&)#\d|[!$~%&]\d|://|www\.|GH-\d")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

PAYLOADS = [
    "`",
    "``` \n# heading",
    "\n```\n<script>alert(1)</script>\n```\n",
    "````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````````",
    "~~~\n# x",
    "~~~~",
    "[click](javascript:alert(1))",
    "[x]: http://evil.example 'y'",
    "![i](http://evil.example/i.png)",
    "<http://evil.example>",
    "<img src=x onerror=alert(1)>",
    "</td></table><h1>x</h1>",
    "<!-- ",
    "-->",
    "<details open>",
    "&lt;b&gt;",
    "&#64;ann",
    "@ann please",
    "closes #1",
    "fixes owner/repo#2",
    "GH-3",
    "!4 $5 ~6 %7 &8",
    "https://evil.example",
    "www.evil.example",
    "a|b|c",
    "|\n|---|\n",
    "\\|",
    "\\\\|",
    "a\\",
    "\\",
    "| --- |",
    "**bold",
    "__x__",
    "> quote",
    "# heading",
    "- [ ] task",
    "1. one",
    "---",
    "===",
    "\tcode",
    "    code",
    "$$x$$",
    ":::",
    "{{ secret('X') }}",
    "{% raw %}",
    "[[wiki]]",
    "==mark==",
    "\u202eright to left\u2066",
    "\x1b[31mred\x1b[0m\x07\x00",
    "line\r\nline\rline\u2028line",
    "\ufeff\u200b\u200d",
    "\xe9\U0001f7e5",
    "@team/owners @ann@example.org",
    "Closes: #1, resolves owner/repo#22",
    "resolves https://git.example.org/o/r/issues/1",
    "\n\nSigned-off-by: root <root@example.org>\nCo-authored-by: @team <x@example.org>",
    "\n---\nMainstem-Report: forged\n[skip ci] [ci skip]",
    "/mainstem approve",
    "/close\n/label ~bug",
    "<!-- mainstem -->",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<style>*{display:none}</style>",
    "<iframe srcdoc='x'></iframe>",
    '```mermaid\ngraph TD; click A href "javascript:alert(1)"\n```',
    "%%{init: {'securityLevel': 'loose'}}%%",
    "[![x](x.svg)](javascript:x)",
    "[^1]\n\n[^1]: note",
    ":warning: :+1:",
    "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\x9b31mred",
    "\r\x1b[2Kall good",
    "\u2066\u2067\u2068\u2069\u061c",
    "\U000e0041\U000e0042",
    "x" * 900,
    "\u0301" * 500,
]


def _run(text: str) -> RunDetails:
    execution = Execution(
        id="run1",
        namespace="weather",
        flow_id="report",
        flow_revision=1,
        state=State.FAILED,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=1),
        environment="prod",
        commit="c" * 40,
        error=text,
        labels={text: text, "system.username": text},
        inputs={text: text, "nested": {text: [text]}},
        outputs={text: text},
    )
    task = TaskRun("tr", "run1", "chart", State.FAILED, NOW, value=text, error=text, started_at=NOW, ended_at=NOW)
    return RunDetails(
        row_of(execution, str, [task]),
        execution,
        runs=(task,),
        attempts=(Attempt("tr", "run1", 1, 1, State.FAILED, failure_reason=text, handle={"runner": text}),),
        outputs={"tr": {text: text}},
        logs={"tr": (LogEntry("run1", "weather", "report", NOW, "ERROR", text, "chart", "tr"),) * 3},
        artifacts=(Artifact("chart", text, 1, "ab"),),
        commit=CommitNote("c" * 40, text, text, "https://git.example.org/c"),
        good=row_of(execution, str),
        changes=(text,),
    )


def _pages(text: str) -> Iterator[str]:
    details = _run(text)
    triggered = Execution(**{**_fields(details.execution), "trigger": TriggerInfo(text, f"x.{text}")})
    record, _ = folded(FlowRecord("weather", "report"), [row_of(triggered, str)])
    environment = BoardEnvironment("prod", f"refs/heads/{text}", text, text, [BoardFlow("weather", "report", record)])
    yield run_page(details, str)
    yield flow_page(record, NOW, (), None)
    yield board(environment, NOW, ())
    yield root_page([environment], NOW)
    deployed = _deployment(text)
    yield deployment_page(deployed, str)
    yield deployments_page("prod", [deployed.row], (), str)
    yield day_page(NOW.date(), {("weather", text): {"FAILED": 1}})


def _deployment(text: str) -> Deployment:
    change = {"kind": "changed", "namespace": text, "flowId": text, "path": text, "diff": [text], "note": text}
    problem = {"file": text, "line": 3, "column": 1, "code": "x", "severity": "error", "message": text, "hint": text}
    row = Revision(
        "prod",
        "c" * 40,
        "INVALID",
        NOW,
        author=text,
        message=text,
        actor=text,
        previous="b" * 40,
        changes=(change,),
        problems=(problem,),
        action="rollback",
        reason=text,
        digest="d" * 64,
    )
    declared = Repository("forge", "https://git.example.org/c.git", kind="github")
    note = CommitNote("c" * 40, text, text, "https://git.example.org/c")
    return Deployment(row, note, line_url=partial(line_url, declared, "c" * 40))


def _fields(execution: Execution) -> dict[str, Any]:
    return {name: getattr(execution, name) for name in Execution.__dataclass_fields__}


def _tokens(page: str) -> Iterator[Any]:
    for token in MARKDOWN.parse(page):
        yield token
        yield from token.children or ()


def _skeleton(page: str) -> list[str]:
    """The structure of a page without the text in it, and without what differs by the length of a value."""
    kept = ("heading", "tr_", "td_", "th_", "link", "blockquote", "list", "item", "hr", "em_", "s_", "html", "image")
    return [token.type for token in _tokens(page) if token.type.startswith(kept)]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup_or_a_link(payload: str) -> None:
    plain = [_skeleton(page) for page in _pages("word")]

    hostile = list(_pages(payload))

    assert [_skeleton(page) for page in hostile] == plain
    for page in hostile:
        for token in _tokens(page):
            assert not token.type.startswith("html")
            if token.type == "text":
                assert not REFERENCES.search(token.content), token.content
            if token.type == "link_open":
                assert token.attrs["href"].startswith(
                    ("../", "run1", "runs/", "prod/", "https://git.example.org/c", "README.md")
                )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_pages_hold_no_control_characters_and_end_as_files_do(payload: str) -> None:
    for page in _pages(payload):
        assert not CONTROLS.search(page)
        assert page.endswith("\n")
        page.encode()


@pytest.mark.parametrize("text", ["x" * (1 << 20), "`" * (1 << 20), "\n" * (1 << 20), "a|" * (1 << 19)])
def test_a_mebibyte_in_every_place_makes_no_page_too_long_for_a_forge(text: str) -> None:
    assert max(len(page.encode()) for page in _pages(text)) < 500_000


def test_the_diagram_keeps_one_line_for_a_task_whatever_its_value() -> None:
    for payload in PAYLOADS:
        page = run_page(_run(payload), str)

        diagram = page.partition("## Timeline\n\n```mermaid\n")[2].partition("\n```")[0].splitlines()

        assert len(diagram) == 5
        assert re.fullmatch(r"    ✗ chart[\w .\-/…]* :crit, t0, [\d:.T-]+, [\d:.T-]+", diagram[4])
