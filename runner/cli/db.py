"""`mainstem db`: migrate, check, back up and restore the database, and with it the home of an embedded server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.groups import SuggestingGroup
from runner.cli.table import show_json
from runner.errors import ConflictError, InvalidError, NotFoundError, StoreError

if TYPE_CHECKING:
    from runner.settings import Settings
    from runner.store.maintenance import Archive

_FINDING: Final = 1
_NAMES: Final = {
    "state.db": "state",
    "logs.db": "logs",
    "git": "hosted repository",
    "storage": "stored files",
    "token": "admin token",
    "secrets.yaml": "secrets.yaml",
    "encryption.key": "encryption key",
    "known_hosts": "known hosts",
}


@click.group("db", cls=SuggestingGroup)
def command() -> None:
    """Migrate, check, back up and restore the database.

    Without options it is the one that the settings name: MAINSTEM_DATABASE, else SQLite in MAINSTEM_HOME.
    """


def _options(function: Any) -> Any:
    import functools

    @click.option("--home", type=click.Path(path_type=Path), help="Home of an embedded server (MAINSTEM_HOME).")
    @click.option("--database", metavar="URL", help="sqlite:///PATH or postgresql://… (MAINSTEM_DATABASE).")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @functools.wraps(function)
    def wrapped(*args: Any, home: Path | None, database: str | None, as_json: bool, **kwargs: Any) -> Any:
        from runner.settings import Settings

        settings = Settings.load(environ=os.environ, home=home, database=database)
        return function(settings, *args, as_json=as_json, **kwargs)

    return wrapped


@command.command("migrate")
@_options
def migrate(settings: Settings, *, as_json: bool) -> None:
    """Bring the tables to this program's version; SQLite is copied aside first. Nothing is changed when it fails.

    `mainstem up` does this itself. It is for the distributed roles, which refuse an older database.
    """
    from runner.home import prepare_home
    from runner.store import Store

    url = settings.database_url
    if _is_in_home(settings):
        prepare_home(settings.home)
    with _unused(settings):
        found = Store.schema_version(url)
        copy = _copy_aside(settings, found)
        current = Store.migrate(url)
    if as_json:
        show_json({"database": _shown(url), "from": found, "to": current, "copy": str(copy) if copy else None})
        return
    what = f"{_shown(url)}: schema {current}"
    click.echo(f"{what}, nothing to do" if found == current else f"{what}, was {found or 'without tables'}")
    if copy:
        click.echo(f"  a copy from before: {copy}")


def _copy_aside(settings: Settings, found: str | None) -> Path | None:
    """Return a copy of a SQLite database that is about to change; None when nothing changes or nothing is there."""
    from runner.store.maintenance import backup
    from runner.store.migration import HEAD, known_versions, parse, sqlite_path

    if found is None or found == HEAD or found not in known_versions() or not settings.is_embedded:
        return None
    folder = sqlite_path(parse(settings.database_url)).parent
    copy = folder / f"before-{HEAD}-{int(time.time())}.tar"
    backup(settings.database_url, copy)
    return copy


@command.command("check")
@_options
def check(settings: Settings, *, as_json: bool) -> int:
    """Check the files of SQLite and what must hold in every database; a server may be running.

    Exit code 1 when something contradicts itself.
    """
    from runner.store import Store

    _demand_there(settings)
    url = settings.database_url
    started = time.monotonic()
    store = Store.open(url, create=False)
    try:
        findings = store.check()
    finally:
        store.close()
    if as_json:
        show_json({"database": _shown(url), "schema": Store.schema_version(url), "findings": findings})
    else:
        for finding in findings:
            click.echo(finding)
        count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "no contradiction"
        click.echo(f"{_shown(url)}: schema {Store.schema_version(url)}, {count} ({time.monotonic() - started:.2f} s)")
    return _FINDING if findings else 0


@command.command("backup")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_options
def backup(settings: Settings, file: Path | None, *, as_json: bool) -> None:
    """Write the home to FILE, also while its server works: databases, hosted repository, stored files, secrets.

    The token, secrets.yaml and the encryption key are in it, since without them nobody gets in and sealed values stay
    sealed: keep it as you keep the home. Left out are mirrors, which are fetched again, and what lies outside the
    home: mainstem.yaml, variables, a storage elsewhere.
    """
    from runner.store import maintenance

    _demand_there(settings)
    target = (file or Path(f"mainstem-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar")).absolute()
    home = settings.home if _is_in_home(settings) else None
    made = maintenance.backup(settings.database_url, target, home=home.absolute() if home else None)
    left_out = list(_left_out(settings))
    if as_json:
        show_json({"file": str(target), "bytes": target.stat().st_size, **_as_json(made), "leftOut": left_out})
        return
    from runner.reports.text import size

    click.echo(f"{file or target.name}  {size(target.stat().st_size)}, schema {made.schema}")
    _show_parts(made)
    click.echo(f"  left out: {'; '.join(left_out)}")
    click.echo("It holds secrets: keep it as you keep the home.")


@command.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@_options
def restore(settings: Settings, file: Path, *, as_json: bool) -> None:
    """Unpack a backup into a home that is empty. Then start `mainstem up`: what was open goes on.

    Bodies that ran when the backup was taken run again.
    """
    from runner.home import prepare_home
    from runner.store import maintenance

    if not settings.is_embedded:
        raise StoreError(
            "store.restore.postgresql",
            "a PostgreSQL store is restored by PostgreSQL's own tools",
            hint="run: pg_restore --clean --if-exists --dbname=DATABASE mainstem.dump",
        )
    if not _is_in_home(settings):
        raise InvalidError(
            "store.restore.elsewhere",
            f"the settings keep the database at {_shown(settings.database_url)}, outside the home",
            hint="unset `database` (MAINSTEM_DATABASE) for the restore, then move the file",
        )
    if not file.is_file():
        raise NotFoundError("file.missing", f"there is no file {file}")
    home = prepare_home(settings.home)
    with _unused(settings):
        found = maintenance.restore(file, home)
    if as_json:
        show_json({"home": str(home), **_as_json(found)})
        return
    click.echo(f"{home}: as it was at {found.at}, schema {found.schema}")
    _show_parts(found)
    click.echo("Start it with `mainstem up`; what was open goes on.")


@contextmanager
def _unused(settings: Settings) -> Iterator[None]:
    """Hold the lock of the home as long as the block runs. Raises `ConflictError` `home.locked` when a server runs."""
    from runner.home import lock_home

    if not settings.is_embedded or not settings.home.is_dir():
        yield
        return
    try:
        lock = lock_home(settings.home.absolute())
    except ConflictError as error:
        raise ConflictError(error.code, error.message, hint="stop it first, or name another home with --home") from None
    try:
        yield
    finally:
        lock.release()


def _demand_there(settings: Settings) -> None:
    """Refuse a SQLite file that is not there, since opening would make it."""
    from runner.store.migration import parse, sqlite_path

    if settings.is_embedded:
        path = sqlite_path(parse(settings.database_url))
        if not path.is_file():
            raise NotFoundError(
                "store.file.missing",
                f"there is no database {path}",
                hint="name a home with --home or MAINSTEM_HOME, or a database with --database",
            )


def _is_in_home(settings: Settings) -> bool:
    from runner.store.migration import parse, sqlite_path

    if not settings.is_embedded:
        return False
    return sqlite_path(parse(settings.database_url)).absolute() == settings.home.absolute() / "state.db"


def _left_out(settings: Settings) -> Iterator[str]:
    yield from ("mirrors (fetched again)", "mainstem.yaml and MAINSTEM_* variables (not in the home)")
    if settings.storage:
        yield f"stored files in {settings.storage}"
    if not _is_in_home(settings):
        yield "the home, since the database is not in it"


def _show_parts(archive: Archive) -> None:
    from runner.reports.text import size

    for name, (count, files) in archive.parts.items():
        number = f", {files} files" if files > 1 else ""
        click.echo(f"  {_NAMES.get(name, name):<18} {size(count)}{number}")


def _as_json(archive: Archive) -> dict[str, Any]:
    parts = [{"name": name, "bytes": size, "files": files} for name, (size, files) in archive.parts.items()]
    return {"schema": archive.schema, "at": archive.at, "parts": parts}


def _shown(url: str) -> str:
    """Return the address of a database without its password; the path of a SQLite file."""
    from runner.store.migration import parse, sqlite_path

    parsed = parse(url)
    return str(sqlite_path(parsed)) if parsed.get_backend_name() == "sqlite" else repr(parsed)
