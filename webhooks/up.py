"""`mainstem up`: everything in one process, on one home, with nothing to install."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from runner import __version__
from runner.errors import InvalidError
from runner.home import TOKEN_FILE, HomeLock, admin_token, lock_home, prepare_home
from runner.settings import Settings

if TYPE_CHECKING:
    from runner.store import Store
    from task_runners.supervisor import Supervisor
    from task_runners.valkey import EmbeddedValkey
    from webhooks.assembly import Parts

log = logging.getLogger(__name__)

_MOST_HOOKS = 5
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@click.command("up")
@click.option("--home", type=click.Path(path_type=Path), help="Folder with everything the server keeps.")
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on (8420); 0 takes a free one.")
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings file.")
@click.option("--insecure", is_flag=True, help="Allow an address of other machines without TLS in front.")
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]))
def command(**options: Any) -> int:
    """Start everything in one process: web server, engine, scheduler, workers, hosted git.

    The server drains and stops on Ctrl-C or SIGTERM; a second Ctrl-C stops it at once.
    """
    started = time.monotonic()
    logging.basicConfig(level=options["log_level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.load(
        options["file"],
        home=options["home"],
        host=options["host"],
        port=options["port"],
        insecure=options["insecure"] or None,
    )
    check_address(settings)
    with EmbeddedServer(settings) as server:
        click.echo(server.banner(time.monotonic() - started))
        return server.serve()


def check_address(settings: Settings) -> None:
    """Refuse to listen where other machines can reach an unencrypted server.

    Raises:
        InvalidError: `server.address.insecure`.
    """
    if settings.host not in _LOOPBACK and not settings.insecure:
        raise InvalidError(
            "server.address.insecure",
            f"{settings.host} can be reached from other machines, and tokens would travel unencrypted",
            hint="put a proxy with TLS in front and start with --insecure",
        )


class EmbeddedServer:
    """One server on one home, from the lock to the last flush. Enter it to start, leave it to drain and stop."""

    def __init__(self, settings: Settings) -> None:
        if not settings.is_embedded:
            raise InvalidError(
                "server.database.external",
                "`up` keeps its state in SQLite",
                hint="with a database of your own start `mainstem serve`, `worker`, `scheduler` and `sync-agent`",
            )
        self.home = prepare_home(settings.home)
        self.settings = settings.model_copy(update={"home": self.home})
        self.token = ""
        self.parts: Parts
        self._exit = contextlib.ExitStack()
        self._listener: socket.socket
        self._lock: HomeLock
        self._supervisor: Supervisor
        self._valkey: EmbeddedValkey
        self._poller: Any = None

    # ---------------------------------------------------------------- life

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        from task_runners.supervisor import shared_supervisor
        from task_runners.valkey import EmbeddedValkey

        self._lock = lock_home(self.home)
        self._exit.callback(self._lock.release)
        self._supervisor = shared_supervisor()
        self._valkey = EmbeddedValkey(self.home, self._supervisor)
        self._valkey.end_leftover()
        self._valkey.start()
        self._exit.callback(self._valkey.stop)
        self._listen()
        store = self._open_store()
        self._exit.callback(store.close)
        self._assemble(store)

    def _listen(self) -> None:
        from runner.cli.client import write_context
        from webhooks.server import address_of, bind

        self._listener = bind(self.settings.host, self.settings.port)
        self._exit.callback(self._listener.close)
        port = address_of(self._listener)[1]
        if port != self.settings.port:
            self.settings = self.settings.model_copy(update={"port": port})
        self._lock.announce(url=self.settings.public_url)
        write_context(os.environ, "local", self.settings.public_url, self.home / TOKEN_FILE, make_current=False)

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

    def _assemble(self, store: Store) -> None:
        from sync.poller import Poller
        from webhooks.assembly import make_parts

        self.parts = make_parts(self.settings, store, self._valkey.url, environment=os.environ)
        self.token = self._adopt_token()
        self.parts.sync.ensure_declared()
        self._exit.callback(self.parts.sync.close)
        if self.settings.reports.enabled:
            # Stopped after the runtime, so that the runs which a drain waits for are told too.
            self.parts.reports.start()
            self._exit.callback(self.parts.reports.stop)
        self.parts.runtime.start()
        self._exit.callback(self.parts.runtime.stop, self.settings.grace_period_s)
        self._poller = Poller(self.parts.sync, store)
        self._poller.start()
        self._exit.callback(self._poller.stop)

    def _adopt_token(self) -> str:
        from runner.access import Role

        secret, is_new = admin_token(self.home)
        if is_new or not any(token.name == "admin" for token in self.parts.access.tokens()):
            self.parts.access.adopt("admin", secret, Role.ADMIN)
        return secret

    # ---------------------------------------------------------------- serving

    def serve(self) -> int:
        """Serve until a signal asks to stop; return the exit code."""
        try:
            import uvloop

            return uvloop.run(self._serve())
        except ImportError:
            return asyncio.run(self._serve())

    async def _serve(self) -> int:
        from webhooks.assembly import make_app
        from webhooks.server import serve

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        signals: list[int] = []

        def on_signal(number: int) -> None:
            signals.append(number)
            if len(signals) > 1 and number == signal.SIGINT:
                log.warning("stopping now: bodies that still run are ended")
                self.parts.runtime.hurry()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        app = make_app(self.parts, mounted=self._mounted())
        await serve(app, self.settings.host, self.settings.port, stop, listener=self._listener)
        # Draining waits for bodies; a second Ctrl-C must still be heard, so it happens on a thread.
        await asyncio.to_thread(self._exit.close)
        return 0

    def _mounted(self) -> tuple[Any, ...]:
        from webhooks.mounts import hosted_git, receivers

        return (hosted_git(self.parts), receivers(self.parts, self._poller.request))

    def banner(self, seconds: float) -> str:
        """Return what a user needs to know now: addresses, the git line, where the token is."""
        has_flows = bool(self.parts.catalogue.active())
        return "\n".join(_banner_lines(self.settings, _short(self.home), seconds, has_flows=has_flows))


def _short(path: Path) -> str:
    """Return a path as the user would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _banner_lines(settings: Settings, home: str, seconds: float, *, has_flows: bool) -> Iterator[str]:
    url = settings.public_url
    yield f"Mainstem {__version__}   embedded: SQLite, Valkey, 1 process      ready in {seconds:.1f} s"
    yield f"  web      {url}          token in {home}/token (admin)"
    yield f"  git      git remote add mainstem {url}/git/flows.git"
    yield f"           git config --global credential.{url}.helper '!mainstem git-credential'"
    yield from _hook_lines(settings)
    yield f"  runner   {settings.default_task_runner} (default)"
    if not has_flows:
        yield "Nothing is deployed yet: push a branch main that holds a folder flows/."
    yield "Ctrl-C drains and stops."


def _hook_lines(settings: Settings) -> Iterator[str]:
    """Tell where forges deliver to. The hosted repository has none: its pushes are answered as they come."""
    public = "" if settings.url else "            (set MAINSTEM_URL to the public address)"
    named = [each.name for each in settings.repositories if each.webhook_secret]
    for name in named[:_MOST_HOOKS]:
        yield f"  webhook  {settings.public_url}/hooks/{name}{public}"
        public = ""
    if not named:
        yield f"  webhook  {settings.public_url}/hooks/NAME            (for repositories elsewhere: docs/webhooks.md)"
    if len(named) > _MOST_HOOKS:
        yield f"           and {len(named) - _MOST_HOOKS} more repositories"
