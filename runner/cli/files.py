"""Output files of an execution as files on this machine: which there are, and where each belongs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_UNSAFE: Final = re.compile(r"[^\w.\- ]")


def placed(outputs: Iterable[tuple[str, str | None, Mapping[str, Any]]]) -> dict[Path, str]:
    """Return the files that outputs name: relative paths `TASK/[VALUE/]NAME`, each with the address of its file.

    `outputs` are task id, value of the loop and outputs of each run. Names come from tasks, so every part of a path is
    made harmless; a name that stands twice gets a number.
    """
    found: dict[Path, str] = {}
    for task_id, value, content in outputs:
        folder = Path(_part(task_id), *([_part(value)] if value is not None else []))
        for uri in dict.fromkeys(_addresses(content)):
            path = folder / _part(uri.rpartition("/")[2])
            number = 2
            while path in found:
                path = folder / f"{number}-{_part(uri.rpartition('/')[2])}"
                number += 1
            found[path] = uri
    return found


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _addresses(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _addresses(inner)
    elif isinstance(value, str) and _is_file_of_execution(value):
        yield value


def _is_file_of_execution(text: str) -> bool:
    from runner.errors import InvalidError
    from runner.storage.uris import execution_of, is_uri

    try:
        return is_uri(text) and execution_of(text) is not None
    except InvalidError:  # text of a task that only looks like an address
        return False


def _part(name: str) -> str:
    harmless = _UNSAFE.sub("_", name).strip()[:100]
    return "_" if harmless.strip(".") == "" else harmless
