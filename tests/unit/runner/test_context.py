from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.command import Command
from runner.context import TaskContext, make_work_dir, open_uri, remove_work_dir
from runner.errors import ExpressionError, MainstemError, NotFoundError, StoreError, TaskError
from runner.executions.models import Execution, LogEntry, Metric, TaskRun, TriggerInfo
from runner.flows.inherited import Inherited
from runner.flows.models import Flow, PluginDefault
from runner.flows.parse import parse_flow
from runner.flows.plugin_defaults import Default
from runner.key_values import MemoryKeyValues
from runner.namespace_files import DirectoryNamespaceFiles
from runner.rules import RepositoryRules
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.tasks.log import Log
from task_runners.control_groups import ControlGroups
from task_runners.policy import refusals
from task_runners.process import Process
from task_runners.spec import Limits, TaskSpec

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ENVIRONMENT = {"SECRET_KEY": "aHVudGVyMg==", "ENV_REGION": "eu", "KESTRA_OLD": "x", "PATH": "/bin"}


@pytest.fixture
def logs() -> list[LogEntry]:
    return []


@pytest.fixture
def metrics() -> list[Metric]:
    return []


@pytest.fixture
def host(tmp_path: Path, logs: list[LogEntry], metrics: list[Metric]) -> Host:
    (tmp_path / "company.team" / "_files").mkdir(parents=True)
    (tmp_path / "company.team" / "_files" / "a.sql").write_text("select 1")
    return Host.open(
        Settings(home=tmp_path / "home", work=tmp_path / "work"),
        MemoryKeyValues({"company": {"k": {"a": 1}}, "other": {"k": 2}}),
        environment=ENVIRONMENT,
        log=logs.append,
        metric=metrics.append,
        files=DirectoryNamespaceFiles(tmp_path),
        clock=lambda: NOW,
    )


def context(host: Host, *, log_level: str | None = None, trigger: TriggerInfo | None = None, **options: Any) -> Any:
    task = Log(id="t", type="core.log.Log", message="x", log_level=log_level)
    flow = Flow(id="flow", namespace="company.team", tasks=(task,))
    execution = Execution("exec1", "company.team", "flow", 1, State.RUNNING, NOW, trigger=trigger)
    run = TaskRun("run1", "exec1", "t", State.RUNNING, NOW, attempts=options.pop("attempts", 1))
    variables = options.pop("variables", {"flow": {"namespace": "company.team"}})
    return TaskContext(host, flow, execution, run, variables, **options)


class _Lazy(Mapping[str, Any]):
    def __init__(self) -> None:
        self.read: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.read.append(key)
        return {"cheap": 1, "dear": 2}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("cheap", "dear"))

    def __len__(self) -> int:
        return 2

    def __contains__(self, key: object) -> bool:
        return key in {"cheap", "dear"}


@pytest.mark.parametrize(
    ("template", "text"), [("{{ 1 + 1 }}", "2"), ("plain", "plain"), (None, ""), (True, "true"), ({"a": 1}, '{"a":1}')]
)
def test_whatever_is_rendered_becomes_text(host: Host, template: Any, text: str) -> None:
    assert context(host).render(template) == text


def test_values_keep_their_type_where_asked(host: Host) -> None:
    ctx = context(host)

    assert ctx.render_typed("{{ [1, 2] }}") == [1, 2]
    assert ctx.render_typed({"a": "{{ 1 }}"}) == {"a": "1"}
    assert ctx.render_deep(["{{ 1 }}", {"{{ 'k' }}": None}]) == ["1", {"k": None}]


def test_more_variables_are_seen_over_lazy_ones(host: Host) -> None:
    lazy = _Lazy()
    ctx = context(host, variables=lazy)

    inner = ctx.with_variables(workingDir="/w", cheap=5)

    assert inner.render("{{ workingDir }} {{ cheap }}") == "/w 5"
    assert inner.render("{{ dear }}") == "2"
    assert lazy.read == ["dear"]
    assert ctx.render("{{ cheap }}") == "1"


def test_a_log_line_says_where_it_comes_from_and_hides_secrets(host: Host, logs: list[LogEntry]) -> None:
    context(host, attempts=2).log("warning", "it is hunter2, aHVudGVyMg==")

    entry = LogEntry("exec1", "company.team", "flow", NOW, "WARN", "it is ******, ******", "t", "run1", 2)
    assert logs == [entry]


@pytest.mark.parametrize(("least", "kept"), [("WARN", ["WARN", "ERROR"]), ("TRACE", None), (None, None)])
def test_the_log_level_of_the_task_leaves_lines_out(
    host: Host, logs: list[LogEntry], least: str | None, kept: list[str] | None
) -> None:
    levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
    ctx = context(host, log_level=least)

    for level in levels:
        ctx.log(level, "x")

    assert [entry.level for entry in logs] == (kept or levels)


