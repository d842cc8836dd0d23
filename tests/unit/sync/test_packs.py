from __future__ import annotations

import io
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from sync import packs
from sync.packs import check_pack


def pack(*objects: bytes, count: int | None = None) -> io.BytesIO:
    return io.BytesIO(struct.pack(">4sLL", b"PACK", 2, len(objects) if count is None else count) + b"".join(objects))


def blob(content: bytes, *, claimed: int | None = None, kind: int = 3) -> bytes:
    size = len(content) if claimed is None else claimed
    header = [kind << 4 | size & 15]
    size >>= 4
    while size:
        header[-1] |= 0x80
        header.append(size & 0x7F)
        size >>= 7
    base = b"\x00" * 20 if kind == 7 else b""
    return bytes(header) + base + zlib.compress(content)


def number(value: int) -> bytes:
    out = []
    while True:
        out.append(value & 0x7F | (0x80 if value >> 7 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def test_a_pack_of_git_is_counted(work_tree: Any, tmp_path: Path) -> None:
    for n in range(20):
        work_tree.write({f"flows/{n}.yaml": f"id: f{n}\n" * 50, "flows/same.yaml": f"{n}\n" * 3_000})
    subprocess.run(["git", "repack", "-qadf"], cwd=work_tree.path, check=True)
    file = next((work_tree.path / ".git/objects/pack").glob("*.pack"))

    with file.open("rb") as opened:
        assert check_pack(opened) == 20 * 3 + 40


@pytest.mark.parametrize(
    "file",
    [
        io.BytesIO(b""),
        io.BytesIO(b"NOPE" + b"\0" * 20),
        pack(blob(b"hello"), count=2),
        pack(blob(b"hello" * 1000)[:-4]),
        pack(blob(b"hello", claimed=6)),
        pack(b"\xff" * 40),
        pack(b"\x35" + b"not zlib"),
    ],
)
def test_a_pack_that_is_cut_or_no_pack_is_refused(file: io.BytesIO) -> None:
    with pytest.raises(InvalidError) as caught:
        check_pack(file)

    assert caught.value.code in {"repository.pack.invalid", "repository.pack.large"}


def test_a_bomb_is_refused_before_it_is_inflated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MAX_OBJECT_BYTES", 1 << 20)
    monkeypatch.setattr(packs, "MAX_TOTAL_BYTES", 3 << 20)
    large = blob(b"\0" * (2 << 20))
    lying = blob(b"\0" * (2 << 20), claimed=10)
    delta = blob(number(10) + number(1 << 40) + b"\x90\x0a", kind=7)
    many = pack(*[blob(b"\0" * (1 << 20))] * 4)

    for file in (pack(large), pack(lying), pack(delta), many, pack(count=3_000_000)):
        with pytest.raises(InvalidError) as caught:
            check_pack(file)
        assert caught.value.code == "repository.pack.large"
