"""Script tasks: commands or a script in some language, run by a task runner."""

from __future__ import annotations

import abc
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import AliasChoices, Field

from runner.context import host_of
from runner.errors import TaskError
from runner.expressions import is_truthy, to_text
from runner.flows.models import Template
from runner.plugin import Context, Outcome, State, Task
from runner.tasks.languages import Language
from runner.tasks.script_files import SCRIPT_FILE, is_own, localise, rendered_globs, stage_inputs, store, write
from task_runners.base import FailureReason, Phase, TaskResult, TaskRunner, WorkDir
from task_runners.process import outer_path

_COMMANDS_FILE: Final = ".mainstem-commands"
_OUTPUT_FOLDER: Final = ".mainstem-outputs"
_TEXT_OPTION: Final = re.compile(r"-[a-zA-Z]*c")
_NOT_FOUND: Final = 127  # what shells answer when a program does not exist
_LINE_ENDS: Final = {"AUTO": "\n", "LINUX": "\n", "WINDOWS": "\r\n"}


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
    interpreter: Any = None
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
        root = runner.inside(WorkDir(ctx.work_dir()))
        globs = self.output_globs(ctx)
        inner = ctx.with_variables(**self._variables(ctx, root, globs))
        if not ctx.is_resumed:
            stage_inputs(inner, self.input_files, self.namespace_files)
        env = self._environment(inner, root)
        lines = [localise(inner, line) for line in self._lines(inner)]
        image = self._image(inner, runner)
        command = self.command(inner, lines, env, runner)
        globs = (*globs, *self._own_globs())
        try:
            result = ctx.run_command(runner, command=command, image=image, env=env, output_globs=globs)
        except TaskError as error:
            is_language = not self.language.program and command[0] == self.language.interpreter[0]
            if error.code == "runner.command.missing" and is_language:
                message = f"{error.message}; {self._advice(runner)}"
                raise TaskError("runner.interpreter.missing", message, hint=error.hint) from error
            raise
        return self._outcome(ctx, runner, result, env)

    @abc.abstractmethod
    def body(self, ctx: Context) -> list[str]:
        """Return the rendered commands of the body proper."""

    def prelude(self, ctx: Context) -> list[str]:  # noqa: ARG002 - for subclasses
        """Return commands that come before those of the flow."""
        return []

    def output_globs(self, ctx: Context) -> tuple[str, ...]:
        """Return the patterns of the files to keep."""
        return rendered_globs(ctx, self.output_files)

    def interpreter_words(self, ctx: Context) -> list[str]:
        """Return the program that runs the commands, with its options."""
        return texts(ctx, self.interpreter, "interpreter") or list(self.language.interpreter)

    @property
    def _has_output_folder(self) -> bool:
        return bool(self.output_directory) or self.runner is not None

    def _own_globs(self) -> tuple[str, ...]:
        return (f"{_OUTPUT_FOLDER}/**",) if self._has_output_folder else ()

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
        fail_fast = [self.language.fail_fast] if is_truthy(ctx.render(self.fail_fast)) else []
        before = texts(ctx, self.before_commands, "beforeCommands")
        return [*fail_fast, *self.prelude(ctx), *before, *self.body(ctx)]

    def command(
        self,
        ctx: Context,
        lines: Sequence[str],
        env: Mapping[str, str],  # noqa: ARG002 - for subclasses
        runner: TaskRunner,  # noqa: ARG002 - for subclasses
    ) -> tuple[str, ...]:
        """Return the program to start, with its arguments, for the rendered `lines`.

        Raises:
            TaskError: `task.command.secret`, `task.property.invalid`.
        """
        interpreter = self.interpreter_words(ctx)
        text = self._line_end(ctx).join(lines)
        option = interpreter[-1]
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

    def _line_end(self, ctx: Context) -> str:
        system = ctx.render(self.target_os).strip().upper() or "AUTO"
        if system not in _LINE_ENDS:
            names = ", ".join(_LINE_ENDS)
            raise TaskError("task.property.invalid", f"`targetOS` {system!r} is not one of {names}")
        return _LINE_ENDS[system]

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

    def _outcome(self, ctx: Context, runner: TaskRunner, result: TaskResult, env: Mapping[str, str]) -> Outcome:
        files = [path for path in result.output_files if path.startswith(f"{_OUTPUT_FOLDER}/") or not is_own(path)]
        outputs = {
            "exitCode": result.exit_code,
            "vars": dict(result.vars),
            "outputFiles": _own_names(store(ctx, files)),
            "stdOutLineCount": result.stdout_lines,
            "stdErrLineCount": result.stderr_lines,
            "taskRunner": {"type": runner.type, **result.details},
        }
        self.check(ctx)
        if result.status is Phase.SUCCEEDED:
            return Outcome(outputs, exit_code=result.exit_code)
        if result.failure_reason is FailureReason.CANCELLED:
            return Outcome(outputs, State.KILLED, result.message, failure_reason=result.failure_reason.value)
        self._check_program(ctx, runner, env, outputs)
        message = _error(result)
        ctx.log("ERROR", message)
        return Outcome(
            outputs,
            State.FAILED,
            error=message,
            exit_code=result.exit_code,
            failure_reason=None if result.failure_reason is None else result.failure_reason.value,
        )

    def check(self, ctx: Context) -> None:
        """Raise `TaskError` for what a language knows of a body that has ended. Nothing here."""

    def _check_program(
        self, ctx: Context, runner: TaskRunner, env: Mapping[str, str], outputs: Mapping[str, Any]
    ) -> None:
        program = self.language.program
        if outputs["exitCode"] != _NOT_FOUND or not program:
            return
        path = env.get("PATH") or outer_path(host_of(ctx).environment)
        if not runner.capabilities.container and shutil.which(program, path=path):
            return  # it was another program that the commands did not find
        where = "in its image" if runner.capabilities.container else "on this machine"
        message = f"Command failed with exit code {_NOT_FOUND}: {program} is not {where}; {self._advice(runner)}"
        raise TaskError("runner.interpreter.missing", message, outputs=outputs)

    def _advice(self, runner: TaskRunner) -> str:
        if runner.capabilities.container:
            return f"use an image that has it, such as {self.language.image}"
        return f"install it ({self.language.install}), or use a container task runner"


