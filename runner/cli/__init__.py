"""The command line: one group whose commands are imported when they are called, so that `--help` stays fast.

Exit codes: 0 done, 1 a finding or a failed run, 2 wrong usage, 3 not found, 4 no access, 5 changes or drift, 6 the
server cannot be reached, 124 time is over, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import click

from runner import __version__
from runner.cli.groups import SuggestingGroup
from runner.errors import MainstemError

_INTERRUPTED: Final = 130

# Commands by name: where they stand, and what `--help` says of them. The upper packages are named by text only, since
# `runner` must not import them.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("webhooks.up:command", "Start everything in one process: server, engine, scheduler, hosted git."),
    "demo": ("webhooks.demo:command", "Start a server, push the example flows, run them, show the report."),
    "serve": ("webhooks.distributed:serve", "Serve HTTP in a deployment of several processes."),
    "worker": ("webhooks.distributed:worker", "Run tasks in a deployment of several processes."),
    "scheduler": ("webhooks.distributed:scheduler", "Fire schedules in a deployment of several processes."),
    "sync-agent": ("webhooks.distributed:sync_agent", "Mirror repositories in a deployment of several processes."),
    "validate": ("runner.cli.validate:command", "Check flow files; no server needed."),
    "schema": ("runner.cli.schema:command", "Print the JSON Schema of flows, for editors."),
    "plan": ("sync.cli:plan", "Show what a commit would change."),
    "test": ("runner.cli.test:command", "Run the tests of flows; no server needed."),
    "run": ("runner.cli.run:command", "Run a flow file here and now; no server needed."),
    "eval": ("runner.cli.eval:command", "Render an expression; no server needed."),
    "sync": ("sync.cli:command", "Synchronise repositories, show status and history."),
    "webhook": ("runner.cli.webhook:command", "Try the address of webhooks."),
    "exec": ("runner.cli.exec:command", "Start, list, follow, repeat and stop executions."),
    "flows": ("runner.cli.flows:command", "List and show active flows."),
    "trigger": ("runner.cli.trigger:command", "List triggers, show next fire times, switch them."),
    "kv": ("runner.cli.kv:command", "Read and write the key-value store."),
    "secret": ("runner.cli.secret:command", "Set and remove secrets of namespaces, list their keys."),
    "token": ("runner.cli.token:command", "Create, list and revoke API tokens."),
    "audit": ("runner.cli.audit:command", "List who did what, and what was refused."),
    "git-credential": ("runner.cli.git_credential:command", "Answer git's questions for credentials."),
    "workers": ("runner.cli.workers:command", "List workers with their groups, drain one."),
    "runners": ("runner.cli.runners:command", "List task runners, and prove that one works here."),
    "doctor": ("webhooks.doctor:command", "Check this installation and say what is wrong."),
    "db": ("runner.cli.db:command", "Migrate, check, back up and restore the database."),
    "explain": ("runner.cli.explain:command", "Explain an error code."),
    "migrate": ("sync.kestra.cli:command", "Say which flows of another engine run here."),
    "version": ("runner.cli.version:command", "Print the version and where it runs."),
}


class LazyGroup(SuggestingGroup):
    """A group that knows its commands by name and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Return the names in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        """Import and return a command; None for an unknown name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        with _ended_by_interrupts():
            found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's interface
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="mainstem")
def group() -> None:
    """Mainstem runs workflows from git: push a flow, and it runs; its report comes back as a branch."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the exit code."""
    _refuse_shadowed_packages()
    sys.exit(call(sys.argv[1:] if arguments is None else arguments))


def call(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    try:
        result: Any = group.main(args=arguments, prog_name="mainstem", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MainstemError as error:
        show_error(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone (`mainstem … | head`): no error, and nobody to tell.
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


@contextlib.contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process at once, where nothing has begun that would have to be ended in order.

    Raised in the midst of an import it may come out of a class or a compiled module as any other error.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def show_error(error: MainstemError) -> None:
    """Print an error as `error: sentence  [code]`, with its hint below."""
    click.echo(f"error: {error.message}  [{error.code}]", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)


def _refuse_shadowed_packages() -> None:
    """Say so when a folder of the user (`sync/`, `runner/` ...) was imported in place of one of our packages."""
    import importlib.util
    from pathlib import Path

    own = Path(__file__).resolve().parents[2]
    for name in ("sync", "webhooks", "task_runners"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
        if found != own:
            click.echo(
                f"error: the package {name!r} was found at {found}, not beside {own / 'runner'}.\n"
                "  hint: start from another folder, or set PYTHONSAFEPATH=1",
                err=True,
            )
            sys.exit(1)
