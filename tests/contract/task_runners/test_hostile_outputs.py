"""What a body leaves in its directory to fill a disk, to lead out of it, or to keep its reader waiting."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from task_runners.base import FailureReason, FileLimits, Phase
from tests.contract.task_runners.conftest import Bench

SPARSE = "dd if=/dev/zero of=large.bin bs=1 count=0 seek=5368709120 2>/dev/null; echo made > out.txt"
ODD = (
    "mkdir sub; echo made > sub/out.txt; ln -s /etc/passwd absolute; ln -s ../.. up; ln -s sub/out.txt inner; "
    "echo same > one; ln one two; mkfifo pipe; mknod zero c 1 5 2>/dev/null; "
    "mkdir -p ..data/...; echo dots > ..data/.../a"
)


@pytest.fixture(params=["process", "docker", "kubernetes"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(f"{request.param}_bench")
    return found


@pytest.fixture(params=["process", "docker", "kubernetes", "aws"])
def sparse_bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(f"{request.param}_bench")
    return found


@pytest.mark.timeout(60)
def test_an_output_of_five_gigabytes_is_refused_by_name_in_seconds_and_without_memory(sparse_bench: Bench) -> None:
    bench = sparse_bench
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    result = bench.run(SPARSE, output_globs=("large.bin",))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)
    assert "large.bin" in (result.message or "")
    assert sum(result.stages.values()) < 30  # it takes one; whoever reads all of it needs more than a minute
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert list(bench.runner.list_owned(bench.context())) == []


@pytest.mark.timeout(60)
def test_an_output_beside_a_file_of_five_gigabytes_comes_back(bench: Bench) -> None:
    result = bench.run(SPARSE, output_globs=("out.txt",))

    assert result.status is Phase.SUCCEEDED
    assert result.output_files["out.txt"].read_text() == "made\n"
    assert sum(result.stages.values()) < 30


@pytest.mark.timeout(60)
@pytest.mark.parametrize("trick", [": > .mainstem", "ln -s /nowhere/at/all .mainstem"])
def test_no_pod_packs_five_gigabytes_whatever_is_in_the_way(kubernetes_bench: Bench, trick: str) -> None:
    result = kubernetes_bench.run(f"rm -rf .mainstem; {trick}; {SPARSE}", output_globs=("*.bin",))

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)
    assert "large.bin" in (result.message or "")
    assert sum(result.stages.values()) < 30


@pytest.mark.timeout(60)
def test_no_pod_packs_more_than_is_read_of_many_files(kubernetes_bench: Bench) -> None:
    body = "for i in $(seq 1 90); do dd if=/dev/zero of=$i.bin bs=1 count=0 seek=1048576 2>/dev/null; done"
    limits = replace(FileLimits(), file_bytes=1 << 20, total_bytes=2 << 20)
    ctx = kubernetes_bench.context(file_limits=limits)

    result = kubernetes_bench.runner.run(
        kubernetes_bench.spec("sh", "-c", body, output_globs=("1.bin",)), kubernetes_bench.workdir, ctx
    )

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)
    assert "too large" in (result.message or "")


def test_links_pipes_and_devices_do_not_come_back(bench: Bench) -> None:
    result = bench.run(ODD, output_globs=("**",))

    files = {name: path.read_text() for name, path in result.output_files.items() if not name.startswith(".mainstem")}
    assert result.status is Phase.SUCCEEDED
    assert files.items() >= {("sub/out.txt", "made\n"), ("..data/.../a", "dots\n")}
    assert set(files) <= {"sub/out.txt", "..data/.../a", "one", "two"}
    assert {"one", "two"} & set(files)  # an archive has a file with two names once


def test_more_files_than_may_come_back_are_refused(bench: Bench) -> None:
    ctx = bench.context(file_limits=replace(FileLimits(), files=3))
    spec = bench.spec("sh", "-c", "for i in $(seq 1 40); do : > $i.txt; done", output_globs=("*.txt",))

    result = bench.runner.run(spec, bench.workdir, ctx)

    assert (result.status, result.failure_reason) == (Phase.FAILED, FailureReason.OUTPUT_FILES)
    assert list(bench.runner.list_owned(bench.context())) == []
