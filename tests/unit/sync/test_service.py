from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import AccessError, ConflictError, FlowError, InvalidError, MainstemError, NotFoundError
from runner.settings import EnvironmentSettings, RepositorySettings
from sync.activation import Outcome
from sync.plan_text import plan_lines
from sync.service import SyncService

FLOW = """\
id: {id}
namespace: {namespace}
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""
SCHEDULED = """\
triggers:
  - id: hourly
    type: core.trigger.Schedule
    cron: "0 * * * *"
"""


def flow(key: str, message: str = "hello") -> str:
    namespace, _, name = key.rpartition(".")
    return FLOW.format(id=name, namespace=namespace, message=message)


Start = Callable[..., SyncService]


def follow(name: str, url: str | Path, **options: Any) -> tuple[EnvironmentSettings, RepositorySettings]:
    return EnvironmentSettings(name=name, repository=name, **options), RepositorySettings(name=name, url=str(url))


def flows_of(service: SyncService) -> dict[str, int]:
    found = service._store.read(lambda db: db.flows.list())
    return {f"{version.namespace}.{version.flow_id}": version.revision for version in found}


def test_an_embedded_server_has_a_hosted_repository_and_a_default_environment(start: Start) -> None:
    service = start()

    environment = service.environment("default")

    assert (environment.repository, environment.ref, environment.path) == ("hosted", "refs/heads/main", "flows")
    assert service.reconcile_repository("hosted", actor="test")[0].outcome is Outcome.UNCHANGED


@pytest.mark.parametrize("how", ["http", "file", "path", "work tree"])
def test_a_repository_elsewhere_is_followed(start: Start, git_server: Any, work_tree: Any, how: str) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("w.a") + SCHEDULED, "flows/b.yaml": flow("w.b"), "big": "x"})
    work_tree.push(served)
    urls = {"http": f"{git_server.url}/flows.git", "file": f"file://{served}", "path": served}
    environment, repository = follow("prod", urls.get(how, work_tree.path))
    service = start(environment, repositories=(repository,))

    [result] = service.reconcile_repository("prod", actor="poll")
    second = work_tree.write({"flows/b.yaml": flow("w.b", "bye"), "flows/c.yaml": flow("w.c")})
    work_tree.push(served)
    [again] = service.reconcile_repository("prod", actor="poll")
    [idle] = service.reconcile_repository("prod", actor="poll")

    assert result.outcome is again.outcome is Outcome.ACTIVE
    assert (idle.outcome, idle.active) == (Outcome.UNCHANGED, second)
    assert flows_of(service) == {"w.a": 1, "w.b": 2, "w.c": 1}
    triggers = service._store.read(lambda db: db.triggers.of_flow("w", "a"))
    assert [trigger.trigger_id for trigger in triggers] == ["hourly"]
    assert [row.result for row in service.history("prod")] == ["ACTIVE", "ACTIVE"]


def test_one_look_moves_every_environment_of_a_repository_with_one_fetch(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"prod/a.yaml": flow("prod.a"), "test/a.yaml": flow("test.a")})
    work_tree.push(served)
    environments = [
        EnvironmentSettings(name=name, repository="r", path=name, namespaces=(name,)) for name in ("prod", "test")
    ]
    service = start(*environments, repositories=(RepositorySettings(name="r", url=f"{git_server.url}/flows.git"),))
    git_server.requests.clear()

    results = service.reconcile_repository("r", actor="hook")

    assert [result.outcome for result in results] == [Outcome.ACTIVE] * 2
    assert flows_of(service) == {"prod.a": 1, "test.a": 1}
    fetched = [body for _, _, body in git_server.requests if b"deepen" in body]
    assert len(fetched) == 1


def test_an_unreachable_repository_leaves_what_is_active(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    sha = work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(served)
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    served.rename(served.with_name("away.git"))

    [result] = service.reconcile_repository("prod", actor="poll")

    found = service.environment("prod")
    assert (result.outcome, result.code) == (Outcome.FAILED, "repository.missing")
    assert (found.active, found.state) == (sha, "OK")
    assert "repository.missing" in (found.message or "")
    assert flows_of(service) == {"w.a": 1}


def test_a_rewritten_history_is_planned_and_named(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"readme": "r"})
    work_tree.write({"flows/a.yaml": flow("w.a"), "flows/b.yaml": flow("w.b")})
    work_tree.push(served)
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    work_tree.reset("HEAD~1")
    work_tree.write({"flows/a.yaml": flow("w.a", "rewritten")})
    work_tree.push(served, "--force")

    [result] = service.reconcile_repository("prod", actor="poll")

    assert result.outcome is Outcome.ACTIVE
    assert result.plan is not None
    assert result.plan.rewritten
    assert flows_of(service) == {"w.a": 2}


def test_a_ref_that_vanishes_detaches_the_environment_and_deletes_nothing(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    sha = work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(served)
    environment, repository = follow("prod", served)
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    (served / "refs/heads/main").unlink()

    [result] = service.reconcile_repository("prod", actor="poll")

    found = service.environment("prod")
    assert result.code == "repository.ref.missing"
    assert (found.state, found.active, flows_of(service)) == ("DETACHED", sha, {"w.a": 1})


def test_a_refused_commit_is_not_planned_again_until_somebody_asks(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": "id: [broken"})
    work_tree.push(served)
    environment, repository = follow("prod", served)
    service = start(environment, repositories=(repository,))

    outcomes = [
        service.reconcile_repository("prod", actor="x", reason=reason)[0].outcome
        for reason in ("poll", "poll", "manual")
    ]

    assert outcomes == [Outcome.INVALID, Outcome.UNCHANGED, Outcome.INVALID]
    assert service.environment("prod").state == "DEGRADED"


def test_symlinks_in_the_flow_path_keep_a_revision_from_being_activated(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("w.a")})
    (work_tree.path / "flows/passwd.yaml").symlink_to("/etc/passwd")
    work_tree.write({})
    work_tree.push(served)
    environment, repository = follow("prod", served)
    service = start(environment, repositories=(repository,))

    [result] = service.reconcile_repository("prod", actor="poll")

    assert result.outcome is Outcome.INVALID
    assert result.plan is not None
    assert [problem.code for problem in result.plan.errors] == ["repository.symlink.refused"]


def test_the_same_tree_in_a_new_commit_moves_the_environment_without_a_change(
    start: Start, git_server: Any, work_tree: Any
) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(served)
    environment, repository = follow("prod", served)
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    sha = work_tree.write({"readme": "only this"})
    work_tree.push(served)

    [result] = service.reconcile_repository("prod", actor="poll")

    assert result.outcome is Outcome.UNCHANGED
    assert service.environment("prod").active == sha


def test_a_flow_has_one_owner(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(served)
    environment, repository = follow("prod", served)
    second = EnvironmentSettings(name="second", repository="prod")
    service = start(environment, second, repositories=(repository,))

    results = service.reconcile_repository("prod", actor="poll")

    assert [result.outcome for result in results] == [Outcome.ACTIVE, Outcome.INVALID]
    assert results[1].plan is not None
    assert [problem.code for problem in results[1].plan.problems] == ["flow.namespace.owned"]


def test_a_write_is_a_commit_and_returns_the_active_version(start: Start) -> None:
    applied: list[Any] = []
    service = start(on_applied=applied.append)

    version = service.write_flow(flow("w.a"), actor="ann")
    same = service.write_flow(flow("w.a"), actor="ann")
    changed = service.write_flow(flow("w.a", "bye"), actor="bob", mode="update")

    repository = service.repository("hosted").repository
    record = repository.commit(changed.commit or "")
    assert (version.revision, same.revision, changed.revision) == (1, 1, 2)
    assert version.path == "flows/w/a.yaml"
    assert (record.author, record.subject) == ("bob", "Write w.a")
    assert repository.head("refs/heads/main") == changed.commit
    assert len(applied) == 2


def test_a_write_goes_to_the_file_where_the_flow_stands(start: Start) -> None:
    service = start()
    repository = service.repository("hosted").repository
    author = _author()
    sha = repository.commit_changes(
        None, {"flows/top.yaml": flow("w.a").encode()}, author=author, message="x", at=service._clock()
    )
    repository.set_head("refs/heads/main", None, sha)
    service.reconcile_repository("hosted", actor="poll")

    version = service.write_flow(flow("w.a", "new"), actor="ann")

    assert version.path == "flows/top.yaml"
    assert set(repository.listing(version.commit or "").files) == {"flows/top.yaml"}


def _author() -> Any:
    from sync.commit_record import Author

    return Author("Ann", "ann@example.org")


@pytest.mark.parametrize(
    "there",
    [flow("other.secret"), flow("w.elsewhere"), flow("w.b").replace("Log", "Lgo"), "no: flow\n"],
    ids=["another-namespace", "another-flow", "with-errors", "no-flow"],
)
def test_a_new_flow_never_overwrites_what_stands_at_its_place(start: Start, there: str) -> None:
    service = start(EnvironmentSettings(name="default", repository="hosted", on_invalid="quarantine"))
    service.write_flow(flow("w.a"), actor="ann")
    repository = service.repository("hosted").repository
    head = repository.head("refs/heads/main")
    edits = {"flows/w/b.yaml": there.encode()}
    pushed = repository.commit_changes(head, edits, author=_author(), message="x", at=service._clock())
    repository.set_head("refs/heads/main", head, pushed)
    service.reconcile_repository("hosted", actor="poll")

    with pytest.raises(ConflictError) as caught:
        service.write_flows([flow("w.a", "new"), flow("w.b")], actor="ann")

    assert (caught.value.code, "flows/w/b.yaml" in caught.value.message) == ("flow.path.taken", True)
    assert repository.head("refs/heads/main") == pushed
    assert flows_of(service)["w.a"] == 1


def test_a_new_flow_does_not_take_the_file_of_one_that_leaves_with_the_same_commit(start: Start) -> None:
    service = start()
    service.write_flows([flow("w.a"), flow("w.c")], actor="ann")
    environment = service.environment("default")
    moved = {"flows/w/a.yaml": None, "flows/w/b.yaml": flow("w.a").encode()}
    service._writes.commits.commit(environment, lambda *_: moved, actor="ann", message="move")

    with pytest.raises(ConflictError) as caught:
        service.write_flows([flow("w.b", "new")], actor="ann", removing=[("w", "a")])

    assert caught.value.code == "flow.path.taken"
    assert flows_of(service) == {"w.a": 1, "w.c": 1}


def test_an_invalid_write_commits_nothing(start: Start) -> None:
    service = start()
    before = service.write_flow(flow("w.a"), actor="ann").commit

    with pytest.raises(FlowError) as caught:
        service.write_flow(flow("w.b").replace("Log", "Lgo"), actor="ann")

    assert caught.value.status == 422
    assert [problem.code for problem in caught.value.problems] == ["task.type.unknown"]
    assert service.repository("hosted").repository.head("refs/heads/main") == before


def test_modes_of_writing_are_kept(start: Start) -> None:
    service = start()
    service.write_flow(flow("w.a"), actor="ann", mode="create")

    with pytest.raises(ConflictError):
        service.write_flow(flow("w.a", "x"), actor="ann", mode="create")
    with pytest.raises(NotFoundError):
        service.write_flow(flow("w.b"), actor="ann", mode="update")
    with pytest.raises(NotFoundError):
        service.delete_flow("w", "b", actor="ann")


def test_a_delete_by_name_is_allowed_even_for_the_last_flow(start: Start) -> None:
    service = start()
    service.write_flows([flow("w.a"), flow("w.b")], actor="ann")

    service.delete_flow("w", "a", actor="ann")
    service.delete_flow("w", "b", actor="ann")

    assert flows_of(service) == {}
    assert service.environment("default").state == "OK"
    assert [row.result for row in service.history("default")] == ["ACTIVE"] * 3


@pytest.mark.parametrize(
    ("environments", "error", "code"),
    [
        ([{"namespaces": ("other",)}], ConflictError, "flow.owner.none"),
        ([{}, {"ref": "refs/heads/two"}], ConflictError, "flow.owner.many"),
        ([{"writes": "refuse"}], AccessError, "environment.writes.refused"),
        ([{"writes": "propose"}], ConflictError, "environment.writes.elsewhere"),
    ],
)
def test_a_write_needs_the_one_environment_that_takes_it(
    start: Start, environments: list[dict[str, Any]], error: type[MainstemError], code: str
) -> None:
    declared = [
        EnvironmentSettings(name=f"e{n}", repository="hosted", **options) for n, options in enumerate(environments)
    ]
    service = start(*declared)

    with pytest.raises(error) as caught:
        service.write_flow(flow("w.a"), actor="ann")

    assert caught.value.code == code


def test_a_write_to_a_repository_elsewhere_is_pushed_there(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    work_tree.write({"flows/a.yaml": flow("w.a"), "other/big": "x"})
    work_tree.push(served)
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    work_tree.write({"flows/c.yaml": flow("w.c")})
    work_tree.push(served)

    version = service.write_flow(flow("w.b"), actor="ann")

    work_tree.pull(served)
    assert (work_tree.path / "flows/w/b.yaml").read_text() == flow("w.b")
    assert (work_tree.path / "other/big").exists()
    assert version.commit == service.environment("prod").active
    assert flows_of(service) == {"w.a": 1, "w.b": 1, "w.c": 1}


def test_a_checked_out_branch_is_not_written(start: Start, work_tree: Any) -> None:
    work_tree.write({"flows/a.yaml": flow("w.a")})
    environment, repository = follow("prod", work_tree.path)
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")

    with pytest.raises(MainstemError) as caught:
        service.write_flow(flow("w.b"), actor="ann")

    assert caught.value.code == "repository.push.refused"


def test_a_plan_changes_nothing(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    sha = work_tree.write({"flows/a.yaml": flow("w.a")})
    work_tree.push(served)
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))

    plan = service.plan("prod", sha[:9])

    assert [change.flow_id for change in plan.changes] == ["a"]
    assert plan.as_json()["commit"] == sha
    assert service.environment("prod").active is None
    with pytest.raises(NotFoundError):
        service.plan("prod", "0" * 40)


def test_only_the_held_commit_can_be_allowed(start: Start) -> None:
    service = start()
    service.write_flow(flow("w.a"), actor="ann")

    with pytest.raises(ConflictError) as caught:
        service.allow_deletes("default", "0" * 12, "ann")

    assert caught.value.code == "environment.held.other"


def test_namespace_files_are_those_of_the_commit(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    first = work_tree.write({"flows/w/a.yaml": flow("w.a"), "flows/w/lib/x.py": "one"})
    work_tree.push(served)
    environment, repository = follow("prod", f"{git_server.url}/flows.git")
    service = start(environment, repositories=(repository,))
    service.reconcile_repository("prod", actor="poll")
    second = work_tree.write({"flows/w/lib/x.py": "two", "flows/w/y.txt": "y"})
    work_tree.push(served)
    [result] = service.reconcile_repository("prod", actor="poll")
    files = service.file_reader()
    pinned = service._store.read(lambda db: db.flows.active("w", "a"))

    assert result.outcome is Outcome.ACTIVE
    assert result.plan is not None
    assert "  ~ 2 namespace files changed" in plan_lines(result.plan)
    assert pinned is not None
    assert (pinned.revision, pinned.commit) == (1, second)
    assert files.read("prod", first, "w", "lib/x.py") == b"one"
    assert files.read("prod", second, "w", "/lib/x.py") == b"two"
    assert files.list("prod", first, "w") == ["lib/x.py"]
    assert files.list("prod", second, "w") == ["lib/x.py", "y.txt"]
    for commit, namespace, path in ((second, "w", "../a.yaml"), (second, "x", "y.txt"), (None, "w", "y.txt")):
        with pytest.raises(NotFoundError):
            files.read("prod", commit, namespace, path)


def test_the_repository_may_name_its_folders(start: Start, git_server: Any, work_tree: Any) -> None:
    served = git_server.repository("flows.git")
    sha = work_tree.write(
        {
            ".mainstem.yaml": "flows: pipelines\nfiles: data\n",
            "pipelines/a.yaml": flow("w.a"),
            "data/w/x.csv": "1",
            "flows/ignored.yaml": "no flow",
        }
    )
    work_tree.push(served)
    environment, repository = follow("prod", served)
    service = start(environment, repositories=(repository,))

    [result] = service.reconcile_repository("prod", actor="poll")

    assert result.outcome is Outcome.ACTIVE
    assert service.file_reader().read("prod", sha, "w", "x.csv") == b"1"


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"repository": "absent"}, "environment.repository.unknown"),
        ({"repository": "hosted", "ref": "refs/heads/mainstem-reports"}, "repository.ref.invalid"),
        ({"repository": "hosted", "ref": "a..b"}, "repository.ref.invalid"),
    ],
)
def test_declarations_are_checked(start: Start, environment: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        start(EnvironmentSettings(name="e", **environment))

    assert caught.value.code == code


def test_declaring_again_keeps_what_is_active(start: Start) -> None:
    service = start()
    service.write_flow(flow("w.a"), actor="ann")
    active = service.environment("default").active

    service.ensure_declared()

    assert service.environment("default").active == active
    assert active is not None
