"""Date patterns, reading of dates, and arithmetic on them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.errors import ExpressionError
from runner.expressions import Scope, render
from runner.expressions.locales import ENGLISH
from runner.expressions.patterns import format_moment, parse_moment

_MOMENT = datetime(2013, 9, 8, 17, 19, 12, 123456, tzinfo=ZoneInfo("Europe/Paris"))  # a Sunday
_MORNING = datetime(2024, 12, 31, 0, 5, 6, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("iso", "2013-09-08T17:19:12.123456+02:00"),
        ("iso_sec", "2013-09-08T17:19:12+02:00"),
        ("iso_milli", "2013-09-08T17:19:12.123+02:00"),
        ("sql", "2013-09-08 17:19:12.123456"),
        ("sql_seq", "2013-09-08 17:19:12"),
        ("iso_local_date", "2013-09-08"),
        ("iso_local_time", "17:19:12.123456"),
        ("iso_local_date_time", "2013-09-08T17:19:12.123456"),
        ("iso_date", "2013-09-08+02:00"),
        ("iso_time", "17:19:12.123456+02:00"),
        ("iso_date_time", "2013-09-08T17:19:12.123456+02:00[Europe/Paris]"),
        ("ISO_ZONED_DATE_TIME", "2013-09-08T17:19:12.123456+02:00[Europe/Paris]"),
        ("iso_offset_time", "17:19:12.123456+02:00"),
        ("iso_ordinal_date", "2013-251+02:00"),
        ("iso_week_date", "2013-W36-7+02:00"),
        ("rfc_1123_date_time", "Sun, 8 Sep 2013 17:19:12 +0200"),
        ("full", "Sunday, September 8, 2013 at 5:19:12 PM CEST"),
        ("short", "9/8/13, 5:19 PM"),
        ("yyyy-MM-dd'T'HH:mm:ssZ", "2013-09-08T17:19:12+0200"),
        ("yy M d H m s", "13 9 8 17 19 12"),
        ("EEE EEEE MMM MMMM MMMMM", "Sun Sunday Sep September S"),
        ("hh:mm a, K k", "05:19 PM, 5 17"),
        ("D DDD Q QQQ", "251 251 3 Q3"),
        ("S SSS SSSSSSSSS n", "1 123 123456000 123456000"),
        ("X XX XXX x xx xxx Z ZZZZZ", "+02 +0200 +02:00 +02 +0200 +02:00 +0200 +02:00"),
        ("z VV O OOOO", "CEST Europe/Paris GMT+2 GMT+02:00"),
        ("e w YYYY G", "1 37 2013 AD"),
        ("'it''s' yyyy ''", "it's 2013 '"),
        ("[yyyy]", "2013"),
    ],
)
def test_moments_are_written_as_java_writes_them(pattern: str, expected: str) -> None:
    assert format_moment(_MOMENT, pattern, ENGLISH) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("h:mm a", "12:05 AM"),
        ("k K", "24 0"),
        ("X Z O", "Z +0000 GMT"),
        ("YYYY w e", "2025 1 3"),
        ("W", "5"),
        ("iso_week_date", "2025-W01-2Z"),
    ],
)
def test_the_turn_of_the_day_and_of_the_year(pattern: str, expected: str) -> None:
    assert format_moment(_MORNING, pattern, ENGLISH) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("24 July 2001", "dd MMMM yyyy", "2001-07-24T00:00:00"),
        ("24 jul 2001", "dd MMM yyyy", "2001-07-24T00:00:00"),
        ("20240131", "yyyyMMdd", "2024-01-31T00:00:00"),
        ("20240131T0506", "yyyyMMdd'T'HHmm", "2024-01-31T05:06:00"),
        ("1/2/24 5:06 PM", "M/d/yy h:mm a", "2024-01-02T17:06:00"),
        ("12:30 AM", "hh:mm a", "1970-01-01T00:30:00"),
        ("2024-06-01T01:02:03.5+0200", "yyyy-MM-dd'T'HH:mm:ss.SZ", "2024-06-01T01:02:03.500000+02:00"),
        ("Tue, 08 Feb 2022 19:38:26 GMT", "rfc_1123_date_time", "2022-02-08T19:38:26+00:00"),
        ("2024-060", "yyyy-DDD", "2024-02-29T00:00:00"),
        ("2024", "yyyy[-MM]", "2024-01-01T00:00:00"),
    ],
)
def test_texts_are_read_by_their_pattern(text: str, pattern: str, expected: str) -> None:
    found = parse_moment(text, pattern, ENGLISH)

    assert found.isoformat() == expected


@pytest.mark.parametrize("pattern", ["qwertz", "yyyy '", "{", "r", "yyyy#"])
def test_patterns_that_java_refuses_are_refused(pattern: str) -> None:
    with pytest.raises(ExpressionError, match="no date format"):
        format_moment(_MOMENT, pattern, ENGLISH)


_VALUES: dict[str, Any] = {
    "zoned": _MOMENT,
    "instant": datetime(2013, 9, 8, 15, 19, 12, tzinfo=UTC),
    "local": datetime(2013, 9, 8, 17, 19, 12),  # noqa: DTZ001 - a local time is what it is about
    "day": date(2013, 9, 8),
    "epoch": 1378653552,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ instant | date(timeZone='Europe/Paris') }}", "2013-09-08T17:19:12.000000+02:00"),
        ("{{ local | date('iso_sec', timeZone='Europe/Paris') }}", "2013-09-08T17:19:12+02:00"),
        ("{{ day | date('HH:mm') }}", "12:00"),
        ("{{ '2013-09-08' | date('HH:mm') }}", "00:00"),
        ("{{ epoch | date('iso_sec', timeZone='UTC') }}", "2013-09-08T15:19:12Z"),
        ("{{ '2013-09-08T15:19:12Z' | date('HH:mm', timeZone='America/New_York') }}", "11:19"),
        ("{{ '2013-09-08T15:19:12+02:00[Europe/Paris]' | date('VV') }}", "Europe/Paris"),
        ("{{ '2013-09-08T17:19:12.123456+02:00' | dateAdd(-1, 'DAYS') }}", "2013-09-07T17:19:12.123456+02:00"),
        ("{{ '2024-03-30T12:00' | dateAdd(1, 'DAYS', 'iso_sec', timeZone='Europe/Paris') }}",
         "2024-03-31T12:00:00+02:00"),
        ("{{ '2024-03-30T12:00' | dateAdd(24, 'HOURS', 'iso_sec', timeZone='Europe/Paris') }}",
         "2024-03-31T13:00:00+02:00"),
        ("{{ '2024-02-29' | dateAdd(1, 'YEARS', 'yyyy-MM-dd') }}", "2025-02-28"),
        ("{{ '24 juillet 2001' | date('yyyy-MM-dd', existingFormat='dd MMMM yyyy', locale='fr') }}", "2001-07-24"),
        ("{{ day | date('EEEE', locale='de') }}", "Sonntag"),
        ("{{ instant | timestampMilli }} {{ local | timestamp(timeZone='Europe/Paris') }}", "1378653552000 1378653552"),
        ("{{ null | date }}", ""),
    ],
)  # fmt: skip
def test_date_filters(template: str, expected: str) -> None:
    assert render(template, Scope(_VALUES)) == expected
