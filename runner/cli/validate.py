"""`mainstem validate`: parse and check flow files, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from runner.errors import Problem, Severity
from runner.working_copy import flow_files

_MOST_BYTES = 4 << 20  # more than the loader takes, so that it reports the size, and no more than fits into memory


def check_files(paths: tuple[Path, ...]) -> tuple[list[Problem], dict[str, str]]:
    """Return all problems of the named files, and the texts of the files by name."""
    from runner.flows.check import LocatedFlow, check_flows
    from runner.flows.parse import parse_flow

    problems: list[Problem] = []
    sources: dict[str, str] = {}
    located = []
    for path, namespace in flow_files(paths):
        name = str(path)
        if name in sources:
            continue
        sources[name] = ""
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES)
        except OSError as error:
            problems.append(Problem("flow.file.unreadable", f"the file cannot be read: {error.strerror}", file=name))
            continue
        sources[name] = content.decode("utf-8", "replace")
        parsed = parse_flow(content, file=name, namespace=namespace)
        problems += parsed.problems
        if parsed.flow is not None:
            located.append(LocatedFlow(parsed.flow, name))
    if len(located) > 1:
        problems += check_flows(located)
    order = {name: index for index, name in enumerate(sources)}
    problems.sort(key=lambda problem: (order.get(problem.file or "", 0), problem.line or 0, problem.column or 0))
    return problems, sources


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "sarif", "github", "gitlab", "junit"]),
    default="text",
    show_default=True,
    help="How problems are printed; `github` makes annotations, `gitlab` a code quality report.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the problems to this file."
)
def command(paths: tuple[Path, ...], style: str, output: Path | None, *, as_json: bool) -> None:
    """Parse and check flow files and folders.

    Exit code 0 when there is no error, 1 when there is one, 2 when a path does not exist.
    """
    started = time.monotonic()
    problems, sources = check_files(paths)
    text = _written("json" if as_json else style, problems, sources, time.monotonic() - started)
    if output is not None:
        output.write_text(f"{text}\n", encoding="utf-8")
    elif text:
        click.echo(text)
    if any(problem.severity is Severity.ERROR for problem in problems):
        raise SystemExit(1)


def _written(style: str, problems: Sequence[Problem], sources: Mapping[str, str], seconds: float) -> str:
    from runner.flows import diagnostics

    if style == "text":
        blocks = [diagnostics.block(problem, sources.get(problem.file or "")) for problem in problems]
        return "\n".join([*blocks, diagnostics.summary(problems, len(sources), seconds)])
    if style == "json":
        return diagnostics.as_json(problems)
    # Whoever reads the others knows the repository, not this machine.
    problems = [replace(problem, file=problem.file and _from_here(problem.file)) for problem in problems]
    if style == "sarif":
        from runner.flows.sarif import as_sarif

        return as_sarif(problems)
    if style == "github":
        return "\n".join(map(diagnostics.github, problems))
    if style == "gitlab":
        return diagnostics.gitlab(problems)
    return diagnostics.junit(problems, {_from_here(name): text for name, text in sources.items()}).rstrip()


def _from_here(name: str) -> str:
    """Return a path below the current folder relative to it, with `/`; another one as it is."""
    path = Path(os.path.normpath(name))
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()
