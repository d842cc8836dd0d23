"""The pages in Chromium: keyboard, accessibility, scripts or none, narrow screens, an execution that is followed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers.embedded import Server

PATHS = ("environments", "environments/default/plan", "flows", "executions")
SHIFTS = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) { if (!entry.hadRecentInput) { sum += entry.value; } }
  }).observe({type: 'layout-shift', buffered: true});
  requestAnimationFrame(() => requestAnimationFrame(() => done(sum)));
})"""


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open a page for somebody who has signed in; it must not complain on its console, nor ask anybody else."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def note(message: Any) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def watch(request: Any) -> None:
        if not request.url.startswith(server.address("web")):
            complaints.append(request.url)

    def open_page(path: str = "environments", **options: Any) -> Any:
        context = chromium.new_context(base_url=server.address("web"), **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", watch)
        page.goto(f"/ui/main/{path}")
        page.locator("input[name=token]:focus").wait_for()  # it takes the focus by itself, a moment after the page
        page.keyboard.type(server.api.token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/ui/main/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def start(server: Server, flow: str, **parameters: str) -> tuple[str, str]:
    """Start a flow; return the path of its page below `/ui/main/`, and its id."""
    body = server.api.post(f"/executions/team/{flow}", params=parameters)
    return f"executions/team/{flow}/{body['id']}", str(body["id"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_or_moves_while_it_loads(visit: Any, server: Server, scheme: str) -> None:
    axe = importlib.import_module("axe_playwright_python.sync_playwright").Axe()
    path, _ = start(server, "steps", wait="true")
    page = visit(color_scheme=scheme)

    for each in (*PATHS, path):
        page.goto(f"/ui/main/{each}")
        found = axe.run(page)
        assert found.violations_count == 0, f"{each}: {found.generate_report()}"
        assert page.evaluate(SHIFTS) < 0.01, each
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/ui/login")
    assert axe.run(page).violations_count == 0


def test_everything_is_reached_by_the_keyboard(visit: Any) -> None:
    page = visit()

    page.keyboard.press("Tab")
    skip = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    jumped = page.evaluate("document.activeElement.id")
    page.goto("/ui/main/executions")
    page.get_by_label("Search").focus()
    page.keyboard.type("nothing")
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions?q=nothing*")

    assert (skip, jumped) == ("Skip to the content", "main")
    page.get_by_text("No execution fits.").wait_for()  # the address may change before the table does
    page.go_back()
    page.get_by_text("team.").first.wait_for()
    outlines = page.evaluate("""[...document.querySelectorAll('a, button, input, select')].map(each => {
      each.focus({focusVisible: true}); return getComputedStyle(each).outlineStyle; })""")
    assert set(outlines) == {"solid"}


def test_a_filter_answers_at_once_and_stands_in_the_address(visit: Any) -> None:
    page = visit("executions")
    page.evaluate("window.same = true")

    page.get_by_label("State").select_option("SUCCESS")
    page.wait_for_url("**/executions?*state=SUCCESS*")

    page.wait_for_function("[...document.querySelectorAll('tbody tr')].every(row => row.innerText.includes('SUCCESS'))")
    assert page.evaluate("window.same") is True
    assert page.locator("tbody tr").count() >= 3
    page.reload()
    assert page.get_by_label("State").input_value() == "SUCCESS"


def test_pages_work_without_scripts(visit: Any, server: Server) -> None:
    path, _ = start(server, "quick", wait="true")
    page = visit("executions", java_script_enabled=False)

    page.get_by_label("State").select_option("FAILED")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**state=FAILED**")
    page.goto(f"/ui/main/{path}")

    assert page.locator("#log li").count() >= 1


@pytest.mark.parametrize("path", PATHS)
def test_a_narrow_screen_scrolls_in_one_direction_only(visit: Any, path: str) -> None:
    page = visit(path, viewport={"width": 360, "height": 640})

    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


def test_a_narrow_screen_shows_whole_rows(visit: Any, server: Server) -> None:
    path, _ = start(server, "steps", wait="true")
    page = visit("executions", viewport={"width": 390, "height": 800})
    ends = {}

    for each in ("flows", "executions", path):
        page.goto(f"/ui/main/{each}")
        ends[each] = page.eval_on_selector_all("tbody td", "all => all.map(e => e.getBoundingClientRect().right)")

    assert min(map(len, ends.values())) >= 12
    assert max(max(each) for each in ends.values()) <= 390


def test_the_duration_of_a_running_execution_grows(visit: Any, server: Server) -> None:
    path, _ = start(server, "waits")
    page = visit(path)

    page.locator(".headline", has_text=re.compile(r"RUNNING [1-9]\d*\.\d s")).wait_for()

    assert page.locator(".tasks .state", has_text="RUNNING").count() == 1


def test_an_execution_is_followed_to_its_end_each_line_once(visit: Any, server: Server) -> None:
    page = visit()
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/stream" in request.url else None)
    path, execution_id = start(server, "steps")

    page.goto(f"/ui/main/{path}")
    page.evaluate("window.same = true")
    page.locator(".headline .state", has_text="FAILED").wait_for(timeout=30_000)
    page.get_by_role("heading", name=re.compile("broken failed with exit code 3")).wait_for()

    stored = [line["message"] for line in server.api.get(f"/logs/{execution_id}")]
    page.wait_for_function(f"document.querySelectorAll('#log li').length >= {len(stored)}")  # beside the state
    shown = page.locator("#log li > span").all_inner_texts()
    numbers = [int(each[1:]) for each in page.eval_on_selector_all("#log li", "all => all.map(each => each.id)")]
    assert sorted(shown) == sorted(stored)
    assert numbers == sorted(set(numbers))
    assert page.evaluate("[window.same, window.hacked]") == [True, None]
    assert len(streams) == 1
    assert page.locator(".failure").bounding_box()["y"] < 300
