"""`exec` over a websocket, in the channel protocols v4 and v5: one byte of channel number, then content."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.servers.kubernetes.containers import Process

__all__ = ["chosen_protocol", "serve_process"]

_STDIN, _ERROR, _CLOSE = 0, 3, 255


def chosen_protocol(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """Return the first protocol of the client that the server speaks."""
    return next((name for name in offered if name in spoken), None)


async def serve_process(ws: WebSocket, process: Process, protocol: str, *, streams: set[int]) -> None:
    """Carry the streams of a process until it ends, then say how it ended."""
    reading = asyncio.create_task(_take_input(ws, process, can_close=protocol.startswith("v5")))
    try:
        async for stream, content in _frames(process):
            if stream in streams:
                await ws.send_bytes(bytes([stream]) + content)
        code = await asyncio.to_thread(process.exit_code)
        await ws.send_bytes(bytes([_ERROR]) + json.dumps(_status(code)).encode())
        await ws.close()
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        reading.cancel()
        process.close()


async def _take_input(ws: WebSocket, process: Process, *, can_close: bool) -> None:
    with contextlib.suppress(OSError):
        while True:
            message = await ws.receive()
            if message["type"] == "websocket.disconnect":
                break
            frame = message.get("bytes") or (message.get("text") or "").encode()
            if can_close and frame == bytes([_CLOSE, _STDIN]):
                process.socket.shutdown(socket.SHUT_WR)
            elif frame[:1] == bytes([_STDIN]):
                await asyncio.to_thread(process.socket.sendall, frame[1:])
    # Somebody who went away leaves the command without its input.
    with contextlib.suppress(OSError):
        process.socket.shutdown(socket.SHUT_WR)


async def _frames(process: Process) -> AsyncIterator[tuple[int, bytes]]:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, bytes] | None](64)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            for frame in process.frames():
                asyncio.run_coroutine_threadsafe(queue.put(frame), loop).result()
            asyncio.run_coroutine_threadsafe(queue.put(None), loop).result()

    threading.Thread(target=read, daemon=True).start()
    while (frame := await queue.get()) is not None:
        yield frame


def _status(code: int | None) -> dict[str, object]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    if code is None:
        message = "error executing command in container: the container has ended"
        return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message}
    message = f"command terminated with non-zero exit code: exit status {code}"
    cause = {"reason": "ExitCode", "message": str(code)}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": message,
        "details": {"causes": [cause]},
    }
