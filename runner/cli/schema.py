"""`mainstem schema`: the JSON Schema of flows, for editors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click


@click.command("schema")
@click.option("--type", "type_name", metavar="TYPE", help="Only this task, trigger, condition or task runner.")
@click.option("--tests", is_flag=True, help="The schema of files of flow tests instead.")
@click.option("--defaults", is_flag=True, help="The schema of files of plugin defaults (_defaults.yaml) instead.")
@click.option("--repository", is_flag=True, help="The schema of .mainstem.yaml, the settings of a repository, instead.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file.")
def command(type_name: str | None, output: Path | None, *, tests: bool, defaults: bool, repository: bool) -> None:
    """Print the JSON Schema of flow files, with every type that is installed here.

    Give it to an editor that has yaml-language-server: names and values are completed, mistakes underlined.
    Exit code 3 when there is no type of that name.
    """
    import json

    from runner.flows.schema import defaults_schema, flow_schema, repository_schema, suite_schema, type_schema

    others = [(tests, suite_schema), (defaults, defaults_schema), (repository, repository_schema)]
    wanted: list[Callable[[], dict[str, Any]]] = [schema_of for is_wanted, schema_of in others if is_wanted]
    if len(wanted) + (type_name is not None) > 1:
        raise click.UsageError("--type, --tests, --defaults and --repository name four schemas: give one of them")
    if type_name is not None:
        wanted = [partial(type_schema, type_name)]
    schema = (wanted or [flow_schema])[0]()
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(f"{text}\n", encoding="utf-8")
