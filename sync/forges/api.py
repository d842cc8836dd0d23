"""The API of a forge, as we need it: change requests read and opened, a status on a commit, one comment.

Every forge has a file of its own beside this one. What they share is here: one HTTP client per look, requests that are
tried again as the forge asks (`sync.forges.limits`), pages, and errors without a token in them.
"""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import quote

from runner import __version__
from runner.errors import MainstemError
from runner.store.records import Repository
from sync.forges.answers import ODD, OddAnswerError, identity, json_of, received, through
from sync.forges.check_states import CheckState
from sync.forges.limits import LIMITS, Limit, is_limited, wait_s
from sync.remote import Tokens, parse_address, without_credentials

if TYPE_CHECKING:  # five megabytes that a process without a forge does not need
    import httpx

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 4
_LONGEST_WAIT_S: Final = 30.0
_TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 10.0
_HURRIED_WAIT_S: Final = 2.0
_HURRIED_TIMEOUT_S: Final = 5.0
_MOST_PAGES: Final = 20
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_CONFLICTS: Final = frozenset({400, 409, 422})
_NO_ACCOUNT: Final = frozenset({"forge.access.denied", "forge.missing"})
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
    """What a commit is told: `name` tells our statuses apart, `is_good` is its colour, `summary` one line.

    One that is pending has no colour yet: something about the commit runs still.
    """

    name: str
    is_good: bool
    summary: str
    text: str = ""
    url: str | None = None
    annotations: tuple[Annotation, ...] = ()
    is_pending: bool = False

    def word(self, good: str, bad: str, pending: str) -> str:
        """Return what a forge calls the colour."""
        return pending if self.is_pending else good if self.is_good else bad


