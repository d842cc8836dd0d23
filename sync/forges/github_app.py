"""A GitHub App as the one who asks: its key signs a short claim, for which GitHub gives a token of an hour.

Facts: docs.github.com/apps, "Generating a JSON Web Token", "Generating an installation access token". A claim may hold
for ten minutes at the most; it is dated a minute back, since clocks differ. The token is for the API, and the password
of the user `x-access-token` for git. It may do what the app was allowed in the one repository that it is asked for.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from runner import __version__
from runner.errors import InvalidError
from runner.settings import GitHubAppSettings, RepositorySettings
from sync.forges.answers import ODD, OddAnswerError, identity, reading
from sync.forges.api import ApiError, moment_of
from sync.forges.limits import is_limited
from sync.remote import parse_address

USER: Final = "x-access-token"
"""The user name under which git takes the token of an app."""

if TYPE_CHECKING:
    import httpx

_BACK_S: Final = 60
_CLAIM_S: Final = 480
_MARGIN_S: Final = 300  # a fetch that begins now must end with the same token
_TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 10.0
_MOST_KEY: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float


@dataclass(eq=False, slots=True)
class GitHubApp:
    """An app that is installed where a repository is. Safe for any thread.

    Args:
        url: of the repository.
        app_id: the id of the app, or its client id.
        key: its private key.
        installation: the id of its installation; without it the one that has the repository is asked for.
        api_url: where the API is; without it, where github.com or the installation has it.
        clock: seconds since 1970.
    """

    url: str
    app_id: str
    key: RSAPrivateKey = field(repr=False)
    installation: int | None = None
    api_url: str | None = None
    clock: Callable[[], float] = time.time
    _token: _Token | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def token(self) -> str:
        """Return a token that holds for five minutes at least.

        Raises:
            ApiError: `forge.*`, when GitHub gives none.
        """
        with self._lock:
            if self._token is None or self._token.until - self.clock() < _MARGIN_S:
                self._token = self._given()
            return self._token.text

    def renewed(self, refused: str) -> str:
        """Return another token than one that is believed no longer. Raises as `token`."""
        with self._lock:
            if self._token is not None and self._token.text == refused:
                self._token = None
        return self.token()

    def claim(self) -> str:
        """Return the signed claim to be the app: a JSON Web Token that holds for eight minutes."""
        now = int(self.clock())
        parts = ({"alg": "RS256", "typ": "JWT"}, {"iat": now - _BACK_S, "exp": now + _CLAIM_S, "iss": self.app_id})
        text = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        return f"{text}.{_encoded(self.key.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def _given(self) -> _Token:
        try:
            with reading():
                return self._asked()
        except OddAnswerError as error:  # which is not repeated: it may hold a token
            raise ApiError(ODD, "the GitHub App is answered oddly, and given no token") from error.__cause__

    def _asked(self) -> _Token:
        path = parse_address(self.url).path.strip("/").removesuffix(".git")
        # Asked for with each token: an app that was removed and installed again has another number.
        number = self.installation or identity(self._call("GET", f"repos/{path}/installation")["id"])
        body = {"repositories": [path.rpartition("/")[2]]}
        found = self._call("POST", f"app/installations/{number}/access_tokens", body)
        return _Token(str(found["token"]), moment_of(found["expires_at"]).timestamp())

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        headers = {
            "Authorization": f"Bearer {self.claim()}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": f"Mainstem/{__version__}",
        }
        place = f"{self._base()}/{path}"
        timeout = httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        try:
            answer = httpx.request(method, place, headers=headers, json=body, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError("forge.unreachable", f"{place} cannot be reached: {type(error).__name__}") from None
        if not answer.is_success:
            raise _refusal(answer, method, path)
        try:
            return answer.json()
        except ValueError:
            raise ApiError(ODD, f"{place} answers no JSON") from None

    def _base(self) -> str:
        if self.api_url:
            return self.api_url.rstrip("/")
        address = parse_address(self.url)
        port = f":{address.port}" if address.port else ""
        return "https://api.github.com" if address.host == "github.com" else f"https://{address.host}{port}/api/v3"


def app_of(repository: RepositorySettings, given: GitHubAppSettings) -> GitHubApp:
    """Return the app of a repository.

    Raises:
        InvalidError: `repository.app.invalid`, when the repository is not at GitHub, or the key is none.
    """
    if repository.kind != "github" or parse_address(repository.url).scheme not in {"https", "http"}:
        raise InvalidError(
            "repository.app.invalid",
            f"repository {repository.name} has a GitHub App, but is not of kind `github` at an https address",
        )
    key = read_key(given.private_key)
    return GitHubApp(repository.url, str(given.id), key, given.installation, repository.api_url)


def read_key(given: str) -> RSAPrivateKey:
    """Return the private key that a setting holds, or names the file of.

    Raises:
        InvalidError: `repository.app.invalid`, which says nothing of what was given.
    """
    try:
        content = given.encode() if "PRIVATE KEY" in given else _file(given)
        key = load_pem_private_key(content, password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise InvalidError(
            "repository.app.invalid",
            "the private key of a GitHub App is no RSA key in PEM, nor the path of a file with one",
            hint="GitHub gives it as a .pem file when it is made",
        ) from None
    return key


def _file(path: str) -> bytes:
    with Path(path).expanduser().open("rb") as file:
        return file.read(_MOST_KEY)


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _refusal(answer: httpx.Response, method: str, path: str) -> ApiError:
    """Return the error for an answer, of which nothing is repeated that could hold a token."""
    codes = {401: "forge.access.denied", 403: "forge.access.denied", 404: "forge.missing"}
    code = codes.get(answer.status_code, "forge.unreachable" if answer.is_server_error else "forge.refused")
    hints = {
        401: "are the app's id and key of one app, and is the clock right?",
        404: "is the app installed for this repository?",
    }
    return ApiError(
        "forge.limited" if is_limited(answer) else code,
        f"the GitHub App is answered {answer.status_code} to {method} {path}",
        status=answer.status_code,
        hint=hints.get(answer.status_code),
    )
