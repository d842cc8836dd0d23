"""A log that is read again and again: every line once, whatever comes twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_runners.capture import Stream
from task_runners.log_pages import LogCursor, LogPage, RawLine, file_lines, unseen

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _line(second: int, text: str) -> RawLine:
    return RawLine(NOON + timedelta(seconds=second), text.encode())


def test_lines_of_the_last_moment_are_told_apart_by_their_texts() -> None:
    first, cursor = unseen(LogPage([_line(1, "a"), _line(2, "b")]), None)

    second, _ = unseen(LogPage([_line(1, "a"), _line(2, "b"), _line(2, "c"), _line(3, "d")]), cursor)

    assert [line.text for line in first + second] == [b"a", b"b", b"c", b"d"]


def test_a_text_that_was_written_twice_in_a_moment_counts_twice() -> None:
    _, cursor = unseen(LogPage([_line(1, "same")]), None)

    fresh, after = unseen(LogPage([_line(1, "same"), _line(1, "same")]), cursor)
    none, _ = unseen(LogPage([_line(1, "same"), _line(1, "same")]), after)

    assert ([line.text for line in fresh], none) == ([b"same"], [])


def test_the_two_streams_are_different_lines() -> None:
    out, err = (RawLine(NOON, b"x", stream) for stream in Stream)
    _, cursor = unseen(LogPage([out]), None)

    fresh, _ = unseen(LogPage([out, err]), cursor)

    assert fresh == [err]


def test_a_cursor_survives_json() -> None:
    _, cursor = unseen(LogPage([_line(1, "a"), _line(1, "b")], token="t1"), None)

    assert cursor is not None
    assert LogCursor.from_json(cursor.as_json()) == cursor


def test_an_exact_page_is_taken_as_it_is() -> None:
    _, cursor = unseen(LogPage([_line(5, "a")], token="one", is_exact=True), None)

    fresh, after = unseen(LogPage([_line(5, "a"), _line(2, "late")], token="two", is_exact=True), cursor)

    assert [line.text for line in fresh] == [b"a", b"late"]
    assert after is not None
    assert (after.token, after.timestamp) == ("two", NOON + timedelta(seconds=5))


def test_an_empty_page_moves_nothing_but_the_token() -> None:
    _, cursor = unseen(LogPage([_line(1, "a")]), None)

    fresh, after = unseen(LogPage([], token="x"), cursor)

    assert fresh == []
    assert cursor is not None
    assert after == LogCursor(cursor.timestamp, cursor.seen, "x")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab")), max_size=30),
    st.lists(st.integers(0, 30), max_size=6),
)
def test_each_line_is_told_once_wherever_the_reading_stops(written: list[tuple[int, str]], stops: list[int]) -> None:
    log = [_line(second, text) for second, text in sorted(written, key=lambda each: each[0])]
    told: list[RawLine] = []
    cursor = None

    for stop in [*sorted(stops), len(log)]:
        since = cursor.timestamp if cursor else NOON
        page = [line for line in log[:stop] if line.at >= since]
        fresh, cursor = unseen(LogPage(page), cursor)
        told += fresh

    assert told == log


@pytest.mark.parametrize(
    ("piece", "is_full", "is_final", "texts", "size"),
    [
        (b"", False, True, [], 0),
        (b"a\nb\n", False, False, [b"a", b"b"], 4),
        (b"a\n\nb", False, False, [b"a", b""], 3),
        (b"a\nb", False, True, [b"a", b"b"], 3),
        (b"a\nb", True, True, [b"a"], 2),
        (b"abcd", True, False, [b"abcd"], 4),
        (b"abc", False, False, [], 0),
    ],
)
def test_a_growing_file_gives_whole_lines(
    piece: bytes, texts: list[bytes], size: int, *, is_full: bool, is_final: bool
) -> None:
    lines, taken = file_lines(piece, NOON, is_full=is_full, is_final=is_final)

    assert ([line.text for line in lines], taken) == (texts, size)
