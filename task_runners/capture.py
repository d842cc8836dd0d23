"""What a body writes, on its way to the log: bytes in, masked and bounded lines out.

One `Capture` serves one attempt. It decodes UTF-8 (bad bytes become U+FFFD), splits at line feeds, masks secrets before
anything else looks at the text, cuts long lines, and stops storing at a cap while it goes on counting and reading
markers. What was left out is said in the text with its exact size.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from task_runners.lines import MalformedMarker, Marker, parse_marker
from task_runners.masking import Masker

__all__ = ["Capture", "CaptureState", "LogLine", "OutputLimits", "Stream"]

_MARKER_START = b"::{"
_MARKER_STARTS = (b":", b"::", b"::{")


class Stream(enum.StrEnum):
    """Where a line was written."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a body without its line end, masked; `marker` is set when it is one of `::{...}::`.

    A marker's outputs are the values as the body gave them, unmasked, since later tasks work with them.
    """

    stream: Stream
    text: str
    timestamp: datetime
    marker: Marker | MalformedMarker | None = None


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """How much of a body's output is kept. Line ends count as a byte."""

    line_bytes: int = 64 * 1024
    marker_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 10 * 1024 * 1024
    total_lines: int = 250_000


@dataclass(frozen=True, slots=True)
class CaptureState:
    """How much of an attempt's output was seen and kept, for a capture that goes on where another one stopped."""

    stdout: int = 0
    stderr: int = 0
    bytes: int = 0
    lines: int = 0
    dropped: int = 0
    is_full: bool = False

    def as_json(self) -> dict[str, int]:
        """Return the fields."""
        return asdict(self)


class Capture:
    """Turns the output of one attempt into lines; used by one thread at a time."""

    def __init__(
        self,
        masker: Masker | None = None,
        limits: OutputLimits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._masker = masker or Masker()
        self._limits = limits or OutputLimits()
        self._now = now
        self._partial = {stream: _Partial() for stream in Stream}
        self._stored_bytes = 0
        self._stored_lines = 0
        self._is_full = False
        self.counts = dict.fromkeys(Stream, 0)
        """Lines seen per stream, stored or not, markers included."""
        self.dropped_bytes = 0
        """Bytes that were read and not stored because the cap was reached."""

    def feed(self, stream: Stream, chunk: bytes) -> Iterator[LogLine]:
        """Yield the lines that `chunk` completes."""
        partial = self._partial[stream]
        start = self._skip(stream, partial, chunk) if self._is_full else 0
        now = self._now()
        while (end := chunk.find(b"\n", start)) >= 0:
            partial.append(chunk[start:end], self._room(partial, chunk, start))
            yield from self._line(stream, partial, now, end_bytes=1)
            self._partial[stream] = partial = _Partial()
            start = end + 1
        if start < len(chunk):
            partial.append(chunk[start:], self._room(partial, chunk, start))

    def take(self, stream: Stream, text: bytes, at: datetime) -> Iterator[LogLine]:
        """Yield the line `text`, which has no line end and was written `at` that moment, if it is kept."""
        partial = _Partial()
        partial.append(text, self._room(partial, text, 0))
        yield from self._line(stream, partial, at, end_bytes=1)

    def forget_unfinished(self) -> None:
        """Drop what came of lines that have not ended, for a source that gives such lines again from their start."""
        self._partial = {stream: _Partial() for stream in Stream}

    def state(self) -> CaptureState:
        """Return how far this capture is."""
        out, err = self.counts[Stream.STDOUT], self.counts[Stream.STDERR]
        return CaptureState(out, err, self._stored_bytes, self._stored_lines, self.dropped_bytes, self._is_full)

    def restore(self, state: CaptureState) -> None:
        """Go on where another capture was."""
        self.counts = {Stream.STDOUT: state.stdout, Stream.STDERR: state.stderr}
        self._stored_bytes, self._stored_lines = state.bytes, state.lines
        self.dropped_bytes, self._is_full = state.dropped, state.is_full

    def _skip(self, stream: Stream, partial: _Partial, chunk: bytes) -> int:
        """Count whole lines at once when none of them can be a marker; return where the unread rest begins.

        A body that floods its output must not cost a step of this program for each line that nobody keeps.
        """
        end = chunk.rfind(b"\n") + 1
        if not end or _MARKER_START in chunk or bytes(partial.kept[:3]) in _MARKER_STARTS:
            return 0
        self.counts[stream] += chunk.count(b"\n")
        self.dropped_bytes += partial.total + end
        partial.clear()
        return end

    def finish(self) -> Iterator[LogLine]:
        """Yield last lines without a line end, and one line that says how much was dropped, if any was."""
        for stream, partial in self._partial.items():
            if partial.total:
                yield from self._line(stream, partial, self._now(), end_bytes=0)
                self._partial[stream] = _Partial()
        if self.dropped_bytes:
            kept = f"an attempt keeps {self._limits.total_bytes} in {self._limits.total_lines} lines"
            text = f"[{self.dropped_bytes} bytes of output dropped: {kept}]"
            yield LogLine(Stream.STDERR, text, self._now())

    def _room(self, partial: _Partial, chunk: bytes, start: int) -> int:
        # A marker may be longer than a line of text, since the values of a body travel in it.
        head = partial.kept[:3] if partial.total else chunk[start : start + 3]
        return self._limits.marker_bytes if head == _MARKER_START else self._limits.line_bytes

    def _line(self, stream: Stream, partial: _Partial, now: datetime, *, end_bytes: int) -> Iterator[LogLine]:
        self.counts[stream] += 1
        raw = bytes(partial.kept)
        if partial.total == len(raw):
            raw = raw.removesuffix(b"\r")
        marker = self._marker(raw) if raw.startswith(_MARKER_START) else None
        if isinstance(marker, Marker) or self._fits(min(partial.total, self._limits.line_bytes) + end_bytes):
            yield LogLine(stream, self._text(raw, partial.total), now, marker)
        else:
            self.dropped_bytes += partial.total + end_bytes

    def _fits(self, size: int) -> bool:
        # From the first line that does not fit nothing more is stored: a log with holes would mislead.
        limits = self._limits
        if self._stored_bytes + size > limits.total_bytes or self._stored_lines >= limits.total_lines:
            self._is_full = True
        if not self._is_full:
            self._stored_bytes += size
            self._stored_lines += 1
        return not self._is_full

    def _marker(self, raw: bytes) -> Marker | MalformedMarker | None:
        marker = parse_marker(raw.decode("utf-8", "replace"))
        if isinstance(marker, Marker) and marker.logs:
            logs = tuple(replace(entry, message=self._masker.mask(entry.message)) for entry in marker.logs)
            return replace(marker, logs=logs)
        return marker

    def _text(self, raw: bytes, total: int) -> str:
        room = self._limits.line_bytes
        if total <= room:
            return self._masker.mask(raw.decode("utf-8", "replace"))
        # A secret that the cut divides must not show its first half: the stream holds such a tail back; it is left out.
        masking = self._masker.stream()
        text = masking.feed(raw[:room].decode("utf-8", "replace"))
        left_out = total - room + len(masking.held.encode("utf-8", "replace"))
        return f"{text} [line cut, {left_out} bytes left out]"


class _Partial:
    """A line that has not ended: its first bytes, and how long it is."""

    __slots__ = ("kept", "total")

    def __init__(self) -> None:
        self.kept = bytearray()
        self.total = 0

    def clear(self) -> None:
        self.kept.clear()
        self.total = 0

    def append(self, piece: bytes, room: int) -> None:
        self.total += len(piece)
        if len(self.kept) < room:
            self.kept += piece[: room - len(self.kept)]
