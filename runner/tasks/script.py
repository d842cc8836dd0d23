"""Script tasks: commands or a script in some language, run by a task runner."""

from __future__ import annotations

import abc
import ast
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from runner.context import host_of
from runner.errors import TaskError
from runner.expressions import is_truthy, to_text
from runner.flows.models import Template
from runner.plugin import Context, Outcome, State, Task
from runner.tasks.script_files import localise, rendered_globs, stage_inputs, store, write
from task_runners.base import FailureReason, Phase, TaskResult, TaskRunner

_COMMANDS_FILE = ".mainstem-commands"
_SCRIPT_FILE = ".mainstem-script"
_PACKAGES = ".mainstem-packages"
_MODULES = ".mainstem-python"
_OUTPUT_FOLDER = ".mainstem-outputs"
_OWN_FILES = (_COMMANDS_FILE, _SCRIPT_FILE, _PACKAGES, _MODULES)
_TEXT_OPTION = re.compile(r"-[a-zA-Z]*c")
_JSON_WORDS = re.compile(r"\b(?:true|false|null)\b")
_PRELUDE = "true, false, null = True, False, None\n"
_NOT_FOUND = 127  # what shells answer when a program does not exist


@dataclass(frozen=True, slots=True)
class Language:
    """How a script of a language runs: the image to run it in, its file's suffix, the program before the file."""

    image: str
    suffix: str = ""
    program: str = ""


SHELL = Language("ubuntu")
PYTHON = Language("python:3.13-slim", ".py", "python3")
NODE = Language("node", ".js", "node")


class ScriptTask(Task):
    """What all script tasks have in common.

    Outputs: `exitCode`, `vars` (what the body printed as `::{"outputs": ...}::`), `outputFiles`, `stdOutLineCount`,
    `stdErrLineCount`, `taskRunner`. They are kept when the body fails.
    """

    language: ClassVar[Language]

    task_runner: dict[str, Any] | None = None
    container_image: Template | None = None
    runner: Template | None = None
    docker: dict[str, Any] | None = None
    before_commands: Any = None
    interpreter: Any = ("/bin/sh", "-c")
    fail_fast: Any = True
    env: Any = None
    input_files: Any = None
    namespace_files: Any = None
    output_files: Any = None
    output_directory: Any = Field(
        default=None, validation_alias=AliasChoices("outputDirectory", "outputDir", "output_directory")
    )
    target_os: Any = Field(default="AUTO", validation_alias=AliasChoices("targetOS", "target_os"))
    warning_on_std_err: Any = None

    def run(self, ctx: Context) -> Outcome:
        """Stage files, run the body, store its files; a body that fails keeps its outputs."""
        runner = ctx.task_runner(self._runner_spec())
        root = str(ctx.work_dir())
        globs = rendered_globs(ctx, self.output_files)
        inner = ctx.with_variables(**self._variables(ctx, root, globs))
        stage_inputs(inner, self.input_files, self.namespace_files)
        lines = [localise(inner, line) for line in self._lines(inner)]
        image = self._image(inner, runner)
        result = ctx.run_command(
            runner,
            command=self._command(inner, lines),
            image=image,
            env=self._environment(inner, root),
            output_globs=(*globs, f"{_OUTPUT_FOLDER}/**") if self._has_output_folder else globs,
        )
        return self._outcome(ctx, runner, result)

    @abc.abstractmethod
    def body(self, ctx: Context) -> list[str]:
        """Return the rendered commands of the body proper."""

    @property
    def _has_output_folder(self) -> bool:
        return bool(self.output_directory) or self.runner is not None

    def _runner_spec(self) -> Mapping[str, Any] | None:
        if self.runner is None and self.docker is None:
            return self.task_runner
        # The properties of before 0.18; the front end rewrites them too, so that this is for flows built in Python.
        if self.runner is not None and self.runner.upper() == "PROCESS":
            return {"type": "process"}
        options = {key: value for key, value in (self.docker or {}).items() if key != "image"}
        return {"type": "docker", **options}

    def _variables(self, ctx: Context, root: str, globs: tuple[str, ...]) -> dict[str, Any]:
        variables: dict[str, Any] = {
            "workingDir": root,
            "outputFiles": {glob: f"{root}/{glob}" for glob in globs},
        }
        if self._has_output_folder:
            write(ctx, f"{_OUTPUT_FOLDER}/.keep", b"")
            variables["outputDir"] = f"{root}/{_OUTPUT_FOLDER}"
        return variables

    def _lines(self, ctx: Context) -> list[str]:
        fail_fast = ["set -e"] if is_truthy(ctx.render(self.fail_fast)) else []
        return [*fail_fast, *_texts(ctx, self.before_commands, "beforeCommands"), *self.body(ctx)]

    def _command(self, ctx: Context, lines: list[str]) -> tuple[str, ...]:
        interpreter = _texts(ctx, self.interpreter, "interpreter")
        text = "\n".join(lines)
        option = interpreter[-1] if interpreter else ""
        if _TEXT_OPTION.fullmatch(option):
            # `sh -c TEXT` would show the text, and the secrets in it, to everybody who can list processes.
            write(ctx, _COMMANDS_FILE, text.encode())
            rest = option[:-1]
            return (*interpreter[:-1], *([rest] if rest != "-" else []), f"./{_COMMANDS_FILE}")
        if host_of(ctx).masker.mask(text) != text:
            raise TaskError(
                "task.command.secret",
                "a secret in a command would be visible in the list of processes",
                hint="hand it over by `env`, or use an interpreter that ends with -c",
            )
        return (*interpreter, text)

    def _environment(self, ctx: Context, root: str) -> dict[str, str]:
        value = ctx.render_typed(self.env)
        if isinstance(value, str):
            value = json.loads(value)
        if value is not None and not isinstance(value, Mapping):
            raise TaskError("task.env.invalid", "`env` must be a map of names and texts")
        given = {str(name): to_text(text) for name, text in (value or {}).items()}
        output = {"OUTPUT_DIR": f"{root}/{_OUTPUT_FOLDER}"} if self._has_output_folder else {}
        return self.language_environment(root) | given | output

    def language_environment(self, root: str) -> dict[str, str]:  # noqa: ARG002 - for subclasses
        """Return the variables that the language needs; those of `env` win."""
        return {}

    def default_image(self, ctx: Context) -> str:  # noqa: ARG002 - for subclasses
        """Return the image for a task that names none."""
        return self.language.image

    def _image(self, ctx: Context, runner: TaskRunner) -> str | None:
        given = self.container_image or (self.docker or {}).get("image")
        image = ctx.render(given) if given else None
        if runner.capabilities.container:
            ctx.log("DEBUG", f"runs on {runner.type} in {image or self.default_image(ctx)}")
            return image or self.default_image(ctx)
        ignored = f"; the image {image} is not used" if image else ""
        ctx.log("DEBUG", f"runs on {runner.type}{ignored}")
        return None

    def _outcome(self, ctx: Context, runner: TaskRunner, result: TaskResult) -> Outcome:
        files = [path for path in result.output_files if not path.startswith(_OWN_FILES)]
        outputs = {
            "exitCode": result.exit_code,
            "vars": dict(result.vars),
            "outputFiles": _own_names(store(ctx, files)),
            "stdOutLineCount": result.stdout_lines,
            "stdErrLineCount": result.stderr_lines,
            "taskRunner": {"type": runner.type, **result.details},
        }
        if result.status is Phase.SUCCEEDED:
            return Outcome(outputs, exit_code=result.exit_code)
        if result.failure_reason is FailureReason.CANCELLED:
            return Outcome(outputs, State.KILLED, result.message, failure_reason=result.failure_reason.value)
        message = self._error(result)
        ctx.log("ERROR", message)
        return Outcome(
            outputs,
            State.FAILED,
            error=message,
            exit_code=result.exit_code,
            failure_reason=None if result.failure_reason is None else result.failure_reason.value,
        )

    def _error(self, result: TaskResult) -> str:
        if result.failure_reason is not FailureReason.APP_EXIT:
            return result.message or "the body could not be run"
        message = f"Command failed with exit code {result.exit_code}"
        if result.exit_code == _NOT_FOUND and self.language.program:
            return f"{message} (is {self.language.program} installed where the task runs?)"
        return message


