"""Loads the execution cases of a suite and fills in what stands for files, addresses and dates."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SPEC = re.compile(r"(\d+)\.\.(\d+), each left-padded with blanks to width (\d+), one per line$")
_RELATIVE = re.compile(r"now\s*(?:([+-])\s*(\d+)\s*(s|m|h|d))?$")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+\.[a-z]{2,}(?::\d+)?(?=[/\s\"'?]|$)")
_NAMESPACE = re.compile(r"^namespace:\s*([\w.-]+)", re.MULTILINE)
_LOOPBACK = re.compile(r"//(?:localhost|127\.)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Case:
    """A case as the suite has it. `fields` are its keys; `flows` the folder that its flow files lie in."""

    fields: Mapping[str, Any]
    flows: Path

    def __getitem__(self, key: str) -> Any:
        return self.fields.get(key)

    @property
    def id(self) -> str:
        """Return the name of the case."""
        return str(self.fields.get("id", "unnamed"))

    @property
    def area(self) -> str:
        """Return the group the case is counted in."""
        return str(self.fields.get("area", "other"))

    @property
    def expect(self) -> dict[str, Any]:
        """Return what the end must look like, less what the steps check already."""
        done = set(self["expect_on_steps"] or ()) if self["steps"] else set()
        return {key: value for key, value in (self["expect"] or {}).items() if key not in done}

    @property
    def setup(self) -> Mapping[str, Any]:
        """Return what must exist before the first step; namespace files stand below their namespace."""
        setup = dict(self["setup"] or {})
        files = setup.get("namespace_files") or {}
        if any(not isinstance(content, Mapping) for content in files.values()):
            found = _NAMESPACE.search(self.own_source() or "")
            setup["namespace_files"] = {found[1] if found else "company": files}
        return setup

    @property
    def needs_own_server(self) -> bool:
        """Whether the case counts executions, or sets up something that a whole server has."""
        of_a_server = {"env", "globals", "encryption_secret_key", "base_url", "namespace_files"}
        return bool(self["fresh_server"]) or bool(of_a_server & set(self.setup))

    def sources(self) -> list[str]:
        """Return the texts of the flows to deploy, those that the case's own flow needs first."""
        own = self.own_source()
        needed = [(self.flows / name).read_text(encoding="utf-8") for name in self["needs"] or ()]
        return [*needed, *([own] if own is not None else [])]

    def own_source(self) -> str | None:
        """Return the text of the case's flow; None when it needs none."""
        return self.source_of(self.fields)

    def source_of(self, fields: Mapping[str, Any]) -> str | None:
        """Return the text that `flow_yaml` or `flow_file` of a case or step names."""
        if fields.get("flow_yaml") is not None:
            return str(fields["flow_yaml"])
        name = fields.get("flow_file")
        return (self.flows / name).read_text(encoding="utf-8") if name else None


def load(suite: Path) -> list[Case]:
    """Return the cases of `suite/executions.json`; none if there is no such file."""
    path = suite / "executions.json"
    if not path.is_file():
        return []
    return [Case(fields, suite / "flows") for fields in json.loads(path.read_text(encoding="utf-8"))]


def content_of(file: Mapping[str, Any]) -> str:
    """Return the text of a `$file`: given, or made after its `content_spec`."""
    if file.get("content") is not None:
        return str(file["content"])
    found = _SPEC.search(str(file.get("content_spec")))
    if found is None:
        raise ValueError(f"the runner cannot make a file after {file.get('content_spec')!r}")
    first, last, width = map(int, found.groups())
    return "".join(f"{number:>{width}}\n" for number in range(first, last + 1))


def plain_input(value: Any) -> Any:
    """Return an input's value with `$repeat` carried out, also inside lists and maps."""
    if isinstance(value, Mapping):
        if set(value) == {"$repeat"}:
            text, times = value["$repeat"]
            return str(text) * int(times)
        return {key: plain_input(item) for key, item in value.items()}
    return [plain_input(item) for item in value] if isinstance(value, list) else value


def moment(text: str, now: datetime | None = None) -> datetime:
    """Return the time that `now`, `now+2s`, `now - 1 h`, `today at 10:00` or ISO text names."""
    now = now or datetime.now(UTC)
    found = _RELATIVE.match(text)
    if found is not None:
        sign, count, unit = found.groups()
        delta = timedelta(**{_UNITS[unit]: int(count)}) if count else timedelta(0)
        return now - delta if sign == "-" else now + delta
    if text.startswith("today at "):
        clock = time.fromisoformat(text.removeprefix("today at "))
        return datetime.combine(now.date(), clock, now.tzinfo)
    return datetime.fromisoformat(text)


def with_dates(source: str, case: Case, now: datetime) -> str:
    """Return the source of a flow with `{{D1}}`, `{{D2}}` ... replaced by the dates of the case's schedule."""
    for number, text in enumerate((case["schedule"] or {}).get("dates") or (), start=1):
        source = source.replace(f"{{{{D{number}}}}}", moment(text, now).isoformat())
    return source


def hosts_of(source: str) -> set[str]:
    """Return the addresses of servers elsewhere that a flow names, as `https://host`."""
    return {found for found in _ADDRESS.findall(source) if not _LOOPBACK.search(found)}


@cache
def is_in_reach(address: str) -> bool:
    """Return whether the server at an address such as `https://host` takes connections from here."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=2):
            return True
    except OSError:
        return False


def skip_reason(case: Case) -> str | None:
    """Return why a case cannot be run here, None when it can."""
    if case["unsupported"]:
        return str(case["unsupported"])
    missing = [name for name in _names(case["requires"]) if not _is_here(name)]
    return f"this machine lacks {', '.join(missing)}" if missing else None


def _names(requires: Any) -> Iterable[str]:
    return [requires] if isinstance(requires, str) else requires or ()


@cache
def _is_here(name: str) -> bool:
    """Return whether an external thing exists here: a program, a container engine, a package, an index."""
    if name in {"docker", "registry"} or name.startswith("image:"):
        return _succeeds(["docker", "info"]) and (
            not name.startswith("image:") or _succeeds(["docker", "image", "inspect", name.removeprefix("image:")])
        )
    if name.startswith("python:"):
        package = name.removeprefix("python:").split()[0]
        return _succeeds([shutil.which("python3") or sys.executable, "-c", f"import {package}"])
    if name == "pypi":
        return _succeeds([sys.executable, "-m", "pip", "index", "versions", "six"])
    return shutil.which(name) is not None


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
