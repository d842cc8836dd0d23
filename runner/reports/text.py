"""Text of others inside Markdown: nothing of it may become a link, a mention, HTML, or the end of a fence.

Log lines, errors, commit messages and inputs come from people and programs that nobody vouches for, and a forge
renders the pages with the trust of its own address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from runner.states import State

MOST_VALUE_CHARS: Final = 2_000
_MOST_INLINE: Final = 300
_MOST_LABEL: Final = 40
_GAP: Final = "\u200b"  # of no width: what stands on both sides of it is no mention and no address any more
_JOINER: Final = "\u2060"  # of no width: no line is broken beside it
# Colours of terminals; then all other control characters, those that turn the direction of writing or cannot be seen,
# and halves of characters, which no file could hold.
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
# What forges make links of wherever it stands in the text of a page: mentions, issues, merge requests, snippets,
# labels, milestones, epics, addresses.
_REFERENCES: Final = re.compile(r"([@#!$~%&])(?=[\w\"\'])|(?<=:)(?=//)|(?i:(?<=www)(?=\.)|(?<=\bGH)(?=-\d))")

_MARKUP: Final = re.compile(r"([\\`*_\[\](){}|~!$])")
_RUNS_OF_BACKTICKS: Final = re.compile(r"`+")
_NO_LABEL: Final = re.compile(r"[^\w .\-/]")
_SHOWS_YEAR: Final = timedelta(days=180)
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")

MARKS: Final = {
    State.SUCCESS: "✓",
    State.WARNING: "!",
    State.FAILED: "✗",
    State.KILLED: "✗",
    State.CANCELLED: "⊘",
    State.SKIPPED: "-",
}
WORDS: Final = {
    State.SUCCESS: "succeeded",
    State.WARNING: "ended with a warning",
    State.FAILED: "failed",
    State.KILLED: "was killed",
    State.CANCELLED: "was cancelled",
    State.SKIPPED: "was skipped",
    State.RETRIED: "was retried",
}


def plain(text: str) -> str:
    """Return `text` without colours, control characters and marks of writing direction; lines and tabs stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def inline(text: str, limit: int = _MOST_INLINE) -> str:
    """Return `text` as it is to be read, on one line, with nothing in it that Markdown or a forge acts on."""
    line = unlinked(text, limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", line)


def unlinked(text: str, limit: int = _MOST_INLINE) -> str:
    """Return `text` on one line that is no Markdown, such as a title, with nothing in it that a forge acts on."""
    line = cut(" ".join(plain(text).split()), limit)
    return _REFERENCES.sub(lambda found: f"{found[0]}{_GAP}", line)


def code(text: str, limit: int = _MOST_INLINE) -> str:
    """Return `text` as a span of code on one line, whatever backticks it holds."""
    line = cut(" ".join(plain(text).split()), limit)
    if not line:
        return ""
    fence = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def fenced(text: str, language: str = "text") -> str:
    """Return a block of code whose fence is longer than any run of backticks in `text`."""
    body = plain(text).rstrip("\n")
    fence = "`" * max(3, _longest_run(body) + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def label(text: str) -> str:
    """Return `text` as a label of a Mermaid diagram: letters, digits, blanks, `_ . - /`."""
    return cut(_NO_LABEL.sub("_", plain(text)), _MOST_LABEL).strip() or "task"


def path_name(text: str) -> str:
    """Return `text` as the name of a file; an execution's id may have been chosen by its caller."""
    return _NO_NAME.sub("_", text)[:100].strip(".") or "_"


def cut(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`; an ellipsis says that there were more."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def seconds(value: float | None) -> str:
    """Return a duration as people write it: `320 ms`, `4.2 s`, `1 m 42 s`, `3 h 5 m`."""
    if value is None:
        return ""
    if value < 0.0005:
        return "< 1 ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def size(count: int) -> str:
    """Return a number of bytes in the unit that reads best."""
    if count < 1000:
        return f"{count} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < factor * 999.5 or unit == "GB":
            return f"{count / factor:.3g} {unit}"
    raise AssertionError


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day_and_time(at: datetime | None, now: datetime) -> str:
    """Return a time in UTC to the minute for a narrow column; only the day when it is half a year away or more."""
    if at is None:
        return ""
    there = at.astimezone(UTC)
    if abs(there - now) > _SHOWS_YEAR:
        return f"{there:%Y-%m-%d}"
    return f"{unbroken(f'{there:%b} {there.day}')} {there:%H:%M}"


def unbroken(text: str) -> str:
    """Return a few words that stay on one line in a narrow column."""
    return text.replace(" ", "\u00a0")


def joined(signs: Iterable[str]) -> str:
    """Return signs side by side that stay on one line."""
    return _JOINER.join(signs)


def _longest_run(text: str) -> int:
    return max(map(len, _RUNS_OF_BACKTICKS.findall(text)), default=0)
