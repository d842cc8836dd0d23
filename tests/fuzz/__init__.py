"""Whatever bytes arrive, the loader and the expressions answer in bounded time: `python -m tests.fuzz --help`."""
