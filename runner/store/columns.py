"""Column kinds: how a Python value looks in the database, the same on SQLite and PostgreSQL.

Every column is TEXT, BIGINT, DOUBLE PRECISION or a blob, so that both drivers take and give the same plain values and
no driver converts anything. Moments are integer microseconds since 1970 in UTC; structures are JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from runner.errors import InvalidError
from runner.executions.models import Histories, TriggerInfo
from runner.states import State

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_STATES: Final = {state.value: state for state in State}


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970 in UTC; `moment` must be aware."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC moment of `micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def clean(text: str) -> str:
    """Return `text` as both databases can keep it.

    PostgreSQL refuses NUL and neither driver encodes lone surrogates; output of programs may hold both. Each becomes
    the replacement character.
    """
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def dump(value: Any) -> str:
    """Return `value` as JSON text; what JSON cannot hold (Decimal, Path, bytes) becomes a string.

    Raises:
        InvalidError: `value.nesting.deep` for what is nested hundreds of levels deep, or holds itself.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Keys that are no strings, integers beyond 64 bits, lone surrogates: rare, so the slow encoder may take them.
        try:
            return clean(json.dumps(_stringed(value), ensure_ascii=False, default=_plain))
        except (RecursionError, ValueError):
            raise InvalidError("value.nesting.deep", "a value is nested too deeply to be stored") from None


def load(text: str | None) -> Any:
    """Return the JSON value that `dump` wrote; None for a null."""
    return None if text is None else orjson.loads(text)


def _stringed(value: Any) -> Any:
    if isinstance(value, dict):
        return {clean(str(key)): _stringed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_stringed(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # as the fast encoder does; `NaN` is no JSON and could not be read again
    return clean(value) if isinstance(value, str) else value


def _dump_labels(labels: dict[str, str]) -> str:
    return dump(labels).replace("\\u0000", "\ufffd")  # PostgreSQL cannot look into JSON that holds NUL


def _dump_histories(histories: Histories) -> str:
    return "[" + ",".join(f'["{state.value}",{to_micros(at)}]' for state, at in histories) + "]"


def _load_histories(text: str) -> Histories:
    return tuple((_STATES[state], from_micros(at)) for state, at in orjson.loads(text))


def _dump_trigger(trigger: TriggerInfo) -> str:
    return dump(trigger.as_json())


def _load_trigger(text: str) -> TriggerInfo:
    fields = orjson.loads(text)
    return TriggerInfo(id=fields["id"], type=fields["type"], variables=fields["variables"])


def _load_tuple(text: str) -> tuple[Any, ...]:
    return tuple(orjson.loads(text))


@dataclass(frozen=True, slots=True)
class Codec:
    """How a value goes into a column and comes out again; None passes by untouched."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_MOMENT = Codec(to_micros, from_micros)
_JSON = Codec(dump, orjson.loads)
_TUPLE = Codec(dump, _load_tuple)
_LABELS = Codec(_dump_labels, orjson.loads)
_HISTORIES = Codec(_dump_histories, _load_histories)
_TRIGGER = Codec(_dump_trigger, _load_trigger)
_STATE = Codec(lambda state: state.value, _STATES.__getitem__)
_FLAG = Codec(int, bool)
_PROSE = Codec(clean, str)


def _column(name: str, kind: sa.types.TypeEngine[Any], codec: Codec | None, *, null: bool) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, info={"codec": codec})


def text(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A short text of our own making: a name, an id, a code."""
    return _column(name, sa.Text(), None, null=null)


def prose(name: str, *, null: bool = True) -> sa.Column[Any]:
    """A text that came from outside and may hold anything."""
    return _column(name, sa.Text(), _PROSE, null=null)


def number(name: str, *, null: bool = False) -> sa.Column[Any]:
    """An integer of up to 64 bits."""
    return _column(name, sa.BigInteger(), None, null=null)


def real(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A double."""
    return _column(name, sa.Double(), None, null=null)


def blob(name: str) -> sa.Column[Any]:
    """Raw bytes."""
    return _column(name, sa.LargeBinary(), None, null=False)


def flag(name: str) -> sa.Column[Any]:
    """A bool, kept as 0 or 1."""
    return _column(name, sa.SmallInteger(), _FLAG, null=False)


def moment(name: str, *, null: bool = False) -> sa.Column[Any]:
    """An aware UTC datetime, kept as microseconds."""
    return _column(name, sa.BigInteger(), _MOMENT, null=null)


def structure(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A JSON value."""
    return _column(name, sa.Text(), _JSON, null=null)


def series(name: str) -> sa.Column[Any]:
    """A JSON list that is a tuple in Python."""
    return _column(name, sa.Text(), _TUPLE, null=False)


def labels(name: str = "labels") -> sa.Column[Any]:
    """A map of labels that can be searched."""
    return _column(name, sa.Text(), _LABELS, null=False)


def histories(name: str = "histories") -> sa.Column[Any]:
    """The states that were entered, with their moments."""
    return _column(name, sa.Text(), _HISTORIES, null=False)


def trigger(name: str = "trigger") -> sa.Column[Any]:
    """What started an execution."""
    return _column(name, sa.Text(), _TRIGGER, null=True)


def state(name: str = "state", *, null: bool = False) -> sa.Column[Any]:
    """One of the states."""
    return _column(name, sa.Text(), _STATE, null=null)


def identity(name: str = "id") -> sa.Column[Any]:
    """A number that the database gives and never gives twice, also after the row is gone.

    Rows are answered by id after they were read; a number given again would make one answer remove another's row.
    """
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, primary_key=True, autoincrement=True, info={"codec": None})
