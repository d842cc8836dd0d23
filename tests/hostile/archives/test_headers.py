"""Archives that a task hands in: what their headers claim costs whoever reads them neither memory nor time."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from task_runners.archives import unpack
from task_runners.errors import TaskRunnerError

END = b"\0" * 1024


def header(kind: bytes, size: int, name: str = "a/f") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


def records(**values: str) -> bytes:
    found = b""
    for key, value in values.items():
        line = f" GNU.sparse.{key}={value}\n"
        size = next(size for size in range(len(line), len(line) + 9) if size == len(line) + len(str(size)))
        found += f"{size}{line}".encode()
    return header(tarfile.XHDTYPE, len(found)) + padded(found)


def endless(kind: bytes) -> Iterator[bytes]:
    yield header(kind, 4 * 1024**3)
    for _ in range(256):
        yield b"0" * 1024**2
    pytest.fail("it was read to its end")


def sparse_map() -> bytes:
    described = records(major="1", minor="0", name="a/f", realsize="5")
    holes = b"99999999\n" + b"1\n" * 4096
    return described + header(tarfile.REGTYPE, len(holes)) + padded(holes)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(endless(tarfile.XHDTYPE), id="records"),
        pytest.param(endless(tarfile.XGLTYPE), id="records for all"),
        pytest.param(endless(tarfile.GNUTYPE_LONGNAME), id="name"),
        pytest.param(endless(tarfile.GNUTYPE_LONGLINK), id="link"),
        pytest.param([header(tarfile.XHDTYPE, 0)] * 5_000, id="each follows another"),
        pytest.param([header(tarfile.GNUTYPE_LONGNAME, 0)] * 5_000, id="names in a row"),
        pytest.param(([header(b"x", 8192) + padded(b"\0" * 8192) + header(b"0", 0)] * 600), id="large together"),
        pytest.param([header(tarfile.GNUTYPE_SPARSE, 0)], id="holes of old"),
        pytest.param([sparse_map()], id="holes of new"),
        pytest.param(
            [records(major="x"), header(tarfile.REGTYPE, 0), records(map="x,y"), header(b"0", 0)], id="no number"
        ),
    ],
)
def test_headers_that_cost_too_much_are_refused(chunks: Iterable[bytes], tmp_path: Path) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        unpack(chunks, tmp_path)

    assert caught.value.code == "file.archive.broken"


def test_long_names_are_read_all_the_same(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 6) + "/f"
    member = tarfile.TarInfo(f"a/{name}")

    found = [unpack([member.tobuf(kind), END], tmp_path) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]

    assert found == [[name], [name]]
