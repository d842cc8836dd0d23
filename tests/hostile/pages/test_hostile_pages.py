"""Text of people and programs that nobody vouches for, on pages under our own address: it stays text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from runner.executions.models import Commit, Execution, LogEntry, TaskRun, TriggerInfo
from runner.states import State
from runner.store.records import Environment, Revision
from tests.servers.visitor import Visitor

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<style>*{display:none}</style>",
    "<base href=https://evil.example>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<iframe srcdoc='<b>'></iframe>",
    "<form action=https://evil.example><button>",
    "</td></tr></table><h1>x",
    "</pre></li></ol></main>",
    "</title><b>",
    "<!-- ",
    "--> <b>",
    "<![CDATA[<b>]]>",
    "<hx-partial hx-target='body' hx-swap='outerHTML'>gone</hx-partial>",
    "<template hx type=partial><b></template>",
    "<div hx-get=/ui/logout hx-trigger=load>",
    "<div hx-sse:connect=//evil.example>",
    "<div hx-swap-oob=true id=live>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    '" hx-get="/x" hx-trigger="load',
    "` onmouseover=alert(1) `",
    "&lt;b&gt; &#60;b&#62; &amp;lt;",
    "{{ 7 * 7 }} {% include 'login.html' %} ${7*7} <%= 7 %>",
    "\x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x07link\x1b]8;;\x07",
    "data: x\n\ndata: <b>\n\nevent: end",
    "id: 9\nretry: 1\n",
    "a\r\nb\rc\u2028d\u2029e\x0bf\x0cg",
    "\u202egnp.exe\u202c \u2066x\u2069 \ufeff",
    "\U000e0041\U000e007f tags",
    "x" * 5_000,
    "\U0001d54f" * 500 + "<b>",
    "../../../etc/passwd",
    "javascript:alert(1)",
    "//evil.example/ui",
    "%3Cscript%3E %0d%0aset-cookie: a=b",
    "?page=2&state=FAILED#x",
]


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes, and the values of those that a browser acts on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr" and not attrs:
            return  # where a name may be broken: the joints of a name are its own
        self.found.append((tag, *(name for name, _ in attrs)))
        for name, value in attrs:
            if name in {"href", "src", "action"}:
                assert re.match(r"(/ui/|#|\?)", value or ""), (name, value)

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", decl))


def skeleton(text: str) -> list[tuple[str, ...]]:
    parser = Skeleton()
    parser.feed(text)
    parser.close()
    return parser.found


def written(api: Any, number: int, text: str) -> str:
    """Put the text wherever people and programs may put theirs; return the id of the execution that has it."""
    store, name = api.services.store, f"run{number}"
    trigger = TriggerInfo(text, "core.trigger.Webhook", {})
    labels = {text[:20] or "x": text, "system.username": text}
    histories = ((State.CREATED, NOW),)
    execution = Execution(
        name, "company.team", "hello", 1, State.CREATED, NOW, labels=labels, trigger=trigger, histories=histories
    )
    ended = execution.enter(State.FAILED, NOW)
    said: dict[str, Any] = {"value": text, "error": text, "runner": text, "started_at": NOW, "ended_at": NOW}
    runs = tuple(TaskRun(f"{name}-{seq}", name, text, State.FAILED, NOW, seq=seq, **said) for seq in range(2))
    changed = {"inputs": {text: text}, "outputs": {text: text}, "error": text, "environment": text, "version": 1}
    ended = Execution(**{**{field: getattr(ended, field) for field in Execution.__slots__}, **changed})
    store.write(lambda db: db.executions.insert(execution))
    assert store.write(lambda db: db.executions.commit(Commit(ended, 0, new_runs=runs)))
    entry = LogEntry(name, "company.team", "hello", NOW, "ERROR", text, task_id=text, task_run_id=runs[0].id)
    store.logs.append([entry])
    store.logs.flush()
    problem = dict.fromkeys(("file", "message", "hint", "code"), text) | {"severity": "error", "line": 1, "column": 1}
    change = dict.fromkeys(("namespace", "flowId", "path", "note"), text) | {"kind": "removed", "diff": [text]}
    environment = Environment("prod", text, ref=text, path=text, namespaces=(text,), active="a" * 40, message=text)
    revision = Revision(
        "prod", "c" * 40, "INVALID", NOW, author=text, message=text, actor=text, changes=(change,), problems=(problem,)
    )
    store.write(lambda db: db.environments.put(environment))
    store.write(lambda db: db.revisions.add(revision))
    return name


def shown(browser: Visitor, name: str, query: str) -> dict[str, str]:
    execution = f"/ui/main/executions/company.team/hello/{name}"
    plan = "/ui/main/environments/prod/plan?commit=" + "c" * 40
    paths = ["/ui/main/environments", plan, f"/ui/main/executions?q={name}", execution, f"{execution}/stream"]
    answers = {path.replace(name, "run"): browser.get(path) for path in paths}
    answers["flows"] = browser.get("/ui/main/flows", params={"q": query, "namespace": query})
    answers["login"] = browser.get("/ui/login", params={"next": query})
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.text for path, answer in answers.items()}


@pytest.fixture
def browser(api: Any) -> Visitor:
    return Visitor(api).sign_in()


def test_whatever_others_wrote_stays_text_on_every_page(api: Any, browser: Visitor) -> None:
    harmless = shown(browser, written(api, 0, "harmless"), "harmless")
    expected = {path: skeleton(text) for path, text in harmless.items()}
    events = harmless["/ui/main/executions/company.team/hello/run/stream"].count("\n\n")

    for number, payload in enumerate(PAYLOADS, 1):
        api.services.store.write(lambda db: db.environments.delete("prod"))
        pages = shown(browser, written(api, number, payload), payload.encode("utf-8", "replace").decode())

        assert not [path for path, text in pages.items() if CONTROLS.search(text.replace("\r\n", ""))], payload
        stream = pages["/ui/main/executions/company.team/hello/run/stream"]
        assert len(re.findall(r"^(?:id|event|retry):", stream, re.MULTILINE)) == 2, payload
        assert stream.count("\n\n") == events, payload
        # Each revision before is a row of the environments' page.
        for path in set(pages) - {"/ui/main/environments"}:
            assert skeleton(pages[path]) == expected[path], (path, payload)
        assert {tag for tag, *_ in skeleton(pages["/ui/main/environments"])} == {
            tag for tag, *_ in expected["/ui/main/environments"]
        }, payload


@pytest.mark.parametrize("payload", ["<b>", "%0d%0aset-cookie:%20a=b", "%2e%2e", "a" * 3000])
def test_hostile_paths_are_answered_without_being_believed(browser: Visitor, payload: str) -> None:
    for path in (f"/ui/main/executions/{payload}/{payload}/{payload}", f"/ui/main/environments/{payload}/plan"):
        answer = browser.get(path)

        assert answer.status_code in {400, 404}
        assert "<b>" not in answer.text
        assert "set-cookie" not in answer.headers
