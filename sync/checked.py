"""Connections of tasks to git servers: each goes to an address that was checked, as all requests of flows do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from runner import __version__
from runner.addresses import addresses
from runner.errors import InvalidError

SSH_PORT: Final = 22


@dataclass(frozen=True, slots=True)
class Reach:
    """How a task gets to a git server: times in seconds, and a PEM file of authorities beside those of the system."""

    allow_private: bool
    connect_s: float = 10.0
    read_s: float = 60.0
    authorities: str | None = None

    def pools(self) -> CheckedPools:
        """Return connections that ignore the proxies of the environment, as other requests of tasks do.

        Raises:
            InvalidError: `git.authority.invalid` when the authorities cannot be read.
        """
        return CheckedPools(
            allow_private=self.allow_private,
            headers={"User-Agent": f"git/mainstem-{__version__}"},  # forges answer others with a page for people
            timeout=Timeout(connect=self.connect_s, read=self.read_s),
            **self._trust(),
        )

    def ssh_options(self, host: str, port: int | None) -> tuple[str, ...]:
        """Return what makes `ssh` connect to a checked address and look the host's key up by its name.

        Raises:
            EgressError: `egress.host.unknown`, `egress.address.refused`.
        """
        address = addresses(host, port or SSH_PORT, allow_private=self.allow_private)[0]
        alias = host if port in {None, SSH_PORT} else f"[{host}]:{port}"
        return (
            f"HostName={address}",
            f"HostKeyAlias={alias}",
            "CheckHostIP=no",
            f"ConnectTimeout={max(1, round(self.connect_s))}",
        )

    def _trust(self) -> Mapping[str, Any]:
        if self.authorities is None:
            return {"cert_reqs": "CERT_REQUIRED"}
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cadata=self.authorities)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidError("git.authority.invalid", f"trustedCaPemPath holds no PEM certificate: {error}") from None
        return {"ssl_context": context}


class ClosesRefusals:
    """Closes a response that says no: the library raises then and would leave its socket to the collector."""

    def request(self, *arguments: Any, **options: Any) -> Any:
        """Return the response to a request."""
        response = super().request(*arguments, **options)  # type: ignore[misc]  # a mixin for pools
        if response.status >= HTTPStatus.BAD_REQUEST:
            response.close()
        return response


class _Checked:
    """A connection whose host is resolved and checked here, and then reached by that address."""

    allow_private = False

    def _new_conn(self: Any) -> socket.socket:
        choices = addresses(self._dns_host, self.port, allow_private=self.allow_private)
        for left, address in enumerate(choices, start=1 - len(choices)):
            try:
                return create_connection((address, self.port), self.timeout, socket_options=self.socket_options)
            except TimeoutError as error:
                if not left:
                    raise ConnectTimeoutError(self, f"{self.host} does not answer") from error
            except OSError as error:
                if not left:
                    raise NewConnectionError(self, f"{self.host} cannot be reached: {error}") from error
        raise AssertionError("a host that can be resolved has an address")


class _CheckedHttp(_Checked, HTTPConnection):
    """Plain."""


class _CheckedHttps(_Checked, HTTPSConnection):
    """Encrypted; the certificate is checked against the host's name."""


class _ChecksAddresses:
    """A pool whose connections know which addresses they may go to."""

    allow_private = False

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]  # a mixin for pools
        connection.allow_private = self.allow_private
        return connection


class _HttpPool(_ChecksAddresses, HTTPConnectionPool):
    ConnectionCls = _CheckedHttp


class _HttpsPool(_ChecksAddresses, HTTPSConnectionPool):
    ConnectionCls = _CheckedHttps


class CheckedPools(ClosesRefusals, PoolManager):
    """Connections by host. A redirect to another one is a connection of its own, and is checked like the first."""

    def __init__(self, *, allow_private: bool, **options: Any) -> None:
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        self._allow_private = allow_private

    def _new_pool(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super()._new_pool(*arguments, **options)
        pool.allow_private = self._allow_private
        return pool
