"""The command line's way to a server: which one, with which token, and what its answers mean for the exit code.

Order: options, then `MAINSTEM_URL` and `MAINSTEM_TOKEN`, then the current context of the context file unless that is
`local`, then the home in this folder or of `MAINSTEM_HOME`, then `local`, the server that was started last.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from runner.errors import AccessError, ConflictError, InvalidError, MainstemError, NotFoundError

if TYPE_CHECKING:
    import httpx

API: Final = "/api/v1/main"
LOCAL: Final = "local"
"""The context of the server that was started last on this machine."""
_SERVED_AT: Final = re.compile(r"http://(?:(?P<name>[A-Za-z0-9.-]+)|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::[0-9]+)?/?")
"""What a server tells of its address: nothing that two readers could take for two hosts."""
_TIMEOUT_S: Final = 30.0
_CONNECT_S: Final = 5.0


class UnreachableError(MainstemError):
    """The server does not answer (exit code 6)."""

    exit_code = 6


class ServerError(MainstemError):
    """The server answered with an error that is none of ours to interpret."""


@dataclass(frozen=True, slots=True)
class Context:
    """A server and how to get in. `source` says where it was found, for messages."""

    url: str
    token: str | None
    source: str
    name: str | None = None


def context_file(environ: Mapping[str, str]) -> Path:
    """Return where contexts are kept: below `XDG_CONFIG_HOME` or `~/.config`."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "mainstem" / "contexts.yaml"


