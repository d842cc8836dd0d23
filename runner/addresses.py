"""Which addresses the server may reach, and those that a name has. Loads no HTTP client."""

from __future__ import annotations

import ipaddress
import socket

from runner.errors import MainstemError

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class EgressError(MainstemError):
    """A request may not be made, or its answer is too large; codes `egress.*`."""


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Return whether a request may go to `address`.

    Link-local addresses (the metadata services of clouds) and multicast are never allowed. Private and loopback ones
    are if `allow_private`. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) is judged as itself.
    """
    inner = _embedded(address)
    if inner is not None:
        return is_allowed(inner, allow_private=allow_private)
    if address.is_link_local or address.is_multicast:
        return False
    return allow_private or (address.is_global and not address.is_reserved)


def addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Return the addresses of `host` in the order of the resolver.

    Raises:
        EgressError: `egress.host.unknown`, or `egress.address.refused` when any of them is not allowed: a name that
            mixes allowed and other addresses is an attack or a mistake.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise EgressError("egress.host.unknown", f"the host {host!r} cannot be resolved") from None
    texts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for text in texts:
        if not is_allowed(ipaddress.ip_address(text.partition("%")[0]), allow_private=allow_private):
            raise EgressError(
                "egress.address.refused",
                f"requests to {host!r} ({text}) are not allowed",
                hint="private addresses are allowed by the setting allowPrivateAddresses, link-local ones never",
            )
    return texts


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour
