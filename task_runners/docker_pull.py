"""Fetching an image by a Docker daemon, which may take for ever: a registry that stalls says nothing at all.

So somebody waits beside the one who reads the daemon's words, and cuts the connection when nobody wants the image any
more; the daemon then gives up too. Until it has said its first word there is no connection to be cut: whoever waits for
that is left behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from task_runners.docker_archive import cut
from task_runners.docker_faults import cancelled, no_image, too_slow
from task_runners.docker_properties import Credentials
from task_runners.errors import TaskRunnerError
from task_runners.spec import RunnerContext

__all__ = ["login", "pull"]

_LOOK_S = 0.1


def pull(
    client: Any, image: str, credentials: dict[str, Any] | None, ctx: RunnerContext, timeout: timedelta | None = None
) -> None:
    """Have the daemon of `client` fetch `image`, logged in with `credentials`, or as the client itself is.

    Raises:
        TaskRunnerError: `runner.image.missing`, `runner.image.pull_failed`; with the reason CANCELLED or DEADLINE when
            that came first.
        docker.errors.DockerException: the connection to the daemon broke.
    """
    import docker.errors
    import requests
    import urllib3.exceptions

    deadline = ctx.clock() + timeout.total_seconds() if timeout is not None else None

    def demand_wanted() -> None:
        if ctx.cancelled.is_set():
            raise cancelled(f"cancelled while the image {image!r} was fetched")
        if deadline is not None and ctx.clock() >= deadline:
            raise too_slow(image, timeout)

    try:
        answer = _first_word(client, image, credentials, demand_wanted)
        with contextlib.closing(answer), _cut_off(client, answer, ctx, deadline):
            for event in client._stream_helper(answer, decode=True):  # noqa: SLF001 - what its own `pull` returns
                demand_wanted()
                if "error" in event:
                    raise no_image(image, str(event["error"]))
            demand_wanted()
    except docker.errors.APIError as error:
        raise no_image(image, error.explanation or str(error)) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        demand_wanted()
        raise docker.errors.DockerException(str(error)) from error


def _first_word(client: Any, image: str, credentials: dict[str, Any] | None, demand_wanted: Callable[[], None]) -> Any:
    """Return the open answer of the daemon, which says nothing before the registry does; raise when it is not wanted.

    An answer that comes after that is cut at once.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            answer = _asked(client, image, credentials)
        except Exception as error:  # noqa: BLE001 - raised by whoever waits
            answers.put(error)
            return
        if given_up.is_set():
            cut(client, answer)
        answers.put(answer)

    threading.Thread(target=ask, name="pull-asked", daemon=True).start()
    while True:
        with contextlib.suppress(queue.Empty):
            found = answers.get(timeout=_LOOK_S)
            if isinstance(found, Exception):
                raise found
            return found
        try:
            demand_wanted()
        except TaskRunnerError:
            given_up.set()
            raise


def _asked(client: Any, image: str, credentials: dict[str, Any] | None) -> Any:
    """Return the open answer of the daemon. docker-py's `pull` does the same and keeps the connection for itself."""
    from docker import auth
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(image)
    registry, _ = auth.resolve_repository_name(repository)
    header = auth.get_config_header(client, registry) if credentials is None else auth.encode_header(credentials)
    url = client._url("/images/create")  # noqa: SLF001 - as above
    params = {"fromImage": repository, "tag": tag or "latest"}
    headers = {"X-Registry-Auth": header} if header else {}
    answer = client._post(url, params=params, headers=headers, stream=True, timeout=None)  # noqa: SLF001 - as above
    client._raise_for_status(answer)  # noqa: SLF001 - as above
    return answer


@contextlib.contextmanager
def _cut_off(client: Any, answer: Any, ctx: RunnerContext, deadline: float | None) -> Iterator[None]:
    """Cut the connection of `answer` when the attempt is cancelled or late before the end of the block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if ctx.cancelled.is_set() or (deadline is not None and ctx.clock() >= deadline):
                cut(client, answer)
                return

    watcher = threading.Thread(target=watch, name="pull", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def login(image: str, credentials: Credentials | None, config: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """Return the login at the registry of `image`, None to leave it to the client's own."""
    from docker import auth

    registry, _ = auth.resolve_repository_name(image)
    if credentials is not None:
        username, password = credentials.username, credentials.password
        if credentials.auth:
            username, _, password = base64.b64decode(credentials.auth).decode().partition(":")
        given = {
            "username": username,
            "password": password,
            "identitytoken": credentials.identity_token,
            "registrytoken": credentials.registry_token,
            "serveraddress": credentials.registry or registry,
        }
        return {key: value for key, value in given.items() if value}
    document = json.loads(config) if isinstance(config, str) else config or {}
    entries = auth.AuthConfig.parse_auth(document.get("auths") or {})
    found: dict[str, Any] | None = auth.AuthConfig({"auths": entries}).resolve_authconfig(registry)
    return found
