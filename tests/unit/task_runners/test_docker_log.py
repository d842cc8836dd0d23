from __future__ import annotations

import io
import struct

import pytest

from task_runners.capture import Stream
from task_runners.docker_log import StoredLog, frames_of

OUT, ERR = Stream.STDOUT, Stream.STDERR


def frame(stream: Stream, second: float, text: bytes) -> bytes:
    content = f"2026-01-01T12:00:{second:012.9f}Z ".encode() + text
    return struct.pack(">BxxxL", 2 if stream is ERR else 1, len(content)) + content


def given(log: StoredLog, *frames: bytes) -> list[tuple[Stream, bytes]]:
    return list(log.fresh(b"".join(frames)))


def test_what_a_daemon_stored_of_both_streams_comes_in_one_order() -> None:
    log = StoredLog({OUT: 0, ERR: 0})

    found = given(log, frame(OUT, 0.1, b"one\n"), frame(OUT, 2.5, b"three\n"), frame(ERR, 1.2, b"two\n"))

    assert found == [(OUT, b"one\n"), (ERR, b"two\n"), (OUT, b"three\n")]


def test_what_is_read_again_is_given_once_also_where_lines_are_alike() -> None:
    log = StoredLog({OUT: 0, ERR: 0})
    same = frame(OUT, 1, b"same\n")

    found = [given(log, same, same), given(log, same, same, same), given(log, same, same, same, frame(OUT, 2, b"x"))]

    assert [[text for _, text in each] for each in found] == [[b"same\n", b"same\n"], [b"same\n"], [b"x"]]


def test_a_line_that_is_stored_after_a_later_one_of_the_other_stream_is_not_lost() -> None:
    log = StoredLog({OUT: 0, ERR: 0})

    early = given(log, frame(OUT, 2, b"later\n"))
    late = given(log, frame(OUT, 2, b"later\n"), frame(ERR, 1.9, b"earlier\n"))

    assert (early, late) == ([(OUT, b"later\n")], [(ERR, b"earlier\n")])


def test_parts_of_a_line_and_carriage_returns_stay_what_they_are() -> None:
    log = StoredLog({OUT: 0, ERR: 0})

    found = given(log, frame(OUT, 1, b"10%\r20% "), frame(ERR, 1, b"\n"), frame(OUT, 1.1, b"30%\r\n"))

    assert found == [(OUT, b"10%\r20% "), (ERR, b"\n"), (OUT, b"30%\r\n")]


def test_lines_that_were_told_are_passed_over_with_all_their_parts() -> None:
    log = StoredLog({OUT: 1, ERR: 0})

    found = given(log, frame(OUT, 1, b"a long "), frame(OUT, 1.1, b"line\n"), frame(OUT, 1.2, b"next\n"))

    assert found == [(OUT, b"next\n")]


def test_what_is_written_after_a_log_that_has_lost_its_beginning_is_told() -> None:
    log = StoredLog({OUT: 1_000_000, ERR: 0})
    flood = frame(OUT, 1, b"x" * (9 << 20) + b"\n")

    found = [given(log, flood), given(log, flood, frame(OUT, 2, b"::{}::\n"))]

    assert found == [[], [(OUT, b"::{}::\n")]]


class _Broken(io.RawIOBase):
    """A connection that gives one frame and then breaks."""

    def __init__(self) -> None:
        self._content = io.BytesIO(struct.pack(">BxxxL", 1, 2) + b"ab")

    def read(self, size: int = -1) -> bytes:
        if found := self._content.read(size):
            return found
        raise ConnectionResetError


def test_a_connection_that_breaks_gives_what_came() -> None:
    assert list(frames_of(_Broken())) == [(OUT, b"ab")]


def test_a_frame_without_a_stamp_is_an_error() -> None:
    with pytest.raises(ValueError, match="no time stamp"):
        given(StoredLog({OUT: 0, ERR: 0}), struct.pack(">BxxxL", 1, 2) + b"ab")
