"""`mainstem serve`, `worker`, `scheduler`, `sync-agent`: the parts of a server as processes, any number of each.

They share a PostgreSQL database, which holds the truth, a Redis or Valkey, which wakes them, and a storage for files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from runner import __version__
from runner.errors import InvalidError
from runner.home import TOKEN_FILE, admin_token
from runner.runtime import Roles
from runner.settings import Settings
from sync.origins import HOSTED
from webhooks.process import LOG_LEVELS, ServerProcess, check_address, hook_lines, write_logs

F = TypeVar("F", bound=Callable[..., Any])

SERVE: Final = Roles(serves=True, works=False, schedules=False, syncs=False, is_alone=False)
WORKER: Final = Roles(serves=False, works=True, schedules=False, syncs=False, is_alone=False)
SCHEDULER: Final = Roles(serves=False, works=False, schedules=True, syncs=False, is_alone=False)
SYNC_AGENT: Final = Roles(serves=False, works=False, schedules=False, syncs=True, is_alone=False)


def _options(command: F) -> F:
    """Add the options that all roles have."""
    for option in (
        click.option("--log-level", default="warning", type=click.Choice(LOG_LEVELS)),
        click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings file."),
        click.option("--home", type=click.Path(path_type=Path), help="Folder of this process alone: mirrors, secrets."),
    ):
        command = option(command)
    return command


def _health_port(command: F) -> F:
    """Add the option of the port that probes ask."""
    port = click.IntRange(0, 65_535)
    return click.option("--health-port", type=port, help="Answer probes on this port, and give figures there.")(command)


def _answering(command: F) -> F:
    """Add the options of a role that answers nothing but probes."""
    return click.option("--host", help="Address to answer on (127.0.0.1).")(_health_port(command))


@click.command("serve")
@_options
@_health_port
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on (8420); 0 takes a free one.")
@click.option("--insecure", is_flag=True, help="Allow an address of other machines without TLS in front.")
def serve(*, insecure: bool, **options: Any) -> int:
    """Serve the API, webhooks and the deliveries of forges; the work is done by the other roles.

    Needs a PostgreSQL database, a Redis or Valkey URL and a shared storage: see docs/deployment.md.
    """
    return _run("serve", SERVE, insecure=insecure or None, **options)


@click.command("worker")
@_options
@_answering
@click.option("--workers", type=click.IntRange(1, 256), help="How many tasks run at the same time (8).")
@click.option("--group", "groups", multiple=True, metavar="TAG", help="Take tasks of this worker group; repeatable.")
def worker(groups: tuple[str, ...], **options: Any) -> int:
    """Move executions forward and run their tasks. SIGTERM drains: running tasks end, nothing new is begun."""
    return _run("worker", WORKER, worker_groups=groups or None, **options)


@click.command("scheduler")
@_options
@_answering
def scheduler(**options: Any) -> int:
    """Fire schedules and wake what waits for a moment; several share the work, and each date fires once."""
    return _run("scheduler", SCHEDULER, **options)


@click.command("sync-agent")
@_options
@_answering
def sync_agent(**options: Any) -> int:
    """Follow the repositories, activate what they hold, commit reports back."""
    return _run("sync-agent", SYNC_AGENT, **options)


def _run(name: str, roles: Roles, *, file: Path | None, log_level: str, **overrides: Any) -> int:
    write_logs(log_level)
    settings = Settings.load(file, **overrides)
    if roles.serves:
        check_address(settings)
    return RoleProcess(name, settings, roles).main(click.echo)


def check_settings(settings: Settings) -> None:
    """Refuse settings with which several processes would not be one server.

    Raises:
        InvalidError: `server.database.missing`, `server.broker.missing`, `server.storage.missing`,
            `server.encryption.missing`, `server.repository.hosted`.
    """
    if settings.is_embedded:
        raise InvalidError(
            "server.database.missing",
            "several processes cannot share SQLite",
            hint="set `database` to postgresql+psycopg://USER:PASSWORD@HOST/NAME, or start `mainstem up` alone",
        )
    if settings.broker is None:
        raise InvalidError(
            "server.broker.missing",
            "the processes need a Redis or Valkey to wake one another",
            hint="set `broker` to redis://:PASSWORD@HOST:6379/0",
        )
    if settings.storage is None:
        raise InvalidError(
            "server.storage.missing",
            "files of executions must lie where every process reads them",
            hint="set `storage` to a folder that all processes share, or to the URL of an installed storage",
        )
    if settings.encryption_key is None:
        raise InvalidError(
            "server.encryption.missing",
            "what one process encrypts the others must be able to read",
            hint="set `encryptionKey` to the same 32 bytes for all: openssl rand -base64 32",
        )
    for repository in settings.repositories:
        if HOSTED in {repository.kind, repository.name}:
            _refuse_hosted(repository.name)


def _refuse_hosted(name: str) -> None:
    raise InvalidError(
        "server.repository.hosted",
        f"the repository {name!r} is served by `mainstem up` only: of several processes none would have all of it",
        hint="push it to a git server, and declare that one's URL",
    )


class RoleProcess(ServerProcess):
    """One process of a deployment."""

    def __init__(self, name: str, settings: Settings, roles: Roles) -> None:
        check_settings(settings)
        super().__init__(name, settings, roles, os.environ)
        self.port: int | None = None

    def start(self) -> None:
        """Start what the role takes part in."""
        from runner.store import Store

        self.take_home()
        if self.roles.serves:
            self.settings = self.settings.model_copy(update={"port": self.listen(self.settings.port)})
        self.port = self.listen_for_probes()
        self.lock.announce(role=self.name)
        # Migrating is for whoever upgrades all processes: `mainstem db migrate`.
        store = Store.open(self.settings.database_url, create=False)
        assert self.settings.broker is not None
        self.assemble(store, self.settings.broker)
        for repository in store.read(lambda db: db.repositories.all()):
            if repository.kind == HOSTED:
                _refuse_hosted(repository.name)
        if self.roles.serves:
            self._adopt_token()
        if self.roles.works:
            from task_runners.supervisor import shared_supervisor

            shared_supervisor()
        self.begin()

    def _adopt_token(self) -> None:
        """Let the admin in: with the secret of the settings, or with one of the home when there is no token yet."""
        from runner.access import Role

        secret, known = self.settings.admin_token, self.parts.access.tokens()
        if secret is None and not known:
            secret, _ = admin_token(self.home)
        if secret is not None:
            self.parts.access.adopt("admin", secret, Role.ADMIN)

    def banner(self) -> str:
        """Return that it is ready, and where it is."""
        lines = [
            f"Mainstem {__version__}   {self.name}: PostgreSQL, external broker      ready in {self.seconds:.1f} s"
        ]
        if self.roles.serves:
            lines.append(f"  web      {self.settings.public_url}")
            if (self.home / TOKEN_FILE).exists():
                lines.append(f"  token    {self.home / TOKEN_FILE} (admin)")
            lines += hook_lines(self.settings)
        if self.port is not None:
            lines.append(f"  health   http://{self.settings.host}:{self.port}/health/ready")
        return "\n".join([*lines, "Ctrl-C drains and stops."])
