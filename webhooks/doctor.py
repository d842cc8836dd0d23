"""`mainstem doctor`: looks at an installation, with or without a running server, and says what is wrong with it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from runner.cli.table import safe, show_json
from runner.errors import MainstemError
from runner.settings import Settings
from webhooks.checkup.finding import Finding, Patient, Weight, counted, error, warning

_MARKS: Final = {
    Weight.OK: click.style("✓", fg="green"),
    Weight.WARNING: click.style("!", fg="yellow"),
    Weight.ERROR: click.style("✗", fg="red"),
}
_SUBJECT_CHARS: Final = 11


@click.command("doctor")
@click.option("--home", type=click.Path(path_type=Path), help="Home of the server (MAINSTEM_HOME).")
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(home: Path | None, file: Path | None, *, as_json: bool) -> int:
    """Check this installation and say what is wrong: store, storage, broker, repositories, runners, address.

    Clock and disks too. A server may be running or not; nothing is changed. Exit code 1 when there is an error;
    warnings do not count.
    """
    logging.basicConfig(level="CRITICAL")
    settings, unset = Settings.load_with_gaps(file, environ=os.environ, home=home)
    patient = _patient(settings)
    findings = []
    for finding in chain(_unset(unset, patient), examine(patient)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    counts = {weight: sum(finding.weight is weight for finding in findings) for weight in Weight}
    if as_json:
        numbers = {"errors": counts[Weight.ERROR], "warnings": counts[Weight.WARNING]}
        show_json({**numbers, "findings": [finding.as_json() for finding in findings]})
    else:
        click.echo(f"{counted(counts[Weight.ERROR], 'error')}, {counted(counts[Weight.WARNING], 'warning')}")
    return 1 if counts[Weight.ERROR] else 0


def _unset(errors: Iterable[MainstemError], patient: Patient) -> Iterator[Finding]:
    """Yield a finding for each variable that settings name and that is not set here.

    A server that runs had them at its start, or it would not run; without one it is what keeps it from starting.
    """
    for problem in errors:
        if patient.running is None:
            yield error("settings", problem.message, problem.hint)
        else:
            yield warning("settings", f"{problem.message} here", "give doctor the variables that the server has")


def _patient(settings: Settings) -> Patient:
    is_root = os.geteuid() == 0
    uid = settings.process_runner.uid_base if is_root else None
    return Patient(settings, os.environ, running=_running(settings.home), uid=uid)


def _running(home: Path) -> dict[str, Any] | None:
    """Return what the server that holds the lock of the home wrote into it; None when the lock is free."""
    import fcntl

    try:
        with (home / "lock").open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                facts = json.loads(file.read() or "{}")
                return facts if isinstance(facts, dict) else {}
    except OSError:
        return None
    except ValueError:
        return {}
    return None


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield all findings, in the order in which a reader wants them."""
    from webhooks.checkup import databases, machine, repositories, runners, signatures

    try:
        yield from databases.check_store(patient)
        server = databases.check_uniqueness(patient)
        if server is not None:
            yield server
        yield databases.check_storage(patient)
        yield databases.check_broker(patient)
        yield from repositories.check_repositories(patient)
        yield from signatures.check_signatures(patient)
        needs = runners.needs_of(patient)
        yield from runners.check_process(patient, needs)
        yield from runners.check_docker(patient, needs)
        yield runners.check_bodies(patient)
        yield runners.check_groups(patient)
        yield from _secrets(patient)
        yield machine.check_url(patient)
        yield machine.check_clock(patient)
        yield from machine.check_disks(patient)
    finally:
        if patient.store is not None:
            patient.store.close()


def _secrets(patient: Patient) -> Iterator[Finding]:
    """Yield an error when secrets cannot be read; a server would not start with them."""
    from runner.secrets.file import FileSecrets
    from runner.settings import secrets_from_environment

    try:
        FileSecrets(patient.home / "secrets.yaml")
        secrets_from_environment(patient.environment)
    except MainstemError as problem:
        yield error("secrets", problem.message, problem.hint)


def _show(finding: Finding) -> None:
    click.echo(safe_line(finding))
    if finding.advice:
        click.echo(f"  {'':<{_SUBJECT_CHARS}} → {safe(finding.advice)}")


def safe_line(finding: Finding) -> str:
    """Return the line of a finding; messages may hold text of others."""
    return f"{_MARKS[finding.weight]} {finding.subject:<{_SUBJECT_CHARS}} {safe(finding.message)}"
