"""Secrets out of text: one masker for a whole attempt, fed with every secret the attempt may have seen.

A value is registered together with the forms in which programs usually print it: base64 at its three alignments (and
wrapped as `base64` wraps it), base64url, hex, percent, JSON, HTML and shell quoting, and each line of a multi-line
value. What is encrypted, reversed or spelled out letter by letter cannot be recognised.
"""

from __future__ import annotations

import base64
import html
import json
import shlex
import threading
import urllib.parse
from collections.abc import Iterator

import ahocorasick  # type: ignore[import-not-found]  # a C extension without type stubs

__all__ = ["MINIMUM_CHARS", "REPLACEMENT", "Masker", "MaskingStream"]

REPLACEMENT = "******"
MINIMUM_CHARS = 4  # shorter values would blacken ordinary words and tell more than they hide
_WRAP_COLUMNS = (76, 64)  # `base64` of coreutils; PEM and `openssl base64`

Interval = tuple[int, int]


class Masker:
    """A growing set of secrets and the text without them. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._patterns: set[str] = set()
        self._automaton: ahocorasick.Automaton | None = None
        self._stale = False
        self._longest = 0

    def add(self, secret: str) -> bool:
        """Register `secret` and its encodings; False when it is shorter than four characters and stays visible."""
        forms = {form for form in _forms(secret) if len(form) >= MINIMUM_CHARS}
        if len(secret) < MINIMUM_CHARS or not forms:
            return False
        with self._lock:
            if not forms <= self._patterns:
                self._patterns |= forms
                self._stale = True
        return True

    @property
    def longest(self) -> int:
        """The number of characters of the longest registered form; 0 when there is none."""
        self._current()
        return self._longest

    def mask(self, text: str) -> str:
        """Return `text` with each secret, and each run of overlapping secrets, replaced by `******`."""
        covered = self.covered(text)
        if not covered:
            return text
        pieces = []
        position = 0
        for start, end in covered:
            pieces += [text[position:start], REPLACEMENT]
            position = end
        pieces.append(text[position:])
        return "".join(pieces)

    def covered(self, text: str) -> list[Interval]:
        """Return where secrets stand in `text`: ordered intervals, overlapping ones merged."""
        automaton = self._current()
        if automaton is None or not text:
            return []
        return _merged((end + 1 - length, end + 1) for end, length in automaton.iter(text))

    def stream(self) -> MaskingStream:
        """Return a filter for text that arrives in pieces."""
        return MaskingStream(self)

    def _current(self) -> ahocorasick.Automaton | None:
        if not self._stale:
            return self._automaton
        with self._lock:
            if self._stale:
                automaton = ahocorasick.Automaton()
                for pattern in self._patterns:
                    automaton.add_word(pattern, len(pattern))
                automaton.make_automaton()
                self._longest = max(map(len, self._patterns))
                self._automaton = automaton
                self._stale = False
            return self._automaton


class MaskingStream:
    """Masks text whose secrets may be cut by the borders of the pieces it comes in.

    It holds back as many characters as the longest secret may still need, so `flush` must be called at the end.
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = ""
        self._carried = 0  # so many held characters belong to a secret whose replacement was already given out

    @property
    def held(self) -> str:
        """The text that was fed and not yet given out. Not masked: count it, never show it."""
        return self._held

    def feed(self, piece: str) -> str:
        """Return what can be shown after `piece` arrived."""
        self._held += piece
        return self._give(max(0, len(self._held) - max(0, self._masker.longest - 1)))

    def flush(self) -> str:
        """Return what was held back and start afresh."""
        return self._give(len(self._held))

    def _give(self, upto: int) -> str:
        # Every secret that covers a character before `upto` lies whole in the held text, so all of them are known here.
        text, pieces, position = self._held, [], self._carried
        carried = max(0, self._carried - upto)
        covered = _merged(
            [(0, self._carried), *self._masker.covered(text)] if self._carried else self._masker.covered(text)
        )
        for start, end in covered:
            if start >= upto:
                break
            if start > 0 or not self._carried:
                pieces += [text[position:start], REPLACEMENT]
            position = end
            carried = max(carried, end - upto)
        pieces.append(text[min(position, upto) : upto])
        self._held, self._carried = text[upto:], carried
        return "".join(pieces)


def _merged(intervals: Iterator[Interval] | list[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield secret.strip()
    for value in {secret, *secret.splitlines()}:
        line = value.strip()
        if len(line) >= MINIMUM_CHARS:
            yield line
            yield from _encodings(line)
    yield from _encodings(secret)


def _encodings(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    yield from _base64_forms(raw)
    yield raw.hex()
    yield raw.hex().upper()
    quoted = urllib.parse.quote(raw, safe="")
    yield quoted
    yield _lower_escapes(quoted)
    yield urllib.parse.quote(raw)
    yield urllib.parse.quote_plus(raw)
    yield "".join(f"%{byte:02X}" for byte in raw)
    yield "".join(f"%{byte:02x}" for byte in raw)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(value)[1:-1])[1:-1]
    yield html.escape(value)
    yield shlex.quote(value)
    yield repr(value)[1:-1]


def _lower_escapes(quoted: str) -> str:
    parts = quoted.split("%")
    return parts[0] + "".join(f"%{part[:2].lower()}{part[2:]}" for part in parts[1:])


def _base64_forms(raw: bytes) -> Iterator[str]:
    whole = base64.b64encode(raw).decode()
    yield whole
    yield whole.replace("+", "-").replace("/", "_")
    for columns in _WRAP_COLUMNS:
        if len(whole) > columns:
            yield from (whole[at : at + columns] for at in range(0, len(whole), columns))
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + raw).decode()
        # The first characters mix with what stands before the secret, the last ones with what follows it.
        start = (0, 2, 3)[offset]
        end = len(text) - (0, 3, 2)[(offset + len(raw)) % 3]
        core = text[start:end]
        yield core
        yield core.replace("+", "-").replace("/", "_")
