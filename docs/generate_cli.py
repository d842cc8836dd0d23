"""Writes the reference in `docs/reference/cli.md` from the commands: `python docs/generate_cli.py`."""  # noqa: INP001 - a program, no package

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import group

PAGE = Path(__file__).parent / "reference" / "cli.md"
_MARK = "\n## Commands\n"


def page() -> str:
    """Return the whole page: what was written by hand up to the commands, then the commands."""
    written = PAGE.read_text(encoding="utf-8").partition(_MARK)[0]
    return written + _MARK + _contents() + "".join(_entries(group, "mainstem", 3))


def _contents() -> str:
    context = click.Context(group)
    rows = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        rows.append(f"| [`{name}`](#mainstem-{name}) | {_inline(command.get_short_help_str(200))} |\n")
    return "\n| command | what it does |\n|---|---|\n" + "".join(rows)


def _entries(parent: click.Group, path: str, level: int) -> Iterator[str]:
    context = click.Context(parent)
    for name in parent.list_commands(context):
        command = parent.get_command(context, name)
        assert command is not None
        yield _entry(command, f"{path} {name}", level)
        if isinstance(command, click.Group):
            yield from _entries(command, f"{path} {name}", level + 1)


def _entry(command: click.Command, path: str, level: int) -> str:
    context = click.Context(command, info_name=path)
    parts = [f"\n{'#' * level} {path}\n", f"\n{_text(command.help or '')}\n"]
    if not isinstance(command, click.Group):
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"\n`{path} {usage}`\n")
    options = [_option(each, context) for each in command.get_params(context) if _is_shown(each)]
    if options:
        parts.append("\n" + "".join(options))
    return "".join(parts)


def _is_shown(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.hidden and "--help" not in parameter.opts


def _option(option: click.Parameter, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    names, text = record
    return f"- `{names}`" + (f": {_inline(text)}\n" if text else "\n")


def _text(help_text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", click.formatting.wrap_text(help_text, 10_000, preserve_paragraphs=True))
    return "\n\n".join(_inline(paragraph) for paragraph in paragraphs)


def _inline(text: str) -> str:
    """Return text in which nothing is taken for a tag or the border of a table."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(each if each.startswith("`") else each.replace("<", "&lt;").replace("|", "\\|") for each in pieces)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
