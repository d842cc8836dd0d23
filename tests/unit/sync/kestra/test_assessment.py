"""The verdict on single flows of Kestra."""

from __future__ import annotations

import pytest

from sync.kestra.assessment import Assessment, Verdict, assess
from sync.kestra.documents import Source, split

HEAD = "id: a\nnamespace: company\n"
LOG = "tasks:\n  - {id: say, type: io.kestra.plugin.core.log.Log, message: hi}\n"


def _assess(text: str) -> Assessment:
    return assess(Source("a.yml", text))


def _told(text: str) -> list[tuple[str, int | None, str]]:
    return [(reason.kind, reason.line, reason.subject) for reason in _assess(text).reasons]


@pytest.mark.parametrize(
    "text",
    [
        HEAD + LOG,
        HEAD + "tasks:\n  - {id: say, type: io.kestra.core.tasks.log.Log, message: hi}\n",  # before 0.17
        HEAD + LOG + "taskDefaults:\n  - {type: io.kestra.core.tasks.log.Log, values: {level: WARN}}\n",
        HEAD + LOG.replace("message", "when: '{{ true }}', message"),  # 2.0
        HEAD + "tasks:\n  - id: s\n    type: io.kestra.plugin.scripts.python.Script\n    script: print(1)\n"
        "    taskRunner: {type: io.kestra.plugin.scripts.runner.docker.Docker}\n",
    ],
)
def test_flows_of_every_dialect_run_unchanged(text: str) -> None:
    found = _assess(text)

    assert (found.verdict, found.name, found.reasons) == (Verdict.UNCHANGED, "company.a", ())


@pytest.mark.parametrize(
    ("text", "line", "subject", "word"),
    [
        (
            HEAD + "tasks:\n  - id: s\n    type: io.kestra.plugin.scripts.python.Script\n    script: print(1)\n"
            "    containerImage: python:3.12\n",
            4,
            "taskRunner",
            "counts python:3.12 only with the Docker runner",
        ),
        (HEAD + "quotas: []\n" + LOG, 3, "quotas", "has no effect here"),
        (
            HEAD + LOG.replace("message", "retry: {type: exponential, interval: PT1S, maxInterval: PT9S}, message"),
            4,
            "retry",
            "Kestra's first one is zero",
        ),
        (
            HEAD + "tasks:\n  - {id: t, type: io.kestra.core.tasks.flows.Template, namespace: a.b, templateId: c}\n",
            4,
            "Template",
            "a.b.c is to be a file in a folder `_templates`",
        ),
        (HEAD.replace("id: a", "id: pause") + LOG, 1, "flow.id.reserved", "reserved in Kestra"),
        (HEAD + LOG.replace("hi}", "'{{ outputs.gone.x }}'}"), 4, "expression.outputs.unknown", "names no task"),
    ],
)
def test_what_is_done_otherwise_here_is_a_note(text: str, line: int, subject: str, word: str) -> None:
    found = _assess(text)

    assert found.verdict is Verdict.NOTE
    assert _told(text) == [("note", line, subject)]
    assert word in found.reasons[0].message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + "tasks:\n  - {id: send, type: io.kestra.plugin.slack.Send, url: x}\n"
            "  - {id: load, type: plugin.of.Mine}\n"
            "triggers:\n  - {id: poll, type: io.kestra.plugin.aws.s3.Trigger}\n",
            [
                ("type", 4, "io.kestra.plugin.slack.Send"),
                ("type", 5, "io.kestra.plugin.plugin.of.Mine"),
                ("type", 7, "io.kestra.plugin.aws.s3.Trigger"),
            ],
        ),
        (HEAD + LOG.replace("message", "colour: red, message"), [("property", 4, "colour")]),
        (HEAD + LOG.replace(", message: hi", ""), [("property", 4, "message")]),
        (HEAD + LOG.replace("hi}", "'{{ 1 | nosuch }}'}"), [("expression", 4, "nosuch")]),
        (HEAD + "tasks: [\n", [("yaml", 4, "yaml.syntax.invalid")]),
        (HEAD + LOG + "id: twice\n", [("yaml", 5, "yaml.key.duplicate")]),
    ],
)
def test_what_stands_in_the_way_is_named_with_its_line(text: str, expected: list[tuple[str, int, str]]) -> None:
    assert _assess(text).verdict is Verdict.NOT_YET
    assert _told(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "id: suite\nnamespace: company\nflowId: a\ntestCases: []\n",
        "id: board\ntitle: Numbers\ncharts: []\n",
        "id: form\nnamespace: company\ntype: io.kestra.plugin.ee.apps.Execution\nflowId: a\n",
        "- just\n- a list\n",
    ],
)
def test_what_else_kestra_keeps_in_yaml_is_no_flow(text: str) -> None:
    assert _assess(text).verdict is Verdict.NO_FLOW


def test_a_flow_whose_tasks_are_missing_is_still_one() -> None:
    assert _told(HEAD) == [("property", 1, "tasks")]


def test_the_secrets_that_a_flow_asks_for_are_found() -> None:
    found = _assess(HEAD + LOG.replace("hi", "\"{{ secret('TOKEN') }} {{ secret(key='USER') }}\""))

    assert found.secrets == {"TOKEN", "USER"}


def test_the_documents_of_a_file_keep_their_lines() -> None:
    content = f"# all flows\n---\n{HEAD}{LOG}---\n# nothing\n---\n{HEAD}tasks: []\n...\n".encode()

    first, second = (assess(source) for source in split("all.yml", content, "other"))

    assert first.verdict is Verdict.UNCHANGED
    assert [(reason.line, reason.subject) for reason in second.reasons] == [(12, "tasks")]
