"""The machine around: the public address, the clock, space on the disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from runner.reports.text import size
from webhooks.checkup.finding import Finding, Patient, error, warning

_FEW_BYTES: Final = 1_000_000_000
_TOO_FEW_BYTES: Final = 100_000_000
_MOST_OFF: Final = timedelta(seconds=5)
_TIMEOUT_S: Final = 5.0


def check_url(patient: Patient) -> Finding:
    """Return whether the public address is set and leads to this server."""
    import httpx

    url = patient.settings.url
    if not url:
        shown = (patient.running or {}).get("url") or patient.settings.public_url
        return warning("url", f"MAINSTEM_URL is not set: links point to {shown}", "set it to the public address")
    if patient.running is None:
        return Finding("url", f"{url} (not asked: no server runs here)")
    try:
        answer = httpx.get(f"{patient.settings.public_url}/health/live", timeout=_TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        reason = str(problem) or type(problem).__name__
        return warning("url", f"{url} cannot be reached from here: {reason}", "check name, proxy and firewall")
    if answer.status_code != 200:
        return warning("url", f"{url} answers {answer.status_code}", "let the proxy pass everything on to the server")
    return Finding("url", f"{url} leads to a server that lives")


def check_clock(patient: Patient) -> Finding:
    """Return whether this clock agrees with the others that there are: PostgreSQL's, and the newest row's."""
    now = datetime.now(UTC)
    newest = _newest(patient)
    if newest is not None and newest - now > _MOST_OFF:
        message = f"says {now:%Y-%m-%d %H:%M:%S} UTC, but an execution was created at {newest:%Y-%m-%d %H:%M:%S} UTC"
        return error("clock", message, "correct it and keep it by NTP: schedules and timeouts go by it")
    other = _server_time(patient)
    if other is not None and abs(other - now) > _MOST_OFF:
        message = f"differs by {abs(other - now).total_seconds():.0f} s from that of the server"
        return warning("clock", message, "keep all machines by NTP")
    return Finding("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, schedules without a zone go by {patient.settings.zone}")


def _newest(patient: Patient) -> datetime | None:
    from runner.store import ExecutionQuery

    if patient.store is None:
        return None
    rows = patient.store.read(lambda db: db.executions.search(ExecutionQuery(size=1))).items
    return max((row.created_at for row in rows), default=None)


def _server_time(patient: Patient) -> datetime | None:
    import httpx

    url = (patient.running or {}).get("url")
    if not url:
        return None
    try:
        answer = httpx.get(f"{url}/health/live", timeout=_TIMEOUT_S, trust_env=False)
        return parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError):
        return None


def check_disks(patient: Patient) -> Iterator[Finding]:
    """Yield the free space where the home and the working directories lie."""
    places = {"home": patient.home, "work": patient.settings.work_root}
    seen: dict[int, list[str]] = {}
    free: dict[int, int] = {}
    for name, place in places.items():
        existing = _existing(place)
        device = existing.stat().st_dev
        seen.setdefault(device, []).append(name)
        free[device] = shutil.disk_usage(existing).free
    for device, names in seen.items():
        message = f"{size(free[device])} free for {' and '.join(names)}"
        if free[device] < _TOO_FEW_BYTES:
            yield error("disk", message, "free space: nothing can be committed on a full disk")
        elif free[device] < _FEW_BYTES:
            yield warning("disk", message, "free space, or purge executions and logs")
        else:
            yield Finding("disk", message)


def _existing(place: Path) -> Path:
    return next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
