from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from task_runners import descendants, keeper


@pytest.mark.parametrize("has_children_files", [True, False])
def test_every_descendant_is_found_with_and_without_the_kernel_s_lists(
    monkeypatch: pytest.MonkeyPatch, *, has_children_files: bool
) -> None:
    if has_children_files and not descendants.HAS_CHILDREN_FILES:
        pytest.skip("this kernel has no /proc/PID/task/TID/children")
    monkeypatch.setattr(descendants, "HAS_CHILDREN_FILES", has_children_files)
    script = "setsid sh -c 'sleep 60 & echo $!; wait' & sleep 60 & echo $!; wait"

    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None
        sleeps = {int(shell.stdout.readline()), int(shell.stdout.readline())}
        found = set(descendants.descendants(shell.pid))
        frozen = descendants.frozen_descendants(shell.pid)
        for process in (shell.pid, *frozen):
            os.kill(process, 9)

    assert sleeps < found
    assert len(found) == 3
    assert frozen == found


def test_the_program_of_the_supervisor_needs_only_small_parts_of_the_standard_library() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import task_runners.keeper; print(*sorted(sys.modules))"
    here = str(Path(keeper.__file__).parent.parent)

    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, here], capture_output=True, text=True, check=True)

    assert not {"asyncio", "subprocess", "threading", "typing", "pathlib", "pydantic"} & set(done.stdout.split())
