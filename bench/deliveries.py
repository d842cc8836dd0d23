"""What a forge waits for: its webhook to the server, proven, written down durably and answered 202."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.kestra01 import quantile
from bench.server import Server

SECRET = "a secret of the bench"
PUSHES = 600
PAUSE_S = 0.03


def run(*, quick: bool = False) -> dict[str, Any]:
    """Milliseconds from sending a push event to its 202, one after another on a server with nothing else to do."""
    count = PUSHES // 10 if quick else PUSHES
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
            taken = []
            for number in range(count):
                after = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
                taken.append(deliver(server.url, after, after))
                time.sleep(PAUSE_S)
    return {
        "bench": "deliveries",
        "pushes": count,
        "p50_ms": round(quantile(taken, 0.5), 1),
        "p99_ms": round(quantile(taken, 0.99), 1),
        "max_ms": round(max(taken), 1),
    }


def deliver(url: str, delivery: str, after: str, *, is_new: bool = True) -> float:
    """Send the push of a commit under the id `delivery`; return the milliseconds until the answer is read.

    One that is not new must be answered 200: what it tells came before.
    """
    body = json.dumps({"ref": "refs/heads/main", "after": after, "repository": {"full_name": "acme/flows"}}).encode()
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": delivery,
        "x-hub-signature-256": "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest(),
    }
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/hooks/team", body, headers)
    answer = connection.getresponse()
    answer.read()
    taken = (time.perf_counter() - begun) * 1e3
    connection.close()
    if answer.status != (http.client.ACCEPTED if is_new else http.client.OK):
        raise SystemExit(f"delivery {delivery} was answered {answer.status}")
    return taken
