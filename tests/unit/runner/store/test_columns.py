"""Columns: what goes in comes out, on every database alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.store.columns import clean, dump, from_micros, to_micros


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_survives_to_the_microsecond(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


def test_a_moment_of_another_zone_comes_back_in_utc() -> None:
    moment = datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))

    found = from_micros(to_micros(moment))

    assert (found, found.tzinfo) == (moment, UTC)


def test_a_moment_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        to_micros(datetime(2026, 3, 1))  # noqa: DTZ001  # this is what must not pass


@given(st.text(alphabet=st.characters()))
def test_cleaned_text_can_be_stored_and_is_else_unchanged(text: str) -> None:
    cleaned = clean(text)

    cleaned.encode()
    assert "\x00" not in cleaned
    if "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert cleaned == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({"a": [1, 2.5, None, True, "ü"]}, {"a": [1, 2.5, None, True, "ü"]}),
        ({1: {2: "x"}}, {"1": {"2": "x"}}),
        ({"s": "\ud800"}, {"s": "\ufffd"}),
        ({"d": Decimal("1.50")}, {"d": "1.50"}),
        ({"p": PurePosixPath("/a"), "t": (1, 2)}, {"p": "/a", "t": [1, 2]}),
        ({"b": b"\xff", "set": {1}}, {"b": "\ufffd", "set": [1]}),
        ({"at": datetime(2026, 3, 1, tzinfo=UTC), 1: 1}, {"at": "2026-03-01T00:00:00+00:00", "1": 1}),
    ],
)
def test_any_value_becomes_json(value: Any, expected: Any) -> None:
    assert orjson.loads(dump(value)) == expected


def test_a_number_beyond_64_bits_is_written_whole() -> None:
    assert dump({"n": 2**70}) == '{"n": 1180591620717411303424}'
