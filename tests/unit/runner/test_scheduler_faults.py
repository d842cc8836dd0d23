"""Schedules whose secrets cannot be read just then."""

from __future__ import annotations

from datetime import timedelta

from runner.states import State
from tests.servers.busy_secrets import BusySecrets
from tests.unit.runner.test_scheduler import World, schedule, world

__all__ = ["world"]  # a fixture

ASKING = """, inputs: {x: "{{ secret('KEY') }}"}"""


def test_a_store_that_is_busy_costs_a_schedule_no_date(world: World) -> None:
    world.engine.host.secrets._backends = (BusySecrets(),)
    world.deploy(schedule("*/5 * * * *", ASKING), more="inputs: [{id: x, type: STRING}]\n")
    scheduler = world.scheduler()
    world.now += timedelta(minutes=5)

    busy, after = scheduler.run_due(world.now), scheduler.run_due(world.now)

    found = world.store.read(lambda db: db.executions.last_of_flow("a.b", "f", 9))
    assert (len(busy), len(after)) == (0, 1)
    assert [each.state for each in found] == [State.CREATED]


def test_a_schedule_whose_secrets_raise_what_they_like_holds_up_no_other(world: World) -> None:
    world.engine.host.secrets._backends = (BusySecrets(times=9, error=OSError("no route")),)
    world.deploy(schedule("*/5 * * * *", ASKING), "asking")
    world.deploy(schedule("*/5 * * * *"), "other")
    world.now += timedelta(minutes=5)

    world.scheduler().run_due(world.now)

    assert [each.flow_id for each in world.executions()] == ["other"]
