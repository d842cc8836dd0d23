"""A PostgreSQL server for tests: the one that MAINSTEM_TEST_POSTGRES names, or one of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from runner.ids import new_id
from runner.store import Store
from tests.servers.ports import free_port


def _postgres_programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return folders[-1] if folders else Path(found).parent if found else None


@pytest.fixture(scope="session")
def postgres_server(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """The URL of a server that may be filled with databases: the one that is named, or one of our own."""
    named = os.environ.get("MAINSTEM_TEST_POSTGRES")
    if named:
        yield named.rstrip("/").rsplit("/", 1)[0]
        return
    programs = _postgres_programs()
    if programs is None:
        optional("postgres", "no PostgreSQL in /usr/lib/postgresql and no MAINSTEM_TEST_POSTGRES")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user and user not in {entry.pw_name for entry in pwd.getpwall()}:
        optional("postgres", "running as root, and there is no user 'postgres' to run the server")
    folder = Path(tempfile.mkdtemp(prefix="mainstem-pg-"))
    if user:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(programs / program), "-D", str(data), *arguments],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            optional("postgres", f"{program} ended with {done.returncode}")

    run("initdb", "-A", "trust", "-U", "mainstem", "-N", "-E", "UTF8")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://mainstem@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a database that has our tables and nothing in them; copying it is faster than migrating again."""
    name = f"template_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name}")
    Store.migrate(f"{postgres_server}/{name}")
    return name


def _administrate(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(f"{server}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh database."""
    name = f"test_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield f"{postgres_server}/{name}"
    _administrate(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_empty_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"empty_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    _administrate(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
