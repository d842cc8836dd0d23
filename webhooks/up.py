"""`mainstem up`: everything in one process, on one home, with nothing to install."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner import __version__
from runner.errors import InvalidError
from runner.home import TOKEN_FILE, admin_token
from runner.runtime import Roles
from runner.settings import Settings
from sync.origins import HOSTED
from webhooks.process import LOG_LEVELS, ServerProcess, check_address, hook_lines, write_logs

if TYPE_CHECKING:
    from runner.store import Store

log = logging.getLogger(__name__)
_MOST_STEPS: Final = 5


@click.command("up")
@click.option("--home", type=click.Path(path_type=Path), help="Folder with everything the server keeps.")
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on (8420); 0 takes a free one.")
@click.option("--health-port", type=click.IntRange(0, 65_535), help="Answer probes here too, and give figures.")
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings file.")
@click.option("--insecure", is_flag=True, help="Allow an address of other machines without TLS in front.")
@click.option("--log-level", default="warning", type=click.Choice(LOG_LEVELS))
def command(**options: Any) -> int:
    """Start everything in one process: web server, engine, scheduler, workers, hosted git.

    The server drains and stops on Ctrl-C or SIGTERM; a second one stops it at once.
    """
    write_logs(options["log_level"])
    settings = Settings.load(
        options["file"],
        home=options["home"],
        host=options["host"],
        port=options["port"],
        health_port=options["health_port"],
        insecure=options["insecure"] or None,
    )
    check_address(settings)
    return EmbeddedServer(settings).main(click.echo)


class EmbeddedServer(ServerProcess):
    """One server on one home, from the lock to the last flush."""

    def __init__(self, settings: Settings) -> None:
        if not settings.is_embedded:
            raise InvalidError(
                "server.database.external",
                "`up` keeps its state in SQLite",
                hint="with a database of your own start `mainstem serve`, `worker`, `scheduler` and `sync-agent`",
            )
        super().__init__("up", settings, Roles(), os.environ)
        self.token = ""

    def start(self) -> None:
        """Start everything, the broker first."""
        from runner.cli.client import LOCAL, write_context
        from task_runners.supervisor import shared_supervisor
        from task_runners.valkey import EmbeddedValkey

        self.take_home()
        valkey = EmbeddedValkey(self.home, shared_supervisor())
        valkey.end_leftover()
        valkey.start()
        self._exit.callback(valkey.stop)
        self._take_address()
        self.assemble(self._open_store(), valkey.url)
        # Made when nothing is left that often fails, and adopted at once: one that no database knows would never count.
        self.token = self._adopt_token()
        # Who reads the address asks at once, and would ask without a token before.
        self._tell_address()
        self.begin()
        write_context(self.environment, LOCAL, self.settings.local_url, self.home / TOKEN_FILE, make_current=False)

    def _take_address(self) -> None:
        port = self.listen(self.settings.port)
        self.listen_for_probes()
        if port != self.settings.port:
            self.settings = self.settings.model_copy(update={"port": port})

    def _tell_address(self) -> None:
        # Who reads it is on this machine. MAINSTEM_URL may name another server: the command line reads it too.
        self.lock.announce(url=self.settings.local_url)

    def _open_store(self) -> Store:
        """Open the database; an older one is copied aside and migrated."""
        from runner.store import Store
        from runner.store.maintenance import backup
        from runner.store.migration import known_versions

        url = self.settings.database_url
        found, current = Store.schema_version(url), known_versions()[-1]
        if found is not None and found != current and found in known_versions():
            copy = self.home / f"before-{current}-{int(time.time())}.tar"
            backup(url, copy)
            Store.migrate(url)
            log.warning("the database was migrated", extra={"from": found, "copy": str(copy)})
        return Store.open(url)

    def _adopt_token(self) -> str:
        from runner.access import Role

        secret, is_new = admin_token(self.home)
        if is_new or not any(token.name == "admin" for token in self.parts.access.tokens()):
            self.parts.access.adopt("admin", secret, Role.ADMIN)
        return secret

    def banner(self) -> str:
        """Return what a user needs to know now: addresses, the git line, where the token is."""
        has_flows = bool(self.parts.store.read(lambda db: db.flows.namespaces()))
        return "\n".join(banner_lines(self.settings, _short(self.home), self.seconds, has_flows=has_flows))


def _short(path: Path) -> str:
    """Return a path as the user would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def banner_lines(settings: Settings, home: str, seconds: float, *, has_flows: bool) -> Iterator[str]:
    """Give what a user needs to know once the server is up; without flows also what makes the first one active."""
    url = settings.local_url
    yield f"Mainstem {__version__}   embedded: SQLite, Valkey, 1 process      ready in {seconds:.1f} s"
    yield f"  web      {url}          token in {home}/token (admin)"
    if settings.public_url != url:
        yield f"  public   {settings.public_url}          (MAINSTEM_URL: what links and webhooks name)"
    yield f"  git      git remote add mainstem {url}/git/flows.git"
    yield f"           git config --global credential.{url}.helper '!mainstem git-credential'"
    yield from hook_lines(settings)
    yield f"  runner   {settings.default_task_runner} (default)"
    if not has_flows:
        yield from _first_steps(settings)
    yield "Ctrl-C drains and stops."


def _first_steps(settings: Settings) -> Iterator[str]:
    """Give what makes the first flow active: in the environment that is there by itself, or in those declared."""
    if not settings.environments:
        yield "Nothing is deployed yet: push a branch main that holds a folder flows/."
        return
    yield "Nothing is deployed yet. What the environments wait for:"
    for each in settings.environments[:_MOST_STEPS]:
        where = "here" if each.repository == HOSTED else f"in the repository {each.repository}"
        yield f"  {each.name}: {each.ref.removeprefix('refs/heads/')} {where}, with flows in {each.path}/"
    if len(settings.environments) > _MOST_STEPS:
        yield f"  and {len(settings.environments) - _MOST_STEPS} more"
