"""`mainstem runners`: which task runners there are, and whether one works here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.groups import SuggestingGroup
from runner.cli.table import show_json, show_rows
from runner.errors import InvalidError

if TYPE_CHECKING:
    from task_runners.base import TaskRunner
    from task_runners.checkup import Finding
    from task_runners.control_groups import ControlGroups

_FINDING: Final = 1
_IMAGE: Final = "busybox:1"


@click.group("runners", cls=SuggestingGroup)
def command() -> None:
    """List task runners, and prove that one works here."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_runners(*, as_json: bool) -> None:
    """List the task runners of this installation with what they can do."""
    rows = list(_rows())
    if as_json:
        show_json(rows)
        return
    show_rows(rows, ("type", "runs", "files", "reattaches", "missing"))


@command.command("check")
@click.argument("type_name", metavar="TYPE")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A property of the task runner, in YAML.")
@click.option("--image", default=_IMAGE, show_default=True, help="The image of the trial; it needs sh.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle to attach to a report, and nothing else.")
def check(type_name: str, given: tuple[str, ...], image: str, *, as_json: bool) -> int:
    """Start a job, send a file in and take one out, read its log, end another one; say what is missing."""
    from tempfile import TemporaryDirectory

    from task_runners.checkup import Checkup
    from task_runners.staging.folder import FolderStage

    runner = _runner(type_name, _properties(given))
    findings: list[Finding] = []
    with TemporaryDirectory(prefix="mainstem-stage-") as folder:
        stage = FolderStage(Path(folder))
        groups, judged = _control_groups(runner)
        image_used = image if runner.capabilities.container else None
        checkup = Checkup(runner, image_used, os.environ, stage, control_groups=groups)
        for finding in (*judged, *checkup.run()):
            findings.append(finding)
            if not as_json:
                _show(finding)
    is_well = all(finding.works for finding in findings)
    if as_json:
        show_json(checkup.bundle(findings))
    elif is_well:
        click.echo(f"{runner.type} works here")
    elif len(findings) > 1:  # else the one line says what to do
        click.echo(f"for a report: mainstem runners check {type_name} --json")
    return 0 if is_well else _FINDING


def _control_groups(runner: TaskRunner) -> tuple[ControlGroups, list[Finding]]:
    """Return the control groups of bodies with what was found about them; nothing where bodies have none anyhow."""
    from runner.settings import Settings
    from task_runners.checkup import check_groups
    from task_runners.control_groups import ControlGroups

    if runner.type != "core.runner.Process":
        return ControlGroups(), []
    groups, finding = check_groups(Settings.load(environ=os.environ).process_runner.cgroup)
    return groups, [finding]


def _show(finding: Finding) -> None:
    seconds = f" ({finding.seconds:.1f} s)" if finding.seconds else ""
    message = f": {finding.message}" if finding.message else ""
    hint = f"; {finding.hint}" if finding.hint else ""
    click.echo(f"{'ok  ' if finding.works else 'FAIL'} {finding.name}{seconds}{message}{hint}")


def _properties(given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text}: write NAME=VALUE")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise click.UsageError(f"--set {text}: the value is no YAML") from None
    return found


def _runner(type_name: str, properties: Mapping[str, Any]) -> TaskRunner:
    from pydantic import ValidationError

    from task_runners.errors import TaskRunnerError
    from task_runners.registry import canonical_name, runner_class

    try:
        return runner_class(type_name).model_validate({**properties, "type": canonical_name(type_name)})
    except TaskRunnerError as error:
        raise InvalidError(error.code, error.message, hint=error.hint) from None
    except ImportError as error:
        raise InvalidError("runner.extra.missing", f"{type_name} needs the package {error.name!r}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidError("runner.property.invalid", f"{where}: {first['msg']}", hint="use --set") from None


def _rows() -> Iterator[dict[str, Any]]:
    from task_runners.registry import runner_class, runner_names

    for name in runner_names():
        try:
            can = runner_class(name).capabilities
        except ImportError as error:
            yield {"type": name, "runs": None, "files": None, "reattaches": None, "missing": error.name}
            continue
        where = "elsewhere" if can.remote else "in a container" if can.container else "as a process"
        files = "shared" if can.shared_files else "copied"
        yield {"type": name, "runs": where, "files": files, "reattaches": can.reattach, "missing": None}
