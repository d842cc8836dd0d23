"""The pages: who may see them, what they show, and that their address holds their state."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response

import webhooks.pages
from runner.states import State
from runner.store.records import Environment, Pin, Repository, Revision
from sync.commit_record import Author
from sync.signatures.verdict import CommitSignature, SignatureState
from tests.servers.visitor import Visitor
from webhooks.pages import PAGES
from webhooks.pages.page import query_with
from webhooks.pages.session import COOKIE, LASTS_S, Sessions

FLOW = """id: hello
namespace: company.team
inputs:
  - {id: password, type: SECRET, required: false}
tasks:
  - {id: say, type: core.log.Log, message: "first\\n\\nthird"}
  - {id: stop, type: core.execution.Fail, errorMessage: it had to end}
"""


@pytest.fixture
def visitor(api: Any) -> Visitor:
    return Visitor(api)


@pytest.fixture
def admin(api: Any) -> Visitor:
    return Visitor(api).sign_in()


def run(api: Any) -> dict[str, Any]:
    api.store_flow(FLOW)
    body: dict[str, Any] = api.post("/api/v1/main/executions/company.team/hello?wait=true").json()
    return body


def page_of(body: dict[str, Any]) -> str:
    return f"/ui/main/executions/{body['namespace']}/{body['flowId']}/{body['id']}"


def text_of(answer: httpx.Response) -> str:
    """Return what a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text.replace("<wbr>", "")).split())


# -------------------------------------------------------------------- signing in


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_page_leads_who_has_not_signed_in_to_the_form(page: Any, visitor: Visitor) -> None:
    path = "/ui/main" + re.sub(r"\{\w+\}", "x", page.path)

    answers = [
        visitor.get(path + "?q=1", headers={"cookie": cookie})
        for cookie in ("", f"{COOKIE}=nonsense", f"{COOKIE}={'0' * 64}.9999999999.{'0' * 64}")
    ]

    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {
        (303, "/ui/login?next=" + str(httpx.QueryParams({"next": path + "?q=1"})).removeprefix("next="))
    }


def test_a_part_of_a_page_leads_the_whole_page_to_the_form(visitor: Visitor) -> None:
    answer = visitor.get("/ui/main/executions", headers={"hx-request": "true"})

    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/ui/login")


def test_signing_in_leads_to_the_page_that_was_wanted(api: Any, visitor: Visitor) -> None:
    form = visitor.get("/ui/login?next=/ui/main/flows")

    answer = visitor.post("/ui/login", data={"token": api.tokens["viewer"], "next": "/ui/main/flows"})

    cookie = answer.headers["set-cookie"]
    assert 'value="/ui/main/flows"' in form.text
    assert answer.headers["location"] == "/ui/main/flows"
    assert {"HttpOnly", "Path=/ui", "SameSite=lax", f"Max-Age={LASTS_S}"} <= set(cookie.split("; "))
    assert api.tokens["viewer"] not in cookie


def test_a_session_over_https_is_never_sent_without(make_services: Any) -> None:
    services, answer = make_services(), Response()
    secret, _ = services.access.create("ann", "viewer")

    identity = Sessions(services.access, services.host.encryption, is_secure=True).begin(secret, answer)

    assert identity is not None
    assert "Secure" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("token", ["", "wrong", "x" * 10_000])
def test_a_wrong_token_is_told_to_be_wrong(token: str, visitor: Visitor) -> None:
    answer = visitor.post("/ui/login", data={"token": token})

    assert answer.status_code == 403
    assert "unknown, revoked or expired" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example", "//evil.example/ui/", "/ui//evil.example", "/ui/\\evil.example", "/api/v1", "/ui/\n"],
)
def test_signing_in_leads_to_no_page_of_others(api: Any, wanted: str, visitor: Visitor) -> None:
    answer = visitor.post("/ui/login", data={"token": api.tokens["viewer"], "next": wanted})

    assert answer.headers["location"] == "/ui/main/environments"


