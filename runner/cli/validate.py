"""`mainstem validate`: parse and check flow files, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.errors import Problem, Severity
from runner.working_copy import (
    DEFAULTS,
    SEALED,
    SEEDS,
    dashboard_files,
    defaults_around,
    defaults_files,
    flow_files,
    seeds_of,
    suite_files,
    templates_of,
)

if TYPE_CHECKING:
    from runner.flows.between import LocatedFlow
    from runner.flows.models import Flow

_NOTHING = "  hint: flows are files *.yaml and *.yml, outside of hidden folders and of those for files, such as _files"
_MOST_BYTES = 4 << 20  # more than the loader takes, so that it reports the size, and no more than fits into memory


@dataclass(frozen=True, slots=True)
class Checked:
    """All problems of some files, in the order of the files, and the texts of flows, tests and defaults by name."""

    problems: list[Problem]
    flows: dict[str, str]
    tests: dict[str, str]
    defaults: dict[str, str]

    @property
    def sources(self) -> dict[str, str]:
        """All texts by name."""
        return {**self.flows, **self.tests, **self.defaults}


def check_files(paths: tuple[Path, ...]) -> Checked:
    """Parse and check the flows, and the tests of flows, that `paths` name."""
    checking = _Checking(paths)
    for path, namespace in dict(flow_files(paths)).items():
        checking.add(path, namespace)
    return checking.result()


class _Checking:
    """Gathers what is found in one file after another."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._named = paths
        self._tests = list(suite_files(path for path in paths if path.is_dir()))
        self._flows: dict[str, str] = {}
        self._parsed: list[Flow] = []
        self._located: list[LocatedFlow] = []
        self._problems: list[Problem] = []
        self._defaults: dict[str, str] = {}
        for path in defaults_files(paths):
            self._add_defaults(path)
        self._add_templates(paths)
        for each in seeds_of(paths):
            # What of a file of secrets is not encrypted must not be shown beside a problem.
            self._defaults[each.file] = "" if Path(each.file).name in SEALED else _text(Path(each.file))
            self._problems += each.problems
        for path in dashboard_files(paths):
            self._add_dashboard(path)

    def _add_defaults(self, path: Path) -> None:
        from runner.flows.namespace_defaults import parse_defaults

        name = str(path)
        self._defaults[name] = _text(path)
        self._problems += parse_defaults(self._defaults[name].encode(), file=name, namespace=None).problems

    def _add_dashboard(self, path: Path) -> None:
        from runner.dashboards.parse import parse_dashboard

        name = str(path)
        self._defaults[name] = _text(path)
        self._problems += parse_dashboard(self._defaults[name], file=name).problems

    def _add_templates(self, paths: tuple[Path, ...]) -> None:
        from runner.flows.namespace_defaults import NamespaceDefaults

        files = [each for path in paths for each in templates_of(path)]
        self._defaults |= {each.file: _text(Path(each.file)) for each in files}
        problems = NamespaceDefaults().with_templates(files)[1]
        # What a template uses may stand above the folders that were named; a flow that needs it looks there.
        self._problems += [each for each in problems if each.code != "template.missing"]

    def add(self, path: Path, namespace: str | None) -> None:
        """Read a file: a flow, with its tests below it perhaps; one that was named may hold tests alone."""
        from runner.flows.between import LocatedFlow
        from runner.flows.namespace_defaults import stated_namespace
        from runner.flows.outline import Outline
        from runner.flows.parse import parse_flow

        name = str(path)
        if path.name in (*DEFAULTS, *SEEDS, *SEALED) or name in self._defaults:
            return
        try:
            content = _content(path)
        except OSError as error:
            self._flows[name] = ""
            message = f"the file cannot be read: {error.strerror}"
            self._problems.append(Problem("flow.file.unreadable", message, file=name))
            return
        if b"testCases" in content:
            self._tests.append(path)
            if path in self._named and _is_suite(content):
                return
        self._flows[name] = content.decode("utf-8", "replace")
        space = stated_namespace(content) or namespace or ""
        defaults, problems = defaults_around(path, space, content)
        self._problems += [each for each in problems if each.file not in self._defaults]
        for each in problems:
            self._defaults.setdefault(each.file or "", _text(Path(each.file or "")))
        parsed = parse_flow(content, file=name, namespace=namespace, inherited=defaults.around(space, content))
        self._problems += parsed.problems
        if parsed.flow is not None:
            self._parsed.append(parsed.flow)
            self._located.append(LocatedFlow(Outline.of(parsed.flow), name))

    def result(self) -> Checked:
        """Look at everything together; return the problems in the order of the files."""
        from runner.flows.between import check_flows

        between = check_flows(self._located) if len(self._located) > 1 else []
        # What is wrong with the YAML of a flow that has tests is told by both.
        found = list(dict.fromkeys([*self._problems, *between, *self._of_tests()]))
        alone = [path for path in self._tests if str(path) not in self._flows]
        checked = Checked(found, self._flows, {str(path): _text(path) for path in alone}, self._defaults)
        order = {name: index for index, name in enumerate(checked.sources)}
        found.sort(key=lambda problem: (order.get(problem.file or "", 0), problem.line or 0, problem.column or 0))
        return checked

    def _of_tests(self) -> Iterator[Problem]:
        """Yield the problems of tests; what they say of a flow is checked when the flow is among those seen."""
        if not self._tests:
            return
        from runner.flowtests.suites import problems_with, read_suites

        flows = {(each.namespace, each.id): each for each in self._parsed}
        for path in dict.fromkeys(self._tests):
            suites, problems = read_suites(path, named=False)
            yield from problems
            for located in suites:
                flow = flows.get((located.suite.namespace, located.suite.flow_id))
                yield from problems_with(located, flow) if flow else ()


def _is_suite(content: bytes) -> bool:
    from runner.flowtests.suites import is_suite_file

    return is_suite_file(content)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _text(path: Path) -> str:
    try:
        return _content(path).decode("utf-8", "replace")
    except OSError:
        return ""


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
    """Parse and check flow files and folders, and the tests of flows.

    Exit code 0 when there is no error, 1 when there is one, 2 when a path does not exist.
    """
    started = time.monotonic()
    checked = check_files(paths)
    text = _written("json" if as_json else style, checked, time.monotonic() - started)
    if output is not None:
        output.write_text(f"{text}\n", encoding="utf-8")
    elif text:
        click.echo(text)
    if any(problem.severity is Severity.ERROR for problem in checked.problems):
        raise SystemExit(1)


def _written(style: str, checked: Checked, seconds: float) -> str:
    from runner.flows import diagnostics

    problems, sources = checked.problems, checked.sources
    if style == "text":
        blocks = [diagnostics.block(problem, sources.get(problem.file or "")) for problem in problems]
        summary = diagnostics.summary(problems, len(checked.flows), seconds, tests=len(checked.tests))
        return "\n".join([*blocks, summary, *(() if sources else (_NOTHING,))])
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
