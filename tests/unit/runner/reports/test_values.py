from __future__ import annotations

from typing import Any

import pytest

from runner.reports.values import HIDDEN, masked, shown, without_secrets


def _mask(text: str) -> str:
    return text.replace("s3cret", HIDDEN).replace("123456", HIDDEN)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a s3cret b", "a ****** b"),
        ({"s3cret": ["s3cret", {"x": "s3cret"}]}, {HIDDEN: [HIDDEN, {"x": HIDDEN}]}),
        (123456, HIDDEN),
        (12.5, 12.5),
        (True, True),
        (None, None),
        (("a", 1), ["a", 1]),
    ],
)
def test_every_text_key_and_number_is_masked(value: Any, expected: Any) -> None:
    assert masked(value, _mask) == expected


def test_a_value_without_end_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert str(masked(endless, _mask)).count("[") == 51


def test_a_secret_that_nobody_gave_is_not_hidden() -> None:
    found = without_secrets({"token": None}, frozenset({"token"}), _mask)

    assert found == {"token": None}


def test_secret_inputs_are_hidden_whatever_they_hold() -> None:
    found = without_secrets({"token": "abc", "day": "2026-03-01 s3cret"}, frozenset({"token"}), _mask)

    assert found == {"token": HIDDEN, "day": "2026-03-01 ******"}


def test_values_are_shown_as_text_or_json_and_cut() -> None:
    assert shown("as it is") == "as it is"
    assert shown({"ü": [1, None]}) == '{"ü": [1, null]}'
    assert len(shown(["x" * 5_000])) == 2_000
