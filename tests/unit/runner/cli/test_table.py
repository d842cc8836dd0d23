from __future__ import annotations

import pytest

from runner.cli.table import moment


@pytest.mark.parametrize(("text", "shown"), [("2026-11-26T08:01:04.340910Z", "2026-11-26 08:01:04Z"), (None, "-")])
def test_a_time_is_shown_to_the_second(text: str | None, shown: str) -> None:
    assert moment(text) == shown
