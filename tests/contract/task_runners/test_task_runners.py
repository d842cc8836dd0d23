"""What every task runner promises, tried with real bodies in each of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.base import FailureReason, JobHandle, Limits, LogLine, OutputLimits, Phase, TaskRunnerError
from task_runners.cloud_job import CloudTaskRunner
from task_runners.files import write_file

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


def test_a_body_that_ends_well_succeeds(bench: Bench) -> None:
    result = bench.run("echo hello")

    assert (result.status, result.exit_code, result.failure_reason) == (Phase.SUCCEEDED, 0, None)
    assert (bench.texts(), result.stdout_lines, result.stderr_lines) == (["hello"], 1, 0)


def test_another_exit_code_is_told_as_it_was(bench: Bench) -> None:
    result = bench.run("exit 7")

    assert (result.status, result.exit_code, result.failure_reason) == (Phase.FAILED, 7, FailureReason.APP_EXIT)
    assert result.message == "command failed with exit code 7"


def test_a_signal_counts_as_128_and_its_number(bench: Bench) -> None:
    result = bench.run("kill -KILL $$")

    assert (result.status, result.exit_code) == (Phase.FAILED, 137)


def test_standard_error_is_kept_apart(bench: Bench) -> None:
    result = bench.run("echo out; echo err >&2")

    if bench.runner.capabilities.separate_stderr:
        assert (bench.texts("stdout"), bench.texts("stderr")) == (["out"], ["err"])
        assert (result.stdout_lines, result.stderr_lines) == (1, 1)
    else:
        assert (sorted(bench.texts("stdout")), result.stdout_lines) == (["err", "out"], 2)


def test_a_last_line_without_a_line_end_is_kept(bench: Bench) -> None:
    bench.run("echo first; printf last")

    assert bench.texts() == ["first", "last"]


def test_many_lines_arrive_whole_and_in_order(bench: Bench) -> None:
    result = bench.run("seq 20000")

    assert bench.texts() == [str(number) for number in range(1, 20001)]
    assert result.stdout_lines == 20000


def test_unicode_arrives_and_bad_bytes_are_replaced(bench: Bench) -> None:
    bench.run(r"printf 'grüße 🚀\n'; printf 'a\377b\n'")

    assert bench.texts() == ["grüße 🚀", "a�b"]


def test_a_line_of_a_megabyte_is_cut_and_says_so(bench: Bench) -> None:
    bench.run("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after")

    long, after = bench.texts()
    cut = f" [line cut, {1000000 - 65536} bytes left out]"
    assert long == "x" * 65536 + cut or (bench.is_moto and long.startswith("x" * 10_000) and "[line cut, " in long)
    assert after == "after"


def test_a_flood_is_counted_but_not_kept(bench: Bench) -> None:
    count = 60_000 if isinstance(bench.runner, CloudTaskRunner) else 500_000  # a call for each thousand of lines
    ctx = bench.context(output_limits=OutputLimits(total_bytes=100_000))

    result = bench.runner.run(bench.spec("sh", "-c", f"yes | head -n {count}"), bench.workdir, ctx)

    assert (result.status, result.stdout_lines) == (Phase.SUCCEEDED, count)
    assert bench.texts()[:-1] == ["y"] * 50_000
    assert bench.texts()[-1].startswith(f"[{2 * count - 100_000} bytes of output dropped")


def test_input_files_are_there_with_their_modes(bench: Bench) -> None:
    write_file(bench.workdir.path, "deep/er/in.txt", b"content\n")
    write_file(bench.workdir.path, "tool.sh", b"#!/bin/sh\necho tool runs\n", mode=0o755)

    result = bench.run("cat deep/er/in.txt; ./tool.sh; pwd; test -x deep/er/in.txt || echo not executable")

    assert result.status is Phase.SUCCEEDED
    assert bench.texts() == ["content", "tool runs", str(bench.workdir.path), "not executable"]


def test_output_globs_name_what_comes_back(bench: Bench) -> None:
    script = "mkdir -p a/b; echo 1 > one.csv; echo 2 > a/b/two.csv; echo 3 > three.txt; chmod 755 one.csv"

    result = bench.run(script, output_globs=("**/*.csv",))

    assert {name: path.read_text() for name, path in result.output_files.items()} == {
        "a/b/two.csv": "2\n",
        "one.csv": "1\n",
    }
    assert result.output_files["one.csv"].stat().st_mode & 0o777 == 0o755


def test_output_files_come_back_after_a_failure(bench: Bench) -> None:
    result = bench.run("echo partial > out.txt; exit 3", output_globs=("out.txt",))

    assert (result.status, result.exit_code) == (Phase.FAILED, 3)
    assert result.output_files["out.txt"].read_text() == "partial\n"


def test_links_are_never_output_files(bench: Bench) -> None:
    result = bench.run("ln -s /etc/passwd p; mkdir d; ln -s /etc d/e; echo x > real", output_globs=("**",))

    assert list(result.output_files) == ["real"]


def test_too_many_bytes_of_output_fail_a_body_that_succeeded(bench: Bench) -> None:
    from task_runners.base import FileLimits

    ctx = bench.context(file_limits=FileLimits(total_bytes=1000))

    result = bench.runner.run(
        bench.spec("sh", "-c", "head -c 2000 /dev/zero > big", output_globs=("big",)), bench.workdir, ctx
    )

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)


def test_an_output_of_five_gibibytes_is_refused_by_its_size(process_bench: Bench) -> None:
    # All of it is a hole: it takes no disk, and where files are shared nobody has to read it to see how large it is.
    result = process_bench.run("truncate -s 5G big", output_globs=("big",))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)
    assert "large" in str(result.message)


def test_markers_become_values(bench: Bench) -> None:
    script = """echo '::{"outputs":{"a":1},"metrics":[{"name":"rows","type":"counter","value":3}]}::'
                printf '::{"outputs":'; sleep 0.1; echo '{"b":"x"}}::'"""

    result = bench.run(script)

    assert result.vars == {"a": 1, "b": "x"}
    assert [(metric.name, metric.value) for metric in result.metrics] == [("rows", 3.0)]


def test_the_environment_has_the_task_s_values_and_the_working_directory(bench: Bench) -> None:
    bench.run('echo "$GREETING|$WORKING_DIR|$MAINSTEM_TASKRUN"', env={"GREETING": "hi ü"}, task_marker="r1:2")

    assert bench.texts() == [f"hi ü|{bench.workdir.path}|r1:2"]


def test_secrets_are_masked_as_they_are_captured(bench: Bench) -> None:
    ctx = bench.context()
    ctx.masker.add("hunter22")

    bench.runner.run(bench.spec("sh", "-c", "echo a hunter22 b; printf hunter22 | base64"), bench.workdir, ctx)

    assert bench.texts() == ["a ****** b", "******"]


class Leaping:
    """Time that hardly passes until it leaps: a timeout passes when a test says so, however long a start takes."""

    def __init__(self) -> None:
        self.leapt_at: float | None = None

    def __call__(self) -> float:
        return time.monotonic() / 40 + (3_600 if self.leapt_at is not None else 0)

    def leap(self) -> None:
        self.leapt_at = time.monotonic()


def _when_it_runs(bench: Bench, act: Callable[[], None]) -> dict[str, Any]:
    """Return options of a context that call `act` once, when the body has told its first line, however late that is."""
    acted: list[bool] = []

    def once() -> None:
        if not acted:
            acted.append(True)
            act()

    def on_line(line: LogLine) -> None:
        bench.lines.append(line)
        if not bench.is_moto:
            once()

    def save_watch(_handle: object, watch: Mapping[str, object]) -> None:
        if bench.is_moto and watch["running_at"] is not None and not acted:
            time.sleep(1)  # moto says so a moment before the container starts
            once()

    return {"on_line": on_line, "save_watch": save_watch}


def test_a_timeout_ends_the_body(bench: Bench) -> None:
    clock = Leaping()
    spec = bench.spec("sh", "-c", "echo begun; sleep 60", timeout=timedelta(seconds=1.5))

    result = bench.runner.run(spec, bench.workdir, bench.context(clock=clock, **_when_it_runs(bench, clock.leap)))
    ended_at = time.monotonic()

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.DEADLINE)
    assert (result.message, bench.texts()) == ("ended after its timeout of 1.5 s", ["begun"])
    assert clock.leapt_at is not None
    assert ended_at - clock.leapt_at < 10


def test_a_cancel_before_the_start_starts_nothing(bench: Bench) -> None:
    bench.cancelled.set()

    result = bench.run("echo never")

    assert (result.status, bench.lines, bench.handles) == (Phase.CANCELLED, [], [])


def _cancelled_at_its_first_line(bench: Bench, script: str, grace: float) -> tuple[Phase, int | None, float]:
    stopwatch: list[float] = []

    def cancel() -> None:
        stopwatch.append(time.monotonic())
        bench.cancelled.set()

    spec = bench.spec("sh", "-c", script, grace=timedelta(seconds=grace))
    result = bench.runner.run(spec, bench.workdir, bench.context(**_when_it_runs(bench, cancel)))
    return result.status, result.exit_code, time.monotonic() - stopwatch[0]


def test_a_cancel_ends_a_running_body(bench: Bench) -> None:
    status, exit_code, seconds = _cancelled_at_its_first_line(bench, "echo begun; exec sleep 60", grace=25)

    assert (status, exit_code) == (Phase.CANCELLED, None if bench.is_moto else 143)
    assert seconds < 20  # its grace is not waited for


def test_a_body_that_ignores_the_request_is_killed_after_its_grace(bench: Bench) -> None:
    script = "trap '' TERM; echo begun; sleep 60"

    status, exit_code, seconds = _cancelled_at_its_first_line(bench, script, grace=0.7)

    assert (status, exit_code) == (Phase.CANCELLED, None if bench.is_moto else 137)
    assert 0.6 < seconds < 6


def test_a_second_cancel_and_one_after_the_end_change_nothing(bench: Bench) -> None:
    ctx = bench.context()
    handle = bench.runner.submit(bench.spec("sleep", "60"), bench.workdir, ctx)
    try:
        for _ in range(2):
            bench.runner.cancel(handle, timedelta(0), ctx)
        lines = list(bench.runner.logs(handle, None, ctx))
        _wait_for_end(bench, handle)
        bench.runner.cancel(handle, timedelta(0), ctx)

        # Some engines ask before they force, whatever the grace is.
        codes = {137, 143, *({None} if bench.is_moto else ())} if bench.runner.capabilities.remote else {137}
        assert bench.runner.poll(handle, ctx).exit_code in codes
        assert lines == []
    finally:
        bench.runner.cleanup(handle, ctx)
        bench.runner.cleanup(handle, ctx)


def _wait_for_end(bench: Bench, handle: JobHandle, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not bench.runner.poll(handle, bench.context()).phase.is_final:
        assert time.monotonic() < deadline, "the job did not end"
        bench.runner.wait(handle, bench.context(), 0.1)


def test_the_handle_is_saved_before_the_body_runs_and_survives_json(bench: Bench) -> None:
    seen: list[list[str]] = []

    def save_handle(handle: JobHandle) -> None:
        seen.append(bench.texts())
        bench.handles.append(JobHandle.from_json(handle.as_json()))

    spec = bench.spec("echo", "ran")
    bench.runner.run(spec, bench.workdir, bench.context(save_handle=save_handle))

    assert (seen[0], bench.texts()) == ([], ["ran"])
    assert len(seen) == 1 or bench.runner.capabilities.remote  # what is learnt of a remote job is stored with it
    assert {handle.runner for handle in bench.handles} == {bench.runner.type}


def test_a_handle_that_cannot_be_saved_keeps_the_body_from_running(bench: Bench) -> None:
    def save_handle(_handle: JobHandle) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        bench.runner.run(
            bench.spec("sh", "-c", "echo ran > ran.txt"), bench.workdir, bench.context(save_handle=save_handle)
        )

    assert not (bench.workdir.path / "ran.txt").exists()


def test_a_log_that_cannot_be_stored_neither_stops_the_body_nor_stays_unknown(bench: Bench) -> None:
    def on_line(_line: object) -> None:
        raise OSError("disk full")

    spec = bench.spec("sh", "-c", "seq 30000; echo done > done.txt", sync_workdir=True)
    with pytest.raises(OSError, match="disk full"):
        bench.runner.run(spec, bench.workdir, bench.context(on_line=on_line))

    assert bench.runner.capabilities.container or (bench.workdir.path / "done.txt").exists()


def test_a_program_that_is_not_there_is_named(bench: Bench) -> None:
    spec = bench.spec("no-such-program")

    if bench.runner.capabilities.container:
        # The init process of a container finds out and ends like a shell does, or the engine says that it cannot start.
        result = bench.runner.run(spec, bench.workdir, bench.context())
        assert result.exit_code in {127, 128}
        assert "no-such-program" in "".join((*bench.texts(), str(result.message)))
    else:
        with pytest.raises(TaskRunnerError, match="no-such-program") as caught:
            bench.runner.run(spec, bench.workdir, bench.context())
        assert caught.value.code == "runner.command.missing"


def test_a_process_limit_holds(bench: Bench) -> None:
    uid = 200_123 if not bench.runner.capabilities.container else None
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 & done; kill $(jobs -p); wait"

    result = bench.run(script, uid=uid, limits=Limits(processes=10))

    assert ("fork" in "".join(bench.texts("stderr")).lower()) is bench.runner.capabilities.process_limits
    assert result.exit_code is not None


def test_a_file_size_limit_holds(bench: Bench) -> None:
    result = bench.run("head -c 3000000 /dev/zero > big; wc -c < big", limits=Limits(file_bytes=1_000_000))

    assert bench.texts("stdout") == ["1000000" if bench.runner.capabilities.process_limits else "3000000"]
    assert result.exit_code == 0


def test_several_bodies_run_at_once_in_one_runner(bench: Bench) -> None:
    results: dict[int, tuple[int, list[str]]] = {}

    def one(number: int) -> None:
        from dataclasses import replace

        texts: list[str] = []
        spec = replace(bench.spec("sh", "-c", f"sleep 0.3; echo {number}"), attempt=number)
        result = bench.runner.run(spec, bench.workdir, bench.context(on_line=lambda line: texts.append(line.text)))
        results[number] = (result.exit_code or 0, texts)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert results == {number: (0, [str(number)]) for number in range(1, 6)}


def test_a_job_that_nobody_follows_is_found_with_its_attempt_and_can_be_removed(bench: Bench) -> None:
    name = bench.workdir.path.name
    ctx = bench.context(installation=name)
    spec = bench.spec("sleep", "60", attempt=3, labels={"mainstem.io/installation": name})
    handle = bench.runner.submit(spec, bench.workdir, ctx)

    found = {each.owner: each for each in bench.runner.list_owned(ctx)}
    elsewhere = [bench.context(installation=other, stored_handle=handle) for other in ("another", None)]
    others = [each.owner for other in elsewhere for each in bench.runner.list_owned(other)]
    by_labels = [bench.runner.find({"taskrun-id": spec.task_run_id}, each) for each in (ctx, *elsewhere)]
    bench.runner.cleanup(found.get((spec.task_run_id, 3), handle), ctx)
    left = [each.owner for each in bench.runner.list_owned(ctx)]

    assert ((spec.task_run_id, 3) in found) is bench.runner.capabilities.reattach
    assert (spec.task_run_id, 3) not in others
    assert [each is not None for each in by_labels] == [bench.runner.capabilities.reattach, False, False]
    assert (spec.task_run_id, 3) not in left
