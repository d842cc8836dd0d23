"""`mainstem trigger next` on a file, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import call

FLOW = """
id: f
namespace: a.b
tasks:
  - {id: t, type: core.log.Log, message: hi}
triggers:
  - {id: s, type: core.trigger.Schedule, cron: "30 2 * * *", timezone: Europe/Paris}
  - {id: w, type: core.trigger.Schedule, cron: "@daily", conditions: [{type: core.condition.Weekend}]}
  - {id: past, type: core.trigger.ScheduleOnDates, dates: ["2020-01-01T00:00:00Z"]}
  - {id: off, type: core.trigger.Schedule, cron: "@daily", disabled: true}
  - {id: hook, type: core.trigger.Webhook, key: k}
"""


def test_the_next_dates_of_a_file_are_shown_in_each_schedules_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(FLOW)

    code = call(["trigger", "next", str(file), "-n", "2", "--from", "2024-03-30T12:00:00Z", "--json"])

    assert code == 0
    assert {entry["triggerId"]: entry["dates"] for entry in json.loads(capsys.readouterr().out)} == {
        "s": ["2024-03-31T03:00:00+02:00", "2024-04-01T02:30:00+02:00"],
        "w": ["2024-03-31T00:00:00Z", "2024-04-06T00:00:00Z"],
        "past": [],
    }


def test_dates_are_printed_below_the_name_of_their_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(FLOW)

    call(["trigger", "next", str(file), "-n", "1", "--from", "2024-03-30T12:00:00Z"])

    assert capsys.readouterr().out.splitlines() == [
        "a.b.f/s",
        "  2024-03-31T03:00:00+02:00",
        "a.b.f/w",
        "  2024-03-31T00:00:00Z",
        "a.b.f/past",
        "  never again",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["next", "nowhere.yaml"], 3, "there is no file nowhere.yaml"),
        (["list", "--url", "http://127.0.0.1:1"], 6, "does not answer"),
        (["disable", "just-a-name", "--url", "http://127.0.0.1:1"], 1, "names no trigger"),
    ],
)
def test_mistakes_are_named(arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["trigger", *arguments]) == code
    assert text in capsys.readouterr().err


def test_a_file_with_a_mistake_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(FLOW.replace("core.trigger.Schedule,", "core.trigger.Shedule,"))

    assert call(["trigger", "next", str(file)]) == 1
    assert "trigger.type.unknown" in capsys.readouterr().err
