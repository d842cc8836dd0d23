from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.executions.models import LogEntry
from runner.settings import EnvironmentSettings, RepositorySettings
from runner.states import State
from runner.storage.uris import execution_uri
from sync.activation import Outcome

Start = Callable[..., Any]


def test_runs_since_the_last_commit_go_into_one(server: Any) -> None:
    ids = sorted(server.ended().id for _ in range(7))

    left = server.write()

    assert left == 7
    assert server.branch.commits() == ["reports: 7 runs, 0 failed [skip ci]"]
    assert server.branch.runs() == ids
    assert server.writer.backlog() == 0
    assert server.write() == 0
    assert len(server.branch.commits()) == 1


def test_a_commit_holds_the_boards_the_pages_the_badges_and_the_rows(server: Any) -> None:
    failed = server.ended(state=State.FAILED)
    server.with_task(failed, "no rows for LGA")

    server.write()

    files = server.branch.files()
    run = f"runs/2026/03/10/weather/report/{failed.id}"
    rows = next(name for name in files if name.endswith(".jsonl"))
    deployment = next(name for name in files if name.startswith("default/deployments/2"))
    assert rows.startswith("runs/2026/03/10/120010-")
    assert set(files) == {
        ".mainstem-reports",
        "README.md",
        "default/README.md",
        "default/deployments/README.md",
        deployment,
        "flows/weather/report/README.md",
        "flows/weather/report/badge.json",
        "flows/weather/report/badge.svg",
        "runs/2026/03/10/README.md",
        f"{run}.json",
        f"{run}.junit.xml",
        f"{run}.md",
        rows,
    }
    assert json.loads(files[rows])["error"] == "say: no rows for LGA"
    assert "12:00:00 ERROR no rows for LGA" in files[f"{run}.md"]
    document = json.loads(files[f"{run}.json"])
    assert document["flow"]["source"].startswith("id: report\n")
    assert document["flow"]["repository"]["name"] == "hosted"
    assert document["taskRunList"][0]["log"][0]["message"] == "no rows for LGA"
    assert server.branch.dead_links() == []


def test_a_page_leads_to_the_server_whose_public_address_is_set(server: Any) -> None:
    before = server.ended(state=State.FAILED)
    server.write()
    server.settings = server.settings.model_copy(update={"url": "https://flows.example.org/"})
    server.restarted()
    after = server.ended(state=State.FAILED)

    server.write()

    files, day = server.branch.files(), "runs/2026/03/10/weather/report"
    link = f"[on the server](https://flows.example.org/ui/main/executions/weather/report/{after.id})"
    assert link in files[f"{day}/{after.id}.md"]
    assert "on the server" not in files[f"{day}/{before.id}.md"]


def test_the_commit_says_who_wrote_it_and_what_ci_should_not_do(server: Any, run_git: Any) -> None:
    server.ended(state=State.KILLED)

    server.write()

    log = run_git(server.branch.path, "log", "-1", "--format=%an|%P|%B", server.branch.head())
    assert log.startswith("Mainstem||reports: 1 run, 1 failed [skip ci]\n\nMainstem-Report: ")


def test_two_commits_of_one_second_do_not_share_a_file(server: Any) -> None:
    ids = [server.ended().id]
    server.write(seconds=0)
    ids.append(server.ended().id)
    server.write(seconds=0)
    ids.append(server.ended().id)

    server.restarted()
    server.write(seconds=0)

    assert server.branch.runs() == sorted(ids)


def test_a_page_says_what_changed_since_the_last_good_run(server: Any) -> None:
    good = server.ended()
    server.write()
    server.deploy("weather.report", message="changed")
    failed = server.ended(state=State.FAILED)
    server.write()

    page = server.branch.files()[f"runs/2026/03/10/weather/report/{failed.id}.md"]

    assert f"last good run 2026-03-10 12:00:00 UTC `{good.id}`" in page
    assert "changed since: `tasks.say.message hello -> changed`" in page
    assert "by ann" in page


def test_the_last_good_run_may_be_in_the_same_commit(server: Any) -> None:
    server.ended()
    server.write()
    server.now += timedelta(seconds=1)
    good = server.ended()
    server.now += timedelta(seconds=1)
    failed = server.ended(state=State.FAILED)

    server.write()

    assert f"`{good.id}`" in server.branch.files()[f"runs/2026/03/10/weather/report/{failed.id}.md"]


