"""One server process of any kind, from its first part to its last flush: what `up` and the distributed roles share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from starlette.types import ASGIApp

from runner.errors import InvalidError
from runner.home import HomeLock, lock_home, prepare_home
from runner.metrics import Family, Process, of_process, of_store
from runner.runtime import Roles
from runner.settings import Settings
from webhooks.log_line import LineFormatter
from webhooks.settings_log import note_settings

if TYPE_CHECKING:
    from runner.store import Store
    from webhooks.assembly import Parts
    from webhooks.routes import Mounted

log = logging.getLogger(__name__)

_MOST_HOOKS = 5
LOG_LEVELS = ("debug", "info", "warning", "error")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def write_logs(level: str) -> None:
    """Write what happens to stderr, from `level` (one of `LOG_LEVELS`) up."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # It tells each try again; our own line tells once what came of them.
    logging.getLogger("urllib3").setLevel(logging.NOTSET if level == "debug" else logging.ERROR)


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


def hook_lines(settings: Settings) -> Iterator[str]:
    """Give the lines of a banner that tell where forges deliver to."""
    public = "" if settings.url else "            (set MAINSTEM_URL to the public address)"
    named = [each.name for each in settings.repositories if each.webhook_secret]
    for name in named[:_MOST_HOOKS]:
        yield f"  webhook  {settings.public_url}/hooks/{name}{public}"
        public = ""
    if not named:
        yield f"  webhook  {settings.public_url}/hooks/NAME            (for repositories elsewhere: docs/webhooks.md)"
    if len(named) > _MOST_HOOKS:
        yield f"           and {len(named) - _MOST_HOOKS} more repositories"


