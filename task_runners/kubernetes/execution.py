"""Running a command in a container of a pod: `exec` over a websocket, in the channel protocols v5 and v4.

Each frame begins with the number of its channel. v5 can also say that standard input has ended; commands that work with
v4 too read a known number of bytes.
"""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from task_runners.kubernetes.api import Api, ApiError

__all__ = ["Executed", "execute"]

_PROTOCOLS: Final = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = range(5)
_CLOSE_FRAME: Final = bytes([255, _STDIN])
_CHUNK_BYTES: Final = 64 * 1024  # larger frames are cut off by some proxies
_KEPT_BYTES: Final = 64 * 1024
_FRAME_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Executed:
    """How a command ended, with the beginning of what it wrote."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """What it said, for a message."""
        return (self.stderr or self.stdout).decode("utf-8", "replace").strip()[:300]


def execute(
    api: Api,
    pod: str,
    container: str,
    command: Sequence[str],
    *,
    content: IO[bytes] | None = None,
    take: Callable[[bytes], object] | None = None,
    seconds: float = 30.0,
) -> Executed:
    """Run a command and return how it ended; `content` is its standard input, `take` gets its output in pieces.

    `seconds` is the longest silence that is waited out.

    Raises:
        ApiError: it could not be started, or the connection broke before its end.
    """
    params = {"container": container, "command": list(command), "stdout": "true", "stderr": "true"}
    params |= {"stdin": "true"} if content is not None else {}
    with _open(api, api.path("pods", pod, "exec"), params) as socket:
        if content is not None:
            while chunk := content.read(_CHUNK_BYTES):
                socket.send_bytes(bytes([_STDIN]) + chunk)
            if socket.subprotocol == _PROTOCOLS[0]:
                socket.send_bytes(_CLOSE_FRAME)
        return _result(socket, take, seconds)


@contextlib.contextmanager
def _open(api: Api, path: str, params: dict[str, Any]) -> Iterator[Any]:
    import httpx2
    from httpx2.websockets import HTTPXWSException, WebSocketUpgradeError

    try:
        with api.connection.client.websocket(
            path, subprotocols=_PROTOCOLS, params=params, max_message_size_bytes=_FRAME_BYTES
        ) as socket:
            yield socket
    except WebSocketUpgradeError as error:
        raise _denied(error.response) from error
    except (HTTPXWSException, httpx2.HTTPError, OSError) as error:
        raise _broken(error) from error
    except BaseExceptionGroup as group:  # how the websocket library tells of a broken connection
        raise _broken(group.exceptions[0]) from group


def _broken(error: BaseException) -> ApiError:
    return ApiError(0, "Unreachable", f"the connection of a command broke: {str(error) or type(error).__name__}")


def _denied(response: Any) -> ApiError:
    message = f"a command in a pod was refused with HTTP {response.status_code}"
    with contextlib.suppress(Exception):  # the body may be gone with the connection
        message = json.loads(response.read())["message"]
    return ApiError(response.status_code, "Upgrade", message)


def _result(socket: Any, take: Callable[[bytes], object] | None, seconds: float) -> Executed:
    kept = {_STDOUT: bytearray(), _STDERR: bytearray()}
    while True:
        try:
            frame = socket.receive_bytes(timeout=seconds)
        except queue.Empty:
            raise ApiError(0, "Unreachable", f"a command in a pod said nothing for {seconds:g} s") from None
        channel, content = frame[0], frame[1:]
        if channel == _ERROR:
            return Executed(_exit_code(content), bytes(kept[_STDOUT]), bytes(kept[_STDERR]))
        if channel == _STDOUT and take is not None:
            take(content)
        elif channel in kept and len(kept[channel]) < _KEPT_BYTES:
            kept[channel] += content


def _exit_code(content: bytes) -> int:
    status = json.loads(content)
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    code = next((cause.get("message") for cause in causes if cause.get("reason") == "ExitCode"), None)
    if code is None:
        raise ApiError(500, str(status.get("reason")), str(status.get("message") or "the command could not be started"))
    return int(code)
