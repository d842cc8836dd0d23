"""Addresses of git repositories: which are allowed, and a client for each. Credentials never stand in a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from dulwich.client import GitClient, Urllib3HttpGitClient, default_urllib3_manager
from urllib3 import PoolManager, ProxyManager

from runner.errors import InvalidError
from sync.checked import ClosesRefusals, Reach
from sync.ssh import SshClient

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 60.0
SCHEMES: Final = frozenset({"https", "http", "ssh", "file"})
# The user names under which forges take a token as password.
_TOKEN_USERS: Final = {"github": "x-access-token", "gitlab": "oauth2", "bitbucket": "x-token-auth"}
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z|[0-9A-Fa-f:]+\Z")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\Z")
_SCP: Final = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>[^/:@]+):(?P<path>(?!/).+)\Z")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a repository is. `path` is absolute for `file`, and as the host understands it for `ssh`."""

    scheme: str
    path: str
    host: str | None = None
    port: int | None = None
    user: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine."""
        return self.scheme == "file"


class Tokens(Protocol):
    """Where tokens come from that hold for a while only. Both raise `MainstemError` when there are none.

    `app_id` is the id, or the client id, of the app whose tokens they are.
    """

    app_id: str

    def token(self) -> str:
        """Return a token that holds for a while yet."""

    def renewed(self, refused: str) -> str:
        """Return another token than one that was refused."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to get in: a user and password (or token), the bearer token of user `bearer`, or a key for ssh."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssh_key: Path | None = None
    known_hosts: Path | None = None


def without_credentials(text: str, *secrets: str | None) -> str:
    """Return `text` without what stands before an `@` in its URLs, and without the secrets given."""
    clean = _USERINFO.sub("", text)
    for secret in secrets:
        if secret:
            clean = clean.replace(secret, "***")
    return clean


def parse_address(url: str) -> Address:
    """Return the parts of a repository's URL: `https`, `http`, `ssh`, `file`, `user@host:path` or an absolute path.

    Raises:
        InvalidError: `repository.url.invalid`, without the credentials that the URL may hold.
    """
    if not url.isprintable() or url != url.strip():
        raise _refused(url, "it holds characters that no URL has")
    if url.startswith("/"):
        return Address("file", url)
    scp = _SCP.match(url) if "://" not in url else None
    if scp is not None and "::" not in url:
        return _ssh(url, scp["host"], None, scp["user"], scp["path"])
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "://" not in url:
        raise _refused(url, f"its kind is not one of {', '.join(sorted(SCHEMES))}")
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise _refused(url, "a file URL names no host")
        return Address("file", unquote(parts.path))
    return _elsewhere(url, parts)


def _elsewhere(url: str, parts: SplitResult) -> Address:
    try:
        port = parts.port
    except ValueError:
        raise _refused(url, "its port is no number") from None
    if parts.scheme == "ssh":
        if parts.password:
            raise _refused(url, "it holds a password", hint="ssh uses keys: set sshKey")
        return _ssh(url, parts.hostname or "", port, parts.username, unquote(parts.path))
    if "@" in parts.netloc:
        raise _refused(url, "it holds credentials", hint="set username and password beside the URL")
    if not _HOST.match(parts.hostname or ""):
        raise _refused(url, "it names no host")
    return Address(parts.scheme, parts.path, parts.hostname, port)


def _ssh(url: str, host: str, port: int | None, user: str | None, path: str) -> Address:
    if not _HOST.match(host) or (user is not None and not _USER.match(user)):
        raise _refused(url, "its host or user is no name")
    if not path or path.startswith("-"):
        raise _refused(url, "it names no path")
    return Address("ssh", path, host, port, user)


def _refused(url: str, reason: str, *, hint: str | None = None) -> InvalidError:
    shown = without_credentials(url).encode("unicode_escape").decode()
    return InvalidError(
        "repository.url.invalid",
        f"{shown!r} is no repository that may be followed: {reason}",
        hint=hint or "for example https://git.example.org/team/flows.git",
    )


def connect(url: str, kind: str, credentials: Credentials, reach: Reach | None = None) -> tuple[GitClient, str]:
    """Return a client for a repository elsewhere, and the path to ask it for.

    With `reach` the address comes from a flow, and not from whoever runs the server: it is checked, and neither the
    proxies nor the ssh settings and agent of the server's user count.

    Raises:
        InvalidError: `repository.url.invalid`, `git.authority.invalid`.
        EgressError: `egress.host.unknown`, `egress.address.refused`.
    """
    address = parse_address(url)
    assert not address.is_local
    if address.scheme == "ssh":
        user = address.user or credentials.username
        options = _ssh_options(credentials, address, reach)
        return SshClient(address.host or "", address.port, user, ["ssh", *options]), address.path
    return _http_client(url, kind, credentials, reach), address.path


class _Pools(ClosesRefusals, PoolManager):
    """Connections to the hosts themselves."""


class _ProxyPools(ClosesRefusals, ProxyManager):
    """Connections through a proxy of the environment."""


def _http_client(url: str, kind: str, credentials: Credentials, reach: Reach | None) -> Urllib3HttpGitClient:
    username, password = credentials.username, credentials.password
    bearer = (username or "").lower() == "bearer"
    if password and not username:
        username = _TOKEN_USERS.get(kind, "git")
    read_s = READ_TIMEOUT_S if reach is None else reach.read_s
    pools: Any = (
        default_urllib3_manager(
            None, pool_manager_cls=_Pools, proxy_manager_cls=_ProxyPools, base_url=url, timeout=read_s
        )
        if reach is None
        else reach.pools()
    )
    client = Urllib3HttpGitClient(
        url,
        pool_manager=pools,
        username=None if bearer else username,
        password=None if bearer else password,
        timeout=read_s,
        thin_packs=False,
        quiet=True,
    )
    if bearer and password:
        # The library has no public door for a bearer token that stays with the origin it was meant for.
        client._auth_header = f"Bearer {password}"  # noqa: SLF001 - see above
        client._auth_origin = client._origin(url)  # noqa: SLF001 - see above
    return client


def _ssh_options(credentials: Credentials, address: Address, reach: Reach | None) -> list[str]:
    words: list[str] = []
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ServerAliveInterval=15", "ServerAliveCountMax=4"]
    if reach is None:
        options.append(f"ConnectTimeout={CONNECT_TIMEOUT_S}")
    else:
        words += ["-F", "none"]
        options += ["IdentityAgent=none", "IdentitiesOnly=yes", *reach.ssh_options(address.host or "", address.port)]
    if credentials.known_hosts is not None:
        options.append(f"UserKnownHostsFile={credentials.known_hosts}")
    if credentials.ssh_key is not None:
        options.append("IdentitiesOnly=yes")
        words += ["-i", str(credentials.ssh_key)]
    return [*words, *(word for option in options for word in ("-o", option))]