def test_a_metric_belongs_to_its_run(host: Host, metrics: list[Metric]) -> None:
    context(host).metric("counter", "rows", 3, {"secret": "hunter2"})

    expected = Metric("exec1", "company.team", "flow", "t", "run1", "rows", "counter", 3, NOW, {"secret": "******"})
    assert metrics == [expected]


def test_the_files_of_later_attempts_have_addresses_of_their_own(host: Host) -> None:
    folder = "kestra:///company/team/flow/executions/exec1/tasks/t/run1/"

    assert context(host).uri("a/b.txt") == f"{folder}a/b.txt"
    assert context(host, attempts=3).uri("a/b.txt") == f"{folder}attempt-3/a/b.txt"


def test_a_working_directory_is_made_once_private_and_removed(host: Host) -> None:
    with context(host) as ctx:
        path = ctx.work_dir()
        assert ctx.with_variables(a=1).work_dir() == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700

    assert not path.exists()
    assert path.parent == host.settings.work_root


def test_a_directory_of_somebody_else_is_used_and_left(host: Host, tmp_path: Path) -> None:
    with context(host, work_dir_factory=lambda: tmp_path) as ctx:
        assert ctx.work_dir() == tmp_path

    assert tmp_path.exists()


def test_what_a_crash_left_in_the_directory_is_gone(tmp_path: Path) -> None:
    (tmp_path / "run-1" / "old").mkdir(parents=True)

    path = make_work_dir(tmp_path, "run-1")

    assert list(path.iterdir()) == []
    remove_work_dir(path)
    remove_work_dir(path)


def test_a_directory_that_several_remove_at_the_same_moment_is_gone_and_no_error(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        for number in range(30):
            path = make_work_dir(tmp_path, f"run-{number}")
            for name in range(30):
                (path / f"{name}/b/c").mkdir(parents=True)
            together = threading.Barrier(4)

            def remove(path: Path = path, together: threading.Barrier = together) -> None:
                together.wait(60)
                remove_work_dir(path)

            for each in [threads.submit(remove) for _ in range(4)]:
                each.result(60)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "writable", "file"])
def test_a_root_that_others_control_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "link":
        root.symlink_to(tmp_path)
    elif kind == "file":
        root.touch()
    else:
        root.mkdir()
        root.chmod(0o777)

    with pytest.raises((MainstemError, FileExistsError)):
        make_work_dir(root, "run-1")


def test_namespace_files_can_be_read_by_path_and_address(host: Host) -> None:
    ctx = context(host)
    places = ["a.sql", "nsfile:///a.sql", "kestra:///company/team/_files/a.sql"]

    assert [ctx.read_uri(place) for place in places] == [b"select 1"] * 3
    assert [open_uri(ctx, place).read() for place in places] == [b"select 1"] * 3
    assert ctx.namespace_files() == ["a.sql"]
    assert [ctx.render(f"{{{{ fileSize('{place}') }}}}") for place in places] == ["8"] * 3
    assert [ctx.render(f"{{{{ fileExists('{place}') }}}}") for place in places] == ["true"] * 3
    assert ctx.render("{{ fileExists('absent') }} {{ isFileEmpty('a.sql') }}") == "false false"
    with pytest.raises(NotFoundError):
        ctx.namespace_file("absent")
    with pytest.raises(ExpressionError, match="absent"):
        ctx.read_uri("absent")


OWN = "kestra:///company/team/flow/executions/exec1/inputs/i/a.txt"
PARENT = "kestra:///company/up/executions/above/inputs/i/a.txt"
OTHER = "kestra:///company/team/flow/executions/exec2/inputs/i/a.txt"


def test_expressions_read_own_files_and_those_of_the_cause(host: Host) -> None:
    import io

    for uri in (OWN, PARENT, OTHER):
        host.storage.put(uri, io.BytesIO(b"content"))
    cause = TriggerInfo("s", "subflow", {"namespace": "company", "flowId": "up", "executionId": "above"})
    ctx = context(host, trigger=cause)

    assert ctx.render(f"{{{{ read('{OWN}') }}}} {{{{ fileSize('{PARENT}') }}}}") == "content 7"
    for function in ("read", "fileSize", "fileExists"):
        with pytest.raises(ExpressionError, match="didn't belong to the current execution"):
            ctx.render(f"{{{{ {function}('{OTHER}') }}}}")


def test_expressions_read_keys_around_their_namespace(host: Host) -> None:
    ctx = context(host)

    assert ctx.render("{{ kv('k').a }} {{ kv('k', 'other') }}") == "1 2"
    assert ctx.render("{{ kv('missing', errorOnMissing=false) ?? 'none' }}") == "none"
    with pytest.raises(ExpressionError, match=r"The key 'missing' does not exist in the namespace 'company\.team'\."):
        ctx.render("{{ kv('missing') }}")


