from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_runners.capture import Capture, OutputLimits, Stream
from task_runners.lines import Marker, MarkerLog
from task_runners.masking import Masker

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _texts(capture: Capture, *chunks: bytes, stream: Stream = Stream.STDOUT) -> list[str]:
    texts = [line.text for chunk in chunks for line in capture.feed(stream, chunk)]
    return texts + [line.text for line in capture.finish()]


@given(
    content=st.binary(max_size=200),
    cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=5),
)
def test_the_pieces_that_output_comes_in_do_not_matter(content: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(content)]
    chunks = [content[start:end] for start, end in itertools.pairwise(ends)]

    assert _texts(Capture(), *chunks) == _texts(Capture(), content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"50%\r60%\n", ["50%\r60%"]),
        ("ü\n".encode(), ["ü"]),
        (b"\xff\xfe\n", ["��"]),
        (b"", []),
    ],
)
def test_output_becomes_lines(content: bytes, expected: list[str]) -> None:
    assert _texts(Capture(), content) == expected


def test_the_streams_do_not_mix_their_unfinished_lines() -> None:
    capture = Capture(now=lambda: NOW)

    lines = [
        *capture.feed(Stream.STDOUT, b"ou"),
        *capture.feed(Stream.STDERR, b"err\n"),
        *capture.feed(Stream.STDOUT, b"t\n"),
    ]

    assert [(line.stream, line.text, line.timestamp) for line in lines] == [
        (Stream.STDERR, "err", NOW),
        (Stream.STDOUT, "out", NOW),
    ]


def test_a_secret_at_the_cut_of_a_long_line_shows_no_half() -> None:
    masker = Masker()
    masker.add("secret-value")
    capture = Capture(masker, OutputLimits(line_bytes=64))

    texts = _texts(capture, b"x" * 58 + b"secret-value and more\n")

    kept = 64 - (masker.longest - 1)  # as much as the longest form of the secret may need is held back
    assert texts == ["x" * kept + f" [line cut, {79 - kept} bytes left out]"]


def test_the_number_of_dropped_bytes_is_exact() -> None:
    capture = Capture(limits=OutputLimits(total_bytes=10))

    texts = _texts(capture, b"12345\n", b"1234\n12\n", b"123\n", b"rest")

    assert texts[:1] == ["12345"]
    assert texts[1].startswith("[16 bytes of output dropped")
    assert capture.counts[Stream.STDOUT] == 5


def test_the_number_of_lines_is_bounded_too() -> None:
    capture = Capture(limits=OutputLimits(total_lines=3))

    texts = _texts(capture, b"\n" * 10)

    assert texts[:3] == ["", "", ""]
    assert texts[3].startswith("[7 bytes of output dropped")


@pytest.mark.parametrize(
    "chunks",
    [
        (b'x\n::{"outputs":{"a":1}}::\n',),
        (b"x\n:", b':{"outputs":{"a":1}}::\n'),
        (b'x\n::{"outputs":{"a":', b"1}}::\n"),
    ],
)
def test_markers_are_read_after_the_cap(chunks: tuple[bytes, ...]) -> None:
    capture = Capture(limits=OutputLimits(total_bytes=4))
    list(capture.feed(Stream.STDOUT, b"12345678\n"))

    lines = [line for chunk in chunks for line in capture.feed(Stream.STDOUT, chunk)]

    assert [line.marker for line in lines] == [Marker(outputs={"a": 1})]


def test_a_marker_may_be_longer_than_a_line_and_its_outputs_stay_true() -> None:
    masker = Masker()
    masker.add("secret-value")
    capture = Capture(masker, OutputLimits(line_bytes=20))
    value = "secret-value" * 10

    (line,) = capture.feed(
        Stream.STDOUT, f'::{{"outputs":{{"a":"{value}"}},"logs":[{{"message":"is secret-value"}}]}}::\n'.encode()
    )

    assert isinstance(line.marker, Marker)
    assert line.marker.outputs == {"a": value}
    assert line.marker.logs == (MarkerLog("INFO", "is ******"),)
    assert "secret-value" not in line.text
