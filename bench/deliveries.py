"""What a forge waits for: its webhook to the server, proven, written down durably and answered 202."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.kestra01 import quantile
from bench.server import Server

SECRET = "a secret of the bench"
PUSHES = 600
PAUSE_S = 0.03
RATE = 500
FLOOD_S = 60.0
BODY_BYTES = 5_000
CONNECTIONS = 16
_LOOKED_AT = 1_000  # rows of the log of deliveries


def run(*, quick: bool = False) -> dict[str, Any]:
    """Milliseconds from sending a push event to its 202: one after another on an idle server, then many a second."""
    count = PUSHES // 10 if quick else PUSHES
    with _receiver() as server:
        taken = []
        for number in range(count):
            taken.append(deliver(server.url, _sha(number), _sha(number)))
            time.sleep(PAUSE_S)
    with _receiver() as server:
        flood = asyncio.run(_flood(server, FLOOD_S / 10 if quick else FLOOD_S))
    return {
        "bench": "deliveries",
        "pushes": count,
        "p50_ms": round(quantile(taken, 0.5), 1),
        "p99_ms": round(quantile(taken, 0.99), 1),
        "max_ms": round(max(taken), 1),
        **flood,
    }


@contextmanager
def _receiver() -> Iterator[Server]:
    """Start a server that follows an empty repository and has the secret of its webhook."""
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as room:
        bare = Path(room) / "acme" / "flows.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", bare], check=True)
        repository = {"name": "team", "url": f"file://{bare}", "kind": "github", "webhookSecret": SECRET}
        environment = {"name": "production", "repository": "team"}
        declared = {
            "MAINSTEM_REPOSITORIES": json.dumps([repository]),
            "MAINSTEM_ENVIRONMENTS": json.dumps([environment]),
        }
        with Server(declared) as server:
            yield server


async def _flood(server: Server, seconds: float) -> dict[str, Any]:
    """Send pushes at a fixed rate whether or not those before are answered.

    Times count from when a push was due, so that what waits for a free connection counts too. The log keeps 10,000
    rows; its newest are compared with what was sent last.
    """
    count, turns = int(RATE * seconds), itertools.count()
    taken: dict[int, float] = {}
    began, own, of_server = time.perf_counter(), time.process_time(), server.cpu_seconds()

    async def sender() -> None:
        reader, writer = await asyncio.open_connection(*urlsplit(server.url).netloc.split(":"))
        while (number := next(turns)) < count:
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(_request(number))
            if await _status(reader) == http.client.ACCEPTED:
                taken[number] = (time.perf_counter() - due) * 1e3
        writer.close()

    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    wall = time.perf_counter() - began
    times = list(taken.values())
    return {
        "flood_rate_per_s": RATE,
        "flood_s": round(wall, 1),
        "flood_body_bytes": BODY_BYTES,
        "flood_sent": count,
        "flood_p50_ms": round(quantile(times, 0.5), 1),
        "flood_p99_ms": round(quantile(times, 0.99), 1),
        "flood_p99_target_ms": 50,
        "flood_max_ms": round(max(times), 1),
        "flood_not_accepted": count - len(taken),
        "flood_lost_of_last": _missing(server, taken),
        "flood_producer_cpu_share": round((time.process_time() - own) / wall, 2),
        "flood_server_cpu_share": round((server.cpu_seconds() - of_server) / wall, 2),
    }


def _missing(server: Server, answered: dict[int, float]) -> int:
    """Return how many of the pushes that were answered last are not among the newest rows of the log."""
    last = sorted(answered)[-_LOOKED_AT // 2 :]
    with server.client() as client:
        rows = client.get("/deliveries", params={"limit": _LOOKED_AT}).json()["results"]
    return len({_sha(number) for number in last} - {row["deliveryId"] for row in rows})


def _request(number: int) -> bytes:
    body = _body(_sha(number), "x" * BODY_BYTES)
    lines = ["POST /hooks/team HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in _headers(_sha(number), body).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _status(reader: asyncio.StreamReader) -> int:
    """Return the status of the next answer; its body is read and thrown away."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(line for line in head.splitlines() if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return int(head.split()[1])


def _body(after: str, note: str = "") -> bytes:
    push: dict[str, Any] = {"ref": "refs/heads/main", "after": after, "repository": {"full_name": "acme/flows"}}
    if note:
        bare = len(json.dumps({**push, "note": ""}))
        push["note"] = note[: max(0, len(note) - bare)]
    return json.dumps(push).encode()


def _headers(delivery: str, body: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": delivery,
        "x-hub-signature-256": "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest(),
    }


def _sha(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def deliver(url: str, delivery: str, after: str, *, is_new: bool = True) -> float:
    """Send the push of a commit under the id `delivery`; return the milliseconds until the answer is read.

    One that is not new must be answered 200: what it tells came before.
    """
    body = _body(after)
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/hooks/team", body, _headers(delivery, body))
    answer = connection.getresponse()
    answer.read()
    taken = (time.perf_counter() - begun) * 1e3
    connection.close()
    if answer.status != (http.client.ACCEPTED if is_new else http.client.OK):
        raise SystemExit(f"delivery {delivery} was answered {answer.status}")
    return taken