def read_contexts(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of the context file: `current`, and `contexts` by name; empty when there is none.

    Raises:
        InvalidError: `context.file.invalid`.
    """
    path = context_file(environ)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {"current": None, "contexts": {}}
    import yaml

    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidError("context.file.invalid", f"{path} cannot be read: {error}") from None
    contexts = content.get("contexts") if isinstance(content, dict) else None
    if not isinstance(contexts, dict) or not all(isinstance(item, dict) for item in contexts.values()):
        raise InvalidError("context.file.invalid", f"{path} must hold `current` and a map `contexts`")
    return {"current": content.get("current"), "contexts": contexts}


def write_context(environ: Mapping[str, str], name: str, url: str, token_file: Path, *, make_current: bool) -> Path:
    """Add or replace a context; only its owner may read the file. Returns the file."""
    import yaml

    content = read_contexts(environ)
    content["contexts"][name] = {"url": url.rstrip("/"), "tokenFile": str(token_file)}
    if make_current or content["current"] not in content["contexts"]:
        content["current"] = name
    path = context_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written beside and renamed, so that a reader never sees half a file and the mode is right from the first byte.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file, sort_keys=True)
    beside.replace(path)
    return path


def known_contexts(environ: Mapping[str, str]) -> Iterator[Context]:
    """Yield the contexts of the file and the server of the home, the current context first.

    `local` is nobody's choice: each server that starts on this machine writes it. So the home of this folder, or the
    one that is named, goes before it.
    """
    content = read_contexts(environ)
    home = _home_context(environ)
    is_first = content["current"] in {None, LOCAL}
    if home is not None and is_first:
        yield home
    names = sorted(content["contexts"], key=lambda name: (name != content["current"], name))
    for name in names:
        entry = content["contexts"][name]
        if isinstance(entry.get("url"), str):
            token = _token_of(Path(str(entry.get("tokenFile", ""))))
            yield Context(entry["url"].rstrip("/"), token, f"context {name}", name)
    if home is not None and not is_first:
        yield home


def resolve(
    environ: Mapping[str, str], *, url: str | None = None, token: str | None = None, context: str | None = None
) -> Context:
    """Return the server to talk to.

    Raises:
        NotFoundError: `context.missing` when the named context does not exist.
        UnreachableError: `server.unknown` when nothing names a server.
        InvalidError: `server.url.invalid`.
    """
    url = url or environ.get("MAINSTEM_URL") or None
    token = token or environ.get("MAINSTEM_TOKEN") or None
    if context is not None:
        found = next((item for item in known_contexts(environ) if item.name == context), None)
        if found is None:
            raise NotFoundError(
                "context.missing", f"no context named {context!r}", hint=f"look into {context_file(environ)}"
            )
    elif url is not None:
        url = url.rstrip("/")
        source = "MAINSTEM_URL" if url == (environ.get("MAINSTEM_URL") or "").rstrip("/") else "--url"
        _demand_address(url, source)
        found = next((item for item in known_contexts(environ) if item.url == url), Context(url, None, source))
    else:
        found = next(known_contexts(environ), None)
    if found is None:
        raise UnreachableError(
            "server.unknown",
            "no server is known",
            hint="start one with `mainstem up`, or name one with --url and --token",
        )
    return Context(found.url, token or found.token, found.source, found.name)


def _demand_address(url: str, source: str) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        hint = "write it like http://127.0.0.1:8420"
        raise InvalidError("server.url.invalid", f"{url!r} ({source}) is no address of a server", hint=hint)


def _home_context(environ: Mapping[str, str]) -> Context | None:
    from runner.settings import DEFAULT_PORT

    named = environ.get("MAINSTEM_HOME")
    home = Path(named or ".mainstem")
    token = _token_of(home / "token")
    if token is None:
        return None
    try:
        facts = json.loads((home / "lock").read_text(encoding="utf-8"))
        url = facts.get("url") if isinstance(facts, dict) else None
    except (OSError, ValueError):
        url = None
    url = url if url and isinstance(url, str) else f"http://127.0.0.1:{DEFAULT_PORT}"
    # A folder that came from elsewhere may hold a home that a server never made, to be sent what this user sends.
    if not named and not _is_of_this_machine(url):
        return None
    return Context(url.rstrip("/"), token, f"home {home}")


def _is_of_this_machine(url: str) -> bool:
    """Return whether an address is one of this machine; a name but `localhost` is not, whatever it means just now."""
    import ipaddress
    import socket

    parts = _SERVED_AT.fullmatch(url)
    if parts is None or parts["name"] == "localhost":
        return parts is not None
    try:
        address = ipaddress.ip_address(parts["name"] or parts["address"])
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as probe:
            probe.bind((str(address), 0))
    except (ValueError, OSError):
        return False
    return True


def _token_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class Client:
    """Calls the API of a server; errors become those of the product, with their exit codes.

    Raises of every call:
        UnreachableError: `server.unreachable`.
        AccessError: 401 and 403. NotFoundError: 404. ConflictError: 409. InvalidError: 400 and 422.
        ServerError: everything else.
    """

    def __init__(self, context: Context, *, timeout_s: float = _TIMEOUT_S) -> None:
        import httpx

        self.context = context
        headers = {"authorization": f"Bearer {context.token}"} if context.token else {}
        self._http = httpx.Client(
            base_url=context.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            # A proxy of the environment must not see the token of a server on this machine.
            trust_env=not _is_local(context.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of an answer."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        """Return the JSON of an answer; None when it has no body."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        """Return the JSON of an answer; None when it has no body."""
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        """Return the JSON of an answer; None when it has no body."""
        return self.request("DELETE", path, **options)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Call a route below `/api/v1/main` (a path that begins with `/api` or `/health` is taken as it is)."""
        import httpx

        try:
            response = self._http.request(method, self._path(path), **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise _error_of(response)
        if not response.content:
            return None
        kind = response.headers.get("content-type", "")
        return response.json() if "json" in kind else response.text

    def download(self, path: str, target: Path, **options: Any) -> None:
        """Write the body of an answer to the file `target`, piece by piece."""
        import httpx

        try:
            with self._http.stream("GET", self._path(path), **options) as response, target.open("wb") as file:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                for piece in response.iter_bytes():
                    file.write(piece)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    @contextmanager
    def events(self, path: str, *, seconds: float | None = None, **options: Any) -> Iterator[Iterator[tuple[str, Any]]]:
        """Give the (id, JSON) frames of a stream of server-sent events until the server ends it.

        Raises:
            TimeoutError: when that is not so after `seconds`.
        """
        import httpx

        until = None if seconds is None else time.monotonic() + seconds
        timeout = httpx.Timeout(_CONNECT_S, read=seconds)
        try:
            with self._http.stream("GET", self._path(path), timeout=timeout, **options) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                yield _frames(response, until)
        except httpx.ReadTimeout:
            raise TimeoutError from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _path(self, path: str) -> str:
        return path if path.startswith(("/api", "/health", "/metrics")) else API + path

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(
            "server.unreachable",
            f"{self.context.url} ({self.context.source}) does not answer: {reason}",
            hint="is the server running? start one with `mainstem up`, or name another with --url",
        )


def options(function: Any) -> Any:
    """Add `--url`, `--token` and `--context` to a command; it receives a `Client` as its first argument."""
    import functools

    @click.option("--url", help="Address of the server (MAINSTEM_URL).")
    @click.option("--token", help="Token of the server (MAINSTEM_TOKEN).")
    @click.option("--context", help="Name of a server in the context file.")
    @functools.wraps(function)
    def command(*args: Any, url: str | None, token: str | None, context: str | None, **kwargs: Any) -> Any:
        with Client(resolve(os.environ, url=url, token=token, context=context)) as client:
            return function(client, *args, **kwargs)

    return command


def _is_local(url: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}


def _frames(response: httpx.Response, until: float | None) -> Iterator[tuple[str, Any]]:
    kind = ""
    for line in response.iter_lines():
        # The server sends comments now and then, so this is looked at though nothing happens.
        if until is not None and time.monotonic() > until:
            raise TimeoutError
        if line.startswith("id:"):
            kind = line[3:].strip()
        elif line.startswith("data:"):
            yield kind, json.loads(line[5:])


_BY_STATUS: Final[dict[int, type[MainstemError]]] = {
    400: InvalidError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidError,
}


def _error_of(response: httpx.Response) -> MainstemError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = str(body.get("code") or f"http.{response.status_code}")
    detail = str(body.get("detail") or body.get("message") or f"the server answered {response.status_code}")
    problems = body.get("problems")
    if isinstance(problems, list) and problems:
        lines = [f"  {item.get('line')}:{item.get('column')} {item.get('message')}" for item in problems]
        detail = "\n".join([detail, *lines])
    hint = body.get("hint")
    if response.status_code == 401:
        return AccessError(code, detail, hint=hint, status=401)
    kind = _BY_STATUS.get(response.status_code, ServerError)
    return kind(code, detail, hint=hint)