def test_secrets_and_secret_inputs_are_nowhere_on_the_branch(server: Any) -> None:
    server.host.masker.add("s3cret-value")
    failed = server.ended(
        state=State.FAILED,
        inputs={"token": "typed-secret", "text": "s3cret-value"},
        outputs={"s3cret-value": "s3cret-value"},
        labels={"a": "s3cret-value"},
        error="s3cret-value",
    )
    server.with_task(failed, "it was s3cret-value, base64 czNjcmV0LXZhbHVl", value="s3cret-value")

    server.write()

    everything = "\n".join(server.branch.files().values())
    assert failed.id in everything
    assert not [canary for canary in ("s3cret", "typed-secret", "czNjcmV0") if canary in everything]


def test_a_secret_that_was_set_after_the_start_and_read_elsewhere_is_nowhere_on_the_branch(server: Any) -> None:
    secrets = server.settings.home / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text("weather: {KEY: set-later-value}\n", encoding="utf-8")
    failed = server.ended(state=State.FAILED, inputs={"text": "set-later-value"}, outputs={"seen": "set-later-value"})
    server.with_task(failed, "no access with set-later-value")

    server.write()

    assert server.branch.runs() == [failed.id]
    assert "set-later" not in "\n".join(server.branch.files().values())


def test_the_page_of_a_failure_shows_no_lines_about_how_the_task_was_run(server: Any) -> None:
    failed = server.ended(state=State.FAILED)
    task = server.with_task(failed, "no rows for LGA")
    server.store.logs.append(
        [LogEntry(failed.id, "weather", "report", server.now, "DEBUG", "runs on Process", "say", task.id)]
    )

    server.write()

    [page] = [text for name, text in server.branch.files().items() if name.endswith(f"{failed.id}.md")]
    assert "ERROR no rows for LGA" in page
    assert "runs on Process" not in page


def test_reports_wait_while_secrets_cannot_be_read(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    secrets = server.settings.home / "secrets.yaml"
    secrets.write_text("weather: {KEY: set-later-value}\n", encoding="utf-8")
    secrets.chmod(0o644)
    ended = server.ended()

    left = server.write()
    secrets.chmod(0o600)

    assert (left, server.branch.exists()) == (0, False)
    assert "secrets cannot be read" in caplog.text
    assert server.write() == 1
    assert server.branch.runs() == [ended.id]


def test_environments_of_one_repository_share_a_branch(start: Start) -> None:
    server = start(
        EnvironmentSettings(name="prod", repository="hosted", namespaces=("weather",)),
        EnvironmentSettings(name="lab", repository="hosted", path="lab", namespaces=("lab",)),
        EnvironmentSettings(name="quiet", repository="hosted", path="q", namespaces=("quiet",), reports=False),
    )
    server.deploy("weather.report")
    server.deploy("lab.trial")
    server.deploy("quiet.flow")
    ids = [server.ended(key).id for key in ("weather.report", "lab.trial", "quiet.flow")]

    server.write()

    files = server.branch.files()
    assert server.branch.runs() == sorted(ids[:2])
    assert "weather.report" in files["prod/README.md"]
    assert "lab.trial" in files["lab/README.md"]
    assert "lab.trial" not in files["prod/README.md"]
    assert files["README.md"].count("/README.md)") == 2
    assert server.writer.backlog() == 0
    assert server.branch.dead_links() == []


def test_rows_of_an_environment_that_is_gone_leave_the_outbox(server: Any) -> None:
    server.ended(environment="nobody's")

    left = server.write()

    assert left == 1
    assert not server.branch.exists()


def test_an_execution_that_runs_again_is_told_when_it_ends(server: Any) -> None:
    running = server.ended(state=State.RUNNING, ended_at=None)

    server.write()

    assert not server.branch.exists()
    assert server.writer.backlog() == 0
    assert running.id


def test_days_and_months_are_those_of_utc_whatever_the_clock_says(server: Any) -> None:
    server.now = server.now.astimezone(timezone(timedelta(hours=13)))
    server.now += timedelta(hours=11, minutes=59)
    server.ended()

    server.write()

    assert next(name for name in server.branch.files() if name.endswith(".jsonl")).startswith("runs/2026/03/10/235910-")


def test_a_report_never_triggers_a_sync(server: Any) -> None:
    server.ended()
    before = server.service.history("default")
    server.write()

    results = server.service.reconcile_repository("hosted", actor="test")

    assert [result.outcome for result in results] == [Outcome.UNCHANGED]
    assert server.service.history("default") == before


@pytest.mark.parametrize("branch", ["mainstem-reports", "results/weather"])
def test_no_environment_may_follow_the_branch(start: Start, branch: str) -> None:
    with pytest.raises(InvalidError) as caught:
        start(EnvironmentSettings(name="loop", repository="hosted", ref=branch), branch=branch)

    assert caught.value.code == "repository.ref.invalid"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".git", "README.md", "a b"])
