from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runner.errors import MainstemError


def test_of_twenty_pushes_and_writes_at_once_each_that_is_told_ok_is_in_main(
    hosted: Any, work_tree: Any, flow_text: Any, tmp_path: Path
) -> None:
    work_tree.write({"flows/base.yaml": flow_text("w.base")})
    work_tree.push(hosted.url())
    clones = [type(work_tree)(tmp_path / f"clone{n}") for n in range(10)]
    tips = {}
    for n, clone in enumerate(clones):
        work_tree.git("clone", "-q", hosted.url(), str(clone.path))
        tips[n] = clone.write({f"flows/push{n}.yaml": flow_text(f"w.push{n}")})
    together = threading.Barrier(20)
    pushed: dict[int, Any] = {}
    written: dict[int, Any] = {}

    def push(n: int) -> None:
        together.wait()
        pushed[n] = clones[n].push(hosted.url())

    def write(n: int) -> None:
        together.wait()
        try:
            written[n] = hosted.service.write_flow(flow_text(f"w.write{n}"), actor=f"user{n}")
        except MainstemError as error:
            written[n] = error

    threads = [threading.Thread(target=target, args=(n,)) for n in range(10) for target in (push, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    repository = hosted.service.repository("hosted").repository
    told_ok = [n for n, result in pushed.items() if result.code == 0]
    assert len(pushed) == len(written) == 10
    assert all(repository.is_ancestor(tips[n], hosted.main) for n in told_ok)
    assert all("fetch first" in pushed[n].output for n in pushed if n not in told_ok)
    versions = [version for version in written.values() if not isinstance(version, MainstemError)]
    assert len(versions) == 10
    assert all(repository.is_ancestor(version.commit, hosted.main) for version in versions)
    assert {f"w.push{n}" for n in told_ok} | {f"w.write{n}" for n in range(10)} | {"w.base"} == set(hosted.flows())
    assert hosted.service.environment("default").active == hosted.main


def test_a_refused_push_lands_after_a_pull(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    work_tree.write({"flows/a.yaml": flow_text("w.a")})
    work_tree.push(hosted.url())
    hosted.service.write_flow(flow_text("w.b"), actor="ann")
    work_tree.write({"flows/c.yaml": flow_text("w.c")})

    first = work_tree.push(hosted.url())
    work_tree.git("pull", "-q", "--rebase", hosted.url(), "main")
    second = work_tree.push(hosted.url())

    assert (first.code, second.code) == (1, 0)
    assert set(hosted.flows()) == {"w.a", "w.b", "w.c"}
    assert (work_tree.path / "flows/w/b.yaml").read_text() == flow_text("w.b")
