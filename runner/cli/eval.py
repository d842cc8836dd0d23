"""`mainstem eval EXPRESSION`: render an expression here, with the variables of a file or of a run that has ended."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.errors import ExpressionError, FlowError, InvalidError, Problem, Severity

if TYPE_CHECKING:
    from runner.cli.origin import EarlierRun
    from runner.expressions import Scope
    from runner.flows.inherited import Inherited
    from runner.flows.models import Flow
    from runner.services import Host

_MOST_CHARS: Final = 1 << 20
_NAME: Final = "(expression)"
_OPEN: Final = "{{ "


@click.command("eval")
@click.argument("expression")
@click.option(
    "--context", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Variables: JSON or YAML."
)
@click.option("--from-execution", "origin", metavar="ID|REPORT.json", help="See what the tasks of this run saw.")
@click.option("-n", "--namespace", help="Namespace for secret(), kv() and files. Default: that of the context or run.")
@click.option("--typed", is_flag=True, help="Give a list, map or number as it is, not as text.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: value and type, or the problem.")
def command(expression: str, file: Path | None, origin: str | None, namespace: str | None, **how: bool) -> int:
    """Render EXPRESSION; no server needed. `-` reads it from the standard input.

    Without `{{` and `{%` the whole of it is one expression: `mainstem eval '1 + 2'`. Secrets are those that
    `mainstem run` has, masked in what is printed; the key-value store is empty. `namespace` has what the files
    `_defaults.yaml` in this folder, or in `flows` below it, give the namespace. Variables of --context stand over those
    of the run.

    Exit code 1 when it cannot be rendered.
    """
    from runner.flows.diagnostics import block

    text = sys.stdin.read(_MOST_CHARS).removesuffix("\n") if expression == "-" else expression
    as_json = how["as_json"]
    with tempfile.TemporaryDirectory(prefix="mainstem-eval-") as room:
        host, scope = _Context.of(file, origin, namespace).open(Path(room))
        try:
            value = _rendered(text, scope, typed=how["typed"] or as_json)
        except ExpressionError as error:
            shown = _as_json_problem(error) if as_json else block(_problem(error), text)
            click.echo(host.masker.mask(shown), err=not as_json)
            return 1
    click.echo(host.masker.mask(_json({"value": value, "type": _kind(value)}) if as_json else _shown(value)))
    return 0


@dataclass(frozen=True, slots=True)
class _Context:
    """Where variables come from."""

    namespace: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    run: EarlierRun | None = None

    @classmethod
    def of(cls, file: Path | None, origin: str | None, namespace: str | None) -> _Context:
        from runner.cli.origin import find_run

        variables = _variables(file) if file else {}
        run = find_run(origin, os.environ) if origin else None
        flow = variables.get("flow")
        named = flow.get("namespace") if isinstance(flow, Mapping) else None
        return cls(namespace or named or (run.document["namespace"] if run else "default"), variables, run)

    def open(self, room: Path) -> tuple[Host, Scope]:
        """Return the host and what the expression sees; `room` is for what lives as long as the command."""
        from runner.cli.local_host import open_host
        from runner.executions.creation import creation_variables
        from runner.executions.models import Execution
        from runner.expressions import Scope
        from runner.states import State

        host = open_host(room, os.environ, files=Path.cwd())
        flow = self._flow()
        now = host.clock()
        execution = Execution("eval", flow.namespace, flow.id, 1, State.RUNNING, now, original_id="eval")
        variables = creation_variables(execution, flow, host).plus(self._of_run(host)).plus(self.variables)
        return host, Scope(variables, host.expression_services(flow, execution))

    def _flow(self) -> Flow:
        from runner.flows.parse import parse_flow

        lines = f"id: {self.run.document['flowId'] if self.run else 'eval'}\nnamespace: {self.namespace}\n"
        around = _around(self.namespace)
        parsed = parse_flow(lines + "tasks: [{id: eval, type: core.log.Log, message: eval}]\n", inherited=around)
        if parsed.flow is None:
            raise InvalidError("flow.property.invalid", f"{self.namespace!r} is no namespace")
        return parsed.flow

    def _of_run(self, host: Host) -> dict[str, Any]:
        from runner.cli.recollection import variables_of

        return variables_of(self.run.document) | {"globals": host.settings.globals} if self.run else {}


def _around(namespace: str) -> Inherited:
    """Return what the files of the current folder, or of its `flows`, give a namespace."""
    from runner.working_copy import defaults_around

    folder = Path("flows") if Path("flows").is_dir() else Path()
    defaults, problems = defaults_around(folder / "eval.yaml", namespace)
    for first in problems:
        if first.severity is Severity.ERROR:
            raise InvalidError(first.code, f"{first.file}:{first.line}:{first.column}: {first.message}")
    return defaults.around(namespace, "")


def _variables(file: Path) -> dict[str, Any]:
    from runner.flows.loader import load_value

    try:
        found = load_value(file.read_bytes())
    except FlowError as error:
        first = error.problems[0]
        place = f":{first.line}:{first.column}" if first.line else ""
        raise InvalidError("eval.context.invalid", f"{file}{place}: {first.message}", hint=first.hint) from None
    if not isinstance(found, dict):
        raise InvalidError("eval.context.invalid", f"{file} must hold a map of variables", hint="inputs: {day: monday}")
    return found


def _rendered(text: str, scope: Scope, *, typed: bool) -> Any:
    """Return the value of a template, or of a bare expression; errors have places in `text`."""
    from runner.expressions import check_template, render, render_typed

    is_template = "{{" in text or "{%" in text
    source = text if is_template else f"{_OPEN}{text} }}}}"
    try:
        # Rendering stops at the first fault and does not say where each kind of it is; this does.
        for finding in check_template(source):
            error = ExpressionError(finding.code, finding.message, hint=finding.hint)
            error.line, error.column = finding.line, finding.column
            raise error
        return render_typed(source, scope) if typed else render(source, scope)
    except ExpressionError as error:
        if not is_template and error.line == 1 and error.column is not None:
            error.column = max(1, error.column - len(_OPEN))
        raise


def _problem(error: ExpressionError) -> Problem:
    return Problem(error.code, error.message, line=error.line, column=error.column, hint=error.hint, file=_NAME)


def _as_json_problem(error: ExpressionError) -> str:
    return _json({"problem": _problem(error).as_json() | {"file": None}})


def _kind(value: Any) -> str:
    from runner.key_values import typed_value

    return "NULL" if value is None else typed_value(value)[0]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    from runner.expressions import to_text

    return to_text(value)
