"""`mainstem migrate`: what becomes of the flows of another engine."""

from __future__ import annotations

import click


@click.group("migrate")
def command() -> None:
    """Look at the flows of another engine: which run here, and what the others lack."""


@command.command("kestra")
@click.argument("place", metavar="DIR|ZIP|URL")
@click.option("--ref", default="HEAD", show_default=True, help="The branch or tag of a git repository.")
@click.option("--tenant", default="main", show_default=True, help="The tenant of a Kestra server.")
@click.option("--username", envvar="KESTRA_USERNAME", help="User of the server or repository (KESTRA_USERNAME).")
@click.option("--password", envvar="KESTRA_PASSWORD", help="Password (KESTRA_PASSWORD).")
@click.option(
    "--token", envvar="KESTRA_TOKEN", help="API token of the server, or token of the repository (KESTRA_TOKEN)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def kestra(
    place: str, *, ref: str, tenant: str, username: str | None, password: str | None, token: str | None, as_json: bool
) -> int:
    """Say for each flow of Kestra whether it runs here: unchanged, with a note, or not yet, and why.

    The flows are read from a folder, a zip that Kestra exported, a git repository, or a Kestra server; nothing is
    changed there. Exit code 0 when all run, 1 when some do not yet, 3 when there are none.
    """
    from sync.kestra import report
    from sync.kestra.assessment import Verdict, assess
    from sync.kestra.places import documents
    from sync.kestra.server import Access

    access = Access(username, password, token, tenant, ref)
    found = [assess(source) for source in documents(place, access)]
    click.echo(report.as_json(place, found) if as_json else "\n".join(report.table(place, found)))
    number = report.counts(found)
    if len(found) == number[Verdict.NO_FLOW]:
        return 3
    return 1 if number[Verdict.NOT_YET] else 0
