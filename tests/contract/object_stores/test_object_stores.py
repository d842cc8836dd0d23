"""What every object store promises, tried against a server of each kind."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from datetime import timedelta

import httpx
import pytest

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.staging.object_store import ObjectStore, open_object_store
from tests.servers.ports import free_port

HOUR = timedelta(hours=1)


def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.put(key, io.BytesIO(b"x"))


@pytest.mark.parametrize("size", [0, 5, 3_000_000, 20_000_001])
def test_an_object_comes_back_as_it_was_put(store: ObjectStore, size: int) -> None:
    content = os.urandom(size)
    source = io.BytesIO(b"before" + content)
    source.seek(6)

    stored = store.put("a", source)
    target = io.BytesIO()
    got = store.get("a", target)

    assert (stored, got, store.size("a")) == (size, size, size)
    assert target.getvalue() == content
    assert not source.closed


def test_a_file_beyond_one_block_travels_whole(store: ObjectStore) -> None:
    content = os.urandom(1_000_000) * 70

    store.put("big", io.BytesIO(content))

    target = io.BytesIO()
    assert store.get("big", target) == len(content)
    assert target.getvalue() == content


def test_keys_are_taken_as_they_are_written(store: ObjectStore) -> None:
    keys = [
        "a b.txt",
        "größe/ü.csv",
        "100%.txt",
        "%2e%2e",
        "a?b#c&d=e",
        "x//y",
        "+plus+",
        "a'b\"c",
        ".hidden",
        "~t*(1)",
    ]

    for key in keys:
        store.put(key, io.BytesIO(key.encode()))

    assert list(store.list()) == sorted(keys, key=str.encode)
    for key in keys:
        assert store.read(key) == key.encode()
        assert httpx.get(store.presign_get(key, HOUR), timeout=60).content == key.encode()


def test_listing_goes_by_the_prefix_and_by_pages(store: ObjectStore) -> None:
    put(store, "a/1", "a/2", "a/b/3", "ab", "b")

    assert list(store.list("a/")) == ["a/1", "a/2", "a/b/3"]
    assert list(store.list("a")) == ["a/1", "a/2", "a/b/3", "ab"]
    assert list(store.list("c")) == []


def test_a_prefix_is_removed_with_everything_below_and_nothing_beside_it(store: ObjectStore) -> None:
    put(store, "one/a", "one/b/c", "one-more/a")

    assert store.delete_prefix("one/") == 2
    assert list(store.list()) == ["one-more/a"]
    assert store.delete_prefix("one/") == 0


def test_removing_what_is_gone_is_no_error(store: ObjectStore) -> None:
    put(store, "a")

    store.delete("a")
    store.delete("a")

    assert list(store.list()) == []


def test_a_missing_object_is_named(store: ObjectStore) -> None:
    for verb in (store.read, store.size, lambda key: store.get(key, io.BytesIO())):
        with pytest.raises(TaskRunnerError, match="nothing") as caught:
            verb("nothing")
        assert caught.value.code == "bucket.object.missing"


def test_a_missing_bucket_is_named(kind: str, options: dict[str, str]) -> None:
    with contextlib.closing(open_object_store(f"{kind}://no-such-bucket/x", options)) as other:
        for verb in (lambda: other.put("a", io.BytesIO(b"x")), lambda: list(other.list())):
            with pytest.raises(TaskRunnerError, match="no-such-bucket") as caught:
                verb()
            assert caught.value.code == "bucket.unknown"


def test_a_source_that_breaks_stores_nothing(store: ObjectStore) -> None:
    class Broken(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            raise OSError("the disk went away")

    put(store, "a")

    with pytest.raises(OSError, match="went away"):
        store.put("a", Broken())  # type: ignore[arg-type]  # a source that fails needs no more than read

    assert store.read("a") == b"x"


def test_writers_at_the_same_time_leave_one_whole_object(store: ObjectStore) -> None:
    contents = [bytes([number]) * 200_000 for number in range(6)]
    threads = [threading.Thread(target=store.put, args=("a", io.BytesIO(content))) for content in contents]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert store.read("a") in contents


def test_a_signed_upload_stores_for_somebody_without_credentials(store: ObjectStore) -> None:
    upload = store.presign_put("deep/er/a b.txt", HOUR)

    answer = httpx.put(upload.url, content=b"signed", headers=dict(upload.headers), timeout=60)

    assert answer.is_success, answer.text
    assert store.read("deep/er/a b.txt") == b"signed"


def test_a_server_that_is_not_there_is_unreachable(kind: str, options: dict[str, str]) -> None:
    away = options | {"endpoint": f"http://127.0.0.1:{free_port()}"}

    with (
        contextlib.closing(open_object_store(f"{kind}://bucket/x", away)) as other,
        pytest.raises(TaskRunnerError) as caught,
    ):
        other.size("a")

    assert (caught.value.code, caught.value.failure_reason) == ("cloud.server.unreachable", FailureReason.UNAVAILABLE)
