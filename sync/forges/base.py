"""What a receiver asks of a forge: is this delivery really from there, and which refs does it speak of?

Everything here is pure: bytes and the time go in, facts come out. A payload is a hint and no more; what a ref names is
asked from the repository itself, at the address of the settings and never at one that a payload names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from runner.errors import AccessError, InvalidError

_LONGEST_ID: Final = 128
_LONGEST_NAME: Final = 200
_COMMAND: Final = re.compile(r"/mainstem(\s|\Z)")
_CHANGE: Final = re.compile(r"refs/pull/([1-9][0-9]{0,9})/head")


class UnprovenError(AccessError):
    """Nothing proves that the delivery is the forge's. The reason is for the server's log, never for the sender."""

    def __init__(self, reason: str) -> None:
        super().__init__("hook.unproven", reason, status=401)


class PayloadError(InvalidError):
    """The delivery is authentic, and its content is not what the forge documents."""

    def __init__(self, reason: str) -> None:
        super().__init__("hook.payload.invalid", reason)


class Headers:
    """The headers of a request, by name in any case. A header that is asked for must not be given twice."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def one(self, name: str) -> str | None:
        """Return a header's value, None when it is absent or empty.

        Raises:
            UnprovenError: when it is given twice: which of the two somebody else looked at cannot be known.
        """
        values = self._values.get(name, [])
        if len(values) > 1:
            raise UnprovenError(f"the header {name} is given {len(values)} times")
        return values[0] if values and values[0] else None

    def has(self, name: str) -> bool:
        """Whether a header is given, be it twice or empty."""
        return name.lower() in self._values

    def first(self, name: str) -> str:
        """Return a header's value, the first one of several, for people to read; empty when it is absent."""
        return self._values.get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class Proof:
    """A delivery whose signature holds: its id (of the forge, or made from the body) and the name of its event."""

    delivery_id: str
    event: str


@dataclass(frozen=True, slots=True)
class RefMoved:
    """A ref points elsewhere, or is new (`before` None). `after` and `forced` are None when the forge does not say."""

    ref: str
    before: str | None = None
    after: str | None = None
    forced: bool | None = None


@dataclass(frozen=True, slots=True)
class RefDeleted:
    """A ref is gone."""

    ref: str
    before: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A pull or merge request wants a look. `base` is the full ref that it would change.

    `head` is given where the event says that there are new commits; what is planned is what the forge says then.
    """

    number: int
    base: str
    head: str | None = None
    is_open: bool = True

    @property
    def ref(self) -> str:
        """Return the name under which deliveries are logged; see `change_number`."""
        return f"refs/pull/{self.number}/head"


@dataclass(frozen=True, slots=True)
class Comment:
    """Somebody wrote a new comment on a change request, and its first line begins as a command does.

    `comment` is the forge's id of it, `line` that first line, `account` the id and `name` the name of the author's
    account. All of it is a hint: before anything is done, the comment is read again from the forge.
    """

    number: int
    comment: str
    line: str
    account: str
    name: str

    @property
    def ref(self) -> str:
        """Return the name under which deliveries are logged; see `change_number`."""
        return f"refs/pull/{self.number}/head"


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge tries whether somebody answers."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that asks for nothing here."""

    reason: str


Event = RefMoved | RefDeleted | ChangeRequest | Comment | Ping | Ignored


@dataclass(frozen=True, slots=True)
class Notice:
    """What a delivery says. `repository` is its name as the forge writes it (`acme/flows`), `actor` who caused it.

    The actor is the account that the forge vouches for, never the author of a commit, which anybody can make up.
    `kind` names the event where no header does.
    """

    events: tuple[Event, ...]
    repository: str | None = None
    actor: str | None = None
    kind: str | None = None


@runtime_checkable
class Forge(Protocol):
    """One kind of forge. Registered by the entry-point group `mainstem.forges`, whose name is the repository's kind.

    `names_repository` says whether every push of this forge names its repository, so that one without is malformed.
    `event_header` is one that each of its deliveries has; what is signed in our own form and lacks it is not the
    forge's, but a script's.
    """

    names_repository: bool
    event_header: str

    def verify(self, headers: Headers, raw: bytes, secrets: Sequence[str], now: datetime) -> Proof:
        """Return the proof of a delivery.

        Args:
            headers: as they came.
            raw: the body as it came, before anybody has looked into it.
            secrets: the present secret and, while it is being replaced, the one before; never empty strings.
            now: for deliveries whose time is signed.

        Raises:
            UnprovenError: when no secret fits, or the signature is absent, doubled, of another kind, or too old.
        """

    def parse(self, proof: Proof, headers: Headers, raw: bytes) -> Notice:
        """Return what a proven delivery says. Raises `PayloadError`."""


def change_number(ref: str | None) -> int | None:
    """Return the number of the change request whose deliveries are logged under `ref`, None for another ref."""
    found = _CHANGE.fullmatch(ref or "")
    return int(found[1]) if found else None


def command_line(text: str) -> str | None:
    """Return the first line of a comment when it is a command, such as `/mainstem plan`; None when it is none.

    A command that is quoted, or stands further below, is none.
    """
    first = shown(text.split("\n", 1)[0].strip()) or ""
    return first if _COMMAND.match(first) else None


def delivery_id(given: str | None, raw: bytes) -> str:
    """Return the id that a forge gave if it is usable, else one made from the body: equal bodies are one delivery."""
    if given is not None and len(given) <= _LONGEST_ID and given.isascii() and given.isprintable():
        return given
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def shown(text: str | None) -> str | None:
    """Return a name of somebody else's making as one printable line of at most 200 characters; None when empty."""
    if text is None:
        return None
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_NAME] or None