def test_a_form_of_another_site_signs_nobody_in_or_out(api: Any, visitor: Visitor) -> None:
    there = {"sec-fetch-site": "cross-site"}

    entered = visitor.post("/ui/login", headers=there, data={"token": api.tokens["viewer"]})
    left = visitor.post("/ui/logout", headers=there)

    assert (entered.status_code, left.status_code) == (403, 403)


def test_signing_out_forgets_the_session(admin: Visitor) -> None:
    answer = admin.post("/ui/logout")

    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_a_revoked_token_ends_its_sessions(api: Any, admin: Visitor) -> None:
    viewer = Visitor(api).sign_in("viewer")
    before = viewer.get("/ui/main/flows").status_code

    api.services.access.revoke("viewer")

    assert (before, viewer.get("/ui/main/flows").status_code) == (200, 303)


def test_a_session_that_is_over_or_was_changed_counts_no_more(
    monkeypatch: pytest.MonkeyPatch, admin: Visitor, visitor: Visitor
) -> None:
    name, _, value = admin.headers["cookie"].partition("=")
    digest, expiry, signature = value.split(".")
    longer = f"{name}={digest}.{int(expiry) + 1}.{signature}"

    changed = visitor.get("/ui/main/flows", headers={"cookie": longer})
    monkeypatch.setattr("time.time", lambda: float(expiry) + 1)
    late = admin.get("/ui/main/flows")

    assert (changed.status_code, late.status_code) == (303, 303)


