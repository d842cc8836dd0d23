"""The way to an API server: its address, how to trust it, who we are there.

What a kubeconfig or a service account says is read by lightkube, which also knows the programs that give tokens. The
requests are ours (`task_runners.kubernetes.api`): a dozen calls on JSON, so that nothing of a pod gets lost which the
models of a library do not know yet.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.kubernetes.properties import Config

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Connection", "connect"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S, _CONNECT_S = 30.0, 10.0
_CONNECTIONS = 64


@dataclass(frozen=True)
class Connection:
    """An HTTP client that is logged in, and the namespace that its configuration names."""

    client: Any  # httpx2.Client
    namespace: str
    url: str
    requests: int = _CONNECTIONS
    """How many there may be at a time, beside the one watch."""


def connect(config: Config | None, environment: Mapping[str, str]) -> Connection:
    """Return the connection that `config` describes, or the one of the surroundings: service account, kubeconfig.

    A flow that names its own server never gets the credentials of the worker.

    Raises:
        TaskRunnerError: `runner.kubernetes.missing`, `runner.kubernetes.config`, `runner.property.invalid`.
    """
    adapter = _lightkube()
    import httpx2

    try:
        if config is not None:
            single, context = _given(config), _trust(config)
        else:
            single = _found(environment)
            context = adapter.verify_cluster(single.cluster, single.user or _no_user(), single.abs_file)
        requests = config.max_concurrent_requests if config is not None else _CONNECTIONS
        connections = requests + 1  # a watch holds one all the time
        client = httpx2.Client(
            base_url=single.cluster.server,
            verify=context,
            auth=adapter.user_auth(single.user),
            timeout=httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(str(error) or type(error).__name__) from error
    return Connection(client, single.namespace, single.cluster.server, requests)


def _lightkube() -> ModuleType:
    try:
        from lightkube.config import client_adapter
    except ImportError as error:
        raise TaskRunnerError(
            "runner.kubernetes.missing",
            f"the Kubernetes task runner needs a package that is not installed here: {error.name or error}",
            hint="pip install 'mainstem[kubernetes]'",
        ) from error
    module: ModuleType = client_adapter
    return module


def _unusable(reason: str) -> TaskRunnerError:
    return TaskRunnerError(
        "runner.kubernetes.config",
        f"no way to a Kubernetes API server: {reason[:300]}",
        hint="set `config`, or KUBECONFIG for the worker, or run it in a pod with a service account",
        failure_reason=FailureReason.CONFIG_ERROR,
    )


def _no_user() -> Any:
    from lightkube.config.models import User

    return User()


def _found(environment: Mapping[str, str]) -> Any:
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.core.exceptions import ConfigError

    try:
        if "KUBERNETES_SERVICE_HOST" in environment and (SERVICE_ACCOUNT / "token").exists():
            return KubeConfig.from_service_account().get()
        path = environment.get("KUBECONFIG", "").partition(":")[0]
        return KubeConfig.from_file(path or "~/.kube/config").get()
    except ConfigError as error:
        raise _unusable(str(error)) from error


def _given(config: Config) -> Any:
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.config.models import Cluster, User

    _refuse_unsupported(config)
    if not config.master_url.startswith(("https://", "http://")):
        raise TaskRunnerError("runner.property.invalid", f"`config.masterUrl` is no address: {config.master_url!r}")
    user = User(token=config.oauth_token, username=config.username, password=config.password)
    cluster = Cluster(server=config.master_url)
    return KubeConfig.from_one(cluster=cluster, user=user, namespace=config.namespace).get()


def _refuse_unsupported(config: Config) -> None:
    refused = {
        "oauthTokenProvider": config.oauth_token_provider is not None,
        "keyStoreFile": config.key_store_file is not None,
        "trustStoreFile": config.trust_store_file is not None,
    }
    for name, is_given in refused.items():
        if is_given:
            raise TaskRunnerError(
                "runner.property.invalid",
                f"`config.{name}` is not supported",
                hint="give `oauthToken` (an expression may read it from a secret), or PEM certificates and keys",
            )


def _trust(config: Config) -> ssl.SSLContext:
    """Return whom to trust, and the certificate that says who we are.

    Raises:
        OSError: a file cannot be read, or what it holds is no certificate or key.
    """
    authority = _pem("caCertData", config.ca_cert_data)
    context = ssl.create_default_context(cafile=config.ca_cert_file, cadata=authority)
    context.check_hostname = not (config.disable_hostname_verification or config.trust_certs)
    if config.trust_certs:
        context.verify_mode = ssl.CERT_NONE
    if config.client_cert_data or config.client_cert_file:
        # The library reads certificates from files only.
        with tempfile.TemporaryDirectory(prefix="mainstem-") as folder:
            certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            certificate.write_text(_pem("clientCertData", config.client_cert_data) or "")
            key.touch(0o600)
            key.write_text(_pem("clientKeyData", config.client_key_data) or "")
            context.load_cert_chain(
                config.client_cert_file or certificate, config.client_key_file or key, config.client_key_passphrase
            )
    return context


def _pem(name: str, data: str | None) -> str | None:
    """Return the PEM text that a flow gave as it is, or as base64 like a kubeconfig."""
    if data is None or "-----BEGIN" in data:
        return data
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode()
    except ValueError as error:
        raise TaskRunnerError("runner.property.invalid", f"`config.{name}` is neither PEM nor base64 of it") from error
