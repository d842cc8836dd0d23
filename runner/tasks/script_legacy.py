"""The script tasks of before 0.11: `io.kestra.core.tasks.scripts.Bash`, `Python` and `Node`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, ClassVar, Final

from pydantic import AliasChoices, Field

from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.plugin import Context, Outcome
from runner.tasks.languages import LANGUAGES, Language
from runner.tasks.script import ScriptTask, texts
from runner.tasks.script_files import write
from runner.tasks.script_python import WithModule
from task_runners.base import TaskResult, TaskRunner

_DEFAULT_COMMAND: Final = "./bin/python main.py"
_REQUIREMENTS: Final = ".mainstem-requirements.txt"


class _OldTask(ScriptTask):
    """What the old tasks have in common. Their outputs are also found under `files`."""

    interpreter: Any = "/bin/sh"
    interpreter_args: Any = ("-c",)
    fail_fast: Any = Field(default=True, validation_alias=AliasChoices("exitOnFailed", "failFast", "fail_fast"))
    files: Any = None
    outputs_files: Any = None
    output_dirs: Any = None

    def interpreter_words(self, ctx: Context) -> list[str]:
        """Return the interpreter and its arguments, which are two properties here."""
        args = texts(ctx, self.interpreter_args, "interpreterArgs")
        return [*texts(ctx, self.interpreter, "interpreter"), *args]

    def output_globs(self, ctx: Context) -> tuple[str, ...]:
        """Return what the three properties name, and everything in the output directories."""
        older = (*texts(ctx, self.outputs_files, "outputsFiles"), *texts(ctx, self.files, "files"))
        return (*super().output_globs(ctx), *older, *(f"{name}/**" for name in self._directories(ctx)))

    def prelude(self, ctx: Context) -> list[str]:
        """Return what makes the output directories."""
        names = " ".join(shlex.quote(name) for name in self._directories(ctx))
        return [*super().prelude(ctx), *([f"mkdir -p -- {names}"] if names else [])]

    def _directories(self, ctx: Context) -> list[str]:
        return texts(ctx, self.output_dirs, "outputDirs")

    def _variables(self, ctx: Context, root: str, globs: tuple[str, ...]) -> dict[str, Any]:
        directories = {name: f"{root}/{name}" for name in self._directories(ctx)}
        return {**super()._variables(ctx, root, globs), "outputDirs": directories}

    def _outcome(self, ctx: Context, runner: TaskRunner, result: TaskResult, env: Mapping[str, str]) -> Outcome:
        outcome = super()._outcome(ctx, runner, result, env)
        return replace(outcome, outputs={**outcome.outputs, "files": outcome.outputs["outputFiles"]})


class Bash(_OldTask):
    """Shell commands (deprecated: use `scripts.shell.Commands`)."""

    language: ClassVar[Language] = LANGUAGES["shell"]

    commands: Any

    def body(self, ctx: Context) -> list[str]:
        """Return the commands."""
        return texts(ctx, self.commands, "commands")


class Python(_OldTask, WithModule):
    """The file `main.py` of `inputFiles`, in an environment with `requirements` (deprecated: `scripts.python.*`)."""

    language: ClassVar[Language] = LANGUAGES["python"]

    python_path: Any = "python3"
    args: Any = None
    requirements: Any = None
    commands: Any = _DEFAULT_COMMAND
    virtual_env: Any = True
    package_manager: Any = None

    def prelude(self, ctx: Context) -> list[str]:
        """Return what makes the environment, in the working directory itself as the commands expect it."""
        lines = super().prelude(ctx)
        if not is_truthy(ctx.render(self.virtual_env)):
            return lines
        wanted = texts(ctx, self.requirements, "requirements")
        write(ctx, _REQUIREMENTS, "".join(f"{line}\n" for line in wanted).encode())
        pip = "" if wanted else " --without-pip"
        lines.append(f"{self._python(ctx)} -m venv --system-site-packages{pip} .")
        return [*lines, *([f"./bin/pip install --quiet -r {_REQUIREMENTS}"] if wanted else [])]

    def body(self, ctx: Context) -> list[str]:
        """Return the commands, each with the arguments."""
        commands, args = texts(ctx, self.commands, "commands"), texts(ctx, self.args, "args")
        if commands == [_DEFAULT_COMMAND]:
            _demand(ctx, "main.py")
            if not is_truthy(ctx.render(self.virtual_env)):
                commands = [f"{self._python(ctx)} main.py"]
        return [" ".join((command, *args)) for command in commands]

    def _python(self, ctx: Context) -> str:
        return ctx.render(self.python_path)


class Node(_OldTask):
    """The file `main.js` of `inputFiles`, with the packages of `package.json` (deprecated: `scripts.node.*`)."""

    language: ClassVar[Language] = LANGUAGES["node"]

    node_path: Any = "node"
    npm_path: Any = "npm"
    args: Any = None

    def body(self, ctx: Context) -> list[str]:
        """Return the installation of packages, if there are any, and the call of the script."""
        _demand(ctx, "main.js")
        write(ctx, "kestra.js", resources.files("runner.tasks.bodies").joinpath("kestra.js").read_bytes())
        has_packages = (ctx.work_dir() / "package.json").is_file()
        install = [f"{ctx.render(self.npm_path)} install > /dev/null"] if has_packages else []
        return [*install, " ".join((ctx.render(self.node_path), "main.js", *texts(ctx, self.args, "args")))]


def _demand(ctx: Context, name: str) -> None:
    if not (ctx.work_dir() / name).is_file():
        raise TaskError("file.inputs.invalid", f"`inputFiles` has no {name}, which this task runs")