def test_an_environment_has_a_name_that_can_be_a_folder(start: Start, name: str) -> None:
    with pytest.raises(InvalidError) as caught:
        start(EnvironmentSettings(name=name, repository="hosted"))

    assert caught.value.code == "environment.name.invalid"


def test_the_branch_may_have_another_name(start: Start) -> None:
    server = start(branch="results/weather")
    server.deploy("weather.report")
    server.ended()

    server.write()

    assert len(server.branch.runs()) == 1


def test_a_branch_that_somebody_deleted_is_made_again_with_all_flows(server: Any, run_git: Any) -> None:
    server.deploy("weather.other")
    server.ended("weather.other", state=State.FAILED)
    server.ended()
    server.write()
    run_git(server.branch.path, "update-ref", "-d", "refs/heads/mainstem-reports")
    again = server.ended()

    server.write()

    assert server.branch.runs() == [again.id]
    assert "flows/weather/other/README.md" in server.branch.files()
    assert server.branch.dead_links() == []
    assert server.counts()["weather/other"] == {"FAILED": 1}


def test_a_branch_that_somebody_set_back_is_gone_on_with(server: Any, run_git: Any) -> None:
    first = server.ended()
    server.write()
    old = server.branch.head()
    server.ended()
    server.write()
    run_git(server.branch.path, "update-ref", "refs/heads/mainstem-reports", old)
    third = server.ended()

    server.write()

    assert server.branch.runs() == sorted([first.id, third.id])
    assert len(server.branch.commits()) == 2


def test_what_somebody_adds_to_the_branch_stays(server: Any, run_git: Any, tmp_path: Path) -> None:
    server.ended()
    server.write()
    run_git(tmp_path, "clone", "-q", "-b", "mainstem-reports", str(server.branch.path), "clone")
    (tmp_path / "clone" / "NOTES.md").write_text("mine")
    run_git(tmp_path / "clone", "add", ".")
    run_git(tmp_path / "clone", "commit", "-q", "-m", "notes")
    run_git(tmp_path / "clone", "push", "-q")
    server.ended()

    server.write()

    assert server.branch.files()["NOTES.md"] == "mine"


def test_a_branch_of_this_name_that_holds_something_else_is_not_touched(
    server: Any, run_git: Any, caplog: pytest.LogCaptureFixture
) -> None:
    main = run_git(server.branch.path, "rev-parse", "main").strip()
    run_git(server.branch.path, "update-ref", "refs/heads/mainstem-reports", main)
    execution = server.ended()

    left = server.write()

    assert left == 0
    assert server.branch.head() == main
    assert server.writer.backlog() == 1
    assert "report.branch.foreign" in [
        record.error.partition(":")[0] for record in caplog.records if hasattr(record, "error")
    ]
    run_git(server.branch.path, "update-ref", "-d", "refs/heads/mainstem-reports")
    assert server.write(minutes=10) == 1
    assert server.branch.runs() == [execution.id]


