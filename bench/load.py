"""An open-loop load: requests leave at their times, answered or not. To loopback only, and bounded."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

CONNECTIONS = 64


@dataclass
class Sent:
    """What one run of load sent: when each accepted execution's request left, and how answers came."""

    at: dict[str, float] = field(default_factory=dict)  # execution id -> wall clock seconds when the request was due
    accepted_s: list[float] = field(default_factory=list)
    refused: int = 0


async def _worker(url: str, body: bytes, due: asyncio.Queue[float | None], sent: Sent) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    while (moment := await due.get()) is not None:
        writer.write(head + body)
        status = int((await reader.readline()).split()[1])
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = await reader.readexactly(length)
        if status == 200:
            sent.at[orjson.loads(answer)["id"]] = moment
            sent.accepted_s.append(time.time() - moment)
        else:
            sent.refused += 1
    writer.close()


async def _run(url: str, body: bytes, rate: float, seconds: float) -> Sent:
    assert "//127.0.0.1:" in url, "load goes to this machine only"
    due: asyncio.Queue[float | None] = asyncio.Queue()
    sent = Sent()
    workers = [asyncio.create_task(_worker(url, body, due, sent)) for _ in range(CONNECTIONS)]
    started = time.time()
    for number in range(int(rate * seconds)):
        moment = started + number / rate
        delay = moment - time.time()
        if delay > 0:
            await asyncio.sleep(delay)
        due.put_nowait(moment)
    for _ in workers:
        due.put_nowait(None)
    await asyncio.wait_for(asyncio.gather(*workers), timeout=seconds + 60)
    return sent


def open_loop(url: str, body: bytes, rate: float, seconds: float) -> Sent:
    """Post `body` to `url` `rate` times a second for `seconds` seconds."""
    return asyncio.run(_run(url, body, rate, seconds))
