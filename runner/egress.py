"""Outgoing HTTP: the one way from a flow, or from the server on behalf of somebody, to an address.

A host name is resolved once, the addresses are checked, and the connection goes to a checked address; a redirect is a
request of its own and is checked again. Whatever a name says today and tomorrow, an address that was not checked is
never contacted.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from runner import __version__
from runner.addresses import EgressError, addresses

_MAXIMUM_REDIRECTS = 10


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP or SOCKS proxy; its address is checked like any other."""

    url: str
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Egress:
    """How requests are made. Times are in seconds; `read_s` is the longest silence of the other side."""

    allow_private: bool = False
    connect_s: float = 30.0
    read_s: float = 300.0
    follow_redirects: bool = True
    verify: bool = True
    proxy: Proxy | None = None

    def client(self, auth: httpx.Auth | tuple[str, str] | None = None) -> httpx.Client:
        """Return a client to be closed by the caller; it ignores proxies and certificates of the environment.

        Its requests raise `EgressError` beside the errors of httpx.
        """
        return httpx.Client(
            auth=auth,
            transport=_CheckedTransport(self),
            timeout=httpx.Timeout(self.read_s, connect=self.connect_s, pool=self.connect_s),
            follow_redirects=self.follow_redirects,
            max_redirects=_MAXIMUM_REDIRECTS,
            trust_env=False,
            headers={"User-Agent": f"Mainstem/{__version__}"},
        )


def bounded(response: httpx.Response, maximum_bytes: int | None) -> Iterator[bytes]:
    """Yield the decoded body of a streamed response.

    Raises:
        EgressError: `egress.answer.too_large` as soon as it is longer than `maximum_bytes`.
    """
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if maximum_bytes is not None and size > maximum_bytes:
            message = f"the answer is longer than {maximum_bytes} bytes"
            raise EgressError("egress.answer.too_large", message, hint="raise options.maxContentLength")
        yield chunk


class _CheckedTransport(httpx.BaseTransport):
    def __init__(self, egress: Egress) -> None:
        self._allow_private = egress.allow_private
        context: ssl.SSLContext | bool = httpx.create_ssl_context(verify=egress.verify, trust_env=False)
        self._inner = httpx.HTTPTransport(verify=context, proxy=self._proxy(egress.proxy), trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.scheme not in {"http", "https"} or not url.host:
            raise EgressError("egress.url.invalid", f"{url.scheme}://{url.host} is no http or https address")
        port = url.port or (443 if url.scheme == "https" else 80)
        choices = addresses(url.host, port, allow_private=self._allow_private)
        for index, address in enumerate(choices):
            # The Host header was made from the name; the certificate is checked against the name as well.
            request.url = url.copy_with(host=address)
            request.extensions = {**request.extensions, "sni_hostname": url.host}
            try:
                return self._inner.handle_request(request)
            except httpx.ConnectError:
                if index == len(choices) - 1:
                    raise
            finally:
                request.url = url
        raise EgressError("egress.host.unknown", f"the host {url.host!r} has no address")

    def close(self) -> None:
        self._inner.close()

    def _proxy(self, proxy: Proxy | None) -> httpx.Proxy | None:
        if proxy is None:
            return None
        url = httpx.URL(proxy.url)
        address = addresses(url.host, url.port or 80, allow_private=self._allow_private)[0]
        auth = (proxy.username, proxy.password or "") if proxy.username else None
        return httpx.Proxy(url.copy_with(host=address), auth=auth)