class ServerProcess:
    """Parts that start one after the other and stop in the opposite order. Enter it to start, leave it to drain.

    Subclasses say in `start` what this process consists of, by the methods below it.
    """

    def __init__(self, name: str, settings: Settings, roles: Roles, environment: Mapping[str, str]) -> None:
        self.name = name
        self.home = prepare_home(settings.home)
        self.settings = settings.model_copy(update={"home": self.home})
        self.roles = roles
        self.environment = environment
        self.parts: Parts
        self.lock: HomeLock
        self.seconds = 0.0
        """How long the start took."""
        self._exit = contextlib.ExitStack()
        self._listener: socket.socket | None = None
        self._health: socket.socket | None = None
        self._mounted: tuple[Mounted, ...] = ()
        self._started_at = datetime.now(UTC)
        self._is_asked = False

    # ---------------------------------------------------------------- life

    def __enter__(self) -> Self:
        begun = time.monotonic()
        try:
            self.start()
        except BaseException:  # what was started is ended, be it by an interrupt
            self._exit.close()
            raise
        self.seconds = time.monotonic() - begun
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def start(self) -> None:
        """Start the parts of this process, in their order."""
        raise NotImplementedError  # each kind of process has its own

    def take_home(self) -> None:
        """Take the lock of the home, which no other process may use until the end. Raises as `lock_home`."""
        self.lock = lock_home(self.home)
        self._exit.callback(self.lock.release)

    def listen(self, port: int) -> int:
        """Take the address of the API before anything is promised there; return its port. Raises as `bind`."""
        self._listener, port = self._bind(port)
        return port

    def listen_for_probes(self) -> int | None:
        """Take the address of the answers to probes, if there is to be one; return its port. Raises as `bind`."""
        if self.settings.health_port is None:
            return None
        self._health, port = self._bind(self.settings.health_port)
        return port

    def _bind(self, port: int) -> tuple[socket.socket, int]:
        from webhooks.server import address_of, bind

        listener = bind(self.settings.host, port)
        self._exit.callback(listener.close)
        return listener, address_of(listener)[1]

    def assemble(self, store: Store, broker_url: str) -> None:
        """Make the parts on an open store, which is closed with them."""
        from webhooks.assembly import make_parts

        self._exit.callback(store.close)
        self.parts = make_parts(self.settings, store, broker_url, roles=self.roles, environment=self.environment)

    def begin(self) -> None:
        """Start the threads of the parts that this process takes part in."""
        parts, roles = self.parts, self.roles
        self._exit.callback(parts.sync.close)
        if roles.serves or roles.syncs:
            parts.sync.ensure_declared()
        if roles.serves:
            assert parts.host.encryption is not None, "a server has a key"
            note_settings(parts.store, parts.access, self.settings, parts.host.encryption, self.name)
        if roles.syncs and self.settings.reports.enabled:
            # Stopped after the runtime, so that the runs which a drain waits for are told too.
            parts.reports.start()
            self._exit.callback(parts.reports.stop)
        parts.runtime.start()
        self._exit.callback(parts.runtime.stop, self.settings.grace_period_s)
        if roles.syncs:
            parts.poller.start()
            self._exit.callback(parts.poller.stop)

    # ---------------------------------------------------------------- until a signal

    def main(self, announce: Callable[[str], object]) -> int:
        """Be the whole program: start, announce, work until a signal, drain; return the exit code.

        A signal during the start counts as one right after it; a second one ends the program where it is.
        """
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        with self:
            announce(self.banner())
            code = self.run()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # all is done: a late one must not change how it ends
        return code

    def _remember(self, _number: int, _frame: object) -> None:
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True

    def banner(self) -> str:
        """Return what to announce once everything runs."""
        raise NotImplementedError  # each kind of process has its own

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, then drain; a second signal hurries. Return the exit code."""
        try:
            import uvloop
        except ImportError:
            return asyncio.run(self._run())
        return uvloop.run(self._run())

    def application(self) -> ASGIApp:
        """Return what answers on the address of the API."""
        from webhooks.assembly import make_app
        from webhooks.mounts import mounts

        self._mounted = mounts(self.parts)
        return make_app(self.parts, self.process, mounted=self._mounted)

    def process(self) -> Process:
        """Return the figures of this process, as they are now."""
        received: Counter[str] = Counter()
        for item in self._mounted:
            received.update(item.deliveries())
        from sync.forges.limits import LIMITS

        figures = {**self.parts.runtime.figures(), **self.parts.reports.figures()}
        left = {name: (each.remaining, each.reset_s) for name, each in LIMITS.all().items()}
        return Process(self.name, self._started_at, figures, received, left)

    def _figures(self) -> list[Family]:
        """Return what the health port says: of the whole server only where it serves, so that it is counted once."""
        store, now = self.parts.store, datetime.now(UTC)
        own = of_process(self.process(), store, now)
        return [*own, *of_store(store, now)] if self.roles.serves else own

    async def _run(self) -> int:
        stop, drained = asyncio.Event(), asyncio.Event()
        self._hear_signals(stop)
        # Until the end of the drain, so that those who ask hear that it drains.
        answering = asyncio.create_task(self._answer_probes(drained))
        try:
            if self._listener is not None:
                # Requests end before the drain, whose end nobody could answer.
                await self._serve(self.application(), stop, self._listener)
            else:
                await stop.wait()
            await self._drain()
        finally:
            drained.set()
            await answering
        return 0

    async def _answer_probes(self, until: asyncio.Event) -> None:
        from webhooks.health import health_app

        if self._health is not None:
            await self._serve(health_app(self.parts.runtime.problems, self._figures), until, self._health)

    def _hear_signals(self, stop: asyncio.Event) -> None:
        def on_signal() -> None:
            if stop.is_set():
                log.warning("stopping now: bodies that still run are ended")
                self.parts.runtime.hurry()
            else:
                log.warning("draining: tasks that run may end; another signal ends them now")
            stop.set()

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal)
        if self._is_asked:
            on_signal()

    def _serve(self, app: ASGIApp, stop: asyncio.Event, listener: socket.socket) -> Coroutine[Any, Any, None]:
        from webhooks.server import serve

        return serve(app, self.settings.host, self.settings.port, stop, listener=listener)

    async def _drain(self) -> None:
        # On a thread, because it waits for bodies and a second signal must still be heard.
        await asyncio.to_thread(self._exit.close)
