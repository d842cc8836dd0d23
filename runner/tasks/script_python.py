"""Python tasks: packages that are there before the body runs, the wanted version, and a module `kestra`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.plugin import Context
from runner.tasks.dependencies import REPORT, check, launched
from runner.tasks.script import Commands, Script, ScriptTask, texts
from runner.tasks.script_files import write
from task_runners.base import TaskRunner

_MODULES: Final = ".mainstem-python"
_JSON_WORDS: Final = re.compile(r"\b(?:true|false|null)\b")
_VERSION: Final = re.compile(r"\d+(\.\d+)?")
_MANAGERS: Final = ("UV", "PIP")
_DEFINITION: Final = "true, false, null = True, False, None\n"


class WithModule(ScriptTask):
    """A body that finds our module `kestra`, and whose lines come at once."""

    def prelude(self, ctx: Context) -> list[str]:
        """Put the module beside the body; no commands are needed for that."""
        write(ctx, f"{_MODULES}/kestra.py", resources.files("runner.tasks.bodies").joinpath("kestra.py").read_bytes())
        return super().prelude(ctx)

    def language_environment(self, root: str) -> dict[str, str]:
        """Return what makes Python print at once and find the module."""
        return {
            "PYTHONUNBUFFERED": "true",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": f"{root}/{_MODULES}",
        }


class _Python(WithModule):
    """What both Python tasks have: packages that are there before the body runs, and the wanted version."""

    dependencies: Any = None
    python_version: Any = None
    dependency_cache_enabled: Any = True
    package_manager: Any = "UV"
    uv_auto_install_enabled: Any = None
    uv_installer_version: Any = None
    uv_installer_sha256: Any = None

    def command(
        self, ctx: Context, lines: Sequence[str], env: Mapping[str, str], runner: TaskRunner
    ) -> tuple[str, ...]:
        """Return the program to start: one that sees to the dependencies first, where there are any."""
        command = super().command(ctx, lines, env, runner)
        given = texts(ctx, self.dependencies, "dependencies")
        packages = [line for text in given for line in text.splitlines() if line.strip()]
        if not packages:
            return command
        manager = ctx.render(self.package_manager).strip().upper() or "UV"
        if manager not in _MANAGERS:
            raise TaskError("task.property.invalid", f"`packageManager` {manager!r} is not one of UV, PIP")
        may_keep = runner.capabilities.shared_files and is_truthy(ctx.render(self.dependency_cache_enabled))
        version = self._versioned(ctx)
        return launched(ctx, packages, command, manager=manager, python=version, is_cached=may_keep)

    def check(self, ctx: Context) -> None:
        """Tell of the dependencies; raises `TaskError` `task.dependencies.failed`."""
        if self.dependencies is not None:
            check(ctx)

    def _own_globs(self) -> tuple[str, ...]:
        return (*super()._own_globs(), *([REPORT] if self.dependencies is not None else []))

    def _versioned(self, ctx: Context) -> str | None:
        """Return the program of `pythonVersion`, such as `python3.12`; None without one."""
        text = ctx.render(self.python_version).strip()
        version = _VERSION.match(text)
        if text and not version:
            raise TaskError("task.property.invalid", f"`pythonVersion` {text!r} is no version")
        return f"python{version[0]}" if version else None

    def default_image(self, ctx: Context) -> str:
        """Return the slim image of `pythonVersion`."""
        version = ctx.render(self.python_version)
        return f"python:{version}-slim" if version else self.language.image


class CommandsInPython(_Python, Commands):
    """Commands in an environment with Python."""


class ScriptInPython(_Python, Script):
    """A Python script, in which `true`, `false` and `null` may be used since rendered values contain them."""

    def call(self, ctx: Context, path: str) -> str:
        """Return the call of Python: that of an activated environment, else of `pythonVersion` if it is there."""
        python, plain = self._versioned(ctx), super().call(ctx, path)
        if python is None or python == self.language.program:
            return plain
        return f"""if [ -n "${{VIRTUAL_ENV:-}}" ]; then {plain}
elif command -v {python} >/dev/null; then {python} {path}
else echo "{python} is not on PATH, python3 runs the script" >&2; {plain}
fi"""

    def prepared(self, text: str) -> str:
        """Return the script, with the three names defined if it uses them."""
        return with_json_words(text)


def with_json_words(source: str) -> str:
    """Return a Python source that may use `true`, `false` and `null`.

    The definition is put after the docstring and the `from __future__` lines, which must stay first, and only into
    sources with one of the words: it moves the numbers of the lines below it by one.
    """
    if not _JSON_WORDS.search(source):
        return source
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return _DEFINITION + source
    first = next((line for line in statements if not _must_stay_first(line)), None)
    if first is None:
        return source
    line = min([first.lineno, *(node.lineno for node in getattr(first, "decorator_list", ()))]) - 1
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:line], _DEFINITION, *lines[line:]])


def _must_stay_first(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