def test_secrets_of_other_namespaces_are_refused(host: Host) -> None:
    ctx = context(host)

    assert ctx.secret("key") == ctx.secret("KEY", "company") == "hunter2"
    with pytest.raises(ExpressionError, match="may not read secrets"):
        ctx.secret("key", "company.other")


def test_a_store_that_is_away_is_not_taken_for_a_file_that_is_refused(host: Host) -> None:
    def away(_id: str) -> Execution | None:
        raise StoreError("store.unreachable", "the database does not answer")

    ctx = context(replace(host, execution_of=away))

    with pytest.raises(StoreError):
        ctx.render("{{ read('kestra:///company/other/flow/executions/another/a') }}")


def test_expressions_see_the_logs_states_and_environment_of_the_server(host: Host) -> None:
    error = LogEntry("exec1", "company.team", "flow", NOW, "ERROR", "broken", "t", "run1", 1)
    runs = [TaskRun("r", "exec1", "loop", State.FAILED, NOW, value="v"), TaskRun("s", "exec1", "t", State.SUCCESS, NOW)]
    ctx = context(replace(host, error_logs_of=lambda _id: [error], runs_of=lambda _id: runs))

    assert ctx.render("{{ errorLogs()[0].message }}") == "broken"
    assert ctx.services.tasks_with_state("failed") == [{"taskId": "loop", "state": "FAILED", "value": "v"}]
    assert ctx.services.environment("region") == "eu"
    assert ctx.services.environment("path", "hidden") == "hidden"
    assert len({ctx.services.uuid(), ctx.services.new_id(), ctx.services.uuid()}) == 3
    assert ctx.services.random_int(3, 4) == 3
    assert 0 < ctx.services.random_port() < 65536


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (None, "core.runner.Process"),
        ({"type": "io.kestra.plugin.core.runner.Process"}, "core.runner.Process"),
        ({"type": "{{ 'process' }}"}, "core.runner.Process"),
        ({"type": "io.kestra.plugin.scripts.runner.docker.Docker"}, "scripts.runner.docker.Docker"),
    ],
)
def test_a_task_runner_is_found_by_its_map(host: Host, spec: Mapping[str, Any] | None, found: str) -> None:
    assert context(host).task_runner(spec).type == found


def test_limits_of_the_process_runner_may_be_expressions(host: Host) -> None:
    memory, cpu = {"memory": "{{ 64 * 2 }}MB"}, {"cpus": "{{ 1.0 / 2 }}"}
    given = {"type": "process", "memory": memory, "cpu": cpu, "processes": "{{ 9 }}"}

    runner = context(host).task_runner(given)

    assert isinstance(runner, Process)
    assert runner.limits(Limits()) == Limits(memory_bytes=128 * 1024**2, cpus=0.5, processes=9)


def test_a_command_meets_the_control_groups_of_the_server(host: Host) -> None:
    groups = ControlGroups(Path("/sys/fs/cgroup/somewhere"))
    ctx = context(replace(host, control_groups=groups))

    command = Command(ctx, ctx.task_runner(None), {"command": ("true",)})

    assert command._runner_context().control_groups is groups


def test_an_expression_that_chooses_the_task_runner_gets_the_defaults_of_what_it_chose(host: Host) -> None:
    ctx = context(host)
    ctx.flow = ctx.flow.model_copy(
        update={
            "plugin_defaults": (
                PluginDefault(type="io.kestra.plugin.scripts.runner.docker.Docker", values={"user": "{{ 1 + 1 }}"}),
                PluginDefault(type="core.runner.Process", values={"nothing": 1}),
            )
        }
    )

    runner = ctx.task_runner({"type": "{{ 'docker' }}", "privileged": True})

    assert runner.model_dump(include={"type", "user", "privileged"}) == {
        "type": "scripts.runner.docker.Docker",
        "user": "2",
        "privileged": True,
    }


def test_defaults_of_namespaces_reach_a_task_runner_that_an_expression_chooses(host: Host) -> None:
    flow = """\
id: f
namespace: company.team
pluginDefaults:
  - {type: docker, values: {user: own}}
tasks:
  - {id: t, type: scripts.shell.Commands, commands: ["true"], taskRunner: {type: "{{ 'docker' }}", entryPoint: [mine]}}
"""
    near = Default("scripts.runner.docker", {"user": "near", "entryPoint": ["near"], "pullPolicy": "ALWAYS"})
    far = Default("docker", {"pullPolicy": "NEVER", "networkMode": "none"}, forced=True)
    ctx = context(host)
    ctx.flow = parse_flow(flow, inherited=Inherited((near, far))).require()
    [task] = ctx.flow.tasks

    runner = ctx.task_runner(task.task_runner)

    found = runner.model_dump(mode="json", include={"user", "entry_point", "pull_policy", "network_mode"})
    assert found == {"user": "own", "entry_point": ["near", "mine"], "pull_policy": "NEVER", "network_mode": "none"}


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"type": "nobody.knows"}, "runner.type.unknown"),
        ({}, "runner.type.unknown"),
        ({"type": "process", "image": "x"}, "runner.property.invalid"),
    ],
)
def test_a_task_runner_that_cannot_be_made_is_named(host: Host, spec: Mapping[str, Any], code: str) -> None:
    with pytest.raises(TaskError) as caught:
        context(host).task_runner(spec)

    assert caught.value.code == code


