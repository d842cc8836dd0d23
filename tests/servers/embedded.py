"""`mainstem up` as a user starts it."""

from __future__ import annotations

from pathlib import Path

import redis

from runner.store import Store
from tests.servers.api import Api
from tests.servers.outcome import wait_for_end
from tests.servers.program import Program, clean_environment


class Server(Program):
    """A server in a folder of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.home = folder / ".mainstem"
        self.work = folder / "work"
        environment = clean_environment(folder) | {"MAINSTEM_WORK": str(self.work)} | environ
        super().__init__("up", folder, ("up", "--port", "0"), environment)

    def start(self, *, code: str = "") -> Server:
        """Start and return when it is ready."""
        self.launch(code=code)
        self.wait_ready()
        return self

    @property
    def api(self) -> Api:
        return Api(self.address("web"), (self.home / "token").read_text().strip())

    @property
    def database(self) -> str:
        return f"sqlite:///{self.home}/state.db"

    @property
    def socket(self) -> Path:
        return self.home / "valkey.sock"

    def broker(self) -> redis.Redis:
        """Return a client of its broker, with the password of the file that only the server's user can read."""
        password = (self.home / "valkey.conf").read_text().split()[1]
        return redis.Redis(unix_socket_path=str(self.socket), password=password, socket_timeout=5)

    def open_store(self) -> Store:
        """Open its database, which SQLite allows beside the server for reading."""
        return Store.open(self.database)

    def wait_for_end(self, count: int, seconds: float) -> None:
        """Wait until `count` executions have ended and none is open."""
        wait_for_end(self.database, count, seconds, lambda: self.log)
