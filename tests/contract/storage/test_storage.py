"""What every storage does, the same for all; a new one is added to `conftest.py`."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest

from runner.errors import InvalidError, NotFoundError
from runner.plugin import Storage

FOLDER = "kestra:///company/team/flow/executions/one/"


def read(storage: Storage, uri: str) -> bytes:
    with storage.open(uri) as file:
        return file.read()


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n", b"\x00\xff" * 1_500_000], ids=["empty", "text", "3MB"])
def test_a_file_comes_back_as_it_was_put(storage: Storage, content: bytes) -> None:
    size = storage.put(f"{FOLDER}a.bin", io.BytesIO(content))

    assert size == len(content)
    assert storage.size(f"{FOLDER}a.bin") == size
    assert read(storage, f"{FOLDER}a.bin") == content


@pytest.mark.parametrize("name", ["a b.txt", "größe.csv", "100%.txt", "%2e%2e", "a?b#c", "x/y/z.txt", ".hidden"])
def test_names_are_taken_as_they_are_written(storage: Storage, name: str) -> None:
    storage.put(FOLDER + name, io.BytesIO(b"x"))

    assert storage.exists(FOLDER + name)
    assert storage.list(FOLDER) == [FOLDER + name]


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put(f"{FOLDER}a", io.BytesIO(b"a longer text"))

    storage.put(f"{FOLDER}a", io.BytesIO(b"short"))

    assert read(storage, f"{FOLDER}a") == b"short"


def test_what_is_missing_is_not_found(storage: Storage) -> None:
    storage.put(f"{FOLDER}deep/a", io.BytesIO(b"x"))

    for uri in (f"{FOLDER}other", f"{FOLDER}deep"):
        assert not storage.exists(uri)
        for verb in (storage.open, storage.size):
            with pytest.raises(NotFoundError) as caught:
                verb(uri)
            assert caught.value.code == "storage.file.missing"


@pytest.mark.parametrize(
    "uri",
    [
        "kestra:///a/../../etc/passwd",
        "kestra:///..",
        "kestra:///a/b\x00c",
        "kestra:///a\\..\\b",
        "kestra:///a/" + "n" * 300,
        "kestra:///",
        "kestra://other-host/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
    ],
)
def test_an_address_that_leaves_the_storage_is_refused(storage: Storage, uri: str) -> None:
    verbs: list[Callable[[], object]] = [
        lambda: storage.put(uri, io.BytesIO(b"x")),
        lambda: storage.open(uri),
        lambda: storage.size(uri),
        lambda: storage.exists(uri),
        lambda: storage.list(uri),
        lambda: storage.delete(uri),
    ]

    for verb in verbs:
        with pytest.raises(InvalidError) as caught:
            verb()
        assert caught.value.code == "storage.uri.invalid"


def test_deleting_a_folder_leaves_its_neighbours(storage: Storage) -> None:
    for name in ("one/a", "one/b/c", "one-more/a"):
        storage.put(f"kestra:///n/f/executions/{name}", io.BytesIO(b"x"))

    removed = storage.delete("kestra:///n/f/executions/one/")

    assert removed == 2
    assert storage.list("kestra:///n") == ["kestra:///n/f/executions/one-more/a"]
    assert storage.delete("kestra:///n/f/executions/one/") == 0


def test_a_broken_source_leaves_the_old_file(storage: Storage) -> None:
    class Broken(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            raise OSError("the network went away")

    storage.put(f"{FOLDER}a", io.BytesIO(b"old"))

    with pytest.raises(OSError, match="went away"):
        storage.put(f"{FOLDER}a", Broken())  # type: ignore[arg-type]  # a source that fails needs no more than read

    assert read(storage, f"{FOLDER}a") == b"old"
    assert storage.list(FOLDER) == [f"{FOLDER}a"]


def test_writers_at_the_same_time_leave_one_whole_file(storage: Storage) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    threads = [threading.Thread(target=storage.put, args=(f"{FOLDER}a", io.BytesIO(content))) for content in contents]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert read(storage, f"{FOLDER}a") in contents
    assert storage.list(FOLDER) == [f"{FOLDER}a"]
