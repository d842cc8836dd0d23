"""The ledger as git notes: a line on each commit for what became of it, with the digest that chains the rows.

Whoever has the repository has the history of deployments, also when the server is lost, and can hold it against the
server's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Self

from runner.reports.text import cut
from runner.reports.values import Mask, clean
from runner.store.records import Revision
from runner.store.session import Session
from sync.signatures.verdict import described

if TYPE_CHECKING:
    from sync.reports.ledger_gaps import LedgerGap

NOTES: Final = "refs/notes/mainstem"
_KEY: Final = "notes"
_MOST_ROWS: Final = 500
_MOST_TEXT: Final = 300
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_TEXTS: Final = ("actor", "signed", "reason", "delivery", "sender")
_LINE: Final = re.compile(
    rf"(?P<at>[0-9T:.Z-]+) (?P<environment>\S+) (?P<result>[A-Z]+) (?P<action>\S+) by=(?P<actor>{_QUOTED}) "
    rf"from=(?P<previous>[0-9a-f]+|-) to=(?P<commit>[0-9a-f]+) changes=(?P<changes>\d+)"
    rf"(?: signed=(?P<signed>{_QUOTED}))?(?: reason=(?P<reason>{_QUOTED}))?"
    rf"(?: delivery=(?P<delivery>{_QUOTED}))?(?: sender=(?P<sender>{_QUOTED}))?"
    rf" server=(?P<server>\S+) row=(?P<row>\d+) prior=(?P<prior>[0-9a-f]+|-) chain=(?P<chain>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A row of the ledger of one server as its note says it. `chain` is the row's digest, `prior` the one before."""

    at: str
    environment: str
    result: str
    action: str
    actor: str
    previous: str | None
    commit: str
    changes: int
    signed: str | None
    reason: str | None
    delivery: str | None
    sender: str | None
    server: str
    row: int
    prior: str | None
    chain: str

    @classmethod
    def of(cls, row: Revision, server: str, mask: Mask) -> Self:
        """Return the line of a row that has a digest."""
        return cls(
            at=f"{row.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            environment=row.environment,
            result=row.result,
            action=row.action,
            actor=cut(clean(row.actor or "", mask), _MOST_TEXT),
            previous=row.previous,
            commit=row.commit,
            changes=row.flows_changed,
            signed=cut(clean(described(row.signature) or "", mask), _MOST_TEXT) or None,
            reason=cut(clean(row.reason or "", mask), _MOST_TEXT) or None,
            delivery=cut(clean(row.delivery or "", mask), _MOST_TEXT) or None,
            sender=cut(clean(row.sender or "", mask), _MOST_TEXT) or None,
            server=server,
            row=row.id,
            prior=row.prior,
            chain=row.digest or "",
        )

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Return the line that `str` wrote, None for anything else: people write notes too."""
        found = _LINE.fullmatch(text)
        if found is None:
            return None
        values: dict[str, Any] = found.groupdict()
        try:
            texts = {name: json.loads(values[name]) if values[name] else None for name in _TEXTS}
        except ValueError:
            return None
        empty = {name: None if values[name] == "-" else values[name] for name in ("previous", "prior")}
        return cls(**{**values, **texts, **empty, "changes": int(values["changes"]), "row": int(values["row"])})

    def as_json(self) -> dict[str, Any]:
        """Return the fields; `changes` is how many flows changed."""
        return asdict(self)

    def __str__(self) -> str:
        named = {name: getattr(self, name) for name in _TEXTS if name != "actor"}
        texts = "".join(f" {name}={json.dumps(text)}" for name, text in named.items() if text)
        return (
            f"{self.at} {self.environment} {self.result} {self.action} by={json.dumps(self.actor)} "
            f"from={self.previous or '-'} to={self.commit} changes={self.changes}{texts} "
            f"server={self.server} row={self.row} prior={self.prior or '-'} chain={self.chain}"
        )


@dataclass(frozen=True, slots=True)
class Untold:
    """Rows of one environment's ledger that have no note yet, the oldest first; at most 500."""

    environment: str
    rows: tuple[Revision, ...]

    @classmethod
    def read(cls, db: Session, environment: str) -> Self:
        """Return what is to be told of an environment."""
        return cls(environment, tuple(db.revisions.after(environment, _told(db, environment), _MOST_ROWS)))

    def remember(self, db: Session) -> None:
        """Write down that all of it was told."""
        if self.rows:
            db.reports.put(self.environment, _KEY, self.rows[-1].id)


def has_untold(db: Session, environment: str) -> bool:
    """Whether the ledger of an environment has rows without a note."""
    return db.revisions.last(environment) > _told(db, environment)


def lines_of(untold: Iterable[Untold], server: str, mask: Mask) -> dict[str, list[str]]:
    """Return the lines of rows by commit. Rows of before the ledger had digests are nobody's to verify: left out."""
    found: dict[str, list[str]] = {}
    for row in (row for each in untold for row in each.rows if row.digest):
        found.setdefault(row.commit, []).append(str(LedgerLine.of(row, server, mask)))
    return found


def ordered(notes: Iterable[tuple[str, Iterable[str]]], environment: str) -> list[LedgerLine]:
    """Return the lines about an environment among notes, by server and row.

    A line that says another commit than the one it is on is somebody's copy, and none of ours.
    """
    lines = {
        line
        for commit, texts in notes
        for text in texts
        if (line := LedgerLine.parsed(text)) and line.environment == environment and line.commit == commit
    }
    return sorted(lines, key=lambda line: (line.server, line.row, line.chain))


def breaks(lines: Iterable[LedgerLine], gaps: Collection[LedgerGap] = ()) -> Iterator[tuple[LedgerLine, str]]:
    """Yield the lines that do not continue the one before of the same server, with why. As `ordered` gives them.

    Rows that a full note left out are missing by right: `gaps` are those.
    """
    before: LedgerLine | None = None
    for line in lines:
        if before is not None and before.server == line.server:
            if line.row == before.row:
                yield line, "says another thing of the same row"
            elif line.prior != before.chain and not any(gap.explains(before, line) for gap in gaps):
                yield line, f"does not continue row {before.row}: one in between was taken out, or one was changed"
        before = line


def differences(lines: Iterable[LedgerLine], stored: Mapping[int, Revision]) -> Iterator[tuple[LedgerLine, str]]:
    """Yield the lines of a server that its own ledger contradicts, with why; `stored` are its rows by id."""
    for line in lines:
        row = stored.get(line.row)
        if row is None:
            yield line, "is not in the ledger any more"
        elif row.digest != line.chain or row.commit != line.commit:
            yield line, "says another digest than the ledger does now"


def _told(db: Session, environment: str) -> int:
    return int(db.reports.get(environment, _KEY) or 0)