def test_a_session_opens_nothing_but_the_pages(api: Any, admin: Visitor) -> None:

    answers = [
        admin.get("/api/v1/main/flows/search"),
        admin.post("/api/v1/main/executions/company.team/hello"),
        admin.get("/metrics"),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


# -------------------------------------------------------------------- what each shows


def test_each_page_answers_with_a_strict_policy_and_nothing_inline(api: Any, admin: Visitor) -> None:
    api.services.store.write(lambda db: db.environments.put(Environment("prod", "flows")))
    revision = Revision("prod", "c" * 40, "ACTIVE", datetime.now(UTC))
    api.services.store.write(lambda db: db.revisions.add(revision))
    body = run(api)
    plan = "/ui/main/environments/prod/plan?commit=" + "c" * 40

    for path in ("/ui/login", "/ui/main/environments", plan, "/ui/main/flows", "/ui/main/executions", page_of(body)):
        answer = admin.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200, (path, answer.text)
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert not re.search(r"<style|<script>|\sstyle=|\son\w+=|javascript:|hx-on|https?://", answer.text), path


def test_assets_are_kept_by_browsers_and_change_their_address(visitor: Visitor) -> None:
    page = visitor.get("/ui/login").text
    addresses = re.findall(r'(?:href|src)="(/ui/assets/[^"]+)"', page)

    answers = {address.rsplit("/", 1)[1]: visitor.get(address) for address in addresses}

    assert set(answers) == {"pages.css", "htmx.min.js", "hx-sse.min.js", "mainstem.svg"}
    assert {answer.status_code for answer in answers.values()} == {200}
    assert all("immutable" in answer.headers["cache-control"] for answer in answers.values())
    assert visitor.get("/ui/assets/0/pages.css").headers["cache-control"] == "no-store"
    assert visitor.get("/ui/assets/0/htmx.LICENSE").status_code == 404
    assert visitor.get("/ui/assets/0/..%2fpage.py").status_code in {400, 404}


def test_the_licence_of_the_assets_lies_beside_them() -> None:
    folder = Path(webhooks.pages.__file__).parent / "assets"

    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE").read_text()


def test_environments_show_what_is_desired_active_and_wrong(api: Any, admin: Visitor) -> None:
    now = datetime.now(UTC)
    problem = {"file": "flows/a.yaml", "line": 3, "column": 5, "code": "task.type.unknown", "severity": "error"}
    problem |= {"message": "no task type named 'x'", "hint": "did you mean 'y'?"}
    environment = Environment(
        "prod", "flows", active="a" * 40, state="DEGRADED", message="not activated", checked_at=now
    )
    signer = CommitSignature(SignatureState.GOOD, "ssh", "<ann>", "SHA256:abc", commit="a" * 40).as_json()
    unsigned = CommitSignature(SignatureState.MISSING, commit="b" * 40).as_json()
    renamed: tuple[dict[str, Any], ...] = ({"kind": "renamed"}, {"kind": "removed", "renamedTo": "a.new"})
    good = Revision("prod", "a" * 40, "ACTIVE", now - timedelta(hours=1), message="good", signature=signer)
    bad = Revision(
        "prod", "b" * 40, "INVALID", now, message="bad", problems=(problem,), signature=unsigned, changes=renamed
    )
    api.services.store.write(lambda db: db.repositories.put(Repository("flows", "https://git.example/f.git", "github")))
    api.services.store.write(lambda db: db.environments.put(environment))
    for revision in (good, bad):
        api.services.store.write(lambda db, revision=revision: db.revisions.add(revision))

    answer = admin.get("/ui/main/environments")

    said = text_of(answer)
    assert "Active aaaaaaa since" in said
    assert "Desired bbbbbbb is not active: INVALID" in said
    assert "flows/a.yaml:3:5 error no task type named" in said
    assert f"/ui/main/environments/prod/plan?commit={'b' * 40}" in answer.text
    assert ", signed by &lt;ann&gt; (ssh SHA256:abc)</dd>" in answer.text
    assert '<td class="text" data-name="signed">not signed</td>' in answer.text
    assert re.findall(r'data-name="changes">(\d+)<', answer.text) == ["1", "0"]
    plan = admin.get(f"/ui/main/environments/prod/plan?commit={'a' * 40}")
    assert "Signed by &lt;ann&gt; (ssh <code>SHA256:abc</code>)." in plan.text


def test_a_pinned_environment_shows_what_git_wants_and_why_it_waits(api: Any, admin: Visitor) -> None:
    now, wanted, kept = datetime.now(UTC), "b" * 40, "a" * 40

    def write(db: Any) -> None:
        db.environments.put(Environment("prod", "hosted", active=kept, state="PINNED", message="pinned to aaaaaaa"))
        db.pins.put(Pin("prod", kept, "ann", "it breaks", now))
        db.revisions.add(Revision("prod", wanted, "ACTIVE", now))
        db.revisions.add(Revision("prod", kept, "ACTIVE", now, action="rollback", reason="it breaks"))

    api.services.store.write(write)

    page = admin.get("/ui/main/environments").text

    assert re.search(r"<dt>Desired</dt><dd><code>bbbbbbb</code>\s+<strong>is not active: it waits for the pin", page)
    assert "by ann: it breaks" in page
    assert "<td>rollback</td>" in page


def test_a_plan_shows_removals_first(api: Any, admin: Visitor) -> None:
    changes = [
        {
            "kind": kind,
            "namespace": "team",
            "flowId": kind,
            "path": "flows/a.yaml",
            "diff": [f"{kind} it"],
            "note": None,
        }
        for kind in ("added", "changed", "removed", "renamed")
    ]
    changes.append({**changes[2], "flowId": "before", "renamedTo": "team.renamed"})
    revision = Revision("prod", "c" * 40, "ACTIVE", datetime.now(UTC), changes=tuple(changes))
    api.services.store.write(lambda db: db.environments.put(Environment("prod", "flows")))
    api.services.store.write(lambda db: db.revisions.add(revision))

    answer = admin.get(f"/ui/main/environments/prod/plan?commit={'c' * 40}")

    said = text_of(answer)
    assert "1 removed ~ 1 changed ~ 1 renamed + 1 added" in said
    assert said.index("team.removed") < said.index("team.changed") < said.index("team.added")


DASHBOARD = "title: Runs\nid: runs\ncharts:\n  - {id: a, type: core.dashboard.chart.Markdown, content: hi}\n"


def test_a_plan_made_now_shows_keys_dashboards_settings_and_what_must_be_green(git_api: Any) -> None:
    sync = git_api.services.sync
    repository = sync.repository("hosted").repository
    files = {
        "flows/team/_kv.yaml": "rate: 5\n",
        "flows/_dashboards/runs.yaml": DASHBOARD,
        ".mainstem.yaml": "checks: {required: [ci], tests: required}\n",
    }
    said = {name: text.encode() for name, text in files.items()}
    first = repository.commit_changes(
        None, said, author=Author("ann", "ann@example.org"), message="first", at=datetime.now(UTC)
    )
    repository.set_head("refs/heads/main", None, first)

    answer = Visitor(git_api).sign_in().get("/ui/main/environments/default/plan")

    shown = text_of(answer)
    assert "+ key team.rate added flows/team/_kv.yaml" in shown
    assert "+ dashboard runs added flows/_dashboards/runs.yaml" in shown
    assert "Must be green first: ci. The tests of its flows must pass first." in shown
    assert "Settings of the repository ! checks.required nothing -&gt; [ci] ! checks.tests nothing" in shown


def test_a_plan_of_what_is_not_there_says_so(api: Any, admin: Visitor) -> None:
    api.services.store.write(lambda db: db.environments.put(Environment("prod", "flows")))

    answers = [admin.get(f"/ui/main/environments/{path}") for path in ("none/plan", "prod/plan?commit=zz")]

    assert [answer.status_code for answer in answers] == [404, 422]
    assert "no environment named" in answers[0].text
    assert "mainstem sync status" in answers[0].text


def test_flows_are_searched_and_lead_to_their_executions(api: Any, admin: Visitor) -> None:
    body = run(api)

    found = admin.get("/ui/main/flows?q=hell")
    none = admin.get("/ui/main/flows?q=other")

    assert "/ui/main/executions?namespace=company.team&amp;flowId=hello" in found.text
    assert page_of(body) in found.text
    assert "No flow is active that fits." in none.text


def test_executions_are_filtered_and_paged_by_the_address(api: Any, admin: Visitor) -> None:
    api.store_flow(FLOW)
    for number in range(30):
        api.post(f"/api/v1/main/executions/company.team/hello?wait=true&labels=number:{number}")

    def ids(query: str) -> list[str]:
        answer = admin.get(f"/ui/main/executions{query}")
        assert answer.status_code == 200, answer.text
        return re.findall(r'href="/ui/main/executions/company\.team/hello/(\w+)"', answer.text)

    first, second = ids(""), ids("?page=2")
    assert (len(first), len(second), set(first) & set(second)) == (25, 5, set())
    assert len(ids("?label=number:7")) == 1
    assert ids(f"?q={first[3]}") == [first[3]]
    assert ids("?state=SUCCESS") == []
    assert len(ids("?state=FAILED&namespace=company&flowId=hello&timeRange=PT1H")) == 25
    assert 'href="?state=FAILED&amp;page=2"' in admin.get("/ui/main/executions?state=FAILED").text


@pytest.mark.parametrize("query", ["page=0", "page=x", "timeRange=x", "state=NONE"])
def test_a_query_that_makes_no_sense_is_answered_with_a_page(query: str, admin: Visitor) -> None:
    answer = admin.get(f"/ui/main/executions?{query}")

    assert answer.status_code in {200, 400, 422}
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_an_execution_shows_its_first_error_before_anything_else(api: Any, admin: Visitor) -> None:
    body = run(api)

    said = text_of(admin.get(page_of(body)))

    assert said.index("FAILED") < said.index("stop failed") < said.index("it had to end") < said.index("Tasks")
    assert said.index("Tasks") < said.index("Log")
    assert "first third" in said


def test_a_failed_task_says_where_it_lies(api: Any, admin: Visitor) -> None:
    fail = "{id: broken_one, type: core.execution.Fail, errorMessage: no column}"
    each = f"{{id: all, type: core.flow.ForEach, values: [x], tasks: [{fail}]}}"
    api.store_flow(f"id: nested\nnamespace: company.team\ntasks:\n  - {each}\n", flow_id="nested")
    body = api.post("/api/v1/main/executions/company.team/nested?wait=true").json()

    page = admin.get(page_of(body)).text

    part = page[page.index('class="failure"') : page.index("Tasks</h2>")]
    assert "broken_<wbr>one [x] failed</h2>" in part
    assert '<p class="where">in all</p>' in part
    assert '<p class="alert">no column</p>' in part


def test_secret_inputs_are_not_shown(api: Any, admin: Visitor) -> None:
    api.store_flow(FLOW)
    body = api.post(
        "/api/v1/main/executions/company.team/hello?wait=true", files={"password": (None, "opensesame")}
    ).json()

    answer = admin.get(page_of(body))

    assert "******" in answer.text
    assert "opensesame" not in answer.text


def test_pages_keep_to_the_namespaces_of_the_token(api: Any) -> None:
    body, other = run(api), Visitor(api).sign_in("other")

    answers = {
        path: other.get(path)
        for path in (
            "/ui/main/flows",
            "/ui/main/executions",
            page_of(body),
            f"{page_of(body)}/stream",
            "/ui/main/environments",
        )
    }

    assert [answer.status_code for answer in answers.values()] == [200, 200, 403, 403, 403]
    assert not any("hello" in answers[path].text for path in ("/ui/main/flows", "/ui/main/executions"))


def test_an_execution_under_a_namespace_that_is_not_its_own_is_not_there(api: Any) -> None:
    body, other = run(api), Visitor(api).sign_in("other")

    answer = other.get(f"/ui/main/executions/other/hello/{body['id']}")

    assert answer.status_code == 404


def test_programs_get_json_at_the_address_of_an_execution(api: Any) -> None:
    body = run(api)

    answer = api.get(page_of(body))

    assert body["url"].endswith(page_of(body))
    assert (answer.json()["id"], answer.json()["state"]["current"]) == (body["id"], State.FAILED)
    assert api.get(page_of(body), token="wrong").status_code == 401


# -------------------------------------------------------------------- live


def events(text: str) -> list[dict[str, str]]:
    """Return the events of a stream, as a browser reads them."""
    found = []
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(": ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if fields and "" not in fields:
            found.append(fields)
    return found


def test_the_stream_of_an_execution_ends_with_it_and_begins_after_what_was_seen(
    api: Any, admin: Visitor, visitor: Visitor
) -> None:
    body = run(api)
    path = f"{page_of(body)}/stream"

    whole = events(admin.get(path).text)
    again = events(visitor.get(path, headers={"last-event-id": whole[0]["id"]}).text)

    assert [event.get("event") for event in whole] == [None, "end"]
    assert 'hx-target="#log"' in whole[0]["data"]
    assert "first\n\nthird" in whole[0]["data"]
    assert [event.get("event") for event in again] == [None, "end"]
    assert 'hx-target="#log"' not in again[0]["data"]


def test_a_stream_that_a_browser_could_not_show_ends_and_says_where_it_goes_on(
    api: Any, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = run(api)
    monkeypatch.setattr("webhooks.pages.execution._MOST_LIVE_LINES", 2)
    monkeypatch.setattr("webhooks.pages.execution.SHOWN_LINES", 1)

    whole = events(admin.get(f"{page_of(body)}/stream").text)

    assert [event.get("event") for event in whole] == [None, None, "end"]
    assert f'href="?after={whole[1]["id"]}"' in whole[1]["data"]


def test_the_page_of_an_execution_that_ended_listens_to_nothing(api: Any, admin: Visitor) -> None:
    body = run(api)

    answer = admin.get(page_of(body))

    assert "hx-sse" not in answer.text.replace("hx-sse.min.js", "")


def test_the_log_is_downloaded_and_narrowed_by_level(api: Any, admin: Visitor) -> None:
    body = run(api)

    text = admin.get(f"{page_of(body)}/log").text
    errors = text_of(admin.get(f"{page_of(body)}?level=ERROR"))

    assert "third" in text
    assert "first third" not in errors


def test_a_query_leaves_out_what_is_empty() -> None:
    assert query_with({"q": "a b", "state": None, "page": 2}, page=3) == "?q=a+b&page=3"