@dataclass(frozen=True, slots=True)
class Draft:
    """A change request that is to be opened: from a branch of the repository to another, both without `refs/heads/`."""

    branch: str
    base: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A change request that is open: its number, and where people read it."""

    number: int
    url: str


class ForgeApi(abc.ABC):
    """The API of one repository at its forge. Use it as a context manager; not for several threads at once.

    Args:
        repository: its kind is that of the class.
        sleep: waits so many seconds before another try.
        tokens: gives the tokens where they run out; without it the one of the repository is the only one.
    """

    most_comment: ClassVar[int] = 60_000
    """Characters that a comment may have."""

    def __init__(
        self,
        repository: Repository,
        *,
        sleep: Callable[[float], None] = time.sleep,
        tokens: Tokens | None = None,
    ) -> None:
        import httpx

        address = parse_address(repository.url)
        self.host = address.host or ""
        self.scheme = "http" if address.scheme == "http" else "https"
        self.port = address.port if address.scheme in {"http", "https"} else None
        self.path = address.path.strip("/").removesuffix(".git")
        self._token = repository.api_token or repository.password or ""
        self._sleep = sleep
        self._longest_wait_s = _LONGEST_WAIT_S
        self._tokens = tokens
        self._name = repository.name
        self._username = repository.username
        self._asked_last = "nothing"
        self._limit: Limit | None = None
        self.at_end: Callable[[Limit], None] | None = None
        base = (repository.api_url or self.default_url()).rstrip("/")
        self._client = httpx.Client(
            base_url=base + "/",
            headers={"User-Agent": f"Mainstem/{__version__}", **self.authorization(self._token, repository.username)},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            follow_redirects=False,
        )

    def __init_subclass__(cls) -> None:
        """Check what each method of a forge reads."""
        for name in ForgeApi.__abstractmethods__ & cls.__dict__.keys() | {"react"} & cls.__dict__.keys():
            setattr(cls, name, through(cls.__dict__[name], ForgeApi._odd))

    def _odd(self, error: OddAnswerError) -> ApiError:
        return ApiError(ODD, self._clean(f"{self.site} answers oddly to {self._asked_last}: {error}"))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections, and tell `at_end` what the forge said last of its limit, if it said something."""
        self._client.close()
        if self.at_end is not None and self._limit is not None:
            self.at_end(self._limit)

    def hurry(self) -> None:
        """Take seconds for a request from now on, not minutes: others wait for who asks, and it will ask again."""
        self._longest_wait_s = _HURRIED_WAIT_S
        self._client.timeout = _HURRIED_TIMEOUT_S

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
    def check_states(self, commit: str, names: Collection[str]) -> Mapping[str, CheckState]:
        """Return what became of the checks of these names on a commit. Raises `ApiError`."""

    @abc.abstractmethod
    def add_comment(self, number: int, text: str) -> str:
        """Comment on a change request; return the comment's id. Raises `ApiError`."""

    @abc.abstractmethod
    def edit_comment(self, number: int, comment: str, text: str) -> None:
        """Write a comment of ours anew. Raises `ApiError`, `forge.missing` when it is gone."""

    @abc.abstractmethod
    def find_comment(self, number: int, marker: str) -> str | None:
        """Return the id of the comment of our own account that begins with `marker`. Raises `ApiError`."""

    def account(self, field: str) -> str | None:
        """Return the id of our own account, the `field` of `user`; None for a token that has none to ask for.

        Raises:
            ApiError: the forge cannot be asked just now, or does not say.
        """
        try:
            return identity(self.call("GET", "user")[field])
        except ApiError as error:
            if error.code not in _NO_ACCOUNT:
                raise
            return None

    @abc.abstractmethod
    def remark(self, number: int, comment: str) -> Remark:
        """Return a comment on a change request. Raises `ApiError`, `forge.missing` when it is gone, or not there."""

    @abc.abstractmethod
    def may_write(self, remark: Remark) -> bool:
        """Return whether the forge lets the author of a comment push to the repository. Raises `ApiError`."""

    @abc.abstractmethod
    def find_open(self, branch: str, base: str) -> Opened | None:
        """Return the open change request from one branch of the repository to another. Raises `ApiError`."""

    @abc.abstractmethod
    def open_change(self, draft: Draft) -> Opened:
        """Open a change request. Raises `ApiError`, of status 409 or 422 where there is one already."""

    @abc.abstractmethod
    def edit_change(self, number: int, draft: Draft) -> None:
        """Write title and text of a change request anew. Raises `ApiError`."""

    def propose(self, draft: Draft, known: Opened | None = None) -> Opened:
        """Open a change request, or write the `known` one anew, or the one that somebody opened at the same moment.

        Raises:
            ApiError: the forge does not take it.
        """
        if known is None:
            try:
                return self.open_change(draft)
            except ApiError as error:
                known = self.find_open(draft.branch, draft.base) if error.status in _CONFLICTS else None
                if known is None:
                    raise
        self.edit_change(known.number, draft)
        return known

    @abc.abstractmethod
    def comment_url(self, number: int, comment: str) -> str:
        """Return where people read a comment."""

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
            ApiError: `forge.unreachable`, `forge.access.denied`, `forge.missing`, `forge.limited`, `forge.refused`,
                `forge.answer.odd`.
        """
        return self._content(self._sent(method, path, again=again, **given), method, path)

    def _sent(self, method: str, path: str, *, again: bool | None, **given: Any) -> httpx.Response:
        """Return the answer to a request, which has been tried again where that is safe and the forge asks for it."""
        import httpx

        may_repeat = method in _SAFE if again is None else again
        for attempt in range(1, _ATTEMPTS + 1):
            last, pause = attempt == _ATTEMPTS, 2.0 ** (attempt - 1)
            try:
                answer = self._asked(method, path, **given)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if last or not may_repeat or pause > self._longest_wait_s:
                    raise ApiError(
                        "forge.unreachable", self._clean(f"{self.site} cannot be reached: {error}")
                    ) from None
                self._sleep(pause)
                continue
            wait = wait_s(answer, pause)
            is_busy = is_limited(answer) or (answer.status_code in _AGAIN and may_repeat)
            if last or not is_busy or wait > self._longest_wait_s:
                return answer
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _asked(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Return the answer to one request; asked again with another token where ours has run out and there is one."""
        if self._tokens is not None:
            self._use(self._tokens.token())
        answer = self._received(method, path, **given)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and self._tokens is not None:
            self._use(self._tokens.renewed(self._token))
            answer = self._received(method, path, **given)
        self._limit = LIMITS.note(self._name, answer.headers) or self._limit
        return answer

    def _received(self, method: str, path: str, **given: Any) -> httpx.Response:
        self._asked_last = f"{method} {path}"
        try:
            with self._client.stream(method, path.lstrip("/"), **given) as answer:
                return received(answer)
        except OddAnswerError as error:
            raise self._odd(error) from None

    def _use(self, token: str) -> None:
        self._token = token
        self._client.headers.update(self.authorization(token, self._username))

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield the rows of all pages of a list; at most 20 pages.

        The next one is the one that the answer links to (`Link`, or `next` in an object with `values`). Where that is
        not below our address, as behind a proxy, and where none is linked to, pages are counted until one is not full.
        """
        place: str | None = None
        size = int(params.get("per_page") or params.get("limit") or params.get("pagelen") or PAGE)
        for number in range(1, _MOST_PAGES + 1):
            asked = {} if place else {"params": {**params, "page": number}}
            answer = self._sent("GET", place or path, again=True, **asked)
            content = self._content(answer, "GET", path)
            rows = content["values"] if isinstance(content, dict) else content or []
            yield from rows
            linked = content.get("next") if isinstance(content, dict) else answer.links.get("next", {}).get("url")
            is_last = "link" in answer.headers or isinstance(content, dict) or len(rows) < size
            if not linked and is_last:
                return
            place = linked if linked and linked.startswith(str(self._client.base_url)) else None

    def _content(self, answer: httpx.Response, method: str, path: str) -> Any:
        if answer.is_success:
            try:
                return json_of(answer)
            except OddAnswerError as error:
                raise self._odd(error) from None
        code = {401: "forge.access.denied", 403: "forge.access.denied", 404: "forge.missing", 410: "forge.missing"}
        text = self._clean(f"{self.site} answers {answer.status_code} to {method} {path}: {answer.text[:300]}")
        if is_limited(answer):
            kind, text = "forge.limited", f"{text} (it takes more in {wait_s(answer, 0):.0f} s)"
        elif answer.status_code in _AGAIN:
            kind = "forge.unreachable"
        else:
            kind = code.get(answer.status_code, "forge.refused")
        hint = "its token must write statuses, comments, change requests" if kind == "forge.access.denied" else None
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
