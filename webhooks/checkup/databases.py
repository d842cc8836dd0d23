"""The store: that it is there, of this version, whole, free of contradictions; storage and broker: that they work."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from runner.errors import MainstemError
from runner.reports.text import size
from task_runners.errors import TaskRunnerError
from task_runners.staging.object_store import KINDS, ObjectStore
from webhooks.checkup.finding import Finding, Patient, counted, error, warning

_SHOWN: Final = 5


def check_store(patient: Patient) -> Iterator[Finding]:
    """Yield the state of the database; sets `patient.store` when it can be opened."""
    from runner.store import Store
    from runner.store.migration import demand_current, parse, sqlite_path

    settings = patient.settings
    url = settings.database_url
    if settings.is_embedded and not sqlite_path(parse(url)).exists():
        path = sqlite_path(parse(url))
        yield warning("store", f"there is no database {path} yet", "`mainstem up` makes it; or name a home with --home")
        return
    try:
        demand_current(url)
        patient.store = Store.open(url, create=False)
        contradictions = patient.store.check()
    except MainstemError as problem:
        yield error("store", problem.message, problem.hint)
        return
    what = _described(patient)
    if contradictions:
        shown = "; ".join(contradictions[:_SHOWN])
        more = f" and {len(contradictions) - _SHOWN} more" if len(contradictions) > _SHOWN else ""
        yield error(
            "store", f"{what}, {shown}{more}", "restore a backup, and tell the makers: mainstem db check --json"
        )
    else:
        yield Finding("store", f"{what}, integrity ok, 0 broken invariants")


def _described(patient: Patient) -> str:
    from runner.store.migration import parse, sqlite_path

    parsed = parse(patient.settings.database_url)
    if not patient.settings.is_embedded:
        return f"PostgreSQL at {parsed.host or 'its socket'}"
    import sqlite3

    path = sqlite_path(parsed)
    files = [path, path.with_name("logs.db"), path.with_name(f"{path.name}-wal")]
    total = sum(each.stat().st_size for each in files if each.exists())
    return f"SQLite {sqlite3.sqlite_version}, WAL, FULL, {size(total)}"


def check_storage(patient: Patient) -> Finding:
    """Return whether files can be stored, read and removed; a folder only says where it is."""
    from runner.storage.base import open_bucket

    place = patient.settings.storage
    if place is None or urlsplit(place).scheme not in KINDS:
        return Finding("storage", f"files in {place or patient.home / 'storage'}")
    try:
        with contextlib.closing(open_bucket(patient.settings)) as bucket:
            is_whole = _round_trip(bucket)
    except (MainstemError, TaskRunnerError) as problem:
        return error("storage", problem.message, problem.hint)
    if not is_whole:
        return error("storage", f"{place} gives back other content than it was given", "do not use it")
    return Finding("storage", f"{place} takes, gives and removes a file")


def _round_trip(bucket: ObjectStore) -> bool:
    key = f".doctor-{secrets.token_hex(8)}"
    bucket.put(key, io.BytesIO(b"doctor"))
    try:
        return bucket.read(key) == b"doctor" and key in list(bucket.list(key))
    finally:
        bucket.delete(key)


def check_broker(patient: Patient) -> Finding:
    """Return whether the broker answers, or could be started."""
    if patient.settings.broker:
        return _answer(patient.settings.broker, "the broker", "start it, or correct MAINSTEM_BROKER")
    from task_runners.valkey import valkey_binary

    try:
        binary = valkey_binary()
    except TaskRunnerError as problem:
        return error("broker", problem.message, problem.hint)
    if patient.running is None:
        return Finding("broker", f"embedded Valkey, not started ({binary.name} is installed)")
    url = _embedded_url(patient)
    if url is None:
        return warning("broker", f"the Valkey of {patient.home} cannot be asked", "run this as the user of the server")
    return _answer(url, "the embedded Valkey", "restart the server; look into its log first")


def _embedded_url(patient: Patient) -> str | None:
    from urllib.parse import quote

    from task_runners.valkey import socket_path_of

    try:
        text = (patient.home / "valkey.conf").read_text(encoding="utf-8")
    except OSError:
        return None
    password = text.partition("requirepass ")[2].split("\n")[0]
    return f"unix://{quote(str(socket_path_of(patient.home)))}?password={quote(password)}"


def _answer(url: str, name: str, advice: str) -> Finding:
    import redis

    place = url.partition("?")[0].rpartition("@")[2].removeprefix("unix://")
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            info = client.info("server")
    except (redis.RedisError, ValueError, OSError) as problem:
        return error("broker", f"{name} at {place} does not answer: {problem}", advice)
    version = info.get("valkey_version") or info.get("redis_version")
    product = "Valkey" if "valkey_version" in info else "Redis"
    return Finding("broker", f"{product} {version} on {place}")


def check_uniqueness(patient: Patient) -> Finding | None:
    """Return whether a server runs, by the lock of the home; None for a deployment of several processes."""
    if not patient.settings.is_embedded:
        return None
    if patient.running is None:
        return Finding("server", "none runs with this home; what lies in it was checked")
    problem = _readiness(str(patient.running.get("url") or ""))
    place = f"pid {patient.running.get('pid')} at {patient.running.get('url')}"
    if problem:
        return error("server", f"{place}: {problem}", "look into its log")
    return Finding("server", f"{place}, ready, {counted(len(patient.flows), 'active flow')}")


def _readiness(url: str) -> str | None:
    import httpx

    try:
        answer = httpx.get(f"{url}/health/ready", timeout=5, trust_env=False)
        missing = answer.json().get("missing")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
        return f"does not answer: {str(problem) or type(problem).__name__}"
    return "; ".join(missing) if missing else None
