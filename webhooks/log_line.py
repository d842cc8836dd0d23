"""A line of the server's own log: the message, and the fields that say which repository, run or request it is about."""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Final

_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_OURS: Final = frozenset({"runner", "sync", "webhooks", "task_runners"})
_USER_INFO: Final = re.compile(r"(?<=://)[^\s/?#]+@")
_MOST_CHARS: Final = 500  # of one value: some come from clients and from other servers
_PLAIN: Final = re.compile(r"[\w.,:;/@+-]+")


class LineFormatter(logging.Formatter):
    """Writes `TIME LEVEL LOGGER: MESSAGE key=value`; a value that is no plain word is quoted, so it ends no line.

    Of an address the user and password are left out, of a long value the end.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in `logging`
        """Return the line without a traceback; other packages' records stay as they are."""
        line = super().formatMessage(record)
        if record.name.partition(".")[0] not in _OURS:
            return line
        fields = [f"{key}={_written(value)}" for key, value in vars(record).items() if key not in _OWN]
        return _USER_INFO.sub("", " ".join([line, *fields]))


def _written(value: Any) -> str:
    text = str(value)
    text = text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
