"""What many schedules cost. The bounds are far above what a free machine needs, so that a busy one passes too."""

from __future__ import annotations

import pytest

from bench.schedules import clocked


@pytest.mark.alone("measures milliseconds of the processor")
def test_ten_thousand_schedules_that_are_not_due_cost_next_to_nothing() -> None:
    with clocked() as world:
        world.rest(10_000)

        seconds = min(world.minute() for _ in range(3))

    assert seconds < 0.050


@pytest.mark.alone("measures seconds in which both processors work")
def test_a_thousand_schedules_due_in_one_second_start_once_each_within_five() -> None:
    with clocked() as world:
        world.deploy(1_000)

        seconds, created = world.fire()
        again = world.scheduler.run_due(world.clock[0])

    assert (created, again) == (1_000, [])
    assert seconds < 5
