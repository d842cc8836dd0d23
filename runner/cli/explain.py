"""`mainstem explain`: what a problem code means."""

from __future__ import annotations

import click


@click.command("explain")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(code: str | None, *, as_json: bool) -> None:
    """Say what a problem CODE means, with an example; without CODE, list all of them.

    A part such as `yaml` or `task.type` lists the codes that begin with it. Exit code 3 when there is none.
    """
    from runner.flows.codes import explanations

    known = explanations()
    chosen = [found for name, found in known.items() if code is None or name == code or name.startswith(f"{code}.")]
    if not chosen:
        from runner.flows.spelling import did_you_mean

        areas = sorted({name.partition(".")[0] for name in known})
        hint = did_you_mean(code or "", [*known, *areas]) or f"they begin with {', '.join(areas)}"
        click.echo(f"no problem has the code {code!r}; {hint}", err=True)
        click.echo("`mainstem explain` lists all codes", err=True)
        raise SystemExit(3)
    if as_json:
        import dataclasses
        import json

        click.echo(json.dumps([dataclasses.asdict(found) for found in chosen], indent=2, ensure_ascii=False))
    elif len(chosen) > 1:
        width = max(len(found.code) for found in chosen)
        for found in chosen:
            click.echo(f"{found.code:<{width}}  {found.meaning}")
    else:
        found = chosen[0]
        click.echo(f"{found.code}\n  {found.meaning}\n\nexample")
        for line in found.example.splitlines():
            click.echo(f"  {line}")
        if found.remedy:
            click.echo(f"\nwhat to do\n  {found.remedy}")
