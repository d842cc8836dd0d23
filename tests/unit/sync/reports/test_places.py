"""Reports that go elsewhere than to a branch beside the flows: to a repository of their own, or into notes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.states import State
from sync.commit_record import Author

FLOW = "id: {flow}\nnamespace: {flow}\ntasks: [{{id: say, type: core.log.Log, message: hello}}]\n"
RUNS = "refs/notes/mainstem-runs"


def two_teams(start: Any, git_server: Any, **reports: Any) -> Any:
    """A server that follows the repositories of two teams, with a third one declared; each has an active commit."""
    names = ("red", "blue", "results")
    for name in names:
        git_server.repository(f"{name}.git")
    server = start(
        *(EnvironmentSettings(name=f"{name}-prod", repository=name, namespaces=(name,)) for name in names[:2]),
        repositories=tuple(
            RepositorySettings(name=name, url=f"{git_server.url}/{name}.git", kind="gitea") for name in names
        ),
        **reports,
    )
    for name in names[:2]:
        source = server.service.repository(name)
        commit = source.repository.commit_changes(
            None,
            {f"flows/{name}.yaml": FLOW.format(flow=name).encode()},
            author=Author("Ann", "a@example.org"),
            message=f"flows of {name}",
            at=server.now,
        )
        assert source.push("refs/heads/main", None, commit)
        server.service.reconcile_repository(name, actor="ann")
    return server


def refs(run_git: Any, bare: Path) -> list[str]:
    found: list[str] = run_git(bare, "for-each-ref", "--format=%(refname)").split()
    return found


def test_reports_of_all_repositories_go_to_the_one_that_is_named(
    start: Any, git_server: Any, run_git: Any, branch_of: Any
) -> None:
    server = two_teams(start, git_server, repository="results")
    runs = [server.ended(f"{name}.{name}", state=State.FAILED) for name in ("red", "blue")]

    server.write()

    branch = branch_of(git_server.root / "results.git")
    assert branch.runs() == sorted(run.id for run in runs)
    assert len(branch.commits()) == 1
    assert branch.dead_links() == []
    assert {"red-prod/README.md", "blue-prod/README.md"} <= branch.files().keys()
    assert "red-prod" in branch.files()["README.md"]
    assert "blue-prod" in branch.files()["README.md"]
    for name in ("red", "blue"):
        assert refs(run_git, git_server.root / f"{name}.git") == ["refs/heads/main"]


def test_a_page_leads_to_the_repository_that_its_flow_comes_from(start: Any, git_server: Any, branch_of: Any) -> None:
    server = two_teams(start, git_server, repository="results")
    run = server.ended("red.red", state=State.FAILED)

    server.write()

    files = branch_of(git_server.root / "results.git").files()
    page = next(text for name, text in files.items() if name.endswith(f"{run.id}.md"))
    document = json.loads(next(text for name, text in files.items() if name.endswith(f"{run.id}.json")))
    assert f"{git_server.url}/red/commit/{run.commit}" in page
    assert "“flows of red” by Ann" in page
    assert document["flow"]["repository"]["name"] == "red"


def test_a_repository_for_reports_that_is_away_keeps_them_until_it_is_back(
    start: Any, git_server: Any, branch_of: Any
) -> None:
    server = two_teams(start, git_server, repository="results")
    bare = git_server.root / "results.git"
    bare.rename(bare.with_name("away.git"))
    run = server.ended("red.red")
    server.write()
    waiting = server.writer.backlog()
    bare.with_name("away.git").rename(bare)

    server.write(seconds=60)

    assert (waiting, server.writer.backlog()) == (1, 0)
    assert branch_of(bare).runs() == [run.id]


def test_a_repository_that_is_gone_keeps_no_reports_of_others_back(
    start: Any, git_server: Any, run_git: Any, branch_of: Any, tmp_path: Path
) -> None:
    local = tmp_path / "local.git"
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(local))
    git_server.repository("results.git")
    server = start(
        EnvironmentSettings(name="prod", repository="hosted", namespaces=("weather",)),
        EnvironmentSettings(name="other", repository="local", namespaces=("far",)),
        repositories=(
            RepositorySettings(name="local", url=f"file://{local}"),
            RepositorySettings(name="results", url=f"{git_server.url}/results.git"),
        ),
        repository="results",
    )
    server.deploy("weather.report")
    server.deploy("far.away")
    runs = [server.ended("weather.report"), server.ended("far.away")]
    server.service._origins.forget("local")  # as after a restart
    local.rename(local.with_name("moved.git"))

    server.write()

    branch = branch_of(git_server.root / "results.git")
    assert branch.runs() == sorted(run.id for run in runs)
    assert server.writer.backlog() == 0


def test_a_repository_that_is_not_declared_is_refused_at_the_start(start: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        start(repository="nowhere")

    assert raised.value.code == "report.repository.unknown"


def noted(run_git: Any, bare: Path, commit: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_git(bare, "notes", "--ref", RUNS, "show", commit).splitlines()]


def test_as_notes_each_run_is_a_line_on_its_commit_and_there_is_no_branch(start: Any, run_git: Any) -> None:
    server = start(as_="notes")
    server.deploy("weather.report")
    bare = server.branch.path
    first = server.ended(state=State.FAILED)
    server.with_task(first, "no rows")
    server.write()
    second = server.ended()
    without = server.ended(commit=None)

    server.write()

    lines = noted(run_git, bare, first.commit)
    assert [(line["id"], line["state"]) for line in lines] == [(first.id, "FAILED"), (second.id, "SUCCESS")]
    assert lines[0]["error"] == "say: no rows"
    assert without.id not in str(lines)
    assert server.writer.backlog() == 0
    assert not server.branch.exists()


def test_as_notes_runs_leave_after_their_days_and_a_note_without_any_goes(start: Any, run_git: Any) -> None:
    server = start(as_="notes", retention_days=5)
    server.deploy("weather.report")
    old = server.ended()
    server.write()
    server.deploy("weather.report", message="bye")
    between = server.ended()
    server.write()
    run_git(server.branch.path, "notes", "--ref", RUNS, "append", "-m", "looked at by Bob", between.commit)
    server.now += timedelta(days=9)
    new = server.ended()

    server.write()

    listed = run_git(server.branch.path, "notes", "--ref", RUNS, "list")
    texts = run_git(server.branch.path, "notes", "--ref", RUNS, "show", new.commit).splitlines()
    assert old.commit not in listed
    assert between.id not in str(texts)
    assert "looked at by Bob" in texts
    assert [json.loads(text)["id"] for text in texts if text.startswith("{")] == [new.id]


def test_as_notes_a_month_begins_with_all_notes_and_without_how_they_came_about(start: Any, run_git: Any) -> None:
    server = start(as_="notes", retention_days=90)
    server.deploy("weather.report")
    bare, runs, lengths = server.branch.path, [], []
    for later in (timedelta(), timedelta(minutes=1), timedelta(days=31), timedelta(minutes=1)):
        server.now += later
        runs.append(server.ended())

        server.write()

        lengths.append(int(run_git(bare, "rev-list", "--count", RUNS)))

    assert lengths == [1, 2, 1, 2]
    assert [line["id"] for line in noted(run_git, bare, runs[0].commit)] == [each.id for each in runs]


def test_as_notes_a_crash_before_the_outbox_was_emptied_tells_nothing_twice(start: Any, run_git: Any) -> None:
    server = start(as_="notes")
    server.deploy("weather.report")
    run = server.ended()
    rows = server.store.read(lambda db: db.outbox.take(["report"], 10, server.now))
    server.writer._writing("hosted").write(rows, server.now)
    server.store.write(lambda db: db.outbox.add(rows))

    server.restarted()
    server.write()

    assert [line["id"] for line in noted(run_git, server.branch.path, run.commit)] == [run.id]


def test_as_notes_a_mirror_that_grew_large_is_thrown_away_and_made_again(
    start: Any, git_server: Any, run_git: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.reports.writer._MOST_MIRROR_BYTES", 100)
    server = two_teams(start, git_server, as_="notes", ledger_notes="all")
    mirrors = [server.settings.home / "mirrors" / f"{name}.reports.git" for name in ("red", "blue")]
    first = server.ended("red.red")
    server.write()
    held = [mirror.exists() for mirror in mirrors]

    server.writer._tidy(1)
    gone = [not mirror.exists() for mirror in mirrors]
    second = server.ended("red.red")
    server.write()

    assert (held, gone) == ([True, True], [True, True])
    lines = noted(run_git, git_server.root / "red.git", first.commit)
    assert [line["id"] for line in lines] == [first.id, second.id]


def test_as_notes_secrets_are_hidden(start: Any, run_git: Any) -> None:
    server = start(as_="notes")
    server.deploy("weather.report")
    server.host.masker.add("s3cret-value")
    run = server.ended(state=State.FAILED, error="token s3cret-value")

    server.write()

    assert noted(run_git, server.branch.path, run.commit)[0]["error"] == "token ******"


def test_the_form_is_called_as_in_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "mainstem.yaml"
    file.write_text("reports: {as: notes, repository: results}\n")

    settings = Settings.load(file, {})

    assert (settings.reports.as_, settings.reports.repository) == ("notes", "results")
