"""Requests to the hosted repository that no git client sends."""

from __future__ import annotations

import gzip
import hashlib
import socket
import struct
import subprocess
import time
import zlib
from typing import Any

import httpx
import pytest

ZERO = "0" * 40


def line(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return f"{len(data) + 4:04x}".encode() + data


def command(old: str, new: str, ref: str = "refs/heads/main") -> bytes:
    return line(f"{old} {new} {ref}\0report-status side-band-64k") + b"0000"


def pack(*objects: bytes) -> bytes:
    data = struct.pack(">4sLL", b"PACK", 2, len(objects)) + b"".join(objects)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def git_object(kind: int, content: bytes) -> bytes:
    size = len(content)
    header = [kind << 4 | size & 15]
    size >>= 4
    while size:
        header[-1] |= 0x80
        header.append(size & 0x7F)
        size >>= 7
    return bytes(header) + zlib.compress(content)


def sha(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def commit_of(tree: str, parent: str | None = None) -> bytes:
    parents = f"parent {parent}\n" if parent else ""
    return f"tree {tree}\n{parents}author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n".encode()


def post(hosted: Any, body: bytes, service: str = "git-receive-pack", **headers: str) -> httpx.Response:
    given = {"content-type": f"application/x-{service}-request", "authorization": hosted.authorization(), **headers}
    url = f"http://127.0.0.1:{hosted.port}/git/flows.git/{service}"
    return httpx.post(url, content=body, headers=given, timeout=60, trust_env=False)


def pushed_tree(*entries: tuple[str, str, bytes]) -> tuple[bytes, str]:
    """A push of one commit with a tree that git itself would refuse to make."""
    blobs = [content for _, _, content in entries]
    tree = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(sha("blob", c)) for mode, name, c in entries)
    top = b"40000 flows\0" + bytes.fromhex(sha("tree", tree))
    commit = commit_of(sha("tree", top))
    objects = [git_object(3, blob) for blob in blobs] + [git_object(2, tree), git_object(2, top), git_object(1, commit)]
    new = sha("commit", commit)
    return command(ZERO, new) + pack(*objects), new


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        (("100644", "..", b"x"), "is not allowed in a tree"),
        (("100644", ".git", b"x"), "is not allowed in a tree"),
        (("40000", "..", b"x"), "is not allowed in a tree"),
    ],
)
def test_names_that_leave_a_folder_are_refused_before_the_ref_moves(
    hosted: Any, entry: tuple[str, str, bytes], answer: str
) -> None:
    body, _ = pushed_tree(entry)

    response = post(hosted, body)

    assert response.status_code == 200
    assert answer in response.text
    assert hosted.main is None


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_links_and_submodules_are_pushed_but_never_activated(hosted: Any, mode: str) -> None:
    body, new = pushed_tree((mode, "link.yaml", b"/etc/passwd"))

    response = post(hosted, body)

    assert "ok refs/heads/main" in response.text
    assert "refused" in response.text
    assert hosted.main == new
    assert hosted.service.environment("default").active is None
    assert hosted.service.environment("default").state == "DEGRADED"


def test_a_pack_that_lacks_what_its_commit_names_is_refused(hosted: Any) -> None:
    commit = commit_of("1" * 40)
    orphan = commit_of(sha("tree", b""), parent="2" * 40)

    without_tree = post(hosted, command(ZERO, sha("commit", commit)) + pack(git_object(1, commit)))
    without_parent = post(
        hosted, command(ZERO, sha("commit", orphan)) + pack(git_object(1, orphan), git_object(2, b""))
    )
    without_commit = post(hosted, command(ZERO, "3" * 40) + pack(git_object(3, b"x")))

    assert "tree 1111111 is missing" in without_tree.text
    assert "commit 2222222 is missing" in without_parent.text
    assert "its commit was not sent" in without_commit.text
    assert hosted.main is None


