"""The filters, one module a family; importing this package registers them all."""

from __future__ import annotations

from runner.expressions.filters import collections, data, dates, numbers, text

__all__ = ["collections", "data", "dates", "numbers", "text"]
