"""The filters, one module a family; importing this package registers them all."""

from __future__ import annotations

from runner.expressions.filters import collections, data, dates, format, numbers, text  # noqa: A004 - the name of the filter

__all__ = ["collections", "data", "dates", "format", "numbers", "text"]
