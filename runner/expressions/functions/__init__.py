"""The functions, one module a family; importing this package registers them all."""

from __future__ import annotations

from runner.expressions.functions import context, dates, encoding, files, random, rendering, values

__all__ = ["context", "dates", "encoding", "files", "random", "rendering", "values"]
