"""The properties that a flow may give the Kubernetes task runner."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

__all__ = ["NAMESPACE", "Amounts", "Config", "Credentials", "FileSidecar", "FileTransfer", "PullPolicy", "Resources"]

NAMESPACE = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""What a namespace of a cluster may be called: it becomes a part of the paths of requests."""


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class PullPolicy(enum.StrEnum):
    """When a node fetches the image."""

    ALWAYS = "ALWAYS"
    IF_NOT_PRESENT = "IF_NOT_PRESENT"
    NEVER = "NEVER"

    @property
    def as_kubernetes(self) -> str:
        """The value as a container has it (`IfNotPresent`)."""
        return self.value.title().replace("_", "")


class FileTransfer(enum.StrEnum):
    """How files travel: the pod fetches and sends them over HTTP, the worker copies them by `exec`, or what works."""

    AUTO = "AUTO"
    HTTP = "HTTP"
    EXEC = "EXEC"


class TokenProvider(_Properties):
    """A task whose output is a token; it is read so that its flows can be refused with a reason."""

    task: dict[str, Any] | None = None
    output: str | None = None
    cache: timedelta = timedelta(minutes=5)


class Config(_Properties):
    """How to reach the API server and who we are there; without it the worker's own surroundings decide.

    `...Data` is base64 of PEM, as in a kubeconfig, or PEM itself. `...File` are files of the worker.
    """

    master_url: str = "https://kubernetes.default.svc"
    api_version: str = "v1"
    namespace: str | None = Field(default=None, pattern=NAMESPACE)
    ca_cert_data: str | None = None
    ca_cert_file: str | None = None
    client_cert_data: str | None = None
    client_cert_file: str | None = None
    client_key_data: str | None = None
    client_key_file: str | None = None
    client_key_algo: str = "RSA"
    client_key_passphrase: str | None = None
    oauth_token: str | None = None
    oauth_token_provider: TokenProvider | None = None
    username: str | None = None
    password: str | None = None
    trust_certs: bool = False
    disable_hostname_verification: bool = False
    key_store_file: str | None = None
    key_store_passphrase: str | None = None
    trust_store_file: str | None = None
    trust_store_passphrase: str | None = None
    max_concurrent_requests: int = Field(default=64, ge=1)
    max_concurrent_requests_per_host: int = Field(default=5, ge=1)
    watch_reconnect_interval: timedelta = timedelta(seconds=1)


class Credentials(_Properties):
    """Who we are at the registry of the image; without `registry`, at the one that the image names."""

    registry: str | None = None
    username: str | None = None
    password: str | None = None
    auth: str | None = None


class Amounts(_Properties):
    """Quantities as Kubernetes writes them: `500m` processors, `128Mi` of memory."""

    cpu: str | float | None = None
    memory: str | float | None = None


class Resources(_Properties):
    """What the main container asks for, and what it may not exceed."""

    request: Amounts = Amounts()
    limit: Amounts = Amounts()


class FileSidecar(_Properties):
    """The containers that move files; the image needs `sh`, `tar`, `sha256sum` and `wget` or `curl`."""

    image: str = "busybox"
    resources: Resources = Resources()
    default_spec: dict[str, Any] = {}
