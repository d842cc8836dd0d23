"""Tasks on the rows of a file: one value of Ion, and thus of JSON, on each line."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any, Literal

from pydantic import Field

from runner.context import open_uri
from runner.errors import ExpressionError, TaskError
from runner.expressions import is_truthy
from runner.expressions.ion import from_ion
from runner.flows.models import Template
from runner.ids import new_id
from runner.plugin import Context, Outputs, Task

_Choice = Literal["FAIL", "INCLUDE", "EXCLUDE"]


class FilterItems(Task):
    """Keep the rows for which `filterCondition` is truthy (`filterType: INCLUDE`) or is not (`EXCLUDE`).

    The fields of the row are variables of the condition. `errorOrNullBehavior` says what becomes of a row whose
    condition cannot be rendered or is empty. Outputs: `uri`, `processedItemsTotal`, `droppedItemsTotal`.
    """

    from_: Template = Field(alias="from")
    filter_condition: Template
    filter_type: Literal["INCLUDE", "EXCLUDE"] = "INCLUDE"
    error_or_null_behavior: _Choice = "FAIL"

    def run(self, ctx: Context) -> Outputs:
        """Return the file of the rows that stay."""
        processed = dropped = 0
        uri = ctx.render(self.from_)
        with open_uri(ctx, uri) as file, tempfile.TemporaryFile(dir=ctx.work_dir()) as kept:
            for line, row in _rows(file):
                processed += 1
                if self._keeps(ctx, row, processed):
                    kept.write(line)
                else:
                    dropped += 1
            stored = _stored(ctx, kept, uri)
        ctx.metric("counter", "processed", processed)
        ctx.metric("counter", "dropped", dropped)
        return {"uri": stored, "processedItemsTotal": processed, "droppedItemsTotal": dropped}

    def _keeps(self, ctx: Context, row: Any, number: int) -> bool:
        try:
            text = ctx.with_variables(**_fields(row)).render(self.filter_condition).strip()
            reason = "is empty"
        except ExpressionError as error:
            text, reason = "", error.message
        if text:
            return is_truthy(text) is (self.filter_type == "INCLUDE")
        if self.error_or_null_behavior == "FAIL":
            raise TaskError("storage.filter.failed", f"the condition of row {number} cannot be decided: {reason}")
        return self.error_or_null_behavior == "INCLUDE"


class DeduplicateItems(Task):
    """Keep the last of the rows for which `expr` gives the same text; the order of the rows that stay is kept.

    The fields of the row are variables of the expression. Outputs: `uri`, `numKeys`, `processedItemsTotal`,
    `droppedItemsTotal`.
    """

    from_: Template = Field(alias="from")
    expr: Template

    def run(self, ctx: Context) -> Outputs:
        """Return the file of the rows that stay."""
        uri = ctx.render(self.from_)
        last: dict[str, int] = {}
        processed = 0
        with open_uri(ctx, uri) as file, tempfile.TemporaryFile(dir=ctx.work_dir()) as kept:
            for number, (_, row) in enumerate(_rows(file)):
                last[ctx.with_variables(**_fields(row)).render(self.expr)] = number
                processed += 1
            file.seek(0)
            wanted = set(last.values())
            kept.writelines(line for number, (line, _) in enumerate(_rows(file)) if number in wanted)
            stored = _stored(ctx, kept, uri)
        counts = {"numKeys": len(last), "processedItemsTotal": processed, "droppedItemsTotal": processed - len(last)}
        return {"uri": stored} | counts


def _rows(file: IO[bytes]) -> Iterator[tuple[bytes, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = from_ion(line.decode())
        except (ExpressionError, UnicodeDecodeError) as error:
            raise TaskError("storage.row.invalid", f"line {number} is no row of Ion or JSON: {error}") from None
        for value in values:
            yield (line if line.endswith(b"\n") else line + b"\n"), value


def _fields(row: Any) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()} if isinstance(row, Mapping) else {"value": row}


def _stored(ctx: Context, file: IO[bytes], source: str) -> str:
    file.seek(io.SEEK_SET)
    uri = ctx.uri(f"{new_id()}{PurePosixPath(source).suffix or '.ion'}")
    ctx.storage.put(uri, file)
    return uri
