"""The API of a forge, as a review needs it: what a change request is now, a status on a commit, one comment.

Every forge has a file of its own beside this one. What they share is here: one HTTP client per look, requests that are
tried again as the forge asks (`Retry-After`), pages, and errors without a token in them.
"""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import httpx

from runner import __version__
from runner.errors import MainstemError
from runner.store.records import Repository
from sync.remote import parse_address, without_credentials

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 4
_LONGEST_WAIT_S: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(20.0, connect=10.0)
_MOST_PAGES: Final = 20
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_SAFE: Final = frozenset({"GET", "PUT", "PATCH", "DELETE"})
PAGE: Final = 100
# Codes of errors that will be no better in a moment.
LASTING: Final = frozenset({"forge.access.denied", "forge.missing", "forge.refused"})


class ApiError(MainstemError):
    """The API of a forge does not do what it was asked; codes `forge.*`. `status` is 0 when there was no answer."""

    def __init__(self, code: str, message: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(code, message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Change:
    """A change request as the forge has it now.

    `head` is the newest commit, `head_ref` the ref of the followed repository that names it, None when there is none
    (Bitbucket's forks). `merged_ref` names the result of a merge that the forge tried, where it offers one.
    """

    number: int
    head: str
    base: str
    is_open: bool
    is_fork: bool
    head_ref: str | None
    merged_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment of somebody as the forge has it now.

    `account` is the id of its author's account, which stays whatever the account is called, `name` what it is called.
    """

    text: str
    account: str
    name: str
    created_at: datetime
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """A sentence beside a line of a file; lines count from 1."""

    path: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a commit is told: `name` tells our statuses apart, `is_good` is its colour, `summary` one line."""

    name: str
    is_good: bool
    summary: str
    text: str = ""
    url: str | None = None
    annotations: tuple[Annotation, ...] = ()


class ForgeApi(abc.ABC):
    """The API of one repository at its forge. Use it as a context manager; not for several threads at once."""

    most_comment: ClassVar[int] = 60_000
    """Characters that a comment may have."""

    def __init__(self, repository: Repository, *, sleep: Callable[[float], None] = time.sleep) -> None:
        address = parse_address(repository.url)
        self.host = address.host or ""
        self.scheme = "http" if address.scheme == "http" else "https"
        self.port = address.port if address.scheme in {"http", "https"} else None
        self.path = address.path.strip("/").removesuffix(".git")
        self._token = repository.api_token or repository.password or ""
        self._sleep = sleep
        base = (repository.api_url or self.default_url()).rstrip("/")
        self._client = httpx.Client(
            base_url=base + "/",
            headers={"User-Agent": f"Mainstem/{__version__}", **self.authorization(self._token, repository.username)},
            timeout=_TIMEOUT,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def site(self) -> str:
        """Return scheme and host of the forge."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")

    @abc.abstractmethod
    def default_url(self) -> str:
        """Return where the API is, when the settings do not say."""

    @abc.abstractmethod
    def authorization(self, token: str, username: str | None) -> Mapping[str, str]:
        """Return the headers that let us in."""

    @abc.abstractmethod
    def change(self, number: int) -> Change:
        """Return a change request as it is now. Raises `ApiError`, `forge.missing` when there is none."""

    @abc.abstractmethod
    def set_status(self, commit: str, check: Check) -> None:
        """Put a status on a commit, over the one of the same name. Raises `ApiError`."""

    @abc.abstractmethod
    def add_comment(self, number: int, text: str) -> str:
        """Comment on a change request; return the comment's id. Raises `ApiError`."""

    @abc.abstractmethod
    def edit_comment(self, number: int, comment: str, text: str) -> None:
        """Write a comment of ours anew. Raises `ApiError`, `forge.missing` when it is gone."""

    @abc.abstractmethod
    def find_comment(self, number: int, marker: str) -> str | None:
        """Return the id of the comment of our own account that begins with `marker`. Raises `ApiError`."""

    @abc.abstractmethod
    def remark(self, number: int, comment: str) -> Remark:
        """Return a comment on a change request. Raises `ApiError`, `forge.missing` when it is gone, or not there."""

    @abc.abstractmethod
    def may_write(self, remark: Remark) -> bool:
        """Return whether the forge lets the author of a comment push to the repository. Raises `ApiError`."""

    def react(self, number: int, comment: str, *, is_good: bool) -> None:  # noqa: B027 - not all have reactions
        """Mark a comment as carried out or refused, where the forge has such marks. Raises `ApiError`."""

    def upsert_comment(self, number: int, known: str | None, marker: str, text: str) -> str:
        """Write our one comment: over the `known` one, or the one that begins with `marker`, or a new one."""
        if known is not None and self._edited(number, known, text):
            return known
        found = self.find_comment(number, marker)
        if found is not None and self._edited(number, found, text):
            return found
        return self.add_comment(number, text)

    def _edited(self, number: int, comment: str, text: str) -> bool:
        try:
            self.edit_comment(number, comment, text)
        except ApiError as error:
            if error.code != "forge.missing":
                raise
            return False
        return True

    # requests

    def call(self, method: str, path: str, *, again: bool | None = None, **given: Any) -> Any:
        """Return the JSON of an answer, None of an empty one.

        What is safe to repeat is tried up to four times when the forge is busy, down or limits us; `again` says
        that a POST is safe too.

        Raises:
            ApiError: `forge.unreachable`, `forge.access.denied`, `forge.missing`, `forge.limited`, `forge.refused`.
        """
        may_repeat = method in _SAFE if again is None else again
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            try:
                answer = self._client.request(method, path.lstrip("/"), **given)
            except httpx.HTTPError as error:
                if last or not may_repeat:
                    raise ApiError(
                        "forge.unreachable", self._clean(f"{self.site} cannot be reached: {error}")
                    ) from None
                self._sleep(2.0 ** (attempt - 1))
                continue
            limited = answer.status_code == 429 or (answer.status_code == 403 and "retry-after" in answer.headers)
            if (limited or (answer.status_code in _AGAIN and may_repeat)) and not last:
                wait = _wait_s(answer, 2.0 ** (attempt - 1))
                if wait <= _LONGEST_WAIT_S:
                    self._sleep(wait)
                    continue
            return self._content(answer, method, path)
        raise AssertionError("the last attempt returns or raises")

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield the rows of all pages of a list that counts them by `page`; at most 20 pages."""
        for number in range(1, _MOST_PAGES + 1):
            rows = self.call("GET", path, params={**params, "page": number})
            yield from rows
            if len(rows) < PAGE:
                return

    def _content(self, answer: httpx.Response, method: str, path: str) -> Any:
        if answer.is_success:
            try:
                return answer.json() if answer.content else None
            except ValueError:
                raise ApiError("forge.refused", f"{self.site} answers no JSON to {method} {path}") from None
        code = {401: "forge.access.denied", 403: "forge.access.denied", 404: "forge.missing", 410: "forge.missing"}
        text = self._clean(f"{self.site} answers {answer.status_code} to {method} {path}: {answer.text[:300]}")
        if answer.status_code in _AGAIN:
            kind = "forge.limited" if answer.status_code == 429 else "forge.unreachable"
        else:
            kind = code.get(answer.status_code, "forge.refused")
        hint = "its token needs to write statuses and comments" if kind == "forge.access.denied" else None
        raise ApiError(kind, text, status=answer.status_code, hint=hint)

    def _clean(self, text: str) -> str:
        return without_credentials(" ".join(text.split()), self._token)


def moment_of(text: str) -> datetime:
    """Return the time that a forge writes, which always names a zone. Raises `ApiError` `forge.refused`."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise ApiError("forge.refused", f"{text!r} is no time")
    return found


def escaped(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def _wait_s(answer: httpx.Response, otherwise: float) -> float:
    """Return how long the forge asks to wait: `Retry-After` in seconds or as a date."""
    given = answer.headers.get("retry-after")
    if given is None:
        return otherwise
    if given.strip().isdigit():
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (TypeError, ValueError):
        return otherwise
