"""Waits for the end of a local run: its time, Ctrl-C, and the pauses that somebody has to end."""

from __future__ import annotations

import enum
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from runner.errors import ConflictError, InvalidError
from runner.states import State

if TYPE_CHECKING:
    from runner.executions.models import Execution, TaskRun
    from runner.local import LocalEngine

_LOOK_S: Final = 0.25
_KILL_S: Final = 15.0


class End(enum.Enum):
    """Why the waiting ended, with the exit code where it is not that of the run."""

    ITSELF = None
    TIMEOUT = 124
    INTERRUPT = 130
    TERMINATED = 143
    UNANSWERED = 1


class Screen(Protocol):
    """What shows the run meanwhile; `aside` makes room for questions."""

    def aside(self) -> AbstractContextManager[None]:
        """Show nothing as long as the block runs."""


class NoScreen:
    """Shows nothing."""

    def aside(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM or SIGHUP."""


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `Terminated`, so that bodies are ended and folders removed."""

    def stop(_number: int, _frame: object) -> None:
        raise Terminated

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class Waiting:
    """Waits for one execution (`execution_id`). `resumes` goes on at every pause without asking."""

    def __init__(self, local: LocalEngine, execution_id: str, *, timeout_s: float, resumes: bool) -> None:
        self._engine = local.engine
        self.execution_id = execution_id
        self._deadline = time.monotonic() + timeout_s
        self._resumes = resumes

    def wait(self, screen: Screen) -> tuple[Execution, End]:
        """Return the execution, ended, and why the waiting ended; what had to be stopped has been killed."""
        try:
            end = self._until_the_end(screen)
        except Terminated:
            end = End.TERMINATED
        except (KeyboardInterrupt, click.Abort):
            end = End.INTERRUPT
        if end is not End.ITSELF:
            self._kill()
        return self._engine.get(self.execution_id), end

    def _until_the_end(self, screen: Screen) -> End:
        while True:
            left = self._deadline - time.monotonic()
            if self._engine.wait(self.execution_id, max(0.0, min(left, _LOOK_S))) is not None:
                return End.ITSELF
            if left <= 0:
                return End.TIMEOUT
            for execution in self._paused():
                if not self._go_on(execution, screen):
                    return End.UNANSWERED

    def _kill(self) -> None:
        try:
            self._engine.kill(self.execution_id)
        except ConflictError:
            return  # it has ended meanwhile
        self._engine.wait(self.execution_id, _KILL_S)

    # ---------------------------------------------------------------- pauses

    def _paused(self) -> list[Execution]:
        """Return what waits for somebody: this execution or subflows of it, the only ones in this store."""
        from runner.store import ExecutionQuery

        query = ExecutionQuery(states=(State.PAUSED,))
        return list(self._engine.store.read(lambda db: db.executions.search(query)).items)

    def _go_on(self, execution: Execution, screen: Screen) -> bool:
        """Resume an execution unless time does it; False when nobody can, or does not want to."""
        runs = self._engine.store.read(lambda db: db.executions.runs(execution.id))
        paused = [run for run in runs if run.state is State.PAUSED]
        if any(run.due_at is not None for run in paused) or not paused:
            return True
        if self._resumes:
            return self._resume(execution, {})
        if not sys.stdin.isatty():
            names = ", ".join(run.task_id for run in paused)
            click.echo(
                f"{names} waits for somebody to go on, and nobody can be asked here: the run is stopped\n"
                "  hint: run it on a terminal, or go on at every pause with --resume",
                err=True,
            )
            return False
        with screen.aside():
            return self._ask(execution, paused)

    def _ask(self, execution: Execution, paused: list[TaskRun]) -> bool:
        names = ", ".join(run.task_id for run in paused)
        if not click.confirm(f"{names} is paused. Go on?", default=True, err=True):
            return False
        while True:
            answers = {declared.id: _answer(declared) for declared in self._questions(execution, paused)}
            given = {name: value for name, value in answers.items() if value}
            try:
                return self._resume(execution, given)
            except InvalidError as error:
                click.echo(f"error: {error.message}", err=True)

    def _questions(self, execution: Execution, paused: list[TaskRun]) -> Iterator[Any]:
        index = self._engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        for run in paused:
            yield from getattr(index.tasks.get(run.task_id), "on_resume", ())

    def _resume(self, execution: Execution, inputs: Mapping[str, Any]) -> bool:
        try:
            self._engine.resume(execution.id, inputs)
        except ConflictError:
            return True  # something else has resumed it
        return True


def _answer(declared: Any) -> str:
    default = "" if declared.defaults is None else str(declared.defaults)
    question = f"  {declared.id} ({declared.type})"
    return str(click.prompt(question, default=default, show_default=bool(default), err=True))