def test_a_run_without_a_page_does_not_keep_the_others_back(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A storage of somebody else, with a bug."""

        def size(self, uri: str) -> int:
            raise RuntimeError(uri)

    bad = server.ended(state=State.FAILED)
    server.with_task(bad, f"{execution_uri('weather', 'report', bad.id)}tasks/say/1/x.csv")
    good = server.ended()
    object.__setattr__(server.host, "storage", Broken())
    server.restarted()

    left = server.write()

    assert left == 2
    assert server.branch.runs() == sorted([bad.id, good.id])
    files = server.branch.files()
    assert f"runs/2026/03/10/weather/report/{good.id}.md" in files
    assert f"runs/2026/03/10/weather/report/{bad.id}.md" not in files
    assert server.branch.dead_links() == []
    assert "a run gets no page" in caplog.text


def test_the_thread_writes_what_ends_and_the_rest_at_the_stop(start: Start) -> None:
    server = start(interval_s=0.05)
    server.deploy("weather.report")
    server.writer.start()
    first = server.ended()
    deadline = time.monotonic() + 60
    while server.writer.backlog():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    last = server.ended()

    server.writer.stop()

    assert server.branch.runs() == sorted([first.id, last.id])
    assert server.writer.figures()["report_commits"] == len(server.branch.commits())


def test_only_repositories_of_our_own_are_tidied_also_while_runs_go_on_ending(
    start: Start, tmp_path: Path, run_git: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_TIDY_AT_ONCE": 1, "_MOST_LOOSE": 0}.items():
        monkeypatch.setattr(f"sync.reports.writer.{name}", value)
    theirs = tmp_path / "theirs.git"
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(theirs))
    server = start(
        EnvironmentSettings(name="here", repository="hosted", namespaces=("weather",)),
        EnvironmentSettings(name="there", repository="theirs", namespaces=("far",)),
        repositories=(RepositorySettings(name="theirs", url=f"file://{theirs}"),),
        interval_s=0.05,
    )
    server.deploy("weather.report")
    server.deploy("far.flow")
    for key in ("weather.report", "far.flow"):
        server.ended(key)
    server.writer.start()
    deadline = time.monotonic() + 60
    while "count: 0" not in run_git(server.branch.path, "count-objects", "-v"):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)

    server.writer.stop()

    assert "count: 0\n" not in run_git(theirs, "count-objects", "-v")


def test_a_flush_gives_up_when_another_write_takes_too_long(server: Any) -> None:
    server.ended()

    with server.writer._running:
        is_done = server.writer.flush(0.05)

    assert not is_done
    assert server.writer.flush()


def test_reports_that_cannot_be_written_stay_are_tried_again_and_are_seen(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, run_git: Any
) -> None:
    away = tmp_path / "away.git"
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(away))
    server = start(
        EnvironmentSettings(name="here", repository="hosted", namespaces=("weather",)),
        EnvironmentSettings(name="there", repository="away", namespaces=("far",)),
        repositories=(RepositorySettings(name="away", url=f"file://{away}"),),
    )
    server.deploy("weather.report")
    server.deploy("far.flow")
    away.rename(tmp_path / "moved.git")
    lost, kept = server.ended("far.flow"), server.ended("weather.report")

    with caplog.at_level(logging.WARNING, "sync.reports"):
        waits: list[float] = []
        for _ in range(8):
            assert server.write(seconds=0) == (1 if not waits else 0)
            waits.append([record.again_in_s for record in caplog.records if hasattr(record, "again_in_s")][-1])
            server.now += timedelta(seconds=waits[-1])
        backlog, failures = server.writer.backlog(), server.writer.figures()["report_commits_failed"]
        (tmp_path / "moved.git").rename(away)
        server.write(seconds=0)

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert (backlog, failures) == (1, 8)
    assert server.branch.runs() == [kept.id]
    assert type(server.branch)(away).runs() == [lost.id]
    assert server.store.read(lambda db: db.executions.get(lost.id)).state is State.SUCCESS
    assert server.writer.backlog() == 0


def test_lineage_and_provenance_are_written_where_they_are_wanted_and_go_with_their_run(start: Any) -> None:
    server = start(formats=("openlineage", "provenance"), retention_days=1)
    server.deploy("weather.report")
    run = server.ended()
    uri = f"{execution_uri('weather', 'report', run.id)}tasks/say/1/chart.png"
    server.host.storage.put(uri, io.BytesIO(b"png"))
    server.with_task(run, uri)

    server.write()
    files = {name.partition(run.id)[2]: text for name, text in server.branch.files().items() if run.id in name}
    server.ended()
    server.write(days=3)

    assert files.keys() == {".md", ".json", ".openlineage.jsonl", ".intoto.json"}
    assert [json.loads(line)["eventType"] for line in files[".openlineage.jsonl"].splitlines()][:2] == [
        "START",
        "COMPLETE",
    ]
    statement = json.loads(files[".intoto.json"])
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(b"png").hexdigest()
    (source,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["gitCommit"] == run.commit
    assert not [name for name in server.branch.files() if run.id in name]
