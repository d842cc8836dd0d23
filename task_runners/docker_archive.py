"""Files out of a container, as the archives that its daemon gives: read as far as they are wanted, and not beyond.

A daemon packs a directory for as long as somebody holds the connection, and lets nobody remove the container meanwhile.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Generator, Iterator
from typing import Any, Final

from task_runners.spec import TaskSpec

__all__ = ["archives_of", "cut"]

_CHUNK_BYTES: Final = 256 * 1024
_PLAIN: Final = re.compile(r"[^/*?\[\]{}\\]+")
_MOST_NAMES: Final = 16


def archives_of(client: Any, container: str, root: str, spec: TaskSpec) -> Generator[tuple[int, Iterator[bytes]]]:
    """Yield the archives that hold what `spec` asks for below `root`: of its files where it names them, else of all.

    Each comes with the number of first parts of the names of its members that are not part of the files' names, and is
    to be read before the next one is asked for.

    Raises:
        docker.errors.NotFound: there is no such directory, or no such container.
    """
    import docker.errors

    names = _names(spec)
    if names is None:
        with _asked(client, container, root) as pieces:
            yield 1, pieces
        return
    _demand_there(client, container, root)  # of a file that is missing, the daemon does not say what is missing
    for name in names:
        with contextlib.suppress(docker.errors.NotFound), _asked(client, container, f"{root}/{name}") as pieces:
            yield 0, pieces


def _names(spec: TaskSpec) -> list[str] | None:
    """Return the files of the directory itself that are all the task asks for; None when others may be."""
    names = [glob.strip().removeprefix("./") for glob in spec.output_globs]
    is_plain = not spec.sync_workdir and len(names) <= _MOST_NAMES and all(map(_PLAIN.fullmatch, names))
    return names if is_plain and "." not in names and ".." not in names else None


def _demand_there(client: Any, container: str, path: str) -> None:
    """Raise `docker.errors.NotFound` when a container has no such path, or is gone."""
    url = client._url("/containers/{0}/archive", container)  # noqa: SLF001 - as below
    client._raise_for_status(client.head(url, params={"path": path}, timeout=client.timeout))  # noqa: SLF001 - as below


@contextlib.contextmanager
def _asked(client: Any, container: str, path: str) -> Iterator[Iterator[bytes]]:
    """Give the pieces of an archive. docker-py's `get_archive` does, too, but keeps the connection for itself."""
    url = client._url("/containers/{0}/archive", container)  # noqa: SLF001 - the client's way to every address
    answer = client._get(url, params={"path": path}, stream=True)  # noqa: SLF001 - as above
    client._raise_for_status(answer)  # noqa: SLF001 - as above
    try:
        yield answer.iter_content(_CHUNK_BYTES)
    finally:
        cut(client, answer)
        answer.close()


def cut(client: Any, answer: Any) -> None:
    """Cut the connection on which a daemon answers: it gives up what it does, and whoever reads is woken."""
    with contextlib.suppress(OSError, AttributeError):
        raw = client._get_raw_response_socket(answer)  # noqa: SLF001 - the one way to it
        getattr(raw, "_sock", raw).shutdown(socket.SHUT_RDWR)