class Commands(ScriptTask):
    """Commands, one after the other, in one shell."""

    commands: Any

    def body(self, ctx: Context) -> list[str]:
        """Return the commands."""
        return _texts(ctx, self.commands, "commands")


class Script(ScriptTask):
    """A script: written to a file and given to the program of its language."""

    script: Template

    def body(self, ctx: Context) -> list[str]:
        """Write the script's file and return the command that runs it."""
        text = localise(ctx, ctx.render(self.script))
        name = _SCRIPT_FILE + self.language.suffix
        write(ctx, name, self.prepared(text).encode())
        return [f"{self.language.program} ./{name}"]

    def prepared(self, text: str) -> str:
        """Return the script as it is written to the file."""
        return text


class ShellCommands(Commands):
    """Shell commands."""

    language = SHELL


class ShellScript(ScriptTask):
    """A shell script."""

    language = SHELL

    script: Template

    def body(self, ctx: Context) -> list[str]:
        """Return the script itself: the interpreter is its program."""
        return [ctx.render(self.script)]


class _Python(ScriptTask):
    """What both Python tasks have: packages that are installed before the body runs, and a module `kestra`."""

    language = PYTHON

    dependencies: Any = None
    python_version: Any = None
    dependency_cache_enabled: Any = None
    package_manager: Any = None
    uv_auto_install_enabled: Any = None
    uv_installer_version: Any = None
    uv_installer_sha256: Any = None

    def _lines(self, ctx: Context) -> list[str]:
        write(ctx, f"{_MODULES}/kestra.py", resources.files("runner.tasks.bodies").joinpath("kestra.py").read_bytes())
        lines = super()._lines(ctx)
        packages = _texts(ctx, self.dependencies, "dependencies")
        if not packages:
            return lines
        names = " ".join(shlex.quote(package) for package in packages)
        install = f"python3 -m pip install --no-input --quiet --target {_PACKAGES} {names} || exit $?"
        return [install, *lines]

    def language_environment(self, root: str) -> dict[str, str]:
        """Return what makes Python print at once and find the installed packages and our module."""
        return {
            "PYTHONUNBUFFERED": "true",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": f"{root}/{_PACKAGES}:{root}/{_MODULES}",
        }

    def default_image(self, ctx: Context) -> str:
        """Return the slim image of `pythonVersion`."""
        version = ctx.render(self.python_version)
        return f"python:{version}-slim" if version else self.language.image


class PythonCommands(_Python, Commands):
    """Commands in an environment with Python."""


class PythonScript(_Python, Script):
    """A Python script, in which `true`, `false` and `null` may be used since rendered values contain them."""

    def prepared(self, text: str) -> str:
        """Return the script, with the three names defined if it uses them."""
        return with_json_words(text)


class NodeCommands(Commands):
    """Commands in an environment with Node.js."""

    language = NODE


class NodeScript(Script):
    """A JavaScript script for Node.js."""

    language = NODE


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
        return _PRELUDE + source
    first = next((line for line in statements if not _must_stay_first(line)), None)
    if first is None:
        return source
    line = min([first.lineno, *(node.lineno for node in getattr(first, "decorator_list", ()))]) - 1
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:line], _PRELUDE, *lines[line:]])


def _must_stay_first(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _own_names(uris: Mapping[str, str]) -> dict[str, str]:
    folder = f"{_OUTPUT_FOLDER}/"
    return {path.removeprefix(folder): uri for path, uri in uris.items() if path != f"{folder}.keep"}


def _texts(ctx: Context, value: Any, name: str) -> list[str]:
    rendered = ctx.render_typed(value)
    if isinstance(rendered, str):
        rendered = json.loads(rendered) if rendered.lstrip().startswith("[") else [rendered]
    if rendered is None:
        return []
    if not isinstance(rendered, list | tuple):
        raise TaskError("task.property.invalid", f"`{name}` must be a list of texts")
    return [to_text(item) for item in rendered]
