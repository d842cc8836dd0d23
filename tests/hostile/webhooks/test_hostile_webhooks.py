"""Webhooks of somebody who means harm: each has one clear answer, memory stays flat, and nothing is looked at.

After each attack the server still takes an honest delivery.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest

MIB = 1024 * 1024
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
CHUNKS_OF_10_GB = 152_588


@pytest.fixture
def hooks(hooks_for: Callable[..., Any], forges: Any) -> Iterator[Any]:
    """Give receivers of a GitHub repository; afterwards they must still be of use."""
    receivers = hooks_for("github", forges.SECRET)
    yield receivers
    looks = len(receivers.looks)
    assert receivers.post(forges.SENDERS["github"].send(after="c" * 40)).status_code == 202
    assert len(receivers.looks) == looks + 1


@pytest.fixture
def sender(forges: Any) -> Any:
    return forges.SENDERS["github"]


class Memory:
    """The resident memory of this process, in which the server runs too, looked at all the time."""

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._first = self.peak = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown_mib(self) -> float:
        return (self.peak - self._first) / MIB

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def raw(hooks: Any, head: bytes, *parts: bytes, then_close: bool = False) -> bytes:
    """Send bytes as they are; return what is answered."""
    port = int(hooks.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break  # it answered and hung up
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


def head(sent: Any, *extra: str, length: int | None = None) -> bytes:
    lines = ["POST /hooks/team HTTP/1.1", "host: x", "connection: close"]
    lines += [f"{name}: {text}" for name, text in sent.headers.items()]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, *extra, "", ""]).encode("latin-1")


# ---------------------------------------------------------------- forged and replayed


def test_forged_deliveries_get_one_answer_and_one_row(hooks: Any, sender: Any) -> None:
    good = sender.send()
    signature = good.headers["x-hub-signature-256"]
    forged = [
        b"",
        b"sha256=",
        signature.upper().encode(),
        signature.replace("sha256", "sha1").encode(),
        signature[:-1].encode(),
        signature.removeprefix("sha256=").encode(),
        sender.send(secret="guess").headers["x-hub-signature-256"].encode(),
        b"sha256=" + b"0" * 64,
        b"sha256=\xe9\xfc",
        b"x" * 30_000,
    ]

    answers = [hooks.post(good, **{"x-hub-signature-256": text}) for text in forged]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "hook.unproven")}
    assert len({answer.text for answer in answers}) == 1
    assert hooks.looks == []
    assert len(hooks.rows) == 1


def test_a_header_given_twice_is_refused_whichever_comes_first(hooks: Any, sender: Any) -> None:
    sent = sender.send()
    wrong = "x-hub-signature-256: sha256=" + "0" * 64
    right = f"x-hub-signature-256: {sent.headers['x-hub-signature-256']}"
    others = [name for name in sent.headers if name != "x-hub-signature-256"]
    bare = type(sent)({name: sent.headers[name] for name in others}, sent.body)

    answers = {
        extra: raw(hooks, head(bare, *extra, length=len(sent.body)), sent.body)
        for extra in ((right, wrong), (wrong, right), (right, right))
    }
    repeated = [
        raw(hooks, head(sent, extra, length=len(sent.body)), sent.body)
        for extra in ("content-type: text/plain", f"content-length: {len(sent.body)}", "host: y")
    ]

    assert {answer[:12] for answer in answers.values()} == {b"HTTP/1.1 401"}
    assert {answer[:12] for answer in repeated} == {b"HTTP/1.1 400"}
    assert hooks.looks == []


def test_a_replayed_delivery_is_no_second_look_under_whatever_id(hooks: Any, sender: Any) -> None:
    sent = sender.send(delivery="d-1")
    first = hooks.post(sent)

    again = [hooks.post(sent, **{"x-github-delivery": name}) for name in ("d-1", "d-2", "", "\x01", "x" * 5000)]

    assert first.status_code == 202
    assert {(answer.status_code, answer.json()["result"]) for answer in again if answer.status_code != 400} == {
        (200, "DUPLICATE")
    }
    assert hooks.looks == [("team", "ann")]


def test_deliveries_in_the_wrong_order_ask_for_looks_and_choose_no_commit(hooks: Any, sender: Any) -> None:
    newer, older, gone = (json.dumps(sender.payload("push") | {"after": sha * 40}).encode() for sha in "ba0")

    answers = [
        hooks.post(sender.send(body=body, delivery=name))
        for name, body in (("d-3", gone), ("d-2", newer), ("d-1", older), ("d-2", newer))
    ]

    assert [answer.status_code for answer in answers][1:] == [202, 202, 200]
    assert set(hooks.looks) == {("team", "ann")}  # a repository and who pushed: what is there counts


# ---------------------------------------------------------------- truncated and wrongly encoded


def test_a_truncated_delivery_leaves_nothing_behind(hooks: Any, sender: Any) -> None:
    sent = sender.send()

    cut = hooks.post(type(sent)(sent.headers, sent.body[:-20]))
    for part in (b"", sent.body[:1], sent.body[:-1]):
        raw(hooks, head(sent, length=len(sent.body)), part, then_close=True)
    raw(hooks, head(sent, "transfer-encoding: chunked"), b"10\r\n" + sent.body[:16], then_close=True)
    too_long = raw(hooks, head(sent, length=len(sent.body)), sent.body + b"GET /hooks/team HTTP/1.1\r\n\r\n")

    assert cut.status_code == 401
    assert too_long.startswith(b"HTTP/1.1 202")
    assert too_long.count(b"HTTP/1.1") == 1  # what follows is no part of the delivery, and the connection is closed
    assert [row.result for row in hooks.rows] == ["ACCEPTED", "REFUSED"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
def test_a_compressed_delivery_is_refused_without_a_look_at_it(hooks: Any, sender: Any, encoding: str) -> None:
    bomb = gzip.compress(b"{" + b" " * 8 * MIB)

    answer = hooks.post(sender.send(body=bomb), **{"content-encoding": encoding})

    assert (answer.status_code, answer.json()["code"]) == (415, "request.encoding.refused")
    assert hooks.rows == []


def bodies(good: bytes) -> dict[str, bytes]:
    main = b'"ref": "refs/heads/main"'
    return {
        "empty": b"",
        "no object": b"[]",
        "text": b'"refs/heads/main"',
        "utf-16": good.decode().encode("utf-16"),
        "latin-1": good.replace(b"ann", "\xe4nn".encode("latin-1")),
        "byte order mark": b"\xef\xbb\xbf" + good,
        "lone surrogate": good.replace(b"refs/heads/main", b"refs/heads/\\ud800"),
        "overlong utf-8": good.replace(b"refs/heads/main", b"refs/heads/\xc0\xaf"),
        "nul": good.replace(b"refs/heads/main", b"refs/heads/a\\u0000b"),
        "nested lists": b"[" * 1_000_000,
        "nested objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        "nested beside": good[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "two documents": good + good,
        "huge number": good[:-1] + b', "x": 1e999999}',
        "not a number": good[:-1] + b', "x": NaN}',
        "option": good.replace(b"refs/heads/main", b"--upload-pack=sh"),
        "climbing": good.replace(main, b'"ref": ["refs/heads/main"]'),
        "number for text": good.replace(main, b'"ref": 1'),
    }


@pytest.mark.parametrize("name", bodies(b"{}"))
def test_a_signed_body_that_is_no_payload_is_told_so(hooks: Any, sender: Any, name: str) -> None:
    body = bodies(sender.send().body)[name]

    with Memory() as memory:
        answer = hooks.post(sender.send(body=body))

    assert (answer.status_code, answer.json()["code"]) == (422, "hook.payload.invalid")
    assert len(answer.content) < 2_000
    assert memory.grown_mib < 60
    assert hooks.looks == []
    [row] = hooks.rows
    assert (row.result, len(row.body)) == ("REFUSED", min(len(body), 64 * 1024))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n{}\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="payload"\r\n\r\n{}\r\n--x--',
        ),
        ("text/plain", b"{}"),
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"payload={}&payload={}"),
        ("application/x-www-form-urlencoded", b"a=1&" * 1_000_000),
        ("application/x-www-form-urlencoded", b"other={}"),
        ("application/x-www-form-urlencoded", b"payload=%ff%fe"),
        ("application/x-www-form-urlencoded", "payload={\xe4}".encode("latin-1")),
        ("application/json-patch+json", b"[]"),
    ],
)
def test_another_content_type_is_never_guessed_at(hooks: Any, sender: Any, content_type: str, body: bytes) -> None:
    answer = hooks.post(sender.send(body=body), **{"content-type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (422, "hook.payload.invalid")


def test_keys_that_mean_something_elsewhere_mean_nothing_here(hooks: Any, sender: Any) -> None:
    content = sender.payload("push") | {
        "files": {"x": "/etc/passwd"},
        "__proto__": {"deleted": True},
        "result": "REFUSED",
        "id": -1,
    }
    content["repository"] |= {"clone_url": "file:///etc", "ssh_url": "ssh://-oProxyCommand=sh/x"}

    answer = hooks.post(sender.send(body=json.dumps(content).encode()))

    assert answer.status_code == 202
    assert hooks.looks == [("team", "ann")]  # at the address of the settings; the payload's is not looked at
    assert hooks.rows[0].id > 0


def test_of_a_key_given_twice_one_counts_for_everything(hooks: Any, sender: Any) -> None:
    body = sender.send().body[:-1] + b', "ref": "refs/heads/other"}'

    answer = hooks.post(sender.send(body=body))

    assert (answer.status_code, answer.json()["result"]) == (200, "IGNORED")
    assert hooks.rows[0].ref == "refs/heads/other"


def test_names_in_a_payload_are_shown_without_what_drives_a_terminal(hooks: Any, sender: Any) -> None:
    content = sender.payload("push")
    content["sender"]["login"] = "\x1b[2Jann\n\u202e" + "x" * 10_000
    content["repository"]["full_name"] = "\x1b]0;title\x07/other"

    answer = hooks.post(sender.send(body=json.dumps(content).encode()))

    [row] = hooks.rows
    assert answer.json()["result"] == "IGNORED"
    assert (row.actor or "").isprintable()
    assert (row.reason or "").isprintable()
    assert len(row.actor or "") == 200


# ---------------------------------------------------------------- huge


def test_ten_gigabytes_are_refused_when_they_are_announced(hooks: Any, sender: Any) -> None:
    sent = sender.send()

    with Memory() as memory:
        begun = time.monotonic()
        answer = raw(hooks, head(sent, length=10 * 1024**3), *[b"x" * 65536] * 64)

    assert answer.startswith(b"HTTP/1.1 413")
    assert time.monotonic() - begun < 10
    assert memory.grown_mib < 20


def test_chunks_without_end_are_stopped_at_the_limit(hooks: Any, sender: Any) -> None:
    with Memory() as memory:
        answer = raw(hooks, head(sender.send(), "transfer-encoding: chunked"), *[CHUNK] * CHUNKS_OF_10_GB)

    assert answer.startswith(b"HTTP/1.1 413")
    assert memory.grown_mib < 80
    assert hooks.rows == []


def test_many_that_send_without_end_share_a_bounded_memory(hooks: Any, sender: Any) -> None:
    begin = head(sender.send(), "transfer-encoding: chunked")

    with Memory() as memory, ThreadPoolExecutor(16) as threads:
        begun = time.monotonic()
        answers = list(threads.map(lambda _: raw(hooks, begin, *[CHUNK] * CHUNKS_OF_10_GB), range(16)))

    # Who sends on and on may find the connection closed before the answer is read.
    codes = {answer[9:12] for answer in answers}
    assert codes <= {b"413", b"503", b""}
    assert codes & {b"413", b"503"}
    assert time.monotonic() - begun < 60
    assert memory.grown_mib < 220
    assert hooks.rows == []


def test_large_deliveries_of_nobody_are_bounded_together(hooks: Any, sender: Any) -> None:
    sent = sender.send(body=b"{" + b" " * (20 * MIB) + b"}", secret="guess")

    with Memory() as memory, ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: raw(hooks, head(sent, length=len(sent.body)), sent.body), range(12)))

    codes = {answer[9:12] for answer in answers}
    assert codes <= {b"401", b"503", b""}
    assert b"401" in codes
    assert memory.grown_mib < 220


def test_a_long_form_is_refused_before_it_is_taken_apart(hooks: Any, sender: Any) -> None:
    body = urlencode({"payload": "x" * 10 * MIB}).encode()

    answer = hooks.post(sender.send(body=body), **{"content-type": "application/x-www-form-urlencoded"})

    assert answer.status_code == 422


def test_a_flood_of_forged_deliveries_writes_little_and_leaves_room(hooks: Any, sender: Any) -> None:
    forged = sender.send(secret="guess")
    before = hooks.store.metrics_snapshot()["units"]

    with ThreadPoolExecutor(16) as threads:
        begun = time.monotonic()
        codes = set(threads.map(lambda _: hooks.post(forged).status_code, range(400)))
        seconds = time.monotonic() - begun

    assert codes == {401}
    assert hooks.store.metrics_snapshot()["units"] - before < 10 + 2 * seconds
    assert len(hooks.rows) == 1


def test_odd_names_of_hooks_are_unknown_hooks(hooks: Any, sender: Any) -> None:
    sent = sender.send()

    codes = {
        name: hooks.post(sent, name).status_code
        for name in (
            "TEAM",
            "team%20",
            "t%65am%2f",
            "%e2%80%ae",
            "a" * 4000,
            "team%0a",
            "..%2fteam",
            "team/x",
            "__proto__",
        )
    }

    assert set(codes.values()) <= {400, 401}, codes
    assert hooks.looks == []
