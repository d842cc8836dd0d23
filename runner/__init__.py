"""The workflow engine: flow language, expressions, executions, store and the processes that run them."""

__version__ = "0.1.0"
