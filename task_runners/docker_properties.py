"""The properties that a flow may give the Docker task runner, and what its texts mean."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

__all__ = ["Cpu", "Credentials", "DeviceRequest", "FileHandling", "Memory", "PullPolicy", "Size", "parse_size"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(value: Any) -> int:
    """Return the bytes that `512MB`, `1g`, `64 KiB` or a number means; a kilobyte has 1024 as with Docker itself.

    Raises:
        ValueError: it is no size.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is no size; write it like 512MB or 1GB")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


Size = Annotated[int, BeforeValidator(parse_size)]


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class PullPolicy(enum.StrEnum):
    """When the image is fetched."""

    ALWAYS = "ALWAYS"
    IF_NOT_PRESENT = "IF_NOT_PRESENT"
    NEVER = "NEVER"


class FileHandling(enum.StrEnum):
    """How files travel: `VOLUME` copies them in and out, `MOUNT` binds the working directory (local daemons only)."""

    VOLUME = "VOLUME"
    MOUNT = "MOUNT"


class Cpu(_Properties):
    """How many processors a container may keep busy."""

    cpus: float | None = None


class Memory(_Properties):
    """How much memory a container may use; `kernel_memory` is accepted and, like by Docker since 20.10, not used."""

    memory: Size | None = None
    memory_swap: Size | None = None
    memory_swappiness: int | None = None
    memory_reservation: Size | None = None
    kernel_memory: Size | None = None
    oom_kill_disable: bool | None = None


class Credentials(_Properties):
    """Who we are at a registry; without `registry`, at the one of the image."""

    registry: str | None = None
    username: str | None = None
    password: str | None = None
    registry_token: str | None = None
    identity_token: str | None = None
    auth: str | None = None


class DeviceRequest(_Properties):
    """Devices for a container, such as GPUs (`capabilities: [[gpu]]`)."""

    driver: str | None = None
    count: int | None = None
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, ...], ...] = ()
    options: dict[str, str] | None = None
