from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runner.reports.badge import badge_json, badge_svg
from runner.states import State


@pytest.mark.parametrize(
    ("state", "message", "colour"),
    [
        (State.SUCCESS, "success", "#2ea44f"),
        (State.WARNING, "warning", "#bf8700"),
        (State.FAILED, "failed", "#cf222e"),
        (State.CANCELLED, "cancelled", "#6e7781"),
        (State.SKIPPED, "skipped", "#6e7781"),
        (None, "no runs", "#6e7781"),
    ],
)
def test_a_badge_tells_the_state_of_the_last_run(runs: Any, state: State | None, message: str, colour: str) -> None:
    last = runs.row(state=state) if state else None

    badge, picture = badge_json("report", last), badge_svg("report", last)

    assert badge == {"schemaVersion": 1, "label": "report", "message": message, "color": colour}
    assert colour in picture


def test_the_picture_is_one_piece_without_anything_from_elsewhere(runs: Any) -> None:
    picture = badge_svg('<script>alert("x")</script>&', runs.row())

    tags = {each.tag.rpartition("}")[2] for each in ET.fromstring(picture).iter()}
    assert tags == {"svg", "title", "clipPath", "rect", "g", "text"}
    assert "href" not in picture
