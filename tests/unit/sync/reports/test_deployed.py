"""Every deployment has a page on the branch, and stands in the list of its environment."""

from __future__ import annotations

from typing import Any

import pytest

from runner.settings import EnvironmentSettings, RepositorySettings
from sync.commit_record import Author
from sync.reports import deployed

BROKEN = "id: report\nnamespace: weather\ntasks: nothing\n"
PLACE = "flows/weather/report.yaml"
LIST = "default/deployments/README.md"


def push(server: Any, content: str | None, message: str = "shorter timeout, closes #1 @ann") -> str:
    """Commit the flow to `main` of the hosted repository, have it looked at, and return the commit."""
    repository = server.service.repository("hosted").repository
    commit: str = repository.commit_changes(
        repository.head("refs/heads/main"),
        {PLACE: None if content is None else content.encode()},
        author=Author("Ann", "ann@example.org"),
        message=message,
        at=server.now,
    )
    assert repository.set_head("refs/heads/main", repository.head("refs/heads/main"), commit)
    server.service.reconcile_repository("hosted", actor="ann")
    return commit


def pages(server: Any) -> dict[str, str]:
    """Return the pages of deployments by name."""
    return {
        name: text
        for name, text in server.branch.files().items()
        if name.startswith("default/deployments/") and name != LIST
    }


def page_of(server: Any, commit: str) -> str:
    return next(text for name, text in pages(server).items() if f"-{commit[:7]}.md" in name)


@pytest.fixture
def reported(server: Any) -> Any:
    """A server with a branch of reports that has one run."""
    server.ended()
    server.write()
    return server


def test_a_deployment_has_a_page_without_any_run_after_it(reported: Any) -> None:
    reported.deploy("weather.other")

    reported.write()

    page = pages(reported)[max(pages(reported))]
    assert "is active**" in page
    assert "`weather.other`" in page
    assert reported.branch.commits()[0].startswith("reports: default ")
    assert reported.branch.dead_links() == []


def test_a_push_with_errors_says_on_its_page_where_they_are_and_what_stays(reported: Any) -> None:
    active = reported.service.environment("default").active

    commit = push(reported, BROKEN)
    reported.write()

    page = page_of(reported, commit)
    assert f"**✗ {commit[:7]} is not active: its files have errors**" in page
    assert f"active stays `{active[:7]}`" in page
    assert f"- `{PLACE}:3:8`" in page
    assert "closes #1" not in page
    assert "@ann" not in page


def test_an_order_says_who_gave_it_and_why(reported: Any) -> None:
    before = reported.service.environment("default").active
    reported.deploy("weather.report", message="bye")

    reported.service.stay("default", before, action="rollback", actor="bob", reason="too slow for <b>us</b>")
    reported.write()

    page = pages(reported)[max(pages(reported))]
    assert "rollback by bob" in page
    assert "Reason: too slow for &lt;b&gt;us&lt;/b&gt;" in page
    assert "rollback" in reported.branch.files()[LIST]


def test_what_was_told_makes_no_commit_also_after_a_restart(reported: Any) -> None:
    reported.deploy("weather.other")
    reported.write()
    before = reported.branch.commits()

    reported.write()
    reported.restarted()
    reported.write()

    assert reported.branch.commits() == before


def test_without_a_branch_a_deployment_is_looked_at_once_and_told_with_the_first_run(server: Any) -> None:
    waits = server.writer._has_news()
    server.write()
    is_quiet = not server.writer._has_news()
    exists = server.branch.exists()

    server.ended()
    server.write()

    assert (waits, is_quiet, exists) == (True, True, False)
    assert len(pages(server)) == 1


def test_old_pages_go_and_the_list_leads_to_those_that_stay(reported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed, "MOST_PAGES", 2)

    for number in range(3):
        reported.deploy("weather.report", message=f"number {number}")
        reported.write()

    assert len(pages(reported)) == 2
    assert reported.branch.files()[LIST].count(".md)") == 3  # and the environment
    assert reported.branch.dead_links() == []


def test_a_branch_that_was_deleted_has_the_last_deployments_again(reported: Any, run_git: Any) -> None:
    reported.deploy("weather.other")
    reported.write()
    before = pages(reported)
    run_git(reported.branch.path, "update-ref", "-d", "refs/heads/mainstem-reports")

    reported.ended()
    reported.write()

    assert pages(reported) == before
    assert len(before) == 2


def test_secrets_are_not_on_the_page_of_a_deployment(reported: Any) -> None:
    reported.host.masker.add("s3cret-value")

    commit = push(reported, BROKEN.replace("nothing", "s3cret-value"), "uses s3cret-value")
    reported.write()

    assert page_of(reported, commit)
    assert "s3cret-value" not in "".join(reported.branch.files().values())


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea", "forgejo", "bitbucket"])
def test_a_problem_leads_to_its_line_on_the_forge(start: Any, git_server: Any, kind: str) -> None:
    bare = git_server.repository("flows.git")
    declared = RepositorySettings(name="forge", url=f"{git_server.url}/flows.git", kind=kind)
    server = start(EnvironmentSettings(name="prod", repository="forge"), repositories=(declared,))
    assert bare
    source = server.service.repository("forge")
    commit = source.repository.commit_changes(
        None, {PLACE: BROKEN.encode()}, author=Author("Ann", "a@example.org"), message="x", at=server.now
    )
    assert source.push("refs/heads/main", None, commit)
    server.service.reconcile_repository("forge", actor="ann")
    server.ended(environment="prod")
    server.write()

    files = server.branch.__class__(git_server.root / "flows.git").files()

    page = next(text for name, text in files.items() if f"-{commit[:7]}.md" in name)
    line = next(text for text in page.splitlines() if PLACE in text)
    assert f"]({git_server.url}/flows/" in line
    assert commit in line
    assert PLACE in line.partition("](")[2]
