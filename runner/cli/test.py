"""`mainstem test`: run the tests of flows, without a server."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runner.flowtests.results import CaseResult
    from runner.services import Host
    from runner.store import Store


@click.command("test")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("-k", "wanted", default="", metavar="TEXT", help="Only cases whose flow, suite or name holds TEXT.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=None, help="Cases at a time (one for each core).")
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="How long one case may take.")
@click.option("--coverage", "with_coverage", is_flag=True, help="Show which tasks and branches the tests have run.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--runner", "task_runner", help="Default task runner (process).")
def command(
    paths: tuple[Path, ...],
    wanted: str,
    jobs: int | None,
    timeout: float,
    junit: Path | None,
    task_runner: str | None,
    *,
    with_coverage: bool,
    as_json: bool,
) -> int:
    """Run the tests of flows: YAML files in folders `tests`, or the files named.

    Exit code 0 when all tests pass, 1 when one fails or cannot be run.
    """
    from runner.cli.local_host import open_host
    from runner.flowtests import reports
    from runner.flowtests.session import Options, run_session

    if not paths:
        raise click.UsageError("name files of tests, or folders that hold some, such as: mainstem test flows")
    logging.basicConfig(level="ERROR")
    started = time.monotonic()

    def opened(room: Path, root: Path, store: Store) -> Host:
        return open_host(room, os.environ, files=root, store=store, task_runner=task_runner)

    options = Options(wanted, jobs or os.cpu_count() or 1, timeout)
    session = run_session(paths, opened, options, (lambda _: None) if as_json else _tell)
    if junit is not None:
        files = {str(result.file) for result in session.results} | {str(each.file) for each in session.problems}
        sources = {file: _source(Path(file)) for file in files if Path(file).is_file()}
        junit.write_text(reports.as_junit(session, sources), encoding="utf-8")
    if as_json:
        click.echo(reports.as_json(session))
    else:
        for text in reports.complaints(session, _source):
            click.echo(text)
        if with_coverage:
            click.echo(reports.table(session.coverage, session.untested))
        click.echo(reports.summary(session, time.monotonic() - started))
    return 0 if session.is_good else 1


def _tell(result: CaseResult) -> None:
    from runner.flowtests import reports

    click.echo(reports.headline(result))
    if result.findings:
        click.echo(reports.failure(result, _source(result.file)))


def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
