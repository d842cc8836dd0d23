from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from runner.errors import TaskError
from runner.tasks.flow import WorkingDirectory
from runner.tasks.log import Log
from runner.tasks.working_cache import restore_cache, save_cache

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench

CACHE = {"patterns": ["*.txt", "deep/**"], "ttl": "PT5m"}
FOLDER = "kestra:///company/team/flow/wd/cache/"


def task() -> WorkingDirectory:
    return WorkingDirectory(id="wd", type="x", tasks=(Log(id="t", type="x", message="x"),), cache=CACHE)


def save(bench: Bench, **files: str) -> None:
    with bench.context(task()) as ctx:
        for name, content in files.items():
            path = ctx.work_dir() / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            path.chmod(0o755)
        save_cache(ctx, CACHE)


def restored(bench: Bench) -> dict[str, str] | None:
    with bench.context(task()) as ctx:
        if not restore_cache(ctx, CACHE):
            return None
        root = ctx.work_dir()
        return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_what_matches_is_there_in_the_next_execution(bench: Bench) -> None:
    before = restored(bench)

    save(bench, **{"a.txt": "one", "deep__b": "two", "other": "no"})

    assert before is None
    assert restored(bench) == {"a.txt": "one", "deep/b": "two"}


def test_a_newer_cache_takes_the_place_of_the_older(bench: Bench) -> None:
    save(bench, **{"a.txt": "old", "gone.txt": "x"})
    later = bench.host.clock() + timedelta(minutes=1)
    bench.host = replace(bench.host, clock=lambda: later)

    save(bench, **{"a.txt": "new"})

    assert restored(bench) == {"a.txt": "new"}
    assert len(bench.host.storage.list(FOLDER)) == 1


def test_a_cache_that_is_too_old_is_not_used(bench: Bench) -> None:
    save(bench, **{"a.txt": "one"})
    later = bench.host.clock() + timedelta(minutes=6)
    bench.host = replace(bench.host, clock=lambda: later)

    assert restored(bench) is None


def test_a_broken_cache_is_thrown_away(bench: Bench) -> None:
    bench.host.storage.put(f"{FOLDER}{1767323045000:015d}.tar", io.BytesIO(b"no archive" * 100))

    assert restored(bench) is None
    assert bench.host.storage.list(FOLDER) == []
    assert bench.lines[0][0] == "WARN"


def test_patterns_stay_in_the_directory(bench: Bench) -> None:
    with bench.context(task()) as ctx, pytest.raises(TaskError):
        save_cache(ctx, {"patterns": ["../*"]})


def test_nothing_to_keep_keeps_nothing(bench: Bench) -> None:
    save(bench, other="x")

    assert bench.host.storage.list(FOLDER) == []
