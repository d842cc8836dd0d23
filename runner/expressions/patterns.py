"""Date patterns of Java's `DateTimeFormatter`: cut into fields once, then used to format and to parse."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from runner.errors import ExpressionError
from runner.expressions.locales import Locale

# Letters that only the named formats use: fraction as long as needed, [region], ISO week date, GMT or +0200.
_OWN: Final = "frig"
_PAD: Final = "p"  # pads the field that follows with blanks
NAMED: Final = {
    "iso": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "iso_sec": "yyyy-MM-dd'T'HH:mm:ssXXX",
    "iso_milli": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "sql": "yyyy-MM-dd HH:mm:ss.SSSSSS",
    "sql_seq": "yyyy-MM-dd HH:mm:ss",
    "sql_milli": "yyyy-MM-dd HH:mm:ss.SSS",
    "basic_iso_date": "yyyyMMddXX",
    "iso_date": "yyyy-MM-ddXXX",
    "iso_time": "HH:mm:ssfXXX",
    "iso_local_date": "yyyy-MM-dd",
    "iso_local_time": "HH:mm:ssf",
    "iso_local_date_time": "yyyy-MM-dd'T'HH:mm:ssf",
    "iso_date_time": "yyyy-MM-dd'T'HH:mm:ssfXXXr",
    "iso_zoned_date_time": "yyyy-MM-dd'T'HH:mm:ssfXXXr",
    "iso_offset_date_time": "yyyy-MM-dd'T'HH:mm:ssfXXX",
    "iso_offset_date": "yyyy-MM-ddXXX",
    "iso_offset_time": "HH:mm:ssfXXX",
    "iso_ordinal_date": "yyyy-DDDXXX",
    "iso_week_date": "iXXX",
    "rfc_1123_date_time": "EEE, d MMM yyyy HH:mm:ss g",
    "full": "EEEE, MMMM d, yyyy 'at' h:mm:ss a z",
    "long": "MMMM d, yyyy 'at' h:mm:ss a z",
    "medium": "MMM d, yyyy, h:mm:ss a",
    "short": "M/d/yy, h:mm a",
}
UTC_FORMATS: Final = frozenset({"iso_instant"})
_TWO_DIGIT_BASE: Final = 2000
_WEEK: Final = 7

Part = str | tuple[str, int]


def bad_pattern(pattern: str, reason: str) -> ExpressionError:
    """Return the error for a pattern that Java would refuse as well."""
    return ExpressionError(
        "expression.date", f"{pattern!r} is no date format: {reason}", hint="write it like yyyy-MM-dd"
    )


@lru_cache(maxsize=1000)
def parts_of(pattern: str) -> tuple[Part, ...]:
    """Return the literal texts and `(letter, count)` fields of a pattern or of a named format."""
    named = NAMED.get(pattern.lower())
    return _cut(named or pattern, _OWN if named else "")


def _cut(pattern: str, own: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for match in re.finditer(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[\[\]{}#']|[^A-Za-z'\[\]{}#]+", pattern):
        piece, quoted, letter = match[0], match[1], match[2]
        if quoted is not None:
            parts.append(quoted.replace("''", "'") or "'")
        elif letter is None:
            if piece in "{}#'":
                raise bad_pattern(pattern, f"`{piece}` is reserved or not closed")
            parts.append((piece, 0) if piece in "[]" else piece)
        elif letter in own or letter == _PAD or (letter in _FIELDS and letter not in _OWN):
            parts.append((letter, len(piece)))
        else:
            raise bad_pattern(pattern, f"unknown letter `{letter}`")
    pads = [index for index, part in enumerate(parts) if not isinstance(part, str) and part[0] == _PAD]
    if any(not _is_field(part) for index in pads for part in (parts[index + 1 :] or [""])[:1]):
        raise bad_pattern(pattern, "`p` needs a letter to pad")
    return tuple(parts)


def _is_field(part: Part) -> bool:
    return not isinstance(part, str) and part[1] > 0 and part[0] != _PAD


def format_moment(moment: datetime, pattern: str, locale: Locale) -> str:
    """Return `moment` in a named format or a pattern."""
    texts: list[str] = []
    width = 0
    for part in parts_of(pattern):
        if isinstance(part, str):
            texts.append(part)
        elif part[0] == _PAD:
            width = part[1]
        elif part[1]:
            texts.append(_FIELDS[part[0]](moment, part[1], locale).rjust(width))
            width = 0
    return "".join(texts)


def _digits(number: int, count: int) -> str:
    return str(number).rjust(count, "0")


def _year(year: int, count: int) -> str:
    return f"{year % 100:02d}" if count == len("yy") else _digits(year, count)


def _named_month(moment: datetime, count: int, locale: Locale) -> str:
    if count <= len("MM"):
        return _digits(moment.month, count)
    if count == len("MMM"):
        return locale.short_months[moment.month - 1]
    name = locale.months[moment.month - 1]
    return name if count == len("MMMM") else name[0].upper()


def _named_day(moment: datetime, count: int, locale: Locale) -> str:
    if count <= len("EEE"):
        return locale.short_days[moment.weekday()]
    name = locale.days[moment.weekday()]
    return name if count == len("EEEE") else name[0].upper()


def _local_day(moment: datetime, count: int, locale: Locale) -> str:
    if count <= len("ee"):
        return _digits(moment.isoweekday() % _WEEK + 1, count)  # weeks start on Sunday, as in the United States
    return _named_day(moment, count, locale)


def _week_based(moment: datetime) -> tuple[int, int]:
    """Return year and number of the week that starts on Sunday; the first week holds 1 January."""
    sunday = moment.date() - timedelta(days=moment.isoweekday() % _WEEK)
    year = (sunday + timedelta(days=_WEEK - 1)).year
    first = datetime(year, 1, 1).date()  # noqa: DTZ001 - a calendar day
    start = first - timedelta(days=first.isoweekday() % _WEEK)
    return year, (sunday - start).days // _WEEK + 1


def _week_of_month(moment: datetime) -> int:
    return (moment.day + moment.replace(day=1).isoweekday() % _WEEK - 1) // _WEEK + 1


def _offset(moment: datetime, *, colon: bool, short: bool = False, zero: str | None = None) -> str:
    offset = moment.utcoffset() or timedelta(0)
    if not offset and zero is not None:
        return zero
    minutes = int(abs(offset).total_seconds()) // 60
    sign = "-" if offset < timedelta(0) else "+"
    if short and not minutes % 60:
        return f"{sign}{minutes // 60:02d}"
    return f"{sign}{minutes // 60:02d}{':' if colon else ''}{minutes % 60:02d}"


def _offset_x(moment: datetime, count: int, zero: str | None) -> str:
    return _offset(moment, colon=count in {3, 5}, short=count == 1, zero=zero)


def _offset_z(moment: datetime, count: int) -> str:
    if count == len("ZZZZ"):
        return _offset_gmt(moment, count)
    return _offset(moment, colon=True, zero="Z") if count > len("ZZZZ") else _offset(moment, colon=False)


def _offset_gmt(moment: datetime, count: int) -> str:
    text = _offset(moment, colon=True)
    if text == "+00:00":
        return "GMT"
    if count == 1:
        text = text[0] + text[1:].lstrip("0").removesuffix(":00")
    return "GMT" + text


def _zone_id(moment: datetime) -> str:
    key = getattr(moment.tzinfo, "key", None)
    return key if isinstance(key, str) else _offset(moment, colon=True, zero="Z")


def _zone_name(moment: datetime) -> str:
    name = moment.tzname() or ""
    return name if name.isalpha() else _zone_id(moment)


def _region(moment: datetime) -> str:
    key = getattr(moment.tzinfo, "key", None)
    return f"[{key}]" if isinstance(key, str) else ""


def _quarter(moment: datetime, count: int) -> str:
    quarter = (moment.month + 2) // 3
    if count <= len("QQ"):
        return _digits(quarter, count)
    return f"Q{quarter}" if count == len("QQQ") else f"{('1st', '2nd', '3rd', '4th')[quarter - 1]} quarter"


def _fraction(moment: datetime) -> str:
    return f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""


def _iso_week(moment: datetime) -> str:
    year, week, day = moment.isocalendar()
    return f"{year:04d}-W{week:02d}-{day}"


def _nano_of_day(moment: datetime) -> int:
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 10**9 + moment.microsecond * 1000


_Field = Callable[[datetime, int, Locale], str]
_FIELDS: Final[dict[str, _Field]] = {
    "y": lambda m, n, _: _year(m.year, n),
    "u": lambda m, n, _: _year(m.year, n),
    "Y": lambda m, n, _: _year(_week_based(m)[0], n),
    "M": _named_month,
    "L": _named_month,
    "d": lambda m, n, _: _digits(m.day, n),
    "D": lambda m, n, _: _digits(m.timetuple().tm_yday, n),
    "E": _named_day,
    "e": _local_day,
    "c": _local_day,
    "a": lambda m, _n, names: names.halves[m.hour >= 12],
    "h": lambda m, n, _: _digits((m.hour + 11) % 12 + 1, n),
    "K": lambda m, n, _: _digits(m.hour % 12, n),
    "H": lambda m, n, _: _digits(m.hour, n),
    "k": lambda m, n, _: _digits(m.hour or 24, n),
    "m": lambda m, n, _: _digits(m.minute, n),
    "s": lambda m, n, _: _digits(m.second, n),
    "S": lambda m, n, _: f"{m.microsecond * 1000:09d}"[: min(n, 9)],
    "n": lambda m, n, _: _digits(m.microsecond * 1000, n),
    "A": lambda m, n, _: _digits(_nano_of_day(m) // 10**6, n),
    "N": lambda m, n, _: _digits(_nano_of_day(m), n),
    "V": lambda m, _n, _: _zone_id(m),
    "v": lambda m, _n, _: _zone_name(m),
    "z": lambda m, _n, _: _zone_name(m),
    "O": lambda m, n, _: _offset_gmt(m, n),
    "X": lambda m, n, _: _offset_x(m, n, "Z"),
    "x": lambda m, n, _: _offset_x(m, n, None),
    "Z": lambda m, n, _: _offset_z(m, n),
    "w": lambda m, n, _: _digits(_week_based(m)[1], n),
    "W": lambda m, n, _: _digits(_week_of_month(m), n),
    "Q": lambda m, n, _: _quarter(m, n),
    "q": lambda m, n, _: _quarter(m, n),
    "G": lambda _m, n, _: "Anno Domini" if n == len("GGGG") else "AD",
    "f": lambda m, _n, _: _fraction(m),
    "r": lambda m, _n, _: _region(m),
    "i": lambda m, _n, _: _iso_week(m),
    "g": lambda m, _n, _: _offset(m, colon=False, zero="GMT"),
}


@dataclass(slots=True)
class Read:
    """What a parse found."""

    year: int = 1970
    month: int = 1
    day: int = 1
    hour: int = 0
    minute: int = 0
    second: int = 0
    microsecond: int = 0
    afternoon: bool | None = None
    day_of_year: int | None = None
    zone: timezone | ZoneInfo | None = None


def parse_moment(text: str, pattern: str, locale: Locale) -> datetime:
    """Return the date that `text` holds in a named format or a pattern; it has no zone if the text names none.

    Raises:
        ExpressionError: `expression.date` when the text does not fit.
    """
    compiled, letters = _reader(pattern, locale)
    match = compiled.fullmatch(text.strip())
    if match is None:
        raise ExpressionError("expression.date", f"Text '{text[:100]}' could not be parsed as {pattern!r}")
    found = Read()
    for letter, piece in zip(letters, match.groups(), strict=True):
        if piece:
            _SETTERS[letter](found, piece, locale)
    try:
        return _assemble(found)
    except ValueError as error:
        raise ExpressionError("expression.date", f"Text '{text[:100]}' is no date: {error}") from None


def _assemble(found: Read) -> datetime:
    hour = found.hour
    if found.afternoon is not None:
        hour = hour % 12 + 12 * found.afternoon
    moment = datetime(
        found.year, found.month, found.day, hour % 24, found.minute, found.second, found.microsecond, tzinfo=found.zone
    )
    if found.day_of_year is not None:
        moment = moment.replace(month=1, day=1) + timedelta(days=found.day_of_year - 1)
    return moment


@lru_cache(maxsize=200)
def _reader(pattern: str, locale: Locale) -> tuple[re.Pattern[str], tuple[str, ...]]:
    pieces: list[str] = []
    letters: list[str] = []
    parts = parts_of(pattern)
    for index, part in enumerate(parts):
        if isinstance(part, str):
            pieces.append(re.escape(part))
        elif part[0] in "[]":
            pieces.append("(?:" if part[0] == "[" else ")?")
        else:
            following = parts[index + 1] if index + 1 < len(parts) else ""
            pieces.append(f"({_shape(*part, locale, adjacent=not isinstance(following, str))})")
            letters.append(part[0])
    try:
        return re.compile("".join(pieces), re.IGNORECASE), tuple(letters)
    except re.error:
        raise bad_pattern(pattern, "`[` and `]` do not match") from None


def _shape(letter: str, count: int, locale: Locale, *, adjacent: bool) -> str:
    if letter not in _SETTERS:
        raise bad_pattern(letter * count, "it cannot be parsed")
    if letter in "ML" and count > len("MM"):
        return _one_of(locale.short_months if count == len("MMM") else locale.months)
    if letter in _SHAPES:
        return _SHAPES[letter]
    if letter in "Eec":
        return _one_of(locale.short_days if count <= len("EEE") else locale.days)
    if letter == "a":
        return _one_of(locale.halves)
    if letter == "S" or adjacent or (letter in "yu" and count == len("yy")):
        return rf"\d{{{count}}}"
    return rf"\d{{{count},}}" if letter in "yu" else rf"\d{{{min(count, 2)},{max(count, 2)}}}"


def _one_of(names: tuple[str, ...]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_OFFSET: Final = r"Z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?"
_ZONE: Final = r"[A-Za-z][A-Za-z0-9~/._+-]*|[+-]\d{2}:?\d{2}"
_SHAPES: Final = {
    "X": _OFFSET, "x": _OFFSET, "Z": _OFFSET, "g": r"GMT|[+-]\d{4}", "O": r"GMT(?:[+-]\d{1,2}(?::\d{2})?)?",
    "V": _ZONE, "v": _ZONE, "z": _ZONE, "f": r"(?:\.\d{1,9})?", "r": rf"(?:\[(?:{_ZONE})\])?",
    "G": r"AD|BC|Anno Domini", "D": r"\d{1,3}", "n": r"\d{1,9}",
}  # fmt: skip


def zone_named(name: str) -> timezone | ZoneInfo:
    """Return the time zone or offset called `name`.

    Raises:
        ExpressionError: `expression.date` when there is none.
    """
    match = re.fullmatch(r"(?:GMT|UTC)?([+-])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?", name)
    if name in {"Z", "GMT", "UTC"}:
        return ZoneInfo("UTC")
    try:
        if match is None:
            return ZoneInfo(name)
        hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
        length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return timezone(-length if match[1] == "-" else length)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionError(
            "expression.date", f"no time zone named {name!r}", hint="use one like Europe/Paris"
        ) from None


def _set(name: str, convert: Callable[[str], Any] = int) -> Callable[[Read, str, Locale], None]:
    def put(found: Read, piece: str, _locale: Locale) -> None:
        setattr(found, name, convert(piece))

    return put


def _set_year(found: Read, piece: str, _locale: Locale) -> None:
    found.year = int(piece) + (_TWO_DIGIT_BASE if len(piece) == len("yy") else 0)


def _set_month(found: Read, piece: str, locale: Locale) -> None:
    found.month = int(piece) if piece.isdigit() else _place(piece, locale.short_months, locale.months) + 1


def _place(piece: str, *lists: tuple[str, ...]) -> int:
    return next(index for names in lists for index, name in enumerate(names) if name.casefold() == piece.casefold())


def _micros(piece: str) -> int:
    return int(piece.lstrip(".").ljust(9, "0")[:9]) // 1000


def _set_half(found: Read, piece: str, locale: Locale) -> None:
    found.afternoon = bool(_place(piece, locale.halves))


def _ignore(_found: Read, _piece: str, _locale: Locale) -> None:
    """Days of the week and eras follow from the date."""


_SETTERS: Final[dict[str, Callable[[Read, str, Locale], None]]] = {
    "y": _set_year, "u": _set_year, "M": _set_month, "L": _set_month, "d": _set("day"), "D": _set("day_of_year"),
    "H": _set("hour"), "k": _set("hour", lambda piece: int(piece) % 24), "h": _set("hour"), "K": _set("hour"),
    "m": _set("minute"), "s": _set("second"), "S": _set("microsecond", _micros), "f": _set("microsecond", _micros),
    "n": _set("microsecond", lambda piece: int(piece) // 1000), "a": _set_half,
    "X": _set("zone", zone_named), "x": _set("zone", zone_named), "Z": _set("zone", zone_named),
    "O": _set("zone", zone_named), "V": _set("zone", zone_named), "v": _set("zone", zone_named),
    "z": _set("zone", zone_named), "g": _set("zone", zone_named),
    "r": _set("zone", lambda piece: zone_named(piece.strip("[]"))),
    "E": _ignore, "e": _ignore, "c": _ignore, "G": _ignore,
}  # fmt: skip
