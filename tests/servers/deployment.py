"""A server of several processes: the roles, a broker of its own, a PostgreSQL database, a shared storage."""

from __future__ import annotations

import base64
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import redis

from runner.store import Store
from task_runners.valkey import valkey_binary
from tests.servers.api import Api
from tests.servers.outcome import wait_for_end
from tests.servers.ports import free_port
from tests.servers.program import Program, clean_environment, wait_until

ROLES = ("serve", "worker", "scheduler", "sync-agent")


class Broker:
    """A Redis server as an operator runs it: on a port, with a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self) -> Broker:
        options = {"port": str(self._port), "requirepass": self._password, "save": "", "bind": "127.0.0.1"}
        self._process = subprocess.Popen(
            [valkey_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers, "an answer of the broker")
        return self

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def flush(self) -> None:
        """Forget everything."""
        self.client().flushall()

    def kill(self) -> None:
        """End it at once, with everything it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class ForeignBroker(Broker):
    """A Redis of somebody else, at an address: it is neither started nor ended, and left as empty as it was found."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.flush()

    @property
    def url(self) -> str:
        return self._url

    def flush(self) -> None:
        """Forget what is in this database."""
        self.client().flushdb()

    def kill(self) -> None:
        """Leave it running."""
        self.flush()


class Deployment:
    """Processes by name (`worker-1`); each has a home of its own, and all have the same settings."""

    def __init__(self, folder: Path, database: str, broker: Broker, settings: str = "") -> None:
        self.folder = folder
        self.database = database
        self.broker = broker
        self.token = secrets.token_urlsafe(16)
        self.processes: dict[str, Program] = {}
        self._key = base64.b64encode(secrets.token_bytes(32)).decode()
        (folder / "mainstem.yaml").write_text(settings or "reports: {enabled: false}\n")

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a process."""
        return clean_environment(self.folder) | {
            "MAINSTEM_HOME": str(self.folder / "homes" / name),
            "MAINSTEM_WORK": str(self.folder / "work" / name),
            "MAINSTEM_DATABASE": self.database,
            "MAINSTEM_BROKER": self.broker.url,
            "MAINSTEM_STORAGE": str(self.folder / "storage"),
            "MAINSTEM_ENCRYPTION_KEY": self._key,
            "MAINSTEM_ADMIN_TOKEN": self.token,
        }

    def start(self, *names: str, **environ: str) -> None:
        """Start processes, all at once, and return when they are ready. Their roles are the first words of names."""
        for name in names:
            (self.folder / "work").mkdir(mode=0o755, exist_ok=True)
            self.processes[name] = self._program(name, environ)
            self.processes[name].launch()
        for name in names:
            self.processes[name].wait_ready()

    def _program(self, name: str, environ: dict[str, str]) -> Program:
        role = name.rstrip("0123456789").rstrip("-")
        port = ("--port", "0") if role == "serve" else ("--health-port", "0")
        return Program(name, self.folder, (role, *port), self.environment(name) | environ)

    def __getitem__(self, name: str) -> Program:
        return self.processes[name]

    @property
    def api(self) -> Api:
        return self.api_of("serve")

    def api_of(self, name: str) -> Api:
        return Api(self[name].address("web"), self.token)

    @property
    def log(self) -> str:
        return "\n".join(f"=== {name}\n{program.log}" for name, program in self.processes.items())

    def open_store(self) -> Store:
        return Store.open(self.database, create=False)

    def wait_for_end(self, count: int, seconds: float) -> None:
        wait_for_end(self.database, count, seconds, lambda: self.log)

    def stop(self) -> dict[str, int]:
        """Ask all processes to end and return the exit codes of those that still ran."""
        running = {name: each for name, each in self.processes.items() if each.process.poll() is None}
        for program in running.values():
            program.process.send_signal(signal.SIGTERM)
        return {name: program.process.wait(60) for name, program in running.items()}

    def end(self) -> None:
        """Leave nothing running."""
        for program in self.processes.values():
            program.end()
        self.broker.kill()
        shutil.rmtree(self.folder / "homes", ignore_errors=True)