class Commands(ScriptTask):
    """Commands, one after the other, in one shell."""

    commands: Any

    def body(self, ctx: Context) -> list[str]:
        """Return the commands."""
        return texts(ctx, self.commands, "commands")


class Script(ScriptTask):
    """A script: written to a file and given to the program of its language, or run by the interpreter itself."""

    script: Template

    def prelude(self, ctx: Context) -> list[str]:  # noqa: ARG002 - the same for every task
        """Return the commands that make the program of the language ready."""
        return list(self.language.prelude)

    def body(self, ctx: Context) -> list[str]:
        """Write the script's file and return the command that runs it; a shell script is the commands itself."""
        text = ctx.render(self.script)
        suffix = self.suffix(ctx)
        if not suffix:
            return [text]
        name = SCRIPT_FILE + suffix
        write(ctx, name, self.prepared(localise(ctx, text)).encode())
        return [self.call(ctx, f"./{name}")]

    def suffix(self, ctx: Context) -> str:  # noqa: ARG002 - for subclasses
        """Return the end of the file's name; nothing for scripts that get no file."""
        return self.language.suffix

    def call(self, ctx: Context, path: str) -> str:  # noqa: ARG002 - for subclasses
        """Return the command that runs the script in the file `path`."""
        return " ".join((*self.language.command, path))

    def prepared(self, text: str) -> str:
        """Return the script as it is written to the file."""
        return text


def _error(result: TaskResult) -> str:
    if result.failure_reason is not FailureReason.APP_EXIT:
        return result.message or "the body could not be run"
    return f"Command failed with exit code {result.exit_code}"


def _own_names(uris: Mapping[str, str]) -> dict[str, str]:
    folder = f"{_OUTPUT_FOLDER}/"
    return {path.removeprefix(folder): uri for path, uri in uris.items() if path != f"{folder}.keep"}


def texts(ctx: Context, value: Any, name: str) -> list[str]:
    """Return the rendered property `name`: a list of texts, one text, or a text that renders to a list in JSON.

    Raises:
        TaskError: `task.property.invalid`.
    """
    rendered = ctx.render_typed(value)
    if isinstance(rendered, str):
        rendered = json.loads(rendered) if rendered.lstrip().startswith("[") else [rendered]
    if rendered is None:
        return []
    if not isinstance(rendered, list | tuple):
        raise TaskError("task.property.invalid", f"`{name}` must be a list of texts")
    return [to_text(item) for item in rendered]
