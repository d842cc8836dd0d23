"""Running a command in a container of a pod: `exec` over a websocket, in the channel protocols v5 and v4.

Each frame begins with the number of its channel. v5 can also say that standard input has ended; commands that work with
v4 too read a known number of bytes.

A node that is cut off, or a container that ends in the same moment, may leave a command without an end. So the one who
waits is asked all the time whether that still makes sense, also while standard input goes nowhere.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
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
_GLANCE_S: Final = 0.5
_START_S: Final = 10.0


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
    seconds: float = 10.0,
    is_over: Callable[[], bool] = lambda: False,
) -> Executed:
    """Run a command and return how it ended; `content` is its standard input, `take` gets its output in pieces.

    `seconds` is the longest silence that is waited out, and no more of it once `is_over` says that nobody needs the
    command or that it cannot go on.

    Raises:
        ApiError: it could not be started, or the connection broke before its end, or it was given up.
    """
    params = {"container": container, "command": list(command), "stdout": "true", "stderr": "true"}
    params |= {"stdin": "true"} if content is not None else {}
    with _open(api, api.path("pods", pod, "exec"), params) as session:
        sending = _Sending(session, content) if content is not None else None
        try:
            return _result(session, take, _Patience(seconds, is_over, sending))
        except BaseException:
            _cut(session)  # else a thread of the library would wait for the other end, and the process for that thread
            raise
        finally:
            if sending is not None:
                sending.stop()


class _Sending:
    """Standard input on its way to a command, on a thread of its own: what nobody reads blocks it without an end."""

    def __init__(self, session: Any, content: IO[bytes]) -> None:
        self.sent = 0
        """Bytes."""
        self.fault: Exception | None = None
        """What ended it before its time: the connection, or where the content comes from."""
        self._session, self._content = session, content
        self._thread = threading.Thread(target=self._send, name="exec-input", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            while chunk := self._content.read(_CHUNK_BYTES):
                self._session.send_bytes(bytes([_STDIN]) + chunk)
                self.sent += len(chunk)
            if self._session.subprotocol == _PROTOCOLS[0]:
                self._session.send_bytes(_CLOSE_FRAME)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
            self.fault = error

    def stop(self) -> None:
        """End the thread, whatever it waits for."""
        if self._thread.is_alive():
            _cut(self._session)
        self._thread.join()


class _Patience:
    """How long a command may say nothing and take nothing."""

    def __init__(self, seconds: float, is_over: Callable[[], bool], sending: _Sending | None) -> None:
        self._seconds, self._is_over, self._sending = seconds, is_over, sending
        self._sent, self._heard_at = 0, time.monotonic()

    def renew(self) -> None:
        """Begin to wait anew."""
        self._heard_at = time.monotonic()

    def demand(self) -> None:
        """Raise `ApiError` when it has come to its end, and whatever ended the input."""
        if self._is_over():
            raise ApiError(0, "GivenUp", "a command in a pod is not waited for any more")
        if self._sending is not None and self._sending.fault is not None:
            raise self._sending.fault
        if self._sending is not None and self._sending.sent != self._sent:
            self._sent = self._sending.sent
            self.renew()
        if time.monotonic() - self._heard_at > self._seconds:
            raise ApiError(0, "Unreachable", f"a command in a pod said nothing for {self._seconds:g} s")


@contextlib.contextmanager
def _open(api: Api, path: str, params: dict[str, Any]) -> Iterator[Any]:
    import httpx2
    from httpx2.websockets import HTTPXWSException, WebSocketUpgradeError

    try:
        with api.connection.client.websocket(
            path, subprotocols=_PROTOCOLS, params=params, max_message_size_bytes=_FRAME_BYTES, timeout=_START_S
        ) as session:
            yield session
    except WebSocketUpgradeError as error:
        raise _denied(error.response) from error
    except (HTTPXWSException, httpx2.HTTPError, OSError) as error:
        raise _broken(error) from error
    except BaseExceptionGroup as group:  # how the websocket library tells of a broken connection
        raise _broken(group.exceptions[0]) from group


def _cut(session: Any) -> None:
    """End a connection so that whoever reads from it or writes to it gets on."""
    with contextlib.suppress(OSError):
        session.stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _broken(error: BaseException) -> ApiError:
    return ApiError(0, "Unreachable", f"the connection of a command broke: {str(error) or type(error).__name__}")


def _denied(response: Any) -> ApiError:
    message = f"a command in a pod was refused with HTTP {response.status_code}"
    with contextlib.suppress(Exception):  # the body may be gone with the connection
        message = json.loads(response.read())["message"]
    return ApiError(response.status_code, "Upgrade", message)


def _result(session: Any, take: Callable[[bytes], object] | None, patience: _Patience) -> Executed:
    kept = {_STDOUT: bytearray(), _STDERR: bytearray()}
    while True:
        try:
            frame = session.receive_bytes(timeout=_GLANCE_S)
        except TimeoutError:
            patience.demand()
            continue
        patience.renew()
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
