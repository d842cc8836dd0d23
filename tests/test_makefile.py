"""What `make` says on a machine that lacks something: one sentence with what to do, before anything is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path, optional: Any) -> Path:
    if shutil.which("make") is None:
        optional("make", "make is not on the PATH")
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def make(checkout: Path, python: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "lint", f"PYTHON={python}"],
        cwd=checkout,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, done.stdout


def stub(checkout: Path, script: str) -> str:
    """Make a program that stands for a Python; `$*` are its arguments, `real` the interpreter of this test."""
    path = checkout / "python-stub"
    path.write_text(f"#!/bin/sh\nreal={sys.executable}\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_an_older_python_is_named_with_its_version(checkout: Path) -> None:
    python = stub(checkout, 'case "$*" in --version) echo "Python 3.9.2";; *version_info*) exit 1;; esac')

    code, output = make(checkout, python)

    assert code != 0
    assert "Python 3.11 or newer is needed, this is Python 3.9.2; set PYTHON=" in output
    assert not (checkout / ".venv").exists()


def test_a_missing_python_is_named(checkout: Path) -> None:
    code, output = make(checkout, "/nowhere/python3")

    assert code != 0
    assert "/nowhere/python3 was not found; Python 3.11 or newer is needed" in output


def test_a_python_without_venv_is_told_what_to_install(checkout: Path) -> None:
    python = stub(checkout, 'case "$*" in *ensurepip*) exit 1;; *) exec $real "$@";; esac')

    code, output = make(checkout, python)

    assert code != 0
    assert "apt install python3-venv" in output
    assert not (checkout / ".venv").exists()


@pytest.mark.timeout(300)  # an environment is made, which takes a minute on a machine with much to do
def test_an_index_that_cannot_be_reached_is_said_and_nothing_counts_as_installed(checkout: Path) -> None:
    code, output = make(checkout, sys.executable, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")

    assert code != 0
    assert "PIP_INDEX_URL names another package index" in output
    assert not (checkout / ".venv" / ".ready").exists()