def _spec(ctx: Any) -> TaskSpec:
    return Command(ctx, ctx.task_runner(None), {"command": ("true",)})._spec


def test_a_command_gets_the_labels_and_the_rest_of_the_time(host: Host, logs: list[LogEntry]) -> None:
    host = replace(host, environment=dict(os.environ))
    with context(host, deadline_s=20.0) as ctx:
        result = ctx.run_command(ctx.task_runner(None), command=("/bin/sh", "-c", "echo $MAINSTEM_TASKRUN; exit 3"))
        spec = _spec(ctx)

    assert result.exit_code == 3
    assert [entry.message for entry in logs] == ["run1"]
    assert spec.labels["kestra.io/taskrun-id"] == "run1"
    assert spec.timeout is not None
    assert 0 < spec.timeout.total_seconds() < 20


def test_a_command_that_cannot_start_is_a_task_error(host: Host) -> None:
    with context(host) as ctx, pytest.raises(TaskError) as caught:
        ctx.run_command(ctx.task_runner(None), command=("/no/such/program",))

    assert caught.value.code.startswith("runner.")


def test_a_body_knows_its_claim_and_a_key_that_only_a_retry_changes(host: Host) -> None:
    def key(**fields: Any) -> str:
        with context(host) as ctx:
            ctx.task_run = ctx.claimed = replace(ctx.task_run, **fields)
            variables = _spec(ctx).env
        assert variables["MAINSTEM_EPOCH"] == str(fields["epoch"])
        return str(variables["TASK_IDEMPOTENCY_KEY"])

    first = key(epoch=1, attempts=1)
    after_a_loss = key(epoch=2, attempts=2, losses=1)
    after_a_retry = key(epoch=3, attempts=3, losses=1)

    assert first == after_a_loss != after_a_retry


def test_the_tasks_of_a_job_keep_their_keys_when_the_job_starts_again(host: Host) -> None:
    def key(child_id: str, epoch: int) -> str:
        job = TaskRun("job1", "exec1", "job", State.RUNNING, NOW, epoch=epoch, attempts=epoch, losses=epoch - 1)
        with context(host, claimed=job) as ctx:
            ctx.task_run = replace(ctx.task_run, id=child_id)
            return str(_spec(ctx).env["TASK_IDEMPOTENCY_KEY"])

    keys = [key("child-a", epoch=1), key("child-b", epoch=2)]

    assert keys[0] == keys[1]


def test_a_body_sees_the_variables_that_name_it(host: Host, logs: list[LogEntry]) -> None:
    with context(host) as ctx:
        ctx.run_command(
            ctx.task_runner(None),
            command=("/bin/sh", "-c", "echo $MAINSTEM_EPOCH ${#TASK_IDEMPOTENCY_KEY} $OWN"),
            env={"OWN": "mine"},
        )

    assert "0 32 mine" in [entry.message for entry in logs]


def test_the_process_runner_refuses_to_serve_flows_of_several_repositories(host: Host) -> None:
    shared = Settings(home=host.settings.home, work=host.settings.work, process_runner={"shared": True})
    several = replace(host, repositories=lambda: 2)

    with pytest.raises(TaskError) as refused:
        context(several).task_runner(None)
    allowed = context(replace(several, settings=shared)).task_runner(None)
    container = context(several).task_runner({"type": "docker"})

    assert refused.value.code == "runner.process.shared"
    assert (allowed.type, container.type) == ("core.runner.Process", "scripts.runner.docker.Docker")


@pytest.mark.parametrize(("image", "code"), [("ghcr.io/a", None), ("evil/a", "runner.image.refused")])
def test_what_an_expression_chose_is_judged_by_what_the_repository_forbids_itself(
    host: Host, image: str, code: str | None
) -> None:
    rules = RepositoryRules.of_json({"policies": [{"images": ["ghcr.io/*"], "runners": ["process", "docker"]}]})
    confined = replace(host, rules_of=lambda _environment: rules)

    policy = context(confined).policy()
    found = [refusal.code for refusal in refusals(policy, "docker", {}, image)]

    assert found == ([code] if code else [])
    assert list(refusals(context(host).policy(), "docker", {}, image)) == []
