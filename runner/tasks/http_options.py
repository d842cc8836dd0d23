"""The `options` of the HTTP tasks, in both shapes in which flows write them."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import AliasChoices, Field

from runner.durations import parse_duration
from runner.egress import Egress, Proxy
from runner.errors import TaskError
from runner.expressions import is_truthy
from runner.flows.models import Model
from runner.plugin import Context
from runner.settings import Settings

MAXIMUM_CONTENT_BYTES = 10 * 1024 * 1024


class TimeoutOptions(Model):
    """Times of a request (the shape since 0.21)."""

    connect_timeout: Any = None
    read_idle_timeout: Any = None


class ProxyOptions(Model):
    """A proxy (the shape since 0.21)."""

    type: Any = "HTTP"
    address: Any = None
    port: Any = None
    username: Any = None
    password: Any = None


class AuthOptions(Model):
    """Who asks: `BASIC` with username and password, or `BEARER` with a token."""

    type: Any = "BASIC"
    username: Any = None
    password: Any = None
    token: Any = None


class SslOptions(Model):
    """How the other side proves who it is."""

    insecure_trust_all_certificates: Any = None


class HttpOptions(Model):
    """Options of a request; the flat names are those before 0.21, and both may stand together.

    `maxContentLength` is in bytes. What Kestra knows about its own connection pool and logging is accepted and has no
    effect here.
    """

    connect_timeout: Any = None
    read_timeout: Any = None
    read_idle_timeout: Any = None
    connection_pool_idle_timeout: Any = None
    max_content_length: Any = None
    default_charset: Any = "UTF-8"
    follow_redirects: Any = True
    allow_failed: Any = None
    allowed_response_codes: Any = None
    basic_auth_user: Any = None
    basic_auth_password: Any = None
    proxy_type: Any = None
    proxy_address: Any = None
    proxy_port: Any = None
    proxy_username: Any = None
    proxy_password: Any = None
    log_level: Any = None
    logs: Any = None
    timeout: TimeoutOptions | None = None
    proxy: ProxyOptions | None = None
    auth: AuthOptions | None = None
    ssl: SslOptions | None = Field(default=None, validation_alias=AliasChoices("ssl", "sslOptions"))

    def egress(self, ctx: Context, settings: Settings, ssl: SslOptions | None = None) -> Egress:
        """Return how requests are made, rendered."""
        times = self.timeout or TimeoutOptions()
        secure = ssl or self.ssl or SslOptions()
        return Egress(
            allow_private=settings.allow_private_addresses,
            connect_s=_seconds(ctx, times.connect_timeout, self.connect_timeout, default=30.0),
            read_s=_seconds(ctx, times.read_idle_timeout, self.read_timeout, self.read_idle_timeout, default=300.0),
            follow_redirects=_truth(ctx, self.follow_redirects),
            verify=not _truth(ctx, secure.insecure_trust_all_certificates),
            proxy=self._proxy(ctx),
        )

    def credentials(self, ctx: Context) -> httpx.Auth | tuple[str, str] | None:
        """Return what the client authenticates with, None for nothing."""
        if self.auth is not None and ctx.render(self.auth.type).upper() == "BEARER":
            return _Bearer(ctx.render(self.auth.token))
        user = self.auth.username if self.auth is not None else self.basic_auth_user
        password = self.auth.password if self.auth is not None else self.basic_auth_password
        return None if user is None else (ctx.render(user), ctx.render(password))

    def maximum_bytes(self, ctx: Context, default: int | None = MAXIMUM_CONTENT_BYTES) -> int | None:
        """Return the greatest length of an answer."""
        return default if self.max_content_length is None else int(ctx.render(self.max_content_length))

    def accepts(self, ctx: Context, status: int, *, allow_failed: bool) -> bool:
        """Return whether an answer with `status` is a success."""
        if self.allowed_response_codes is not None:
            return status in {int(code) for code in ctx.render_deep(list(self.allowed_response_codes))}
        return status < httpx.codes.BAD_REQUEST or allow_failed or _truth(ctx, self.allow_failed)

    def _proxy(self, ctx: Context) -> Proxy | None:
        given = self.proxy or ProxyOptions(
            type=self.proxy_type or "HTTP",
            address=self.proxy_address,
            port=self.proxy_port,
            username=self.proxy_username,
            password=self.proxy_password,
        )
        kind = ctx.render(given.type).upper()
        if given.address is None or kind == "DIRECT":
            return None
        if kind != "HTTP":
            raise TaskError("http.proxy.unknown", f"no proxy type named {kind!r}", hint="HTTP or DIRECT")
        port = ctx.render(given.port) or "80"
        url = f"http://{ctx.render(given.address)}:{port}"
        username = None if given.username is None else ctx.render(given.username)
        return Proxy(url, username, None if given.password is None else ctx.render(given.password))


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = self._header
        yield request


def _seconds(ctx: Context, *choices: Any, default: float) -> float:
    for choice in choices:
        if choice is not None:
            return parse_duration(ctx.render(choice)).total_seconds()
    return default


def _truth(ctx: Context, value: Any) -> bool:
    return value is not None and is_truthy(ctx.render(value))