def test_a_truncated_pack_is_refused_and_the_next_push_works(hosted: Any, work_tree: Any, flow_text: Any) -> None:
    body, _ = pushed_tree(("100644", "a.yaml", b"x" * 10_000))
    for cut in (1, 21, 60, len(body) // 2, len(body) - 150):
        response = post(hosted, body[:-cut])
        assert "ok refs/heads/main" not in response.text
    work_tree.write({"flows/a.yaml": flow_text("w.a")})

    pushed = work_tree.push(hosted.url())

    assert pushed.code == 0, pushed.output
    assert hosted.flows() == {"w.a": 1}


def test_a_bomb_is_refused_before_it_is_inflated(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.packs.MAX_TOTAL_BYTES", 100 << 20)
    bomb = b"\xb0" + b"\x80" * 3 + b"\x10" + zlib.compress(b"\0" * 100)
    many = pack(*[git_object(3, b"\0" * (60 << 20))] * 2)

    responses = [post(hosted, command(ZERO, "1" * 40) + body) for body in (pack(bomb), many)]

    assert all("unpack the pack holds" in response.text for response in responses)


def test_a_body_over_the_limit_is_refused_packed_or_not(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted.git, "_max_body_bytes", 100_000)

    plain = post(hosted, b"x" * 200_000)
    packed = post(hosted, gzip.compress(b"x" * 50_000_000), **{"content-encoding": "gzip"})

    assert [plain.status_code, packed.status_code] == [413, 413]


def test_a_compressed_push_is_understood(hosted: Any) -> None:
    body, new = pushed_tree(("100644", "readme", b"x"))

    response = post(hosted, gzip.compress(body), **{"content-encoding": "gzip"})

    assert "ok refs/heads/main" in response.text
    assert hosted.main == new


@pytest.mark.parametrize("service", ["git-receive-pack", "git-upload-pack"])
def test_nonsense_gets_an_answer_and_no_trace(hosted: Any, service: str) -> None:
    bodies = [
        b"",
        b"0000",
        b"zzzz",
        b"0004",
        b"ffff",
        line("nonsense"),
        line(f"{ZERO} {ZERO}"),
        line("x y z\0caps") + b"0000",
    ]

    responses = [post(hosted, body, service) for body in bodies]

    assert {response.status_code for response in responses} <= {200, 422}
    assert not [response for response in responses if "Traceback" in response.text]


@pytest.mark.parametrize(
    "ref", ["HEAD", "refs/heads/../../x", "refs/x/y", "refs/heads/a b", "refs/heads/\x1b[2J", "main"]
)
def test_other_refs_than_branches_tags_and_notes_are_refused(hosted: Any, ref: str) -> None:
    body, new = pushed_tree(("100644", "readme", b"x"))

    response = post(hosted, body.replace(command(ZERO, new), line(f"{ZERO} {new} {ref}\0report-status") + b"0000"))

    assert "ok refs" not in response.text
    assert list(hosted.service.repository("hosted").repository.heads()) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("flows.git/info/refs", 403),
        ("flows.git/info/refs?service=git-evil", 403),
        ("flows.git/HEAD", 404),
        ("flows.git/objects/info/packs", 404),
        ("flows.git//info/refs?service=git-upload-pack", 404),
        ("other.git/info/refs?service=git-upload-pack", 404),
        ("../../etc/passwd", 404),
    ],
)
def test_only_the_smart_protocol_is_spoken(hosted: Any, path: str, status: int) -> None:
    headers = {"authorization": hosted.authorization("viewer")}

    response = httpx.get(f"http://127.0.0.1:{hosted.port}/git/{path}", headers=headers, trust_env=False, timeout=60)

    assert response.status_code == status


@pytest.mark.parametrize(
    ("role", "service", "status"),
    [
        ("nobody", "git-upload-pack", 401),
        ("nobody", "git-receive-pack", 401),
        ("viewer", "git-receive-pack", 403),
        ("operator", "git-receive-pack", 403),
        ("viewer", "git-upload-pack", 200),
        ("developer", "git-receive-pack", 200),
    ],
)
def test_each_service_asks_for_its_role_at_both_steps(hosted: Any, role: str, service: str, status: int) -> None:
    headers = {"authorization": hosted.authorization(role)}
    url = f"http://127.0.0.1:{hosted.port}/git/flows.git/info/refs?service={service}"

    refs = httpx.get(url, headers=headers, trust_env=False, timeout=60)
    call = post(hosted, b"0000", service, authorization=hosted.authorization(role))

    assert [refs.status_code, call.status_code] == [status, status]
    assert ("www-authenticate" in refs.headers) is (status == 401)


def test_a_form_of_another_site_cannot_push(hosted: Any) -> None:
    response = post(hosted, b"0000", **{"content-type": "application/x-www-form-urlencoded"})

    assert response.status_code == 415


def test_escape_sequences_in_a_push_do_not_reach_the_terminal(hosted: Any, work_tree: Any) -> None:
    work_tree.write({"flows/a.yaml": 'id: "a\\e[31m"\nnamespace: w\n"\\e[2J": 1\ntasks: []\n'})

    pushed = work_tree.push(hosted.url())

    # Git itself colours `remote:` lines only on a terminal.
    assert "\x1b" not in pushed.output
    assert "not activated" in pushed.output


def test_a_client_that_hangs_up_while_it_is_answered_does_not_stop_its_push(
    hosted: Any, work_tree: Any, flow_text: Any
) -> None:
    new = work_tree.write({"flows/a.yaml": flow_text("w.a")})
    objects = subprocess.run(
        ["git", "pack-objects", "--stdout", "--revs", "-q"],
        input=f"{new}\n".encode(),
        cwd=work_tree.path,
        capture_output=True,
        check=True,
    ).stdout
    body = command(ZERO, new) + objects
    head = (
        f"POST /git/flows.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: {hosted.authorization()}\r\n"
        f"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", hosted.port)) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
    with socket.create_connection(("127.0.0.1", hosted.port)) as connection:
        connection.sendall(head.encode() + body)
        connection.recv(9)

    deadline = time.monotonic() + 60
    while hosted.service.environment("default").active != new:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert hosted.flows() == {"w.a": 1}
