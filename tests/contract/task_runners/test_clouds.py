"""What the task runners of clouds promise beside the rest: nothing is lost with a worker, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.base import FailureReason, JobHandle, Phase, TaskRunnerError
from task_runners.cloud_job import CloudTaskRunner
from task_runners.files import write_file
from task_runners.remote import Job
from tests.contract.task_runners.conftest import CLOUDS

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


@pytest.fixture(params=CLOUDS)
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(f"{request.param}_bench")
    return found


def runner_of(bench: Bench) -> CloudTaskRunner:
    assert isinstance(bench.runner, CloudTaskRunner)
    return bench.runner


@pytest.fixture
def another_worker(bench: Bench) -> Iterator[CloudTaskRunner]:
    """Give the same task runner as a worker has it that knows nothing yet."""
    made = runner_of(bench).model_validate(bench.runner.model_dump(by_alias=True))
    yield made
    made.close()


def test_another_worker_goes_on_with_a_job_and_its_log(bench: Bench, another_worker: CloudTaskRunner) -> None:
    spec = bench.spec("sh", "-c", "echo one; sleep 1; echo two; echo x >out; exit 5", output_globs=("out",))
    first = bench.context()
    job = runner_of(bench).begin(spec, bench.workdir, first)
    job = runner_of(bench).look(job, first).job
    stored = Job.from_json(job.as_json())

    ctx = bench.context(stored_handle=stored.handle, stored_watch=stored.watch.as_json(), progress=first.progress)
    result = another_worker.run(spec, bench.workdir, ctx)

    assert (result.status, result.exit_code, result.failure_reason) == (Phase.FAILED, 5, FailureReason.APP_EXIT)
    assert (bench.texts(), result.stdout_lines) == (["one", "two"], 2)
    assert result.output_files["out"].read_text() == "x\n"


def test_a_worker_lost_right_after_the_start_leaves_a_job_that_is_found_by_its_name(
    bench: Bench, another_worker: CloudTaskRunner
) -> None:
    spec = bench.spec("sh", "-c", "echo ran")
    runner_of(bench).begin(spec, bench.workdir, bench.context())
    before_the_start = bench.handles[0]

    assert "job" not in before_the_start.data
    result = another_worker.run(spec, bench.workdir, bench.context(stored_handle=before_the_start))

    assert (result.status, bench.texts()) == (Phase.SUCCEEDED, ["ran"])
    assert {handle.id for handle in bench.handles} == {before_the_start.id}


def test_a_worker_lost_before_the_start_leaves_the_task_to_be_started(bench: Bench) -> None:
    spec = bench.spec("sh", "-c", "echo ran")
    never_started = JobHandle(bench.runner.type, "mainstem-lost-a1b2c", data={"root": str(bench.workdir.path)})

    result = bench.runner.run(spec, bench.workdir, bench.context(stored_handle=never_started))

    assert (result.status, bench.texts()) == (Phase.SUCCEEDED, ["ran"])
    assert never_started.id not in {handle.id for handle in bench.handles}


def test_nothing_is_left_and_what_is_left_by_others_is_found(bench: Bench) -> None:
    write_file(bench.workdir.path, "in.txt", b"content\n")
    runner, ctx = runner_of(bench), bench.context()
    spec = bench.spec("sleep", "60", labels={"mainstem.io/flow-id": "Some Flow"})
    handle = runner.submit(spec, bench.workdir, ctx)

    [owned] = [each for each in runner.list_owned(ctx) if each.id == handle.id]
    found = runner.find({"taskrun-id": spec.task_run_id, "taskrun-attempt": "1"}, ctx)
    runner.cleanup(owned, ctx)
    runner.cleanup(owned, ctx)

    assert found is not None
    assert found.id == handle.id
    assert handle.id not in {each.id for each in runner.list_owned(ctx)}
    stage = runner._stage(handle, ctx)
    for name in ("in.tar", "report", "out.tar"):
        with pytest.raises(TaskRunnerError) as caught:
            stage.open(name)
        assert caught.value.code == "staging.archive.missing"


def test_an_image_that_is_not_there_fails_the_task_at_once(bench: Bench) -> None:
    spec = replace(bench.spec("echo", "never"), image="mainstem-test/no-such-image:1")
    started = time.monotonic()

    result = bench.runner.run(spec, bench.workdir, bench.context())

    assert result.status is Phase.FAILED
    assert result.failure_reason is (FailureReason.KILLED if bench.is_moto else FailureReason.IMAGE_PULL)
    assert time.monotonic() - started < 30


@pytest.fixture
def without_bucket(bench: Bench) -> Iterator[Bench]:
    values: dict[str, Any] = bench.runner.model_dump(by_alias=True)
    runner = runner_of(bench).model_validate(values | {key: None for key in ("bucket", "blobStorage") if key in values})
    yield replace(bench, runner=runner)
    runner.close()


def test_a_task_without_files_needs_no_bucket(without_bucket: Bench) -> None:
    bench = without_bucket

    result = bench.run("echo it\\'s; pwd; exit 6", env={"A": "b"})

    assert result.status is Phase.FAILED
    assert result.exit_code in {6, None if bench.is_moto else 6}
    assert bench.texts() == ["it's", str(bench.workdir.path)]


def test_a_task_with_files_is_refused_without_a_bucket(without_bucket: Bench) -> None:
    write_file(without_bucket.workdir.path, "in.txt", b"content\n")

    with pytest.raises(TaskRunnerError) as caught:
        without_bucket.run("cat in.txt")

    assert caught.value.code == "runner.bucket.unset"


def test_a_job_is_kept_when_the_flow_says_so(bench: Bench) -> None:
    runner, ctx = runner_of(bench).model_copy(update={"delete": False}), bench.context()
    result = runner.run(bench.spec("echo", "ran"), bench.workdir, ctx)
    handle = bench.handles[-1]
    try:
        assert result.status is Phase.SUCCEEDED
        assert runner._seen(handle, ctx).phase is Phase.SUCCEEDED
        assert handle.id not in {each.id for each in runner.list_owned(ctx)}  # nobody's orphan
    finally:
        bench.runner.cleanup(handle, ctx)
        runner.close()
