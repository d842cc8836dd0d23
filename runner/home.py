"""The home of an embedded server: one folder with everything it keeps, and a lock so that only one server uses it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runner.errors import ConflictError, MainstemError

TOKEN_FILE = "token"  # noqa: S105 - the name of a file


@dataclass(slots=True)
class HomeLock:
    """The exclusive lock of a home, held as long as this object is open."""

    path: Path
    _file: IO[str]

    def announce(self, **facts: Any) -> None:
        """Write who holds the lock (`pid`, `url`), for whoever finds it taken."""
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), **facts}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Let the next server in."""
        self._file.close()


def prepare_home(home: Path) -> Path:
    """Make the home (mode 0700) with a `.gitignore` that keeps it out of repositories; return its absolute path.

    Raises:
        MainstemError: `home.refused` when it cannot be made or belongs to somebody else.
    """
    home = home.absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            raise MainstemError("home.refused", f"the home {home} belongs to another user")
        home.chmod(0o700)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        why = "it is no folder" if isinstance(error, (FileExistsError, NotADirectoryError)) else error.strerror
        raise MainstemError(
            "home.refused",
            f"the home {home} cannot be used: {why}",
            hint="choose another with MAINSTEM_HOME",
        ) from None
    return home


def lock_home(home: Path) -> HomeLock:
    """Take the lock of a home.

    Raises:
        ConflictError: `home.locked`, naming the process and the URL of the server that has it.
    """
    path = home / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "r+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read()
        file.close()
        try:
            facts = json.loads(holder)
        except ValueError:
            facts = {}
        where = f" (pid {facts['pid']}) at {facts.get('url', 'an address it has not told yet')}" if facts else ""
        raise ConflictError(
            "home.locked",
            f"a server already runs{where} with the home {home}",
            hint="use it, stop it, or give this one another home with MAINSTEM_HOME",
        ) from None
    return HomeLock(path, file)


def admin_token(home: Path) -> tuple[str, bool]:
    """Return the secret of the home's admin token and whether it was made just now."""
    path = home / TOKEN_FILE
    if path.exists():
        return path.read_text(encoding="utf-8").strip(), False
    secret = "ms_" + secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    return secret, True
