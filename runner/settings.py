"""Settings: a file `mainstem.yaml`, overruled by `MAINSTEM_*` variables of the environment.

The only module besides the command line that reads the environment.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runner.errors import InvalidError

DEFAULT_PORT = 8420


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class ProcessRunnerSettings(_Part):
    """The process runner: it isolates failures, not people (see `docs/security.md`)."""

    shared: bool = False
    uid_base: int = 200_000


class ReportSettings(_Part):
    """What is committed back, and for how long it stays."""

    enabled: bool = True
    branch: str = "mainstem-reports"
    interval_s: float = 10.0
    retention_days: int = 30
    max_pages: int = 2_000
    max_rows_per_hour: int = 10_000
    include: Literal["default", "all"] = "default"


class RepositorySettings(_Part):
    """A repository declared in the settings file; credentials may name variables as `${NAME}`."""

    name: str
    url: str
    kind: str = "generic"
    username: str | None = None
    password: str | None = None
    ssh_key: str | None = None
    webhook_secret: str | None = None
    previous_webhook_secret: str | None = None
    interval_s: int = 60


class EnvironmentSettings(_Part):
    """An environment declared in the settings file."""

    name: str
    repository: str
    ref: str = "refs/heads/main"
    path: str = "flows"
    namespaces: tuple[str, ...] = ("*",)
    writes: Literal["commit", "propose", "refuse"] = "commit"
    reject_invalid: bool = False
    reports: bool = True


class Settings(_Part):
    """Everything that can be set; every field has a heading in `docs/reference/settings.md`."""

    home: Path = Path(".mainstem")
    work: Path | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    url: str | None = None
    internal_url: str | None = None
    insecure: bool = False
    database: str | None = None
    broker: str | None = None
    storage: str | None = None
    default_task_runner: str = "process"
    workers: int = Field(default=8, ge=1, le=256)
    zone: str = "UTC"
    poll_interval_s: int = 60
    max_backlog: int = 20_000
    recover_missed_schedules: Literal["ALL", "LAST", "NONE"] = "ALL"
    grace_period_s: float = 30.0
    globals: dict[str, Any] = Field(default_factory=dict)
    environment_name: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    allow_private_addresses: bool = True
    docker_volumes: bool = False
    docker_privileged: bool = False
    process_runner: ProcessRunnerSettings = ProcessRunnerSettings()
    reports: ReportSettings = ReportSettings()
    repositories: tuple[RepositorySettings, ...] = ()
    environments: tuple[EnvironmentSettings, ...] = ()
    test_faults: str | None = None

    @property
    def database_url(self) -> str:
        """Return where the store is: the setting, or SQLite in the home."""
        return self.database or f"sqlite:///{self.home.absolute() / 'state.db'}"

    @property
    def is_embedded(self) -> bool:
        """Whether this is one server process on SQLite."""
        return self.database_url.startswith("sqlite")

    @property
    def public_url(self) -> str:
        """Return the address that links are built from, without a slash at its end."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - a comparison, not a bind
        return (self.url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def work_root(self) -> Path:
        """Return the folder of the attempts' working directories; never inside the home."""
        digest = hashlib.sha256(str(self.home.absolute()).encode()).hexdigest()[:12]
        return self.work or Path(tempfile.gettempdir()) / f"mainstem-{digest}"

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Return the settings from defaults, then the file, then the environment, then `overrides` that are not None.

        Raises:
            InvalidError: `settings.invalid`, naming the file or variable and what is wrong with it.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        file = path or Path(environ.get("MAINSTEM_SETTINGS", "mainstem.yaml"))
        if file.exists():
            values.update(_read_file(file))
        values.update(_from_environment(cls, environ))
        values.update({key: value for key, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "settings"
            raise InvalidError("settings.invalid", f"{where}: {first['msg']}", hint=f"check {file}") from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidError("settings.invalid", f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise InvalidError("settings.invalid", f"{file} must hold a map of settings")
    by_alias: dict[Any, str] = {to_camel(name): name for name in Settings.model_fields}
    return {by_alias.get(key, str(key)): value for key, value in content.items()}


def _from_environment(cls: type[Settings], environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in cls.model_fields:
        text = environ.get(f"MAINSTEM_{name.upper()}")
        if text is None or text == "":
            continue
        values[name] = yaml.safe_load(text) if text[0] in "{[" else text
    return values


def secrets_from_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the secrets given as `SECRET_<KEY>` in base64, by upper-case key. Line breaks in the text are allowed.

    Raises:
        InvalidError: `secret.encoding.invalid` when a value is not base64 of UTF-8 text.
    """
    environ = os.environ if environ is None else environ
    found = {}
    for name, text in environ.items():
        if not name.startswith("SECRET_"):
            continue
        try:
            found[name.removeprefix("SECRET_").upper()] = base64.b64decode(text, validate=False).decode()
        except ValueError:
            raise InvalidError("secret.encoding.invalid", f"{name} is not base64 of UTF-8 text") from None
    return found


def expression_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what expressions see as `envs`: variables that start with `ENV_` or `KESTRA_`, prefix cut, lower case."""
    environ = os.environ if environ is None else environ
    return {
        name.removeprefix(prefix).lower(): text
        for prefix in ("KESTRA_", "ENV_")
        for name, text in environ.items()
        if name.startswith(prefix)
    }
