"""Removing a container, which somebody else may be doing at the same time."""

from __future__ import annotations

import time
from typing import Any, Final

__all__ = ["CONFLICT", "clear", "remove"]

CONFLICT: Final = 409
_REMOVAL_S: Final = 10.0
_LOOK_S: Final = 0.05


def remove(client: Any, container: str) -> None:
    """Have a container removed, running or not; one that is gone, or going by somebody else's hand, is no error.

    Raises:
        docker.errors.DockerException: the daemon does not do it, or does not answer.
    """
    import docker.errors

    try:
        client.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != CONFLICT:
            raise


def clear(client: Any, name: str) -> None:
    """Remove the container of a name and return when the name is free, or ten seconds have passed.

    Raises:
        docker.errors.DockerException: as `remove`.
    """
    import docker.errors

    remove(client, name)
    deadline = time.monotonic() + _REMOVAL_S
    while time.monotonic() < deadline:
        try:
            client.inspect_container(name)
        except docker.errors.NotFound:
            return
        time.sleep(_LOOK_S)
